package harness

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// keeping makes this process keep evidence, and restores what was.
func keeping(t testing.TB, l *ledger) *ledger {
	l.index, l.open, l.dirs = map[string]int{}, map[*testing.B]*watcher{}, map[*testing.B][]string{}
	old := evidence.Swap(l)
	t.Cleanup(func() { evidence.Store(old) })
	return l
}

// watched runs f as a benchmark and returns what its watcher saw.
func watched(t *testing.T, l *ledger, benchtime string, f func(b *testing.B)) (w *watcher, series artifact.Series) {
	t.Helper()
	keeping(t, l)
	_, failed := bench(t, benchtime, func(b *testing.B) {
		f(b)
		w = l.open[b]
		series = w.series()
	})
	require.False(t, failed)
	require.Empty(t, l.open, "a benchmark that ended is forgotten")
	return w, series
}

func values(t *testing.T, s artifact.Series, name string) artifact.Floats {
	t.Helper()
	c, ok := s.Column(name)
	require.True(t, ok, name)
	require.Len(t, c.Values, len(s.Ends), name)
	return c.Values
}

func sum(fs artifact.Floats) (s float64) {
	for _, f := range fs {
		s += f
	}
	return s
}

// Every operation is in one interval, and the intervals add up to the run.
func TestRunIsCutIntoIntervals(t *testing.T) {
	for _, clients := range []int{1, 4} {
		var n, fsyncs atomic.Int64
		var result Result
		w, s := watched(t, &ledger{}, "450ms", func(b *testing.B) {
			result = Run(b, Spec{Clients: clients, Counters: func() Counters {
				c := Counters{Fsyncs: fsyncs.Load()}
				c.Classes = []ClassCounters{{Class: "control", Messages: 3 * c.Fsyncs, WireBytes: 100 * c.Fsyncs}}
				return c
			}}, func(*Client) error {
				time.Sleep(time.Millisecond)
				fsyncs.Add(2)
				if n.Add(1)%5 == 0 {
					return errors.New("no")
				}
				return nil
			})
		})
		require.GreaterOrEqual(t, len(s.Ends), 4, "450 ms in intervals of 100 ms")
		require.EqualValues(t, 100*time.Millisecond, s.Interval)
		require.EqualValues(t, result.Ops, sum(values(t, s, "ops"))+sum(values(t, s, "errors")))
		require.EqualValues(t, result.Errors, sum(values(t, s, "errors")))
		require.InDelta(t, 2*result.Ops, sum(values(t, s, "fsyncs")), 0)
		require.InDelta(t, 6*result.Ops, sum(values(t, s, "messages-control")), 0)
		require.InDelta(t, 200*result.Ops, sum(values(t, s, "wire-bytes-control")), 0)
		_, ok := s.Column("disk-bytes")
		require.False(t, ok, "what never moved is absent")
		require.Positive(t, sum(values(t, s, "allocated"))+1)
		for i, v := range values(t, s, "latency-mean") {
			if !math.IsNaN(v) {
				require.GreaterOrEqual(t, v, 1e6, "interval %d", i)
			}
		}
		for _, v := range values(t, s, "latency-p99.9") {
			require.True(t, math.IsNaN(v), "no interval has ten thousand values")
		}
		var whole measure.Capture
		for _, r := range w.rows[1:] {
			whole.Add(r.captures[0])
		}
		require.Equal(t, result.Latency.Count(), whole.Count())
		require.Equal(t, result.Latency.Quantile(0.9), whole.Quantile(0.9))

		m := w.totals()
		fs, ok := m.Meter("fsyncs")
		require.True(t, ok)
		require.InDelta(t, 2*result.Ops, *fs.Delta, 0)
		require.InDelta(t, 2, *fs.PerOp, 1e-9)
		goroutines, ok := m.Meter("goroutines")
		require.True(t, ok)
		require.GreaterOrEqual(t, *goroutines.Max, *goroutines.End)
	}
}

// A stall in the middle shows in its interval and not in the others.
func TestStallShowsInItsInterval(t *testing.T) {
	_, s := watched(t, &ledger{}, "1s", func(b *testing.B) {
		var stalled sync.Once
		start := time.Now()
		Run(b, Spec{Warmup: -1}, func(*Client) error {
			time.Sleep(time.Millisecond)
			if time.Since(start) > 250*time.Millisecond {
				stalled.Do(func() { time.Sleep(300 * time.Millisecond) })
			}
			return nil
		})
	})
	ops := values(t, s, "ops")
	highest := values(t, s, "latency-max")
	still, slow := 0, 0
	for i := range ops {
		if ops[i] == 0 {
			still++
			require.True(t, math.IsNaN(highest[i]), "interval %d: nothing came back", i)
		}
		if highest[i] >= 3e8 {
			slow++
		}
	}
	require.Positive(t, still, "%v", ops)
	require.Equal(t, 1, slow, "%v", highest)
}

func TestEventsAndMicroAreWatched(t *testing.T) {
	_, s := watched(t, &ledger{}, "3x", func(b *testing.B) {
		Events(b, Spec{}, func(i int) (Event, error) {
			time.Sleep(120 * time.Millisecond)
			if i == 2 { // the warm-up is 0
				return Event{}, errors.New("no")
			}
			return Event{Took: 7 * time.Second}, nil
		})
	})
	require.EqualValues(t, 2, sum(values(t, s, "ops")))
	require.EqualValues(t, 1, sum(values(t, s, "errors")))
	require.GreaterOrEqual(t, len(s.Ends), 3)
	require.InDelta(t, 7e9, values(t, s, "latency-max")[0], 1)

	_, s = watched(t, &ledger{}, "1000x", func(b *testing.B) { Micro(b, func() error { return nil }) })
	_, ok := s.Column("ops")
	require.False(t, ok, "nobody sees the operations of Micro one by one")
	require.NotEmpty(t, values(t, s, "goroutines"))
}

// A run that is repeated within its benchmark leaves what its last part saw.
func TestRepeatedRunReplacesTheFirst(t *testing.T) {
	var first, second *meter
	w, _ := watched(t, &ledger{}, "1x", func(b *testing.B) {
		for b.Loop() {
		}
		first = startMeter(b, &Spec{})
		second = startMeter(b, &Spec{}) // the first was not even stopped
		second.stop()
	})
	require.Same(t, second.watcher, w)
	require.True(t, first.watcher.stopped)
}

// However long a run is, it keeps a bounded number of intervals, and joining
// them loses nothing.
func TestIntervalsAreJoined(t *testing.T) {
	keeping(t, &ledger{})
	_, failed := bench(t, "1x", func(b *testing.B) {
		for b.Loop() {
		}
		var pool measure.Pool
		pool.Watch()
		r := pool.Recorder()
		total := int64(0)
		s := Spec{Counters: func() Counters { return Counters{Fsyncs: total} }}
		w := watch(b, &s, true, track{tag: "a", pool: &pool})
		w.start()
		const readings = 5*maxIntervals + 3
		longest := time.Duration(0)
		for i := range readings {
			total++
			longest = max(longest, time.Duration(i))
			r.Record(time.Duration(i))
			r.Fail()
			interval, changed := w.take()
			require.LessOrEqual(t, len(w.rows), maxIntervals+1)
			require.Equal(t, w.interval, interval)
			if i == maxIntervals-1 {
				require.False(t, changed)
				require.Equal(t, shortestInterval, interval)
			}
			if i == maxIntervals {
				require.True(t, changed)
				require.Equal(t, 2*shortestInterval, interval)
			}
		}
		w.stop()
		size := 0
		for i := range w.rows {
			size += w.rows[i].size()
		}
		require.Equal(t, size, w.held, "joined captures are smaller than two")
		series := w.series()
		require.EqualValues(t, readings, sum(values(t, series, "ops-a")))
		require.EqualValues(t, readings, sum(values(t, series, "errors-a")))
		require.EqualValues(t, readings, sum(values(t, series, "fsyncs")))
		// Each join makes room for 200 more; these readings come without waiting.
		require.Equal(t, 512*shortestInterval, w.interval)
		require.LessOrEqual(t, len(w.spare), maxIntervals+1)
		at := -1.0
		for i, end := range series.Ends {
			require.Greater(t, end, at, "interval %d", i)
			at = end
		}
		require.InDelta(t, float64(longest), slicesMax(values(t, series, "latency-max-a")), 0)
	})
	require.False(t, failed)
}

func slicesMax(fs artifact.Floats) float64 {
	highest := math.Inf(-1)
	for _, f := range fs {
		if f > highest {
			highest = f
		}
	}
	return highest
}

// A run that nobody watches must not even look.
func TestNobodyWatchesByDefault(t *testing.T) {
	old := evidence.Swap(nil)
	defer evidence.Store(old)
	l, err := newLedger(defaults())
	require.NoError(t, err)
	require.Nil(t, l)
	_, failed := bench(t, "1x", func(b *testing.B) {
		m := startMeter(b, &Spec{})
		for b.Loop() {
		}
		m.stop()
		require.Nil(t, m.watcher)
		require.Nil(t, watch(b, &Spec{}, false))
	})
	require.False(t, failed)
	var w *watcher
	require.Zero(t, testing.AllocsPerRun(100, func() { w.breathe(); w.stop(); w.start() }))
}

func TestWatchedRunAllocatesNothingPerOperation(t *testing.T) {
	keeping(t, &ledger{})
	for _, clients := range []int{1, 8} {
		res, failed := bench(t, "300000x", func(b *testing.B) {
			Run(b, Spec{Clients: clients}, func(*Client) error { return nil })
		})
		require.False(t, failed)
		require.Less(t, res.Extra["allocs/op"], 0.005, "%d clients", clients)
	}
}

// What JSON has no word for is absent.
func TestNumbersAreFinite(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		require.Nil(t, number(v))
	}
	require.InDelta(t, -1.5, *number(-1.5), 0)
}

// The directories of a benchmark are looked at in the long-running mode, and
// forgotten with it.
func TestDiskUse(t *testing.T) {
	l := &ledger{drift: true}
	w, s := watched(t, l, "1x", func(b *testing.B) {
		dir := Dir(b)
		Run(b, Spec{Warmup: -1}, func(*Client) error { return writeZeros(dir+"/a", 5000) })
	})
	disk := values(t, s, "disk-used")
	require.InDelta(t, 5000, disk[len(disk)-1], 0)
	require.Zero(t, w.rows[0].disk.bytes)
	require.InDelta(t, 2, values(t, s, "disk-entries")[len(disk)-1], 0, "the directory and the file")
	require.Zero(t, w.rows[0].held)
	require.EqualValues(t, w.rows[1].size(), w.held)
	require.Positive(t, w.held)
	require.Empty(t, w.findings)
	require.Empty(t, l.dirs)

	// Of a directory with too many files the size is unknown rather than wrong,
	// which is said, and their number still is known.
	w, s = watched(t, l, "1x", func(b *testing.B) {
		dir := Dir(b)
		for i := range maxDiskSizes {
			require.NoError(b, writeZeros(fmt.Sprint(dir, "/", i), 0))
		}
		Run(b, Spec{Warmup: -1}, func(*Client) error { return nil })
	})
	require.True(t, math.IsNaN(w.rows[0].disk.bytes))
	require.InDelta(t, maxDiskSizes+1, values(t, s, "disk-entries")[0], 0)
	require.Len(t, w.findings, 1)
	require.Equal(t, "disk", w.findings[0].Reason)
	require.Contains(t, w.findings[0].Text, "more than 10000 files")
	tail.take()

	w, s = watched(t, &ledger{}, "1x", func(b *testing.B) {
		dir := Dir(b)
		Run(b, Spec{Warmup: -1}, func(*Client) error { return writeZeros(dir+"/a", 5000) })
	})
	require.True(t, math.IsNaN(w.rows[0].disk.bytes))
	_, ok := s.Column("disk-used")
	require.False(t, ok)
}
