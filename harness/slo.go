package harness

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// An SLO is a service level: a latency that a share of all operations must not
// exceed, counted from when they were meant to start, and a share that may fail.
type SLO struct {
	// Latency is the limit, from 1 us to an hour. It has no default.
	Latency time.Duration
	// Quantile is the share of operations within Latency, above 0 and below 1.
	// Default: 0.99.
	Quantile float64
	// Errors is the share of operations that may fail, 0 to 1. Default: none.
	Errors float64
	_      struct{}
}

func (s *SLO) validate() error {
	if s.Quantile == 0 {
		s.Quantile = 0.99
	}
	if s.Latency < time.Microsecond || s.Latency > time.Hour {
		return fmt.Errorf("harness: service level: a latency of %v: want 1us to 1h", s.Latency)
	}
	if !(s.Quantile > 0 && s.Quantile < 1) {
		return fmt.Errorf("harness: service level: a quantile of %v: want more than 0 and less than 1", s.Quantile)
	}
	if !(s.Errors >= 0 && s.Errors <= 1) {
		return fmt.Errorf("harness: service level: a share of errors of %v: want 0 to 1", s.Errors)
	}
	return nil
}

// String states the level as a person would: "p99 <= 10ms, errors <= 0 %".
func (s SLO) String() string {
	return fmt.Sprintf("p%.4g <= %v, errors <= %.4g %%", 100*s.Quantile, s.Latency, 100*s.Errors)
}

// levelSlices is into how many slices of time a step is cut. Late operations come in
// bursts, of a collection of garbage or a sync that hangs: those of one second are
// no more than one observation of whether something stood still. So the share of
// late ones of a slice is the observation, not the single operation.
const levelSlices = 20

// A certainty is how many deviations an interval must lie off the limit: for a
// share of independent operations, and, by Student's t, for the mean of so few
// slices.
type certainty struct{ z, t float64 }

var (
	// certain is wrong once in a hundred times, on one side.
	certain = certainty{z: 2.33, t: 2.54}
	// likely is enough for a search to go on from, since its end is confirmed. Were
	// it certain, steps too short to be would hold the search far below.
	likely = certainty{z: 1, t: 1}
)

// A level counts what members do against a service level, while they do it.
type level struct {
	slo    SLO
	begin  time.Duration // of the step, on the crew's clock
	slice  time.Duration // how long a slice lasts
	each   float64       // operations that a slice is to have
	counts [levelSlices]sliceCounts
}

type sliceCounts struct{ done, late, failed atomic.Int64 }

func newLevel(slo SLO, begin, window time.Duration, rate float64) *level {
	slice := max(window/levelSlices, 1)
	return &level{slo: slo, begin: begin, slice: slice, each: rate * slice.Seconds()}
}

// count books an operation in the slice in which it was meant to start. A failed
// one has no latency.
func (l *level) count(start, latency time.Duration, err error) {
	c := &l.counts[min(max((start-l.begin)/l.slice, 0), levelSlices-1)]
	c.done.Add(1)
	if err != nil {
		c.failed.Add(1)
	} else if latency > l.slo.Latency {
		c.late.Add(1)
	}
}

// done returns how many operations were counted.
func (l *level) done() (n int64) {
	for i := range l.counts {
		n += l.counts[i].done.Load()
	}
	return n
}

// An opinion is what the operations so far say about a service level.
type opinion int

const (
	undecided opinion = iota
	met
	broken
)

// judge decides whether the level is met, once chance is unlikely to decide
// otherwise: when neither the interval of the share of late operations over the
// slices of time holds the share allowed nor Wilson's, which knows about few
// operations what slices without a late one do not. To be met needs the certainty
// given, to be broken all of it. Slices that end after now are taken to go on
// without a late operation. why says which part of the level is broken, or what
// the doubt is.
//
// Means of batches are how simulations judge observations that depend on their
// neighbours (Law, 1977); Lancet (Kogias et al., USENIX ATC 2019) stops a step when
// the percentile's interval is narrow enough. Here it need only be narrow enough
// to tell on which side of the limit the percentile lies.
func (l *level) judge(now time.Duration, c certainty) (o opinion, why string) {
	var done, late, failed [levelSlices]float64
	for i := range l.counts {
		n := &l.counts[i]
		late[i], failed[i], done[i] = float64(n.late.Load()), float64(n.failed.Load()), float64(n.done.Load())
		if l.begin+time.Duration(i+1)*l.slice > now {
			done[i] = max(done[i], l.each)
		}
	}
	n, bad := total(done), total(failed)
	succeeded := done
	for i := range succeeded {
		succeeded[i] -= failed[i]
	}
	slow, errors := share(late, succeeded, c), share(failed, done, c)
	allowed := 1 - l.slo.Quantile
	switch {
	case bad > 0 && (l.slo.Errors == 0 || errors.low > l.slo.Errors):
		return broken, fmt.Sprintf("%.0f of %.0f operations failed", bad, n)
	case slow.low > allowed:
		return broken, fmt.Sprintf("%.3g %% of %.0f operations took longer than %v", 100*slow.mean, n-bad, l.slo.Latency)
	case slow.high >= allowed:
		return undecided, fmt.Sprintf("%.3g %% of %.0f operations took longer than %v, and by how they came it may be up to %.3g %%",
			100*slow.mean, n-bad, l.slo.Latency, 100*slow.high)
	case bad > 0 && errors.high >= l.slo.Errors:
		return undecided, fmt.Sprintf("%.0f of %.0f operations failed, and by how they came it may be up to %.3g %%", bad, n, 100*errors.high)
	}
	return met, ""
}

// fewest returns the least number of operations that can show the level met:
// those of which none is late.
func (s SLO) fewest() int64 {
	return int64(math.Ceil(certain.z * certain.z * s.Quantile / (1 - s.Quantile)))
}

// An estimate is a share and the interval in which it lies.
type estimate struct{ mean, low, high float64 }

// share estimates of how many of the operations something is true, by their
// counts in the slices: a ratio of two means, whose variance is that of what the
// slices lie off it (Cochran, Sampling Techniques, 1977, 2.11). The lower end is
// certain, the upper as certain as c.
func share(of, all [levelSlices]float64, c certainty) estimate {
	n, x := total(all), total(of)
	if n == 0 {
		return estimate{high: 1}
	}
	e, squares := estimate{mean: x / n}, 0.0
	for i := range of {
		off := of[i] - e.mean*all[i]
		squares += off * off
	}
	deviation := math.Sqrt(squares*levelSlices/(levelSlices-1)) / n
	e.low, _ = wilson(int64(x), int64(n), certain.z)
	_, e.high = wilson(int64(x), int64(n), c.z)
	e.low = max(min(e.low, e.mean-certain.t*deviation), 0)
	e.high = min(max(e.high, e.mean+c.t*deviation), 1)
	return e
}

func total(values [levelSlices]float64) (s float64) {
	for _, v := range values {
		s += v
	}
	return s
}

// wilson returns the interval of a share of which x of n were seen (Wilson,
// 1927), z deviations to both sides. Unlike the plain normal one it holds for
// shares near zero too.
func wilson(x, n int64, z float64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	p, m := float64(x)/float64(n), float64(n)
	middle := p + z*z/(2*m)
	width := z * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	all := 1 + z*z/m
	return max((middle-width)/all, 0), min((middle+width)/all, 1)
}
