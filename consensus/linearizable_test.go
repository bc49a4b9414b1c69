package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/fault"
	"github.com/phantomdb/phantomdb/harness/verify"
)

// lossyLink loses, doubles and reorders messages.
var lossyLink = transport.Link{
	Delay: 100 * time.Microsecond, Jitter: 500 * time.Microsecond,
	Loss: 0.01, Duplicate: 0.02, Reorder: 0.05,
}

// safetyPhase is how long faults last: PHANTOM_MODE=standard takes the time that a
// nightly run has.
func safetyPhase() time.Duration {
	switch {
	case harness.CurrentMode() == harness.ModeStandard:
		return 60 * time.Second
	case testing.Short():
		return 2 * time.Second
	}
	return 5 * time.Second
}

// TestLinearizableUnderFaults has clients on all nodes use every kind of
// command and read while nodes lose power, stand still and are cut off, disks
// are slow, messages are lost, logs are cut behind followers, and leadership
// moves. The histories must be linearizable, the replicas equal in the end, and
// a whole majority must make progress, whatever was before. PHANTOM_SEED
// repeats workload and schedule, though not how goroutines interleave.
func TestLinearizableUnderFaults(t *testing.T) {
	runChaos(t, chaosRun{nodes: 3, groups: 3, seed: harness.Seed()})
}

// TestLinearizableWhileReconfiguring also moves replicas to other nodes: joins
// as learner, promotion and removal in one joint change, ids never used before.
func TestLinearizableWhileReconfiguring(t *testing.T) {
	runChaos(t, chaosRun{nodes: 5, groups: 4, seed: harness.Seed() + 1, reconfigure: true})
}

type chaosRun struct {
	nodes, groups int
	seed          uint64
	reconfigure   bool
}

func runChaos(t *testing.T, run chaosRun) {
	t.Logf("seed %d (PHANTOM_SEED)", harness.Seed())
	a := newArena(t, arenaSetup{nodes: run.nodes, groups: run.groups, seed: run.seed, link: lossyLink})
	plan := chaosPlan(t, a, run)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(plan)
		}
	})
	history := verify.NewHistory(0)
	clients := newClients(t, a, history, run.seed, 3*run.nodes)
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() { c.run(ctx) })
	}
	safety, endSafety := context.WithCancel(ctx)
	mover := &mover{a: a, rng: rand.New(rand.NewPCG(run.seed, 77)), move: run.reconfigure}
	wg.Go(func() { mover.run(safety) })

	target := &chaosTarget{arena: a, entered: make(chan fault.Phase, 3)}
	broken, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	ended := make(chan error, 1)
	go func() { ended <- fault.Run(broken, plan, target) }()
	progress := true
	for p := range target.entered {
		if p == fault.PhaseLiveness {
			endSafety()
			if !run.reconfigure { // every group lives on all nodes, so a majority of them is enough
				progress = a.accept(broken)
			}
			enough(errEnough)
		}
		if p == fault.PhaseHealed {
			break
		}
	}
	if err := <-ended; err != nil {
		require.ErrorIs(t, err, errEnough)
	}
	endSafety()
	require.True(t, progress, "no progress though a majority was whole")
	require.True(t, a.accept(ctx), "no progress though all is healed")
	stop()
	wg.Wait()
	finishChaos(t, a, history, clients, mover, run)
}

var errEnough = errors.New("progress was made")

// finishChaos checks what the clients were told and what the replicas hold.
func finishChaos(t *testing.T, a *arena, history *verify.History, clients []*chaosClient, m *mover, run chaosRun) {
	for g := 1; g <= run.groups; g++ {
		a.converged(consensus.GroupID(g))
	}
	var told chaosCounts
	for _, c := range clients {
		told.applied += c.told.applied
		told.rejected += c.told.rejected
		told.unknown += c.told.unknown
		told.settled += c.told.settled
		told.reads += c.told.reads
		told.failedReads += c.told.failedReads
	}
	t.Logf("%d operations: %+v; moves %+v; %+v", history.Len(), told, m.done, a.stats())
	atLeast := 100
	if testing.Short() {
		atLeast = 10 // two seconds on whatever machine
	} else {
		require.NotZero(t, a.stats().truncations, "no log was cut")
	}
	require.Greater(t, told.applied, atLeast, "the clients got nothing done")
	require.Greater(t, told.reads, atLeast, "the clients read nothing")
	if run.reconfigure {
		require.NotZero(t, m.done.added, "no replica was added")
	}
	var violation *verify.Violation
	if errors.As(history.Check(0), &violation) { // Require tells what, this where
		for _, c := range clients {
			for _, line := range c.seen[violation.Key] {
				t.Log(line)
			}
		}
	}
	verify.Require(t, history, harness.Seed())
}

// chaosPlan draws the faults. At most one node is down at a time: with more,
// three replicas would do nothing but wait.
func chaosPlan(t *testing.T, a *arena, run chaosRun) fault.Plan {
	o := fault.Options{
		Seed: run.seed, Kinds: fault.Supported(a), Safety: safetyPhase(), Liveness: recovery,
		MaxDown: 1, MeanGap: 120 * time.Millisecond, MinFor: 50 * time.Millisecond, MaxFor: 600 * time.Millisecond,
		MaxDiskDelay: 10 * time.Millisecond,
	}
	for n := range run.nodes {
		o.Nodes = append(o.Nodes, uint64(n+1))
	}
	plan, err := fault.Generate(o)
	require.NoError(t, err)
	return plan
}

// chaosTarget tells of the phases of a plan.
type chaosTarget struct {
	*arena
	entered chan fault.Phase
}

func (*chaosTarget) Began(fault.Event)       {}
func (*chaosTarget) Ended(fault.Event)       {}
func (c *chaosTarget) Entered(p fault.Phase) { c.entered <- p }

func newClients(t *testing.T, a *arena, h *verify.History, seed uint64, n int) []*chaosClient {
	work := &workload{}
	var clients []*chaosClient
	for i := range n {
		clients = append(clients, &chaosClient{
			tb: t, a: a, id: i, rng: rand.New(rand.NewPCG(seed, 1000+uint64(i))), history: h, work: work,
			sessions: map[consensus.GroupID]*clientSession{}, guess: map[consensus.GroupID]consensus.NodeID{}, seen: map[string][]string{},
		})
	}
	return clients
}

// The tests above prove something only if the checker notices when a rule is
// broken. Each of these breaks one, as a careless client would.
func TestCheckerNoticesBrokenRules(t *testing.T) {
	ctx := t.Context()
	key := []byte("register")
	violates := func(t *testing.T, h *verify.History) {
		t.Helper()
		var v *verify.Violation
		require.ErrorAs(t, h.Check(0), &v)
	}
	t.Run("local read on a follower", func(t *testing.T) {
		c, h := boot(t, setup{}), verify.NewHistory(0)
		c.put(ctx, 1, "register", "old")
		l := c.leader(1)
		away := c.others(l)[0]
		require.NoError(t, c.hosts[away-1].ReadIndex(ctx, 1))
		h.Put(1, "register", "old").OK()
		c.wire.Partition([]consensus.NodeID{away}, []consensus.NodeID{l.Node(), c.others(l)[1]})
		w := h.Put(1, "register", "new")
		_, err := l.Propose(ctx, 1, put("register", "new"))
		require.NoError(t, err)
		w.OK()
		r := h.Get(2, "register")
		v, found := c.machine(int(away-1), 1).Get(key)
		r.Value(string(v), found)
		violates(t, h)
		// With ReadIndex that node says nothing instead of something old.
		try, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, c.hosts[away-1].ReadIndex(try, 1), consensus.ErrRejected)
	})
	// unknownAdd has an addition whose client did not wait for the answer.
	unknownAdd := func(t *testing.T) (*cluster, *consensus.Host) {
		c := boot(t, setup{})
		l := c.leader(1)
		gone, cancel := context.WithCancel(ctx)
		cancel()
		require.Eventually(t, func() bool {
			_, err := l.Propose(gone, 1, consensus.Command{Data: kv.EncodeAdd(nil, key, 1)})
			if err != nil {
				require.ErrorIs(t, err, consensus.ErrUnknown)
			}
			return err != nil
		}, 20*time.Second, time.Millisecond)
		c.put(ctx, 1, "barrier", "behind it in the log")
		return c, l
	}
	sum := func(t *testing.T, c *cluster, l *consensus.Host) string {
		require.NoError(t, l.ReadIndex(ctx, 1))
		v, _ := c.machine(int(l.Node()-1), 1).Get(key)
		n, ok := kv.Counter(v)
		require.True(t, ok)
		return fmt.Sprint(n)
	}
	t.Run("unknown taken for rejected", func(t *testing.T) {
		c, l := unknownAdd(t)
		h := verify.NewHistory(0)
		h.Add(1, "counter", 1).Failed()
		h.Get(1, "counter").Value(sum(t, c, l), true)
		violates(t, h)
	})
	t.Run("retry without a session", func(t *testing.T) {
		c, l := unknownAdd(t)
		h := verify.NewHistory(0)
		call := h.Add(1, "counter", 1) // one addition, as the client sees it
		_, err := l.Propose(ctx, 1, consensus.Command{Data: kv.EncodeAdd(nil, key, 1)})
		require.NoError(t, err)
		n := sum(t, c, l)
		call.Sum(1, true)
		h.Get(1, "counter").Value(n, true)
		violates(t, h)
	})
}
