package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/load"
)

// bench runs f as a benchmark of the length given, and returns its result and
// whether it failed.
func bench(t *testing.T, benchtime string, f func(b *testing.B)) (r testing.BenchmarkResult, failed bool) {
	t.Helper()
	old := flagText("test.benchtime")
	require.NoError(t, flag.Set("test.benchtime", benchtime))
	defer func() { require.NoError(t, flag.Set("test.benchtime", old)) }()
	r = testing.Benchmark(func(b *testing.B) {
		defer func() { failed = b.Failed() }()
		f(b)
	})
	return r, failed
}

// runs are the operations of each client.
type runs struct {
	perClient []atomic.Int64
	work      func()
}

func (r *runs) op(c *Client) error {
	r.perClient[c.ID].Add(1)
	if r.work != nil {
		r.work()
	}
	return nil
}

func (r *runs) all() (ops []int64, sum int64) {
	for i := range r.perClient {
		ops = append(ops, r.perClient[i].Load())
		sum += ops[i]
	}
	return ops, sum
}

func TestCountIsExact(t *testing.T) {
	for _, clients := range []int{1, 2, 7, 64} {
		for _, count := range []int{1, 2, 100, 5000} {
			r := runs{perClient: make([]atomic.Int64, clients)}
			res, failed := bench(t, fmt.Sprintf("%dx", count), func(b *testing.B) { Run(b, Spec{Clients: clients, Warmup: -1}, r.op) })
			require.False(t, failed)
			_, sum := r.all()
			require.Equal(t, count, res.N)
			require.EqualValues(t, count, sum, "%d clients", clients)
		}
	}
}

// With 5000 operations of 256 clients each has 19 or 20 of its own if all take
// the same time. One that stopped early, or took a large batch at the end while
// others waited, would stand out.
func TestNoClientRunsDry(t *testing.T) {
	const clients, count = 256, 5000
	r := runs{perClient: make([]atomic.Int64, clients), work: func() { time.Sleep(2 * time.Millisecond) }}
	_, failed := bench(t, "5000x", func(b *testing.B) { Run(b, Spec{Clients: clients, Warmup: -1}, r.op) })
	require.False(t, failed)
	ops, _ := r.all()
	require.GreaterOrEqual(t, slices.Min(ops), int64(count/clients/2), "%v", ops)
	require.LessOrEqual(t, slices.Max(ops), int64(count/clients*2), "%v", ops)
}

// An operation of 50 ms under -benchtime=300ms: the loop must not have asked
// for more than half a second of them, however fast permits can be given.
func TestSlowOperationEndsInTime(t *testing.T) {
	for _, clients := range []int{1, 4, 256} {
		r := runs{perClient: make([]atomic.Int64, clients), work: func() { time.Sleep(50 * time.Millisecond) }}
		res, failed := bench(t, "300ms", func(b *testing.B) { Run(b, Spec{Clients: clients, Warmup: -1}, r.op) })
		require.False(t, failed)
		rounds := (res.N + clients - 1) / clients
		require.LessOrEqual(t, rounds, 10, "%d clients: %d operations", clients, res.N)
		require.Greater(t, res.N, 1)
	}
}

// A millisecond an operation: permits must not grow before the first of them
// have come back, or b.Loop takes what was handed out for what was done. It asked
// for a million operations.
func TestPermitsGrowByWhatIsDone(t *testing.T) {
	const clients = 64
	r := runs{perClient: make([]atomic.Int64, clients), work: func() { time.Sleep(time.Millisecond) }}
	res, failed := bench(t, "200ms", func(b *testing.B) { Run(b, Spec{Clients: clients, Warmup: -1}, r.op) })
	require.False(t, failed)
	require.LessOrEqual(t, res.N, 2*200*clients)
}

func TestLineOfARun(t *testing.T) {
	var result Result
	res, failed := bench(t, "1200x", func(b *testing.B) {
		result = Run(b, Spec{Clients: 4}, func(*Client) error { runtime.Gosched(); return nil })
	})
	require.False(t, failed)
	x := res.Extra
	for _, unit := range []string{
		"ops/s", "avg-ns", "min-ns", "p50-ns", "p90-ns", "p99-ns", "max-ns", "errors/op", "ns/op", "B/op", "allocs/op",
	} {
		require.Contains(t, x, unit)
	}
	require.NotContains(t, x, "p99.9-ns", "1200 values are too few")
	require.NotContains(t, x, "fsyncs/op", "nobody counts")
	require.InEpsilon(t, 1e9, x["ops/s"]*x["ns/op"], 1e-6, "rate and time are of the same wall clock")
	require.LessOrEqual(t, x["min-ns"], x["p50-ns"])
	require.LessOrEqual(t, x["p50-ns"], x["p99-ns"])
	require.LessOrEqual(t, x["p99-ns"], x["max-ns"])
	require.Equal(t, 1200, result.Ops)
	require.EqualValues(t, 1200, result.Latency.Count())
	require.InEpsilon(t, float64(result.Elapsed)/1200, x["ns/op"], 1e-9)
}

// Of eight operations the first runs alone and the others together, so the run
// is two operations long; one that stopped its clock at the last permit would
// say one.
func TestElapsedReachesToTheLastOperation(t *testing.T) {
	var result Result
	_, failed := bench(t, "8x", func(b *testing.B) {
		result = Run(b, Spec{Clients: 8, Warmup: -1}, func(*Client) error { time.Sleep(20 * time.Millisecond); return nil })
	})
	require.False(t, failed)
	require.GreaterOrEqual(t, result.Latency.Min(), 20*time.Millisecond)
	require.GreaterOrEqual(t, result.Elapsed, 2*result.Latency.Min())
}

func TestErrorsAreCountedAndLeftOut(t *testing.T) {
	for _, clients := range []int{1, 4} {
		var n atomic.Int64
		var result Result
		res, failed := bench(t, "400x", func(b *testing.B) {
			result = Run(b, Spec{Clients: clients, Warmup: -1}, func(*Client) error {
				if n.Add(1)%4 == 0 {
					return errors.New("no")
				}
				return nil
			})
		})
		require.False(t, failed)
		require.InDelta(t, 0.25, res.Extra["errors/op"], 1e-9)
		require.EqualValues(t, 100, result.Errors)
		require.EqualValues(t, 300, result.Latency.Count())
		require.InEpsilon(t, 0.75e9, res.Extra["ops/s"]*res.Extra["ns/op"], 1e-6, "ops/s counts what succeeded")
	}
}

func TestAllErrorsFailAloud(t *testing.T) {
	for _, s := range []Spec{{Clients: 1}, {Clients: 4}, {Clients: 4, Warmup: -1}} {
		_, failed := bench(t, "100x", func(b *testing.B) {
			Run(b, s, func(*Client) error { return errors.New("disk on fire") })
		})
		require.True(t, failed)
	}
}

// An operation that calls FailNow or Goexit ends its client's goroutine. Run
// must fail instead of waiting for it.
func TestDesertedClientFails(t *testing.T) {
	_, failed := bench(t, "1000x", func(b *testing.B) {
		Run(b, Spec{Clients: 4, Warmup: -1}, func(c *Client) error {
			if c.Iter == 3 { // all of them: nobody is left to take a permit
				runtime.Goexit()
			}
			return nil
		})
	})
	require.True(t, failed)
}

func TestWarmUp(t *testing.T) {
	for _, c := range []struct {
		count           string
		clients, warmup int
		want            int64
	}{
		{"1000x", 1, 0, 50}, {"1010x", 1, 0, 51}, {"1x", 1, 0, 1}, {"100x", 8, 0, 8},
		{"1000x", 4, 7, 7}, {"1000x", 4, -1, 0}, {"10x", 1, 1000, 1000}, {"10x", 2, 1000, 1000},
	} {
		r := runs{perClient: make([]atomic.Int64, c.clients)}
		var result Result
		res, failed := bench(t, c.count, func(b *testing.B) {
			result = Run(b, Spec{Clients: c.clients, Warmup: c.warmup}, r.op)
		})
		require.False(t, failed)
		_, sum := r.all()
		require.Equal(t, c.want, sum-int64(res.N), "%+v", c)
		require.EqualValues(t, res.N, result.Latency.Count(), "the warm-up is not measured")
	}
}

// {ID, Iter} never repeats, the warm-up included, so that an operation can
// derive keys and sequence numbers from it.
func TestClientsNumberTheirOperations(t *testing.T) {
	var mu sync.Mutex
	seen := map[[2]uint64]int{}
	_, failed := bench(t, "500x", func(b *testing.B) {
		Run(b, Spec{Clients: 8}, func(c *Client) error {
			mu.Lock()
			defer mu.Unlock()
			seen[[2]uint64{uint64(c.ID), c.Iter}]++
			return nil
		})
	})
	require.False(t, failed)
	require.Len(t, seen, 525)
	for k, n := range seen {
		require.Equal(t, 1, n, "client and iteration %v", k)
	}
}

func TestSeedDecidesRandomness(t *testing.T) {
	draw := func(seed uint64) [2]uint64 {
		var first [2]uint64
		_, failed := bench(t, "100x", func(b *testing.B) {
			// Each waits for the other's first operation: so short a loop could
			// be over before a client gets to run at all.
			var met sync.WaitGroup
			met.Add(2)
			Run(b, Spec{Clients: 2, Seed: seed}, func(c *Client) error {
				if v := c.Rand.Uint64(); c.Iter == 0 {
					first[c.ID] = v
					met.Done()
					met.Wait()
				}
				return nil
			})
		})
		require.False(t, failed)
		return first
	}
	a := draw(5)
	require.Equal(t, a, draw(5))
	require.NotEqual(t, a, draw(6))
	require.NotEqual(t, a[0], a[1])
	with(t, func(p *params) { p.seed = 5 })
	require.Equal(t, a, draw(0), "no seed means the seed of the run")
}

func TestContextEndsWithTheRun(t *testing.T) {
	var ctx context.Context
	_, failed := bench(t, "10x", func(b *testing.B) {
		Run(b, Spec{}, func(c *Client) error { ctx = c.Context; return ctx.Err() })
	})
	require.False(t, failed)
	require.Error(t, ctx.Err())
}

func TestReadyComesFirst(t *testing.T) {
	ready, early := false, false
	_, failed := bench(t, "10x", func(b *testing.B) {
		Run(b, Spec{Ready: func(context.Context) error { ready = true; return nil }},
			func(*Client) error { early = early || !ready; return nil })
	})
	require.False(t, failed)
	require.True(t, ready)
	require.False(t, early)

	_, failed = bench(t, "10x", func(b *testing.B) {
		Run(b, Spec{Ready: func(context.Context) error { return errors.New("no leader") }},
			func(*Client) error { t.Error("must not run"); return nil })
	})
	require.True(t, failed)
}

func TestStartLiesBetweenWarmUpAndMeasured(t *testing.T) {
	for _, clients := range []int{1, 4} {
		for _, schedule := range []load.Schedule{nil, load.Constant(1e5)} {
			r := runs{perClient: make([]atomic.Int64, clients)}
			starts, before := 0, int64(0)
			_, failed := bench(t, "50x", func(b *testing.B) {
				Run(b, Spec{Clients: clients, Schedule: schedule, Warmup: 7, Overload: true, Start: func() {
					starts++
					_, before = r.all()
				}}, r.op)
			})
			require.False(t, failed)
			_, all := r.all()
			require.Equal(t, 1, starts)
			require.EqualValues(t, 7, before, "the warm-up, and nothing else")
			require.EqualValues(t, 57, all)
		}
	}
}

func TestSpecIsRefused(t *testing.T) {
	for _, clients := range []int{-1, maxClients + 1} {
		s := Spec{Clients: clients}
		require.ErrorContains(t, s.validate(), "want 1 to 100000")
	}
}

func TestCountersBecomeCosts(t *testing.T) {
	var c Counters
	var mu sync.Mutex
	c.Fsyncs, c.Elections, c.DiskBytes = 1000, 3, 5 // before the run, and DiskBytes never again
	res, failed := bench(t, "100x", func(b *testing.B) {
		Run(b, Spec{
			Clients:  4,
			Counters: func() Counters { mu.Lock(); defer mu.Unlock(); return c },
			Loads: func() []int64 {
				mu.Lock()
				defer mu.Unlock()
				return []int64{c.Messages, 3 * c.Messages}
			},
		}, func(*Client) error {
			mu.Lock()
			defer mu.Unlock()
			c.Fsyncs += 2
			c.Messages += 5
			return nil
		})
	})
	require.False(t, failed)
	require.InDelta(t, 2.0, res.Extra["fsyncs/op"], 1e-9)
	require.InDelta(t, 5.0, res.Extra["msgs/op"], 1e-9)
	require.InDelta(t, 0.5, res.Extra["load-cv"], 1e-9)
	require.Contains(t, res.Extra, "disk-B/op", "a meter that moved once is there")
	require.Zero(t, res.Extra["disk-B/op"])
	require.NotContains(t, res.Extra, "wire-B/op", "a meter that never moved is absent")
	require.Contains(t, res.Extra, "elections")
	require.Zero(t, res.Extra["elections"])
}

func TestVariation(t *testing.T) {
	for _, c := range []struct {
		from, to []int64
		want     float64
		ok       bool
	}{
		{[]int64{0, 0}, []int64{10, 10}, 0, true},
		{[]int64{5, 5}, []int64{6, 8}, 0.5, true},
		{[]int64{0, 0, 0, 0}, []int64{4, 0, 0, 0}, 1.7320508, true},
		{[]int64{1, 2}, []int64{1, 2}, 0, false},
		{[]int64{0}, []int64{9}, 0, false},
		{nil, nil, 0, false},
		{[]int64{0, 0}, []int64{1, 2, 3}, 0, false}, // a node came or went
	} {
		got, ok := variation(c.from, c.to)
		require.Equal(t, c.ok, ok, "%v", c)
		require.InDelta(t, c.want, got, 1e-6)
	}
}

func TestBatchesShrinkTowardsTheEnd(t *testing.T) {
	for _, c := range []struct{ left, clients, want int }{
		{0, 256, 1}, {-5, 4, 1}, {5000, 256, 2}, {1_000_000, 64, 256}, {8 * 64 * 10, 64, 10}, {8*64*10 - 1, 64, 9},
	} {
		require.Equal(t, c.want, batchSize(c.left, c.clients), "%+v", c)
	}
	// Whatever comes, a permit is at most an eighth of a client's share.
	for left := 1; left < 100_000; left += 37 {
		if n := batchSize(left, 16); n > 1 {
			require.LessOrEqual(t, n*8*16, left)
		}
	}
	require.Equal(t, 400, left(1000, 0, 600, 500, time.Hour))
	require.Equal(t, 33, left(0, time.Second, 150, 100, 900*time.Millisecond))
	require.Equal(t, 100, left(0, time.Second, 150, 100, 250*time.Millisecond), "no more than were done")
	require.Zero(t, left(0, time.Second, 100, 100, 2*time.Second))
	require.Zero(t, left(0, time.Second, 0, 0, 0))
}

// What the second pass of a closed loop costs must be what the first one cost:
// permits that carry as much, unless that would keep the watchdog waiting.
func TestSecondPassGoesOutInBatches(t *testing.T) {
	for _, c := range []struct {
		took time.Duration // the first pass
		most int           // operations of a permit
	}{{time.Millisecond, maxBatch}, {1000 * time.Second, 10}, {time.Hour * 24, 1}} {
		s := Spec{Clients: 2, Seed: 1}
		var most, ops atomic.Int64
		var crew *crew
		crew = newCrew(t.Context(), s, func(c *Client) error {
			ops.Add(1)
			for m := int64(crew.members[c.ID].turn.last); ; {
				if old := most.Load(); m <= old || most.CompareAndSwap(old, m) {
					return nil
				}
			}
		})
		crew.repeat(20_001, c.took)
		crew.dismiss()
		require.EqualValues(t, 20_001, ops.Load())
		require.EqualValues(t, c.most, most.Load(), "a first pass of %v", c.took)
	}
	// The pass that Run does over, since its books lie, is such a one.
	var most atomic.Int64
	_, failed := bench(t, "5000x", func(b *testing.B) {
		s, passes := Spec{Clients: 2, Seed: 1}, 0
		s.Start = func() { passes++ }
		tr := &trial{b: b, spec: &s, count: 5000}
		tr.crew = newCrew(b.Context(), s, func(c *Client) error {
			m := tr.crew.members[c.ID]
			if passes == 1 {
				m.failed = 1e18
				return nil
			}
			// Either client may do all of it.
			for {
				n := int64(m.turn.last)
				if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
					return nil
				}
			}
		})
		defer tr.crew.dismiss()
		tr.closed()
		require.Equal(b, 2, passes)
		require.EqualValues(b, 5000, tr.crew.ops())
	})
	require.False(t, failed)
	require.Greater(t, most.Load(), int64(1))
	// One client does its operations on this goroutine.
	ops := 0
	alone := newCrew(t.Context(), Spec{Clients: 1, Seed: 1}, func(*Client) error { ops++; return nil })
	alone.repeat(1001, time.Millisecond)
	require.Equal(t, 1001, ops)
}

func TestRunAllocatesNothingPerOperation(t *testing.T) {
	for _, clients := range []int{1, 8} {
		res, failed := bench(t, "100000x", func(b *testing.B) {
			Run(b, Spec{Clients: clients}, func(*Client) error { return nil })
		})
		require.False(t, failed)
		require.Less(t, res.Extra["allocs/op"], 0.005, "%d clients", clients)
		res, failed = bench(t, "100000x", func(b *testing.B) {
			s := Spec{Clients: clients, Schedule: load.Poisson(1e7), Overload: true, Mix: readsAndWrites(b)}
			Run(b, s, func(*Client) error { return nil })
		})
		require.False(t, failed)
		if res.Extra["invalid"] == 0 {
			require.Less(t, res.Extra["allocs/op"], 0.005, "%d clients in an open loop", clients)
		}
		tail.take()
	}
}
