package report

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/measure"
	"github.com/phantomdb/phantomdb/harness/results"
)

var (
	began = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)
	made  = began.Add(2 * time.Hour)
)

// fixture is what the files of testdata say, with artifacts of two samples.
func fixture(t *testing.T) Input {
	t.Helper()
	in := fromText(t, readTestdata(t, "results.txt"))
	var err error
	in.Entries, err = baseline.Load("testdata/ours.baseline")
	require.NoError(t, err)
	in.Artifacts, err = artifact.Load(artifacts(t))
	require.NoError(t, err)
	return in
}

// fromText makes an input of benchmark text alone.
func fromText(t testing.TB, text string) Input {
	t.Helper()
	return Input{Set: results.Read("results.txt", strings.NewReader(text)), Sources: []string{"results.txt"}, Made: made}
}

func readTestdata(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return string(text)
}

func build(t testing.TB, in Input) *Model {
	t.Helper()
	m, err := Build(in)
	require.NoError(t, err)
	return m
}

// caseOf finds a case of a model by its name.
func caseOf(t testing.TB, m *Model, name string) *Case {
	t.Helper()
	for _, f := range m.Floors {
		for _, x := range f.Benchmarks {
			for i := range x.Cases {
				if x.Cases[i].Name == name {
					return &x.Cases[i]
				}
			}
		}
	}
	require.Fail(t, "no such case", name)
	return nil
}

// artifacts writes what runs leave: of one sample everything, of another that
// is invalid a distribution that nobody may count, and the machine.
func artifacts(t testing.TB) string {
	t.Helper()
	root := t.TempDir()
	folder := func(name string) string {
		dir := filepath.Join(root, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		return dir
	}
	good := artifact.Sample{
		Package: "github.com/phantomdb/phantomdb/consensus", Name: "BenchmarkPropose/disk=sync/clients=1", Procs: 2, Process: "p",
		Iterations: 5000, Values: map[string]float64{"ops/s": 2487, "avg-ns": 402000}, Seed: 7, Commit: "0123456789abcdef", Start: began,
		Findings: []artifact.Finding{{Reason: "leak", Text: "3 goroutines more than before"}},
	}
	dir := folder("good")
	writeRun(t, dir, 5000, 20)
	require.NoError(t, artifact.WriteSample(dir, good))

	bad := artifact.Sample{
		Package: good.Package, Name: "BenchmarkPropose/disk=sync/clients=64", Procs: 2, Process: "p", Order: 1,
		Iterations: 1, Values: map[string]float64{"invalid": 1}, Start: began.Add(time.Minute), Invalid: "saturated",
	}
	dir = folder("bad")
	writeRun(t, dir, 300, 3)
	require.NoError(t, artifact.WriteSample(dir, bad))
	require.NoError(t, artifact.WriteMissing(folder("missing"), artifact.Missing{
		Package: good.Package, Name: bad.Name, Procs: 2, Process: "p", Why: "invalid twice: saturated", Time: began.Add(time.Minute),
	}))
	require.NoError(t, artifact.WriteEnvironment(folder("environment"), artifact.Environment{
		ID: "p", Start: began, CPU: "A Processor", Cores: 2, Procs: 2, Memory: 8e9, OS: "linux", Arch: "amd64", Kernel: "6.1", Go: "go1.26",
		FileSystem: "ext4", Disk: &artifact.DiskProbe{Block: 4096, Fsync: &artifact.Probe{P50: 98000, Count: 63}}, Loopback: &artifact.Probe{P50: 4300, Count: 201},
		Load: []float64{0.5, 0.4, 0.3},
	}))
	return root
}

// writeRun leaves the files of a run of n operations in so many intervals. Every
// hundredth operation takes eight times as long as the others.
func writeRun(t testing.TB, dir string, n, intervals int) {
	t.Helper()
	log := measure.Log{Start: began}
	series := artifact.Series{Interval: int64(100 * time.Millisecond)}
	ops := artifact.Column{Name: "ops", Unit: "ops", Kind: artifact.Counter}
	p99 := artifact.Column{Name: "latency-p99", Unit: "ns", Kind: artifact.Gauge}
	heap := artifact.Column{Name: "heap-live", Unit: "B", Kind: artifact.Gauge}
	for i := range intervals {
		h := new(measure.Histogram)
		for k := range n / intervals {
			d := time.Duration(350+k%50) * time.Microsecond
			if k%100 == 99 {
				d *= 8
			}
			h.Record(d)
		}
		from := time.Duration(i) * 100 * time.Millisecond
		log.Intervals = append(log.Intervals, measure.Interval{From: from, To: from + 100*time.Millisecond, Latency: h})
		series.Ends = append(series.Ends, float64(i+1)/10)
		ops.Values = append(ops.Values, float64(n/intervals))
		p99.Values = append(p99.Values, float64(h.Quantile(0.99)))
		heap.Values = append(heap.Values, 4e6+1e5*float64(i%3))
	}
	p99.Values[0] = math.NaN() // nobody came back
	series.Columns = []artifact.Column{ops, p99, heap}
	require.NoError(t, artifact.WriteLatency(dir, log))
	require.NoError(t, artifact.WriteSeries(dir, series))
	zero, total, perOp, peak := 0.0, 4e8, 8e4, 4.2e6
	require.NoError(t, artifact.WriteMeters(dir, artifact.Meters{Meters: []artifact.Meter{
		{Name: "cpu-user", Unit: "ns", Kind: artifact.Counter, Source: "getrusage", Delta: &total, PerOp: &perOp},
		{Name: "idle", Unit: "1", Kind: artifact.Counter, Source: "nobody", Delta: &zero, PerOp: &zero},
		{Name: "heap-live", Unit: "B", Kind: artifact.Gauge, Source: "runtime", Max: &peak},
		{Name: "sched-latency", Unit: "ns", Kind: artifact.Gauge, Source: "runtime", Quantiles: map[string]float64{"0.5": 1e3, "0.99": 5e4}},
	}}))
}
