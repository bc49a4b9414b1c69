package fault

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

var five = []uint64{1, 2, 3, 4, 5}

func generate(t *testing.T, o Options) Plan {
	t.Helper()
	p, err := Generate(o)
	require.NoError(t, err)
	return p
}

func TestSeedDecidesPlan(t *testing.T) {
	a := generate(t, Options{Seed: 7, Nodes: five})
	require.Equal(t, a, generate(t, Options{Seed: 7, Nodes: five}))
	require.NotEqual(t, a.Events, generate(t, Options{Seed: 8, Nodes: five}).Events)
}

// A plan printed today must mean the same plan tomorrow and elsewhere, or a
// seed in an old failure is worth nothing.
func TestPlanOfSeedIsStable(t *testing.T) {
	p := generate(t, Options{Seed: 3, Nodes: []uint64{1, 2, 3}, Safety: time.Second, Liveness: time.Second, MeanGap: 250 * time.Millisecond})
	require.Equal(t, golden, p.String())
}

// Whatever the seed: the plan is valid, a majority stays up, the core is left
// alone, and no kind of fault is forgotten.
func TestGeneratedPlansKeepTheirBounds(t *testing.T) {
	for _, nodes := range [][]uint64{{1, 2, 3}, five, {9, 8, 7, 6}} {
		seen := map[Kind]int{}
		for seed := range uint64(200) {
			p := generate(t, Options{Seed: seed, Nodes: nodes})
			require.NoError(t, p.Validate(), p)
			require.LessOrEqual(t, p.MostDown(), (len(nodes)-1)/2, p)
			require.Len(t, p.Core, len(nodes)/2+1, p)
			for _, e := range p.Events {
				seen[e.Kind]++
				if e.At >= p.Safety {
					for _, n := range e.Nodes {
						require.NotContains(t, p.Core, n, p)
					}
				}
			}
		}
		for _, k := range Kinds() {
			require.Greater(t, seen[k], 100, "kind %s over nodes %v", k, nodes)
		}
	}
}

// The bound above is kept by MaxDown and not by luck.
func TestWithoutMaxDownMajoritiesFall(t *testing.T) {
	fallen := 0
	for seed := range uint64(200) {
		if generate(t, Options{Seed: seed, Nodes: five, MaxDown: -1}).MostDown() > 2 {
			fallen++
		}
	}
	require.Greater(t, fallen, 20)
}

func TestOneNodeHasNoMinority(t *testing.T) {
	p := generate(t, Options{Seed: 1, Nodes: []uint64{1}})
	require.Zero(t, p.MostDown())
	require.NotEmpty(t, p.Events, "slow disks and skewed clocks remain")
}

func TestOptionsAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"no nodes", Options{}, "no nodes"},
		{"twice", Options{Nodes: []uint64{4, 4}}, "node 4 is named twice"},
		{"kind", Options{Nodes: five, Kinds: []Kind{"flood"}}, `kind "flood"`},
		{"negative", Options{Nodes: five, Safety: -time.Second}, "Safety -1s"},
		{"span", Options{Nodes: five, MinFor: 2 * time.Second, MaxFor: time.Second}, "MaxFor 1s: want at least MinFor 2s"},
		{"flood", Options{Nodes: five, Safety: time.Hour, MeanGap: time.Millisecond}, "at most 10000 faults"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Generate(c.o)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestPlansAreRefused(t *testing.T) {
	base := Plan{Nodes: five, Core: []uint64{1, 2, 3}, Safety: time.Second, Liveness: time.Second}
	crash := func(at, length time.Duration, nodes ...uint64) Event {
		return Event{Kind: Crash, At: at, For: length, Nodes: nodes}
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		name   string
		events []Event
		want   string
	}{
		{"stranger", []Event{crash(0, ms, 6)}, "node 6"},
		{"two to crash", []Event{crash(0, ms, 1, 2)}, "2 nodes: want 1"},
		{"everybody", []Event{{Kind: Partition, For: ms, Nodes: five}}, "5 of 5 nodes"},
		{"itself", []Event{{Kind: OneWay, For: ms, Nodes: []uint64{1, 1}}}, "named twice"},
		{"kind", []Event{{Kind: "flood", For: ms, Nodes: []uint64{1}}}, `unknown kind "flood"`},
		{"no length", []Event{crash(0, 0, 1)}, "positive length"},
		{"straddles", []Event{crash(900*ms, 200*ms, 1)}, "after the safety phase"},
		{"too late", []Event{crash(1900*ms, 200*ms, 4)}, "after the plan"},
		{"core", []Event{crash(1100*ms, ms, 1)}, "of the core"},
		{"order", []Event{crash(2*ms, ms, 1), crash(0, ms, 2)}, "begins before event 0"},
		{"dead pause", []Event{crash(0, 9*ms, 1), {Kind: Pause, At: ms, For: ms, Nodes: []uint64{1}}}, "such a fault until 9ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := base
			p.Events = c.events
			require.ErrorContains(t, p.Validate(), c.want)
		})
	}
	fine := base
	fine.Events = []Event{crash(0, ms, 1), crash(ms, ms, 1), crash(1100*ms, ms, 4)}
	require.NoError(t, fine.Validate(), "one fault may follow another at once")
}

func TestMostDownCountsNodesOnce(t *testing.T) {
	p := Plan{Events: []Event{
		{Kind: Partition, At: 0, For: 10, Nodes: []uint64{1, 2}},
		{Kind: Crash, At: 5, For: 10, Nodes: []uint64{2}},
		{Kind: SlowDisk, At: 6, For: 10, Nodes: []uint64{3}},
		{Kind: Pause, At: 10, For: 10, Nodes: []uint64{4}},
	}}
	require.Equal(t, 2, p.MostDown())
	require.True(t, slices.Equal([]uint64{2, 4}, downAt(p.Events, 10)))
}

const golden = `seed=3 nodes=1,2,3 core=2,3 safety=1s liveness=1s
  +55ms skew nodes=3 for=292ms amount=-20ms
  +326ms crash nodes=3 for=457ms
  +527ms one-way nodes=3,2 for=362ms
  +699ms skew nodes=2 for=301ms amount=-6ms
  +1s slow-disk nodes=1 for=1s amount=6ms
`
