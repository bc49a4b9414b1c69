package harness

import (
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/load"
)

// A server does one operation after the other.
type server struct {
	service func() time.Duration

	mu   sync.Mutex
	idle time.Time // when what it has taken on is done
}

func (s *server) op(*Client) error {
	s.mu.Lock()
	now := time.Now()
	if s.idle.Before(now) {
		s.idle = now
	}
	s.idle = s.idle.Add(s.service())
	wait := s.idle.Sub(now)
	s.mu.Unlock()
	time.Sleep(wait)
	return nil
}

// exponential returns service times of that mean.
func exponential(mean time.Duration) func() time.Duration {
	r := rand.New(rand.NewPCG(1, 2))
	return func() time.Duration { return time.Duration(r.ExpFloat64() * float64(mean)) }
}

func capacityOf(t *testing.T, benchtime string, s Spec, slo SLO, op func() Op) (c CapacityResult, res testing.BenchmarkResult, remarks []string) {
	t.Helper()
	res = inBubble(t, benchtime, func(b *testing.B) { c = Capacity(b, s, slo, op()) })
	_, remarks = tail.take()
	return c, res, remarks
}

// One server with random service times of 1 ms on average, and random arrivals:
// the time in such a system is exponential too, with rate 1000 - x at x arrivals
// a second. So 99 % are done within 50 ms up to x = 1000 - ln(100)/50ms = 908.
func TestCapacityOfAQueueWithAKnownOne(t *testing.T) {
	c, res, remarks := capacityOf(t, "300s", Spec{Clients: 512}, SLO{Latency: 50 * time.Millisecond}, func() Op {
		return (&server{service: exponential(time.Millisecond)}).op
	})
	require.InEpsilon(t, 908, c.Rate, 0.06)
	require.Greater(t, c.Limit, c.Rate)
	require.Less(t, c.Limit, 1000.0)
	require.NotEmpty(t, c.Broke)
	require.LessOrEqual(t, c.Latency.Quantile(0.99), 50*time.Millisecond, "the figures are of a step that held")
	require.Equal(t, c.Rate, res.Extra["capacity-ops/s"])
	require.Equal(t, c.Limit, res.Extra["capacity-limit-ops/s"])
	require.InEpsilon(t, c.Rate, res.Extra["ops/s"], 0.05)
	require.Equal(t, res.N, c.Ops)
	require.Len(t, remarks, 1)
	require.Contains(t, remarks[0], "/s meet p99 <= 50ms, errors <= 0 %, ")

	// A stricter level has less room: 1000 - ln(100)/10ms = 539.
	c, _, _ = capacityOf(t, "300s", Spec{Clients: 512}, SLO{Latency: 10 * time.Millisecond}, func() Op {
		return (&server{service: exponential(time.Millisecond)}).op
	})
	// Here 1 % comes slowly: a rate a tenth lower still has 0.6 %, and a step needs
	// to lie that far below to be certain.
	require.LessOrEqual(t, c.Rate, 539*1.03)
	require.GreaterOrEqual(t, c.Rate, 539*0.7)
	require.Contains(t, c.Broke, "took longer than 10ms")
}

// A server that is never late and refuses the 2001st operation of a second:
// only the errors tell.
func TestErrorsLimitTheCapacity(t *testing.T) {
	refusing := func() Op {
		var mu sync.Mutex
		tokens, at := 100.0, time.Now()
		return func(*Client) error {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			tokens, at = min(tokens+2000*now.Sub(at).Seconds(), 100), now
			if tokens < 1 {
				return errors.New("too many")
			}
			tokens--
			return nil
		}
	}
	slo := SLO{Latency: time.Millisecond, Errors: 0.02}
	c, _, _ := capacityOf(t, "20s", Spec{Clients: 64, Warmup: 100}, slo, refusing)
	require.InEpsilon(t, 2000, c.Rate, 0.1)
	require.Contains(t, c.Broke, "operations failed")
}

// A level so generous that no operation of a step can be late: that they pile
// up must tell. That it is met cannot be shown by so few.
func TestPilingUpLimitsTheCapacity(t *testing.T) {
	c, res, remarks := capacityOf(t, "20000x", Spec{Clients: 100}, SLO{Latency: time.Minute}, func() Op {
		return (&server{service: func() time.Duration { return time.Millisecond }}).op
	})
	require.InEpsilon(t, 1000, c.Limit, 0.2)
	require.Contains(t, c.Broke, "saturated: ")
	require.Zero(t, c.Rate)
	require.NotContains(t, res.Extra, "capacity-ops/s")
	require.Contains(t, remarks[0], "is too short: want 3h20m0s, and a -benchtime of 6h40m0s")
}

// stalling returns a server that does each operation in 100 us, 10,000 a second,
// and stands still for a while every four seconds, in a phase of a twelfth of them.
func stalling(stall time.Duration, phase int) Op {
	const period = 4 * time.Second
	begin := time.Now().Add(time.Duration(phase)*period/12 - period)
	s := &server{service: func() time.Duration { return 100 * time.Microsecond }}
	return func(c *Client) error {
		if into := time.Since(begin) % period; into < stall {
			time.Sleep(stall - into)
		}
		return s.op(c)
	}
}

// A server that stands still for a twentieth of the time is late for one operation
// of twenty at every rate: there is none to report, however the steps lie.
func TestNoCapacityOfAStallingServer(t *testing.T) {
	for phase := range 12 {
		c, res, remarks := capacityOf(t, "10s", Spec{Clients: 512, Seed: 3}, SLO{Latency: 10 * time.Millisecond}, func() Op {
			return stalling(200*time.Millisecond, phase)
		})
		require.Zero(t, c.Rate, "phase %d: %v", phase, remarks)
		require.NotContains(t, res.Extra, "capacity-ops/s")
		require.Greater(t, res.Extra["max-ns"], 1e8, "the line shows what was wrong")
		require.EqualValues(t, c.Confirms, res.Extra["confirms"])
		require.Contains(t, remarks[0], "no rate was shown to meet")
		require.Contains(t, remarks[0], "took longer than 10ms")
	}
}

// Standing still that leaves room for 99 of 100 operations is no reason to claim
// nothing. It costs some of the rate, for what has queued up must be worked off,
// and some more for the certainty. A short run, which sees it once or twice, can
// not tell how often it comes.
func TestCapacityOfAServerThatStallsALittle(t *testing.T) {
	for phase := range 2 {
		little := func() Op { return stalling(20*time.Millisecond, 6*phase) }
		c, _, remarks := capacityOf(t, "60s", Spec{Clients: 512, Seed: 3}, SLO{Latency: 10 * time.Millisecond}, little)
		require.GreaterOrEqual(t, c.Rate, 4500.0, "phase %d: %v", phase, remarks)
		require.LessOrEqual(t, c.Rate, 8500.0, "phase %d: %v", phase, remarks)
		c, _, remarks = capacityOf(t, "10s", Spec{Clients: 512, Seed: 3}, SLO{Latency: 10 * time.Millisecond}, little)
		require.Zero(t, c.Rate, "phase %d: %v", phase, remarks)
		require.Contains(t, remarks[0], "and by how they came it may be up to")
	}
}

// Without stalls the same server is found out in any run.
func TestCapacityIsFoundWithEverySeed(t *testing.T) {
	for seed := range uint64(8) {
		c, res, remarks := capacityOf(t, "10s", Spec{Clients: 512, Seed: 1 + seed}, SLO{Latency: 10 * time.Millisecond}, func() Op {
			return stalling(0, 0)
		})
		require.InEpsilon(t, 10_000, c.Rate, 0.1, "%v", remarks)
		require.Positive(t, res.Extra["confirms"])
	}
}

// The shortest length that can confirm anything, and one that cannot.
func TestCapacityNeedsLength(t *testing.T) {
	slo := SLO{Latency: 5 * time.Millisecond}
	for length, want := range map[string]bool{"2s": true, "1990ms": false} {
		c, res, remarks := capacityOf(t, length, Spec{Clients: 512}, slo, func() Op { return stalling(0, 0) })
		require.Equal(t, want, c.Rate > 0, "%s: %v", length, remarks)
		require.Equal(t, want, res.Extra["capacity-ops/s"] > 0)
		if !want {
			require.Equal(t, 1, c.Confirms)
			require.Contains(t, remarks[0], "a confirming step of 995ms is too short: want 1s, and a -benchtime of 2s")
		}
	}
}

// A generator that cannot keep up must not be taken for a system that cannot:
// its rate shows nothing.
func TestCapacityOfALateGenerator(t *testing.T) {
	var x *search
	inBubble(t, "500x", func(b *testing.B) {
		s := Spec{Clients: 4, Schedule: load.Poisson(1), Overload: true}
		require.NoError(b, s.validate())
		slo := SLO{Latency: time.Second}
		require.NoError(b, slo.validate())
		x = &search{slo: slo, limit: math.Inf(1), edge: math.Inf(1), trial: &trial{
			b: b, spec: &s, crew: newCrew(b.Context(), s, lasting(time.Millisecond)), count: 2000,
		}}
		defer x.crew.dismiss()
		x.arrivals = func(rate float64) load.Schedule { return dawdler{load.Poisson(rate), 5 * time.Millisecond} }
		x.step(1000)
		for b.Loop() {
			_ = x // the step was the work
		}
	})
	require.Contains(t, x.doubt, "the generator was late")
	require.Zero(t, x.rate)
	require.Equal(t, 1000.0, x.edge)
	require.True(t, math.IsInf(x.limit, 1), "nothing was shown to break")
}

// Slow enough to meet no level at any rate.
func TestCapacityOfNothing(t *testing.T) {
	slo := SLO{Latency: time.Millisecond}
	c, res, remarks := capacityOf(t, "20s", Spec{Clients: 64}, slo, func() Op { return lasting(20 * time.Millisecond) })
	require.Zero(t, c.Rate)
	require.NotContains(t, res.Extra, "capacity-ops/s")
	require.Contains(t, remarks[0], "no rate was shown to meet p99 <= 1ms")
	require.Contains(t, remarks[0], "took longer than 1ms")
}

// A system without a limit: the search ends where the generator's begins.
func TestCapacityWithoutALimit(t *testing.T) {
	c, res, remarks := capacityOf(t, "2000x", Spec{Clients: 64}, SLO{Latency: 5 * time.Microsecond}, func() Op { return lasting(0) })
	require.Equal(t, maxOffered, c.Rate)
	require.True(t, math.IsInf(c.Limit, 1))
	require.NotContains(t, res.Extra, "capacity-limit-ops/s")
	require.Contains(t, remarks[0], "nothing broke it")
}

// One operation a step, as when every benchmark is run once to see that it
// works: nothing is claimed, and it ends.
func TestCapacityOfOneOperation(t *testing.T) {
	c, res, _ := capacityOf(t, "1x", Spec{Clients: 4}, SLO{Latency: time.Second}, func() Op { return lasting(time.Millisecond) })
	require.Zero(t, c.Rate)
	require.LessOrEqual(t, c.Steps, 2)
	require.NotContains(t, res.Extra, "capacity-ops/s")
	require.Equal(t, 1, res.N)
	// So short that not one operation is due.
	_, res, _ = capacityOf(t, "1us", Spec{Clients: 4}, SLO{Latency: time.Second}, func() Op { return lasting(time.Second) })
	require.NotContains(t, res.Extra, "ops/s")
}

// A server that gets slower with all it has done: what held in the search no
// longer does when it is confirmed, and the answer is lowered until it does.
func TestCapacityIsConfirmed(t *testing.T) {
	c, _, _ := capacityOf(t, "100s", Spec{Clients: 512}, SLO{Latency: 20 * time.Millisecond}, func() Op {
		done := 0
		return (&server{service: func() time.Duration {
			done++
			// From 1000 a second to 800, when the search has most of it behind it.
			return time.Millisecond + min(time.Duration(done)*10*time.Nanosecond, 250*time.Microsecond)
		}}).op
	})
	require.Positive(t, c.Rate)
	require.Less(t, c.Rate, 820.0)
	require.Greater(t, c.Rate, 600.0)
	require.LessOrEqual(t, c.Limit, 820.0, "and so is what broke it")
	require.LessOrEqual(t, c.Latency.Quantile(0.99), 20*time.Millisecond)
}

func TestCapacityEndsInTime(t *testing.T) {
	begin, took := time.Time{}, time.Duration(0)
	inBubble(t, "10s", func(b *testing.B) {
		begin = time.Now()
		Capacity(b, Spec{Clients: 512}, SLO{Latency: 50 * time.Millisecond}, (&server{service: exponential(time.Millisecond)}).op)
		took = time.Since(begin)
	})
	tail.take()
	require.Less(t, took, 20*time.Second)
}

func TestAbsurdLevelsAreRefused(t *testing.T) {
	for want, slo := range map[string]SLO{
		"a latency of 0s: want 1us to 1h":                {},
		"a latency of 2h0m0s":                            {Latency: 2 * time.Hour},
		"a quantile of 1: want more than 0":              {Latency: time.Second, Quantile: 1},
		"a quantile of NaN":                              {Latency: time.Second, Quantile: math.NaN()},
		"a share of errors of -1: want 0 to 1":           {Latency: time.Second, Errors: -1},
		"harness: service level: a share of errors of 2": {Latency: time.Second, Errors: 2},
	} {
		require.ErrorContains(t, slo.validate(), want)
	}
	for _, s := range []Spec{{Schedule: load.Constant(5)}, {Clients: -1}} {
		_, failed := bench(t, "1x", func(b *testing.B) { Capacity(b, s, SLO{Latency: time.Second}, lasting(0)) })
		require.True(t, failed)
	}
	_, failed := bench(t, "1x", func(b *testing.B) {
		Capacity(b, Spec{}, SLO{Latency: time.Second}, func(*Client) error { return errors.New("no") })
	})
	require.True(t, failed, "all operations failed")
}
