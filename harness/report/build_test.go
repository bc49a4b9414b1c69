package report

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/baseline"
)

const head = "phantom-mode: standard\nphantom-fs: ext4\ngoos: linux\ngoarch: amd64\ncpu: c\npkg: github.com/phantomdb/phantomdb/consensus\n"

func entries(t *testing.T, text string) []*baseline.Entry {
	t.Helper()
	list, err := baseline.Parse("b", strings.NewReader(text))
	require.NoError(t, err)
	return list
}

const level = "level fast\nbench: consensus X\nunit: avg-ns\nlimit: < 5ms\nmodes: %s\nreason: r\n"

func TestVerdict(t *testing.T) {
	standard, stress := fmt.Sprintf(level, "standard"), fmt.Sprintf(level, "stress")
	for _, c := range []struct{ name, text, entries, state, sentence string }{
		{"no baselines", "BenchmarkX-2 100 1e6 avg-ns\n", "", StateNone, "No verdict: no baselines were given."},
		{"none applies", "BenchmarkX-2 100 1e6 avg-ns\n", stress, StateNone, "No verdict: none of the expectations applies to these results."},
		{"kept", "BenchmarkX-2 100 1e6 avg-ns\n", standard, StateKept, "1 of 1 expectation is kept."},
		{"missed", "BenchmarkX-2 100 1e7 avg-ns\n", standard, StateMissed, "1 of 1 expectation is missed."},
		{"missing", "BenchmarkY-2 100 1e6 avg-ns\n", standard, StateOpen, "Nothing is missed, but 1 of 1 expectation is open."},
		{"machines", "BenchmarkX-2 100 1e6 avg-ns\ncpu: d\nBenchmarkX-2 100 1e6 avg-ns\n", standard, StateOpen, "No verdict: the results come from different machines."},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := fromText(t, head+c.text)
			if c.entries != "" {
				in.Entries = entries(t, c.entries)
			}
			m := build(t, in)
			require.Equal(t, c.state, m.Verdict.State)
			require.Equal(t, c.sentence, m.Verdict.Sentence)
		})
	}
}

// Rows of several machines stand apart, since a median over them is of nothing.
func TestMachinesStandApart(t *testing.T) {
	m := build(t, fromText(t, head+"BenchmarkX-2 100 1e6 avg-ns\ncpu: d\nBenchmarkX-2 100 3e6 avg-ns\n"))
	require.Len(t, m.Machines, 2)
	cases := m.Floors[0].Benchmarks[0].Cases
	require.Len(t, cases, 2)
	require.Equal(t, "machine=1", cases[0].Label)
	require.Equal(t, "machine=2", cases[1].Label)
	require.Equal(t, 1e6, cases[0].Quantities[0].Median)
	require.Equal(t, 3e6, cases[1].Quantities[0].Median)
	require.Equal(t, "mixed", m.Notices[0].Kind)
	require.Contains(t, m.Notices[0].Text, "machine 2 (1 sample) is linux/amd64, d, data on ext4")
}

func TestNoticesNameWhatIsMissing(t *testing.T) {
	m := build(t, fromText(t, head+"BenchmarkX-2 100 1e6 avg-ns\n--- FAIL: BenchmarkY\n# skipped BenchmarkZ: invalid twice: late\n# phantom: incomplete: after 1 of 2 samples\n"))
	require.Equal(t, []Notice{
		{"failed", "BenchmarkY failed: expected it to pass", "results.txt:8"},
		{"incomplete", "the run is incomplete: after 1 of 2 samples", "results.txt:10"},
		{"skipped", "A sample of Z is missing: invalid twice: late", "results.txt:9"},
	}, m.Notices)
}

// What the harness condemned is in no median, no count and no curve.
func TestInvalidSamplesAreLeftOut(t *testing.T) {
	m := build(t, fixture(t))
	c := caseOf(t, m, "Propose/disk=sync/clients=64")
	require.Equal(t, "1 of 2 samples invalid and left out", c.Invalid)
	require.Equal(t, 1, c.Samples)
	require.Equal(t, 5000, c.Operations)
	q, _ := c.Get("ns/op")
	require.Equal(t, Quantity{Unit: "ns/op", N: 1, Median: 20000}, q)
	_, ok := c.Get("invalid")
	require.False(t, ok)
	require.Nil(t, c.Evidence)

	m = build(t, fromText(t, head+"BenchmarkX-2 1 1 invalid\n"))
	c = caseOf(t, m, "X")
	require.Equal(t, "1 of 1 sample invalid and left out", c.Invalid)
	require.Empty(t, c.Quantities)
	written(t, m.WriteHTML)
}

// One sample has no interval, and neither have five.
func TestNoIntervalFromFewSamples(t *testing.T) {
	text := head
	for n := 1; n <= 6; n++ {
		text += fmt.Sprintf("BenchmarkX-2 100 %d avg-ns %d ops/s\n", 1000+n, 900+n)
		m := build(t, fromText(t, text))
		q, ok := caseOf(t, m, "X").Get("ops/s")
		require.True(t, ok)
		require.Equal(t, n, q.N)
		page := written(t, m.WriteHTML)
		if n < 6 {
			require.Nil(t, q.Low)
			require.Nil(t, q.High)
			require.NotContains(t, page, "±")
			require.Contains(t, m.Noise, "The noise is unknown")
		} else {
			require.Equal(t, 901.0, *q.Low)
			require.Equal(t, 906.0, *q.High)
			require.Contains(t, page, "±0.28 %")
		}
	}
}

// A number that only some of the samples state says so.
func TestFewSamplesAreTold(t *testing.T) {
	m := build(t, fixture(t))
	require.Contains(t, written(t, m.WriteMarkdown), " | 8.80\u202fms (n = 1) | ")
	require.Contains(t, written(t, m.WriteHTML), "8.80 <i>ms</i><small>n = 1</small>")
}

// Of two units that count the same, the table has the one that counts better.
func TestAllocationsStandOnce(t *testing.T) {
	m := build(t, fromText(t, head+"BenchmarkX-2 100 5 avg-ns 8 allocs/op 8.75 mallocs/op\n"))
	summary := written(t, m.WriteMarkdown)
	require.Contains(t, summary, "| Cost per operation | allocations |\n")
	require.Contains(t, summary, "| X | 8.75 |\n")
}

func TestEvidence(t *testing.T) {
	m := build(t, fixture(t))
	e := caseOf(t, m, "Propose/disk=sync/clients=1").Evidence
	require.NotNil(t, e)
	require.Equal(t, "sample 6 of 6, the one nearest the median", e.Sample, "the only one with artifacts")
	require.EqualValues(t, 7, e.Seed)

	require.EqualValues(t, 5000, e.Curve.Count)
	require.InDelta(t, math.Log10(500), e.Curve.Nines[len(e.Curve.Nines)-1], 1e-3, "ten values lie beyond the end")
	for i, n := range e.Curve.Nines {
		if n == 1 {
			require.InDelta(t, 394e3, e.Curve.Nanos[i], 4e3)
		}
	}
	total := int64(0)
	for _, column := range e.Heat.Counts {
		require.Len(t, column, len(e.Heat.Edges)-1)
		for _, n := range column {
			total += n
		}
	}
	require.EqualValues(t, 5000, total)
	require.Len(t, e.Heat.Ends, 20)
	require.LessOrEqual(t, e.Heat.Edges[0], 350e3)
	require.GreaterOrEqual(t, e.Heat.Edges[len(e.Heat.Edges)-1], 399e3)

	var titles []string
	for _, p := range e.Series {
		titles = append(titles, p.Title)
	}
	require.Equal(t, []string{"Throughput", "Latency", "Memory"}, titles)
	require.Equal(t, 2500.0, e.Series[0].Lines[0].Values[3], "250 in a tenth of a second")
	require.True(t, math.IsNaN(e.Series[1].Lines[0].Values[0]))
	var meters []string
	for _, r := range e.Resources {
		meters = append(meters, r.Name)
	}
	require.Equal(t, []string{"cpu-user", "heap-live", "sched-latency p99"}, meters, "what did not move is left out")
	require.Contains(t, m.Machines[0].Facts, Fact{"fsync, 4 KiB in place, p50", "98.0\u202fµs"})
	require.Equal(t, "Charts of 1 of 4 cases. 8 of 10 samples left no artifacts.", m.Evidence)
}

func TestUnreadableArtifactsMakeNoModel(t *testing.T) {
	for _, name := range []string{artifact.LatencyFile, artifact.SeriesFile, artifact.MetersFile} {
		root := artifacts(t)
		path := filepath.Join(root, "good", name)
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, whole[:len(whole)*2/3], 0o600))
		in := fixture(t)
		in.Artifacts, err = artifact.Load(root)
		require.NoError(t, err)
		_, err = Build(in)
		require.ErrorContains(t, err, "report: "+path)
	}
}

// Long runs are joined: counters add up, levels keep their peak, gaps stay gaps.
func TestShorten(t *testing.T) {
	s := artifact.Series{Interval: 1e9}
	ops := artifact.Column{Name: "ops", Kind: artifact.Counter}
	rss := artifact.Column{Name: "rss", Kind: artifact.Gauge}
	none := artifact.Column{Name: "p99", Kind: artifact.Gauge}
	for i := range 3*maxPoints - 1 {
		s.Ends = append(s.Ends, float64(i+1))
		ops.Values = append(ops.Values, 2)
		rss.Values = append(rss.Values, float64(i%3))
		none.Values = append(none.Values, math.NaN())
	}
	s.Columns = []artifact.Column{ops, rss, none}
	short := shorten(s)
	require.Len(t, short.Ends, maxPoints)
	require.Equal(t, 3.0, short.Ends[0])
	require.Equal(t, float64(3*maxPoints-1), short.Ends[maxPoints-1])
	require.Equal(t, 6.0, short.Columns[0].Values[0])
	require.Equal(t, 4.0, short.Columns[0].Values[maxPoints-1], "the last is shorter")
	require.Equal(t, 2.0, short.Columns[1].Values[0])
	require.True(t, math.IsNaN(short.Columns[2].Values[0]))
	require.EqualValues(t, 3e9, short.Interval)
}
