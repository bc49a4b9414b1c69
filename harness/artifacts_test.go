package harness

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// BenchmarkArtifactsChild is what the tests of this file measure in child
// processes.
func BenchmarkArtifactsChild(b *testing.B) {
	switch os.Getenv(childVar) {
	case "artifacts":
		artifactLines(b)
	case "profiles":
		b.Run(Name("busy", "first"), func(b *testing.B) { busyFirst(b) })
		b.Run(Name("busy", "second"), func(b *testing.B) { busySecond(b) })
	default:
		b.Skip("for child processes")
	}
}

func artifactLines(b *testing.B) {
	for _, clients := range []int{1, 2} {
		b.Run(Name("clients", clients), func(b *testing.B) {
			r := Run(b, Spec{Clients: clients, Seed: 77}, func(*Client) error { time.Sleep(100 * time.Microsecond); return nil })
			b.ReportMetric(float64(r.Ops)*1.5, "commit-ns") // a unit added after the run
		})
	}
	b.Run(Name("micro", 1), func(b *testing.B) {
		var keep []byte
		Micro(b, func() error { keep = make([]byte, 100); return nil })
		_ = keep
	})
	b.Run(Name("event", 1), func(b *testing.B) {
		Events(b, Spec{}, func(int) (Event, error) { return Event{Took: time.Second}, nil })
	})
	b.Run(Name("mix", 2), func(b *testing.B) {
		Run(b, Spec{Clients: 2, Mix: readsAndWrites(b)}, func(*Client) error { return nil })
	})
	b.Run(Name("case", "contradictory"), func(b *testing.B) {
		s := Spec{}
		m := startMeter(b, &s)
		for b.Loop() {
		}
		m.stop()
		condemn(b, m, "two accounts of one time")
	})
	b.Run(Name("case", "failing"), func(b *testing.B) {
		Run(b, Spec{}, func(c *Client) error {
			if c.Iter > 20 {
				b.Errorf("operation %d", c.Iter)
			}
			return nil
		})
	})
	b.Run(Name("case", "skipped"), func(b *testing.B) { Skip(b, "no such machine") })
	b.Run(Name("case", "invalid"), func(b *testing.B) {
		Run(b, Spec{}, func(*Client) error { return nil })
		Skip(b, "the generator lagged") // its row vanishes from the text
	})
}

// artifactsOf runs the child and returns what it printed and left.
func artifactsOf(t *testing.T, which string, env []string, args ...string) (stdout, stderr string, status int, tree *artifact.Tree) {
	t.Helper()
	out := t.TempDir()
	args = append([]string{"-test.run=^$", "-test.bench=^BenchmarkArtifactsChild$", "-test.artifacts", "-test.outputdir=" + out}, args...)
	stdout, stderr, status = child(t, which, env, args...)
	tree, err := artifact.Load(out)
	require.NoError(t, err)
	return stdout, stderr, status, tree
}

// Each line of the text finds its sample, and no other.
func TestEverySampleIsBoundToItsLine(t *testing.T) {
	stdout, stderr, status, tree := artifactsOf(t, "artifacts", []string{"PHANTOM_NODES=7"}, "-test.benchtime=200x", "-test.count=2")
	require.Equal(t, 1, status, "a benchmark failed")
	rows := results(t, stdout)
	require.Len(t, rows, 16, "two of each line")
	require.Len(t, tree.Folders, 12)
	bound := map[int]int{}
	for i, row := range rows {
		printed := map[string]float64{}
		for _, v := range row.Values {
			unit, value := v.OrigUnit, v.OrigValue
			if unit == "" {
				unit, value = v.Unit, v.Value
			}
			printed[unit] = value
		}
		f, kind, ok := tree.Bind(row.GetConfig("pkg"), "Benchmark"+row.Name.String(), printed)
		require.True(t, ok, "row %d of %s: %v", i, row.Name, printed)
		if i >= len(tree.Folders) { // kinds of operation come last
			require.Equal(t, "Benchmark"+row.Name.String(), kind.Name+"-"+strconv.Itoa(f.Sample.Procs))
			require.EqualValues(t, row.Iters, kind.Iterations)
			bound[100+i]++
			continue
		}
		require.Nil(t, kind)
		for unit := range printed {
			require.Contains(t, f.Sample.Values, unit, row.Name.String())
		}
		bound[f.Sample.Order]++
		require.Equal(t, strings.Contains(f.Sample.Name, "contradictory"), f.Sample.Invalid != "")
		require.Equal(t, i, f.Sample.Order, "in the order of the text")
		require.Equal(t, i%2, f.Sample.Index)
		require.EqualValues(t, row.Iters, f.Sample.Iterations)
		require.Equal(t, "github.com/phantomdb/phantomdb/harness", f.Sample.Package)
		require.Equal(t, "7", f.Sample.Parameters["nodes"])
		require.NotContains(t, f.Sample.Parameters, "dir", "no path of anybody's machine")
		require.Equal(t, "quick", f.Sample.Mode)
		require.Positive(t, f.Sample.Elapsed)
		require.Contains(t, tree.Environments, f.Sample.Process)
		checkFolder(t, f)
	}
	require.Len(t, bound, 16)
	require.EqualValues(t, 77, tree.Folders[0].Sample.Seed)

	// Package testing does not repeat what failed or was skipped.
	require.Len(t, tree.Missing, 5)
	why := map[string]int{}
	for _, m := range tree.Missing {
		why[m.Name+": "+m.Why]++
	}
	require.Equal(t, map[string]int{
		"BenchmarkArtifactsChild/case=contradictory: invalid twice: two accounts of one time": 2,
		"BenchmarkArtifactsChild/case=failing: the benchmark failed":                          1,
		"BenchmarkArtifactsChild/case=skipped: no such machine":                               1,
		"BenchmarkArtifactsChild/case=invalid: the generator lagged":                          1,
	}, why)
	require.Contains(t, stderr, "# skipped BenchmarkArtifactsChild/case=skipped: no such machine")
}

// checkFolder looks whether the files beside a sample belong to it.
func checkFolder(t *testing.T, f *artifact.Folder) {
	t.Helper()
	series, ok, err := f.Series()
	require.NoError(t, err)
	require.True(t, ok)
	require.InDelta(t, float64(f.Sample.Elapsed)/1e9, series.Ends[len(series.Ends)-1], 0.5)
	meters, ok, err := f.Meters()
	require.NoError(t, err)
	require.True(t, ok)
	allocated, ok := meters.Meter("allocated")
	require.True(t, ok)
	require.Positive(t, *allocated.Delta)
	log, ok, err := f.Latency()
	require.NoError(t, err)
	if f.Sample.Invalid != "" {
		require.False(t, ok)
		return
	}
	if strings.Contains(f.Sample.Name, "micro") {
		require.False(t, ok)
		require.GreaterOrEqual(t, f.Sample.Values["B/op"], 100.0)
		require.GreaterOrEqual(t, f.Sample.Values["allocs/op"], 1.0)
		return
	}
	require.True(t, ok)
	count := map[string]int64{}
	for _, in := range log.Intervals {
		count[in.Tag] += in.Latency.Count()
	}
	require.Equal(t, f.Sample.Iterations, count[""])
	for _, k := range f.Sample.Kinds {
		require.Equal(t, k.Iterations, count[k.Tag], k.Tag)
		_, ok := series.Column("latency-mean-" + k.Tag)
		require.True(t, ok, k.Tag)
	}
	require.WithinDuration(t, f.Sample.Start, log.Start, time.Millisecond)
}

// A place that cannot be written fails the run, after it has been measured.
func TestLostArtifactsFailTheRun(t *testing.T) {
	out := t.TempDir()
	blocked := filepath.Join(out, "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	_, stderr, status := child(t, "lone", nil, append(benchArgs, "-test.artifacts", "-test.outputdir="+blocked)...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "harness: artifacts: ")

	stdout, stderr, status := child(t, "lost", nil, append(benchArgs, "-test.benchtime=1x", "-test.artifacts", "-test.outputdir="+out)...)
	require.Equal(t, 1, status)
	require.Contains(t, stderr, "# harness: artifacts of BenchmarkChild: artifact: ")
	require.Len(t, results(t, stdout), 1, "the line is there")

	l := keeping(t, &ledger{artifacts: true})
	_, failed := bench(t, "1x", func(b *testing.B) {
		Run(b, Spec{}, func(*Client) error { return nil })
		require.NoError(t, os.RemoveAll(b.ArtifactDir())) // what a full disk does, too
	})
	require.False(t, failed, "the measurement stands")
	_, remarks := tail.take()
	require.Len(t, remarks, 1)
	require.True(t, l.close(), "and the loss is remembered")
	require.False(t, (*ledger)(nil).close())
}

// Without -artifacts nothing is written, into a temporary directory either.
func TestMissingWithoutArtifacts(t *testing.T) {
	l := keeping(t, &ledger{})
	_, failed := bench(t, "1x", func(b *testing.B) {
		missing(b, "no reason")
		left, err := os.ReadDir(b.ArtifactDir())
		require.NoError(b, err)
		require.Empty(b, left)
	})
	require.False(t, failed)
	require.False(t, l.close(), "nothing was tried either")
}

// What a profile turns on, it turns off: the next benchmark must not pay.
func TestProfilesEnd(t *testing.T) {
	keeping(t, &ledger{artifacts: true, profiles: []string{"mutex", "block", "heap"}})
	_, failed := bench(t, "1x", func(b *testing.B) {
		Run(b, Spec{Warmup: -1}, func(*Client) error {
			if runtime.SetMutexProfileFraction(-1) != mutexFraction {
				return errors.New("no profile of locks is on")
			}
			return nil
		})
	})
	require.False(t, failed)
	require.Zero(t, runtime.SetMutexProfileFraction(-1))
	tail.take() // a benchmark without a name has no record
}

//go:noinline
func spinFirst(n int) (s int) {
	for i := range n {
		s = s*31 + i
	}
	return s
}

//go:noinline
func spinSecond(n int) (s int) {
	for i := range n {
		s = s*37 + i
	}
	return s
}

// busyFirst uses the processor, allocates, blocks and contends for a lock.
func busyFirst(b *testing.B) { busy(b, spinFirst, lockFirst, allocateFirst) }

func busySecond(b *testing.B) { busy(b, spinSecond, lockSecond, allocateSecond) }

func busy(b *testing.B, spin func(int) int, lock func(*sync.Mutex, func()), allocate func() []byte) {
	var mu sync.Mutex
	var keep []byte
	Run(b, Spec{Clients: 2}, func(*Client) error {
		lock(&mu, func() {
			keep = allocate()
			if spin(2_000_000) == 1 {
				return
			}
			time.Sleep(200 * time.Microsecond)
		})
		return nil
	})
	_ = keep
}

//go:noinline
func lockFirst(mu *sync.Mutex, f func()) { mu.Lock(); f(); mu.Unlock() }

//go:noinline
func lockSecond(mu *sync.Mutex, f func()) { mu.Lock(); f(); mu.Unlock() }

//go:noinline
func allocateFirst() []byte { return make([]byte, 1<<20) }

//go:noinline
func allocateSecond() []byte { return make([]byte, 1<<20) }

// Each benchmark has profiles of its own, in which nothing of the one before it
// stands.
func TestProfilesOfEachBenchmark(t *testing.T) {
	_, stderr, status, tree := artifactsOf(t, "profiles",
		[]string{"PHANTOM_PROFILE=cpu, heap,mutex,block,trace,cpu"}, "-test.benchtime=100x")
	require.Zero(t, status, stderr)
	require.Len(t, tree.Folders, 2)
	for i, f := range tree.Folders {
		mine, other := "First", "Second"
		if i == 1 {
			mine, other = other, mine
		}
		for name, function := range map[string]string{"cpu": "spin", "heap": "allocate", "mutex": "lock", "block": "lock"} {
			require.True(t, f.Has(name+".pprof"), name)
			text, err := os.ReadFile(filepath.Join(f.Dir, name+".pprof"))
			require.NoError(t, err)
			p, err := profile.ParseData(text)
			require.NoError(t, err)
			require.NoError(t, p.CheckValid())
			functions := namesIn(p)
			require.Contains(t, functions, "harness."+function+mine, "%s of %s", name, f.Sample.Name)
			require.NotContains(t, functions, "harness."+function+other, "%s of %s", name, f.Sample.Name)
		}
		require.True(t, f.Has("trace.out"))
		text, err := os.ReadFile(filepath.Join(f.Dir, "trace.out"))
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "go 1."), "%.20q", text)
		require.Equal(t, "profile", f.Sample.Findings[0].Reason)
	}
}

// namesIn returns the functions on the stacks of samples that are not zero.
func namesIn(p *profile.Profile) (names []string) {
	for _, s := range p.Sample {
		for _, l := range s.Location {
			for _, line := range l.Line {
				names = append(names, strings.TrimPrefix(line.Function.Name, "github.com/phantomdb/phantomdb/"))
			}
		}
	}
	return names
}

func TestProfilesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"cpus":   `"cpus": want a list of cpu,heap,mutex,block,trace`,
		"cpu,":   `"": want a list of`,
		"cpu;io": `"cpu;io": want a list of`,
	} {
		_, err := parseProfiles(text)
		require.ErrorContains(t, err, want)
	}
	names, err := parseProfiles(" cpu, trace,cpu")
	require.NoError(t, err)
	require.Equal(t, []string{"cpu", "trace"}, names)

	out := t.TempDir()
	for _, c := range []struct {
		profile string
		args    []string
		want    string
	}{
		{"cpu", nil, "harness: PHANTOM_PROFILE=cpu: want -artifacts beside it"},
		{"cpu", []string{"-test.cpuprofile=x"}, "want it without -cpuprofile"},
		{"trace", []string{"-test.trace=x"}, "want it without -trace"},
		{"cpu,heap", []string{"-test.memprofile=x"}, "want it without -memprofile"},
		{"mutex", []string{"-test.mutexprofile=x"}, "want it without -mutexprofile"},
		{"block", []string{"-test.blockprofile=x"}, "want it without -blockprofile"},
		{"gpu", nil, `harness: PHANTOM_PROFILE="gpu": "gpu": want a list of`},
	} {
		args := append(benchArgs, "-test.outputdir="+out)
		if c.args != nil {
			args = append(append(args, "-test.artifacts"), c.args...)
		}
		stdout, stderr, status := child(t, "lone", []string{"PHANTOM_PROFILE=" + c.profile}, args...)
		require.Equal(t, 2, status, c.want)
		require.Contains(t, stderr, c.want)
		require.Empty(t, results(t, stdout), "refused before anything ran")
	}
	require.NoError(t, checkProfiles([]string{"heap"}, true))
	require.NoError(t, checkProfiles(nil, false))
}

// losingRun is a run whose directory goes away before the records are written.
func losingRun(b *testing.B) {
	Run(b, Spec{}, func(*Client) error { return nil })
	require.NoError(b, os.RemoveAll(b.ArtifactDir()))
}

// driftingRun is a run in which a goroutine stays behind every millisecond, seen
// at intervals of a millisecond.
func driftingRun(b *testing.B) {
	evidence.Store(&ledger{
		drift: true, index: map[string]int{}, open: map[*testing.B]*watcher{}, dirs: map[*testing.B][]string{},
	})
	var parked sync.WaitGroup
	leave := make(chan struct{})
	s := Spec{}
	m := startLoopMeter(b, &s)
	begin, leaked := time.Now(), 0
	for n := 0; b.Loop(); n++ {
		if n < 200 {
			time.Sleep(time.Millisecond)
			for ; leaked < int(time.Since(begin).Milliseconds()); leaked++ { // one a millisecond, however busy the machine
				parked.Go(func() { <-leave })
			}
			m.watcher.take()
		}
	}
	m.stop()
	close(leave)
	parked.Wait()
}

func TestFindingIsRemarkedOnce(t *testing.T) {
	_, stderr, status := child(t, "drift", nil, benchArgs...)
	require.Zero(t, status)
	require.Equal(t, 1, strings.Count(stderr, "# leak BenchmarkChild: goroutines changes by"), stderr)
}
