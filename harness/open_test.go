package harness

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// inBubble runs a benchmark in virtual time, where figures are exact.
func inBubble(t *testing.T, benchtime string, f func(b *testing.B)) (r testing.BenchmarkResult) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var failed bool
		r, failed = bench(t, benchtime, f)
		require.False(t, failed)
	})
	return r
}

// lasting is an operation of a known length.
func lasting(d time.Duration) Op {
	return func(*Client) error { time.Sleep(d); return nil }
}

func TestOpenLoopStartsWhenDue(t *testing.T) {
	for _, s := range []load.Schedule{load.Constant(1000), load.Poisson(1000), load.Spike(100, 5000, 0.1)} {
		var mu sync.Mutex
		var starts []time.Duration
		var r Result
		inBubble(t, "300x", func(b *testing.B) {
			var begin time.Time
			r = Run(b, Spec{Clients: 64, Schedule: s, Warmup: -1, Seed: 3}, func(*Client) error {
				mu.Lock()
				if begin.IsZero() {
					begin = time.Now()
				}
				starts = append(starts, time.Since(begin))
				mu.Unlock()
				time.Sleep(5 * time.Millisecond)
				return nil
			})
		})
		require.Len(t, starts, 300)
		next := s.Starts(time.Duration(300/s.Rate()*float64(time.Second)), 3)
		first := next()
		for i := range starts[1:] {
			require.Equal(t, next()-first, starts[i+1], "%v: start %d", s, i+1)
		}
		require.Zero(t, r.Lag.Max(), "%v", s)
		require.Equal(t, 5*time.Millisecond, r.Latency.Max(), "%v: nobody waited", s)
		require.Empty(t, r.Invalid)
	}
}

func TestOpenLoopLastsAsLongAsAsked(t *testing.T) {
	var r Result
	res := inBubble(t, "2s", func(b *testing.B) {
		r = Run(b, Spec{Clients: 8, Schedule: load.Constant(100), Warmup: -1}, lasting(10*time.Millisecond))
	})
	require.Equal(t, 200, r.Ops)
	require.Equal(t, 200, res.N, "the number on the line")
	require.Equal(t, 2*time.Second, r.Elapsed)
	require.InEpsilon(t, 1e7, res.Extra["ns/op"], 1e-9)
	require.InEpsilon(t, 100, res.Extra["ops/s"], 1e-9)
	require.InEpsilon(t, 100, res.Extra["offered-ops/s"], 1e-9)
	require.InEpsilon(t, 1e7, res.Extra["avg-ns"], 1e-9)
	require.Zero(t, res.Extra["lag-avg-ns"])
	require.NotContains(t, res.Extra, "lag-p99-ns", "200 values are too few")
	require.NotContains(t, res.Extra, "cpu-ns/op", "it would be the generator's")
	require.Contains(t, res.Extra, "mallocs/op")
	if _, _, ok := measure.CPU(); ok {
		res = inBubble(t, "2s", func(b *testing.B) { Run(b, Spec{Clients: 8}, lasting(10*time.Millisecond)) })
		require.Contains(t, res.Extra, "cpu-ns/op", "the clients of a closed loop do not wait for a moment")
	}

	// Fewer arrivals than a second has: the rest of it is silence.
	inBubble(t, "3s", func(b *testing.B) {
		r = Run(b, Spec{Schedule: load.Step(1, 0, 0)}, lasting(time.Millisecond))
	})
	require.Equal(t, 1, r.Ops)
	require.Equal(t, 3*time.Second, r.Elapsed)
}

func TestSleepIsReportedWithinOnePercent(t *testing.T) {
	const d = 7 * time.Millisecond
	for _, s := range []Spec{
		{Clients: 1, Warmup: -1},
		{Clients: 16, Warmup: -1},
		{Clients: 16, Warmup: -1, Schedule: load.Poisson(500)},
	} {
		res := inBubble(t, "1s", func(b *testing.B) { Run(b, s, lasting(d)) })
		for _, unit := range []string{"avg-ns", "min-ns", "p50-ns", "p90-ns", "max-ns"} {
			require.InEpsilon(t, float64(d), res.Extra[unit], 0.01, "%s of %d clients, schedule %v", unit, s.Clients, s.Schedule)
		}
		if s.Schedule == nil {
			require.InEpsilon(t, float64(s.Clients)/d.Seconds(), res.Extra["ops/s"], 0.02)
		}
	}
}

// A server that stands still for half a second of five. Ten clients in a closed
// loop notice it ten times among tens of thousands of operations: they stop
// asking. The users of an open loop go on asking, and a tenth of them wait.
func TestStallShowsInTheOpenLoopOnly(t *testing.T) {
	server := func() Op {
		up := time.Now()
		return func(*Client) error {
			if now := time.Since(up); now > 2*time.Second && now < 2500*time.Millisecond {
				time.Sleep(2500*time.Millisecond - now)
			}
			time.Sleep(time.Millisecond)
			return nil
		}
	}
	var closed, open Result
	inBubble(t, "5s", func(b *testing.B) { closed = Run(b, Spec{Clients: 10, Warmup: -1}, server()) })
	inBubble(t, "5s", func(b *testing.B) {
		open = Run(b, Spec{Clients: 10, Warmup: -1, Schedule: load.Constant(1000)}, server())
	})
	require.Empty(t, open.Invalid)
	require.GreaterOrEqual(t, closed.Latency.Max(), 400*time.Millisecond, "it did stand still")
	require.InEpsilon(t, time.Millisecond, closed.Latency.Quantile(0.99), 0.001)
	require.GreaterOrEqual(t, open.Latency.Quantile(0.99), 400*time.Millisecond)
	require.GreaterOrEqual(t, open.Latency.Quantile(0.95), 200*time.Millisecond)
	require.InEpsilon(t, time.Millisecond, open.Latency.Quantile(0.5), 0.001)
}

// Operations that wait for a client are charged for it: with one client and two
// at a time, every second one takes twice as long.
func TestQueueBehindClientsIsLatency(t *testing.T) {
	pairs, err := load.Replay(strings.NewReader("0s\n0s\n100ms\n100ms\n200ms\n200ms\n"))
	require.NoError(t, err)
	var r Result
	inBubble(t, "200x", func(b *testing.B) {
		r = Run(b, Spec{Schedule: pairs, Warmup: -1}, lasting(10*time.Millisecond))
	})
	require.Equal(t, 10*time.Millisecond, r.Latency.Min())
	require.Equal(t, 20*time.Millisecond, r.Latency.Max())
	require.InEpsilon(t, 15e6, r.Latency.Mean(), 1e-9)
	require.Zero(t, r.Lag.Max(), "the harness was never late: there was no client")
}

// A generator that dawdles: its schedule takes its time to say when the next
// operation is due.
type dawdler struct {
	load.Schedule
	takes time.Duration
}

func (d dawdler) Starts(length time.Duration, seed uint64) load.Starts {
	next := d.Schedule.Starts(length, seed)
	return func() time.Duration {
		time.Sleep(d.takes)
		return next()
	}
}

func TestLateGeneratorIsInvalid(t *testing.T) {
	defer tail.take()
	var r Result
	var ops atomic.Int64
	res := inBubble(t, "200x", func(b *testing.B) {
		r = Run(b, Spec{Clients: 4, Schedule: dawdler{load.Constant(1000), 20 * time.Millisecond}, Warmup: -1},
			func(*Client) error { ops.Add(1); time.Sleep(time.Millisecond); return nil })
	})
	require.Contains(t, r.Invalid, "the generator was late by")
	require.EqualValues(t, 400, ops.Load(), "measured once more")
	require.Equal(t, map[string]float64{"ns/op": 0, "invalid": 1}, res.Extra, "no figure that could be compared")
	_, remarks := tail.take()
	require.Len(t, remarks, 1)
	require.Contains(t, remarks[0], ": invalid twice: the generator was late by")

	// Below 100 operations nobody judges.
	inBubble(t, "99x", func(b *testing.B) {
		r = Run(b, Spec{Clients: 4, Schedule: dawdler{load.Constant(1000), 20 * time.Millisecond}, Warmup: -1}, lasting(time.Millisecond))
	})
	require.Empty(t, r.Invalid)
}

// Late in the first pass only: the second one counts.
func TestSecondPassCounts(t *testing.T) {
	var r Result
	var calls atomic.Int64
	res := inBubble(t, "200x", func(b *testing.B) {
		s := lateOnce{load.Constant(1000), new(atomic.Bool)}
		r = Run(b, Spec{Clients: 4, Schedule: s, Warmup: -1},
			func(*Client) error { calls.Add(1); time.Sleep(time.Millisecond); return nil })
	})
	require.Empty(t, r.Invalid)
	require.EqualValues(t, 400, calls.Load())
	require.Equal(t, 200, r.Ops)
	require.EqualValues(t, 200, r.Latency.Count(), "the first pass is forgotten")
	require.InEpsilon(t, 1e6, res.Extra["avg-ns"], 1e-9)
	require.Equal(t, 200, res.N)
}

type lateOnce struct {
	load.Schedule
	spent *atomic.Bool
}

func (s lateOnce) Starts(length time.Duration, seed uint64) load.Starts {
	if s.spent.Swap(true) {
		return s.Schedule.Starts(length, seed)
	}
	return dawdler{s.Schedule, 20 * time.Millisecond}.Starts(length, seed)
}

func TestOverloadIsInvalidUnlessWanted(t *testing.T) {
	defer tail.take()
	over := Spec{Clients: 2, Schedule: load.Constant(1000), Warmup: -1} // the server does 200/s
	// The last is longer than the buffer could tell.
	for _, benchtime := range []string{"500x", "1s", "20000x"} {
		var r Result
		inBubble(t, benchtime, func(b *testing.B) { r = Run(b, over, lasting(10*time.Millisecond)) })
		require.Contains(t, r.Invalid, "saturated: ", benchtime)
		wanted := over
		wanted.Overload = true
		inBubble(t, benchtime, func(b *testing.B) { r = Run(b, wanted, lasting(10*time.Millisecond)) })
		require.Empty(t, r.Invalid)
		require.InEpsilon(t, 200, float64(r.Ops)/r.Elapsed.Seconds(), 0.02)
	}
	// Slow is not behind: fifty are under way all the time.
	var r Result
	inBubble(t, "100x", func(b *testing.B) {
		r = Run(b, Spec{Clients: 100, Schedule: load.Constant(1000), Warmup: -1}, lasting(50*time.Millisecond))
	})
	require.Empty(t, r.Invalid)
}

// A run of a length must end though its backlog would last for hours.
func TestOverloadEndsInTime(t *testing.T) {
	defer tail.take()
	var r Result
	inBubble(t, "1s", func(b *testing.B) {
		r = Run(b, Spec{Schedule: load.Constant(100_000), Overload: true, Warmup: -1}, lasting(10*time.Millisecond))
	})
	require.Less(t, r.Elapsed, 15*time.Second, "twice the length, a second, and the buffer")
}

// The law as such, against books that lie.
func TestContradictions(t *testing.T) {
	sound := books{
		ops: 1000, clients: 8, elapsed: time.Second, open: true,
		kept: 1000, recorded: 5e9, pending: 5e9, mean: 5e6, p99: 10 * time.Millisecond,
		lagMean: 1e4, lagP99: 100 * time.Microsecond,
		offered: 1000, window: time.Second, backlog: 7, met: 5,
	}
	require.Empty(t, sound.contradiction())
	closed := books{ops: 1000, kept: 1000, clients: 20, elapsed: time.Second, recorded: 19.5e9, away: 500 * time.Millisecond}
	require.Empty(t, closed.contradiction())
	for want, lie := range map[string]func(k *books){
		"Little's law: 5 operations were under way by their number, 1 by their latencies":     func(k *books) { k.recorded = 1e9 },
		"Little's law: 5 operations were under way by their number, 9 by their latencies":     func(k *books) { k.recorded = 9e9 },
		"the generator was late by 1ms on average, of a mean latency of 5ms":                  func(k *books) { k.lagMean = 1e6 },
		"the generator was late by 6ms in the 99th percentile, of one of 10ms":                func(k *books) { k.lagP99 = 6 * time.Millisecond },
		"saturated: 101 of 1000 operations were still to do when the last was due, at 1000/s": func(k *books) { k.backlog = 101 },
		"saturated: after twice the length 1000 operations had been begun, of 1000/s":         func(k *books) { k.left = true },
		"saturated: the last of 1000 operations was on offer 101ms after it was due": func(k *books) {
			k.overdue = 101 * time.Millisecond
		},
		"saturated: the mean latency rose from 1ms to 81ms over the run, at 1000/s": func(k *books) {
			k.growth = growth{first: 1e6, last: 81e6, mean: 41e6, sure: 30}
		},
		"1000 operations were done, and the latencies of 999 recorded": func(k *books) { k.kept-- },
		"latencies add up to 21s, and 20 clients had 20s": func(k *books) {
			*k = closed
			k.recorded = 21e9
		},
		"latencies add up to 1s, and 20 clients were in operations for 19.5s of 20s": func(k *books) {
			*k = closed
			k.recorded = 1e9
		},
		"latencies add up to 19.5s, and 20 clients were in operations for 18s of 20s": func(k *books) {
			*k = closed
			k.away = 2 * time.Second
		},
	} {
		k := sound
		lie(&k)
		require.Contains(t, k.contradiction(), want)
		k.ops = checkedFrom - 1
		require.Empty(t, k.contradiction())
	}
	k := sound
	k.backlog, k.met = 500, 400
	require.Empty(t, k.contradiction(), "slow and not behind")
	k = sound
	k.ops, k.kept, k.lagP99 = 999, 999, time.Second
	require.Empty(t, k.contradiction(), "too few for a 99th percentile")
	k = sound
	k.pending, k.recorded = 1.5e6, 0.9e6
	require.Empty(t, k.contradiction(), "0.6 us apart in each operation")
	k.recorded = 0.4e6
	require.Contains(t, k.contradiction(), "Little's law: ")
	k = closed
	k.recorded -= 201e6
	require.Empty(t, k.contradiction(), "a hundredth, and 100 us of each client")
	k.recorded -= 2e6
	require.Contains(t, k.contradiction(), "latencies add up to 19.297s, ")
	k = closed
	k.ops, k.kept, k.recorded = 1e6, 1e6, 4e9
	require.Empty(t, k.contradiction(), "4 us an operation: most of the time is the harness's")
}

func TestOpenLoopFailsAloud(t *testing.T) {
	for name, op := range map[string]Op{
		"errors":    func(*Client) error { return errors.New("disk on fire") },
		"desertion": func(*Client) error { runtime.Goexit(); return nil },
	} {
		_, failed := bench(t, "50x", func(b *testing.B) {
			Run(b, Spec{Clients: 4, Schedule: load.Constant(10_000), Warmup: -1}, op)
		})
		require.True(t, failed, name)
	}
	_, failed := bench(t, "50x", func(b *testing.B) { Run(b, Spec{Schedule: load.Constant(-1)}, lasting(0)) })
	require.True(t, failed)
	s := Spec{Schedule: load.Constant(-1)}
	require.ErrorContains(t, s.validate(), "harness: spec: schedule: load: constant: a rate of -1")
}

// On a real clock. Nothing here is asserted about its speed, only that the
// figures are of the same run and that the generator does not run ahead.
func TestOpenLoopOnARealClock(t *testing.T) {
	var r Result
	clock := measure.StartClock()
	var mu sync.Mutex
	var begin time.Duration // of the last pass, before any operation was due
	var starts []time.Duration
	res, failed := bench(t, "200x", func(b *testing.B) {
		s := Spec{Clients: 8, Schedule: load.Constant(2000), Warmup: -1, Overload: true}
		s.Start = func() { begin, starts = clock.Now(), nil }
		r = Run(b, s, func(*Client) error {
			now := clock.Now()
			mu.Lock()
			starts = append(starts, now)
			mu.Unlock()
			return nil
		})
	})
	require.False(t, failed)
	require.Equal(t, 200, r.Ops)
	slices.Sort(starts)
	for i, s := range starts {
		require.GreaterOrEqual(t, s-begin, time.Duration(i)*500*time.Microsecond, "operation %d began before it was due", i)
	}
	if r.Invalid == "" {
		require.InEpsilon(t, 2000, res.Extra["offered-ops/s"], 1e-6)
		require.Contains(t, res.Extra, "lag-avg-ns")
	}
	tail.take()
}
