package harness

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/load"
)

// One client whose operations take a millisecond, so that a thousand a second
// are all that it can do. In virtual time the answers are exact.
func TestOverloadIsSeenByItsGrowth(t *testing.T) {
	defer tail.take()
	run := func(benchtime string, clients int, s load.Schedule, seed uint64, op Op) (r Result) {
		inBubble(t, benchtime, func(b *testing.B) {
			r = Run(b, Spec{Clients: clients, Schedule: s, Seed: seed, Warmup: -1}, op)
		})
		return r
	}
	for _, length := range []string{"2s", "20s"} {
		for _, rate := range []float64{1010, 1040, 1080, 1100} {
			r := run(length, 1, load.Constant(rate), 1, lasting(time.Millisecond))
			require.Contains(t, r.Invalid, "saturated: the mean latency rose from ", "%v/s for %s", rate, length)
		}
		for _, rate := range []float64{500, 990, 1000} {
			r := run(length, 1, load.Constant(rate), 1, lasting(time.Millisecond))
			require.Empty(t, r.Invalid, "%v/s for %s", rate, length)
			require.Equal(t, time.Millisecond, r.Latency.Max())
		}
		for seed := uint64(1); seed <= 12; seed++ {
			r := run(length, 1, load.Poisson(950), seed, lasting(time.Millisecond))
			require.Empty(t, r.Invalid, "seed %d for %s", seed, length)
			require.Greater(t, r.Latency.Mean(), 2e6, "slow, and stable")
			// Eight clients of 8 ms are the same capacity.
			r = run(length, 8, load.Poisson(950), seed, lasting(8*time.Millisecond))
			require.Empty(t, r.Invalid, "seed %d for %s, 8 clients", seed, length)
		}
	}
	for seed := uint64(1); seed <= 6; seed++ {
		r := run("20s", 1, load.Poisson(1080), seed, lasting(time.Millisecond))
		require.Contains(t, r.Invalid, "saturated: ", "seed %d", seed)
	}
	// As many clients as would hold the backlog of the whole run.
	r := run("2s", 256, load.Constant(1040), 1, oneAtATime(time.Millisecond))
	require.Contains(t, r.Invalid, "saturated: the mean latency rose from ")
}

// oneAtATime is an operation of a system that does one at a time. Its channel
// must be of the bubble in which it is used first.
func oneAtATime(d time.Duration) Op {
	server := sync.OnceValue(func() chan struct{} { return make(chan struct{}, 1) })
	return func(*Client) error {
		server() <- struct{}{}
		time.Sleep(d)
		<-server()
		return nil
	}
}

// What is not overload: operations that take a good part of the run, a rate that
// rises, a stall near the end, and a system that becomes slower.
func TestSlowIsNotBehind(t *testing.T) {
	defer tail.take()
	var begin time.Time
	since := func() time.Duration { return time.Since(begin) }
	for name, c := range map[string]struct {
		benchtime string
		schedule  load.Schedule
		op        Op
	}{
		"half the run": {"100x", load.Constant(1000), lasting(50 * time.Millisecond)},
		"ramp": {"2s", load.Ramp(100, 900), func(*Client) error {
			time.Sleep(time.Millisecond + since()/20) // to 100 ms with the load
			return nil
		}},
		"stall": {"5s", load.Constant(1000), func(*Client) error {
			time.Sleep(time.Millisecond)
			if now := since(); now > 4500*time.Millisecond && now < 4800*time.Millisecond {
				time.Sleep(4800*time.Millisecond - now)
			}
			return nil
		}},
		"slower": {"60s", load.Constant(1000), func(*Client) error {
			time.Sleep(time.Millisecond + since()/10_000) // to 7 ms
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var r Result
			inBubble(t, c.benchtime, func(b *testing.B) {
				r = Run(b, Spec{Clients: 128, Schedule: c.schedule, Warmup: -1, Start: func() { begin = time.Now() }}, c.op)
			})
			require.Empty(t, r.Invalid)
		})
	}
}

// queued feeds a timeline with the latencies of one server that takes a
// millisecond, under random arrivals.
func queued(rate, seconds float64, seed uint64) (l timeline, offered int, window time.Duration) {
	l.reset(0)
	r := rand.New(rand.NewPCG(seed, 1))
	var free, due time.Duration
	for {
		due += time.Duration(r.ExpFloat64() / rate * 1e9)
		if due.Seconds() > seconds {
			return l, offered, window
		}
		free = max(free, due) + time.Millisecond
		l.add(due, free-due)
		offered, window = offered+1, due
	}
}

// The two kinds of error over many passes: of stable systems hardly one is
// called overloaded, of those that are hardly one is missed when the run lasts
// long enough to tell it from chance.
func TestGrowthIsNotChance(t *testing.T) {
	share := func(rate, seconds float64) float64 {
		found := 0
		for seed := range uint64(500) {
			l, offered, window := queued(rate, seconds, seed)
			if l.growth().behind(offered, 1, window) {
				found++
			}
		}
		return float64(found) / 500
	}
	for _, seconds := range []float64{0.2, 2, 20} {
		for _, rate := range []float64{300, 800, 950, 990, 1000} {
			s := share(rate, seconds)
			t.Logf("%v/s for %v s: %v", rate, seconds, s)
			require.LessOrEqual(t, s, 0.01, "%v/s for %v s", rate, seconds)
		}
	}
	for _, c := range []struct{ rate, seconds float64 }{{1500, 0.2}, {1200, 2}, {1080, 20}} {
		s := share(c.rate, c.seconds)
		t.Logf("%v: %v", c, s)
		require.GreaterOrEqual(t, s, 0.99, "%v", c)
	}
}

func TestTimelineFolds(t *testing.T) {
	for _, length := range []time.Duration{time.Millisecond, time.Second, time.Hour, 24 * time.Hour} {
		var whole timeline
		parts := []*timeline{{}, {}}
		whole.reset(time.Second)
		for _, p := range parts {
			p.reset(time.Second)
		}
		const n = 10_000
		for i := range time.Duration(n) {
			due := time.Second + length*i/n
			whole.add(due, i)
			if i < n/100 { // one of them ends early, and has shorter slices
				parts[0].add(due, i)
			} else {
				parts[1].add(due, i)
			}
		}
		parts[0].join(parts[1])
		require.Equal(t, whole, *parts[0])
		back := timeline{}
		back.reset(time.Second)
		back.join(&whole)
		require.Equal(t, whole, back, "the other way round")
		var all slice
		for i, s := range whole.slices {
			all.n, all.sum = all.n+s.n, all.sum+s.sum
			if s.n > 0 {
				from := time.Duration(i) << whole.shift
				require.InDelta(t, (float64(from)+float64(int64(1)<<whole.shift)/2)/float64(length)*n, s.mean(), n/20+1)
			}
		}
		require.EqualValues(t, n, all.n)
		require.EqualValues(t, n*(n-1)/2, all.sum)
		if length > time.Millisecond {
			require.GreaterOrEqual(t, len(whole.occupied()), maxSlices/2)
		}
	}
}

// Each condition of a verdict, by what just meets it and what just does not.
func TestWhatIsBehind(t *testing.T) {
	// Ten seconds at a thousand a second, with a hundred clients, who hold a
	// queue of 100 ms; a share of the window is 20 ms.
	is := func(clients int, g growth) bool { return g.behind(10_000, clients, 10*time.Second) }
	sound := growth{first: 5e6, last: 26e6, mean: 20e6, sure: 4}
	require.True(t, is(100, sound))
	g := sound
	g.faster = true
	require.False(t, is(100, g), "at a rate that rises")
	g = sound
	g.sure = 3.4
	require.False(t, is(100, g), "by chance")
	g = sound
	g.mean = 43e6
	require.False(t, is(100, g), "less than half of the mean")
	g = sound
	g.last = 24e6
	require.False(t, is(100, g), "19 ms")
	require.False(t, is(20, g), "19 of 20 clients")
	require.True(t, is(19, g), "a queue that 19 clients do not hold")
	require.False(t, growth{}.behind(0, 1, 0))
}

// The rest of a slice at the end, with few arrivals, would be all noise.
func TestLastSliceIsNotLeftAlone(t *testing.T) {
	for few, want := range map[int]int{4: 10, 6: 11} {
		var l timeline
		l.reset(0)
		for i := range 100 + few {
			l.add(time.Duration(i)<<firstShift/10, time.Duration(i))
		}
		list := l.occupied()
		require.Len(t, list, want, "%d more", few)
		require.EqualValues(t, 100+few-10*(want-1), list[want-1].n)
		require.InDelta(t, float64(99+few+10*(want-1))/2, list[want-1].mean(), 1e-9)
	}
}

func TestGrowthWithoutArrivals(t *testing.T) {
	var l timeline
	l.reset(0)
	require.Equal(t, growth{}, l.growth())
	for i := range fewestSlices - 1 {
		l.add(time.Duration(i)*time.Second, time.Duration(i)*time.Second)
	}
	require.Equal(t, growth{}, l.growth(), "too few slices")
	require.False(t, l.growth().behind(0, 1, 0))
	l.reset(0)
	for i := range 100 {
		l.add(time.Duration(i)*time.Second, 0)
	}
	g := l.growth()
	require.False(t, math.IsNaN(g.sure))
	require.False(t, g.behind(100, 1, 100*time.Second), fmt.Sprintf("%+v", g))
}
