package harness

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/load"
)

func readsAndWrites(t testing.TB) load.Mix {
	t.Helper()
	m, err := load.NewMix(load.Kind{Name: "read", Weight: 80}, load.Kind{Name: "write", Weight: 20})
	require.NoError(t, err)
	return m
}

func TestMixTellsKindsApart(t *testing.T) {
	for _, s := range []Spec{{Clients: 1}, {Clients: 8}, {Clients: 8, Schedule: load.Constant(1000)}} {
		s.Mix = readsAndWrites(t)
		var mu sync.Mutex
		var done [2]int
		var r Result
		res := inBubble(t, "2000x", func(b *testing.B) {
			r = Run(b, s, func(c *Client) error {
				kind := c.Kind
				time.Sleep(time.Duration(1+3*kind) * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				done[kind]++
				c.Kind = 0 // an operation that scribbles in its client changes no books
				if kind == 1 && done[1]%2 == 0 {
					return errors.New("no")
				}
				return nil
			})
		})
		tail.take()
		require.Empty(t, r.Invalid)
		require.Len(t, r.Kinds, 2)
		read, write := r.Kinds[0], r.Kinds[1]
		require.Equal(t, []string{"read", "write"}, []string{read.Name, write.Name})
		require.Equal(t, 2000, read.Ops+write.Ops)
		require.InDelta(t, 1600, read.Ops, 80)
		require.Zero(t, read.Errors)
		require.InDelta(t, float64(write.Ops)/2, float64(write.Errors), 3*float64(s.Clients))
		require.Equal(t, r.Errors, write.Errors)
		require.EqualValues(t, read.Ops, read.Latency.Count())
		require.EqualValues(t, write.Ops-int(write.Errors), write.Latency.Count())
		if s.Schedule == nil {
			require.Equal(t, time.Millisecond, read.Latency.Max())
			require.Equal(t, 4*time.Millisecond, write.Latency.Min())
		}
		require.Equal(t, r.Latency.Count(), read.Latency.Count()+write.Latency.Count())
		require.EqualValues(t, 2000, res.N)
	}
}

func TestKindsFollowTheSeed(t *testing.T) {
	kinds := func(seed uint64, draw bool) string {
		var s strings.Builder
		inBubble(t, "100x", func(b *testing.B) {
			Run(b, Spec{Seed: seed, Mix: readsAndWrites(t), Warmup: -1}, func(c *Client) error {
				if draw {
					c.Rand.Uint64()
				}
				s.WriteByte('0' + byte(c.Kind))
				time.Sleep(time.Millisecond)
				return nil
			})
		})
		tail.take()
		return s.String()
	}
	a := kinds(4, false)
	require.Len(t, a, 100)
	require.Equal(t, a, kinds(4, true), "what the operation draws changes no kind")
	require.NotEqual(t, a, kinds(5, false))
}

// benchmarkMix is run by child processes.
func benchmarkMix(b *testing.B) {
	b.Run(Name("clients", 2), func(b *testing.B) {
		Run(b, Spec{Clients: 2, Mix: readsAndWrites(b)}, func(*Client) error { return nil })
	})
}

// One row for each kind and sample, besides the totals, all of them rows that
// the tools understand.
func TestLinesOfAMix(t *testing.T) {
	stdout, stderr, status := child(t, "mix", nil, append(benchArgs, "-test.benchtime=2000x", "-test.count=2", "-test.cpu=1,2")...)
	require.Zero(t, status, stderr)
	rows := map[string]int{}
	reads := 0
	whole, parts := 0.0, 0.0
	for _, r := range results(t, stdout) {
		rows[r.Name.String()]++
		ops, ok := r.Value("ops/s")
		require.True(t, ok, "%v", r)
		perOp, ok := r.Value("sec/op")
		require.Equal(t, !strings.Contains(r.Name.String(), "kind="), ok, "a kind has no time of its own per operation")
		if ok {
			whole += ops
			require.InEpsilon(t, 1, ops*perOp, 1e-2)
		} else {
			parts += ops
		}
		if strings.Contains(r.Name.String(), "kind=read") {
			_, ok = r.Value("p99-sec")
			require.True(t, ok, "some 1600 values are enough")
			_, ok = r.Value("cpu-sec/op")
			require.False(t, ok, "nobody knows what a kind costs")
			reads += r.Iters
		}
	}
	require.Equal(t, map[string]int{
		"Child/clients=2": 2, "Child/clients=2/kind=read": 2, "Child/clients=2/kind=write": 2,
		"Child/clients=2-2": 2, "Child/clients=2/kind=read-2": 2, "Child/clients=2/kind=write-2": 2,
	}, rows)
	require.InDelta(t, 4*1600, reads, 300)
	require.InEpsilon(t, whole, parts, 1e-2, "the rates of the kinds add up")
}

// benchmarkInvalid is invalid in every second sample: see TestInvalidSample.
func benchmarkInvalid(b *testing.B) {
	b.Run(Name("case", 1), func(b *testing.B) {
		f, err := os.OpenFile(os.Getenv(fileVar), os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
		require.NoError(b, err)
		defer f.Close()
		info, err := f.Stat()
		require.NoError(b, err)
		_, err = f.WriteString("x")
		require.NoError(b, err)
		var s load.Schedule = load.Constant(10_000)
		if info.Size()%2 == 0 {
			s = dawdler{s, 3 * time.Millisecond}
		}
		// Overload, since this machine may be too busy for the others.
		Run(b, Spec{Clients: 2, Schedule: s, Warmup: -1, Overload: true}, lasting(time.Millisecond))
	})
}

// Three samples, of which the first and the last are invalid. Neither may take
// the second with it, nor leave a figure on its own line; and whoever reads
// what the process leaves learns of them.
func TestInvalidSample(t *testing.T) {
	dir := t.TempDir()
	args := append(benchArgs, "-test.benchtime=100x", "-test.count=3", "-test.artifacts", "-test.outputdir="+dir)
	stdout, stderr, status := child(t, "invalid", []string{fileVar + "=" + filepath.Join(dir, "n")}, args...)
	require.Zero(t, status, stderr)
	rows := results(t, stdout)
	require.Len(t, rows, 3)
	for i, r := range rows {
		_, figures := r.Value("ops/s")
		invalid, _ := r.Value("invalid")
		if i == 1 {
			require.True(t, figures)
			require.Zero(t, invalid)
		} else {
			require.Len(t, r.Values, 1, "%v", r.Values)
			require.Equal(t, 1.0, invalid)
		}
	}
	require.Equal(t, 2, strings.Count(stderr, "# skipped BenchmarkChild/case=1: invalid twice: the generator was late by"), stderr)

	tree, err := artifact.Load(dir)
	require.NoError(t, err)
	require.Len(t, tree.Missing, 2)
	require.Contains(t, tree.Missing[0].Why, "the generator was late by")
	require.Len(t, tree.Folders, 3, "what was measured is kept, for whoever asks why")
	for i, f := range tree.Folders {
		require.Equal(t, i != 1, f.Sample.Invalid != "", "sample %d", i)
	}

	_, stderr, status = child(t, "invalid", []string{fileVar + "=" + filepath.Join(dir, "m"), "PHANTOM_STRICT=1"}, append(benchArgs, "-test.benchtime=100x")...)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "1 benchmarks skipped, and PHANTOM_STRICT is set")
}

// The kinds stand in the record of their sample, with the values of their lines.
func TestKindsInTheRecord(t *testing.T) {
	dir := t.TempDir()
	stdout, stderr, status := child(t, "mix", nil, append(benchArgs, "-test.benchtime=2000x", "-test.artifacts", "-test.outputdir="+dir)...)
	require.Zero(t, status, stderr)
	tree, err := artifact.Load(dir)
	require.NoError(t, err)
	require.Len(t, tree.Folders, 1)
	require.Len(t, tree.Folders[0].Sample.Kinds, 2)
	for _, r := range results(t, stdout) {
		if !strings.Contains(r.Name.String(), "kind=") {
			continue
		}
		values := map[string]float64{}
		for _, v := range r.Values {
			if v.OrigUnit != "" {
				values[v.OrigUnit] = v.OrigValue
			} else {
				values[v.Unit] = v.Value
			}
		}
		_, kind, ok := tree.Bind("", "Benchmark"+r.Name.String(), values)
		require.True(t, ok, "%v", r.Name)
		require.NotNil(t, kind)
	}
}

// benchmarkProcs fails unless it runs on as many processors as its line says.
func benchmarkProcs(b *testing.B) {
	for i := range 2 {
		b.Run(Name("case", i), func(b *testing.B) {
			Begin(b)
			for b.Loop() {
				runtime.Gosched()
			}
			b.ReportMetric(float64(runtime.GOMAXPROCS(0)), "entries/s")
		})
	}
}

func TestFirstSampleHasItsProcessors(t *testing.T) {
	stdout, stderr, status := child(t, "procs", nil, append(benchArgs, "-test.benchtime=5x", "-test.count=2", "-test.cpu=1,3")...)
	require.Zero(t, status, stderr)
	rows := results(t, stdout)
	require.Len(t, rows, 8)
	for _, r := range rows {
		want := 1.0
		if strings.HasSuffix(r.Name.String(), "-3") {
			want = 3
		}
		got, _ := r.Value("entries/s")
		require.Equal(t, want, got, "%v", r.Name)
	}
	for list, want := range map[string]int{"2": 2, "4,1": 4, " 3 ,1": 3, "": 0, "x": 0, "-1": 0} {
		n, ok := firstProcs(list)
		require.Equal(t, want > 0, ok, list)
		if ok {
			require.Equal(t, want, n)
		}
	}
}
