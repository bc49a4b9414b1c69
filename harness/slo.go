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

// A level counts what members do against a service level, while they do it.
type level struct {
	slo                SLO
	done, late, failed atomic.Int64
}

// count books an operation. A failed one has no latency.
func (l *level) count(latency time.Duration, err error) {
	l.done.Add(1)
	if err != nil {
		l.failed.Add(1)
	} else if latency > l.slo.Latency {
		l.late.Add(1)
	}
}

// An opinion is what the operations so far say about a service level.
type opinion int

const (
	undecided opinion = iota
	met
	broken
)

// judge decides whether the level is met, once chance is unlikely to decide
// otherwise: when the Wilson interval of the share of late operations does not
// hold the share allowed. So does Lancet (Kogias et al., USENIX ATC 2019) stop a
// step when the percentile's interval is narrow enough; here the interval need
// only be narrow enough to tell on which side of the limit the percentile lies.
// margin, 1 or more, demands that it lie that many times off. why says which
// part of the level is broken.
func (l *level) judge(z, margin float64) (o opinion, why string) {
	n, late, failed := l.done.Load(), l.late.Load(), l.failed.Load()
	succeeded := n - failed
	low, high := wilson(late, succeeded, z)
	lowFailed, highFailed := wilson(failed, n, z)
	allowed := 1 - l.slo.Quantile
	switch {
	case failed > 0 && (l.slo.Errors == 0 || lowFailed > margin*l.slo.Errors):
		return broken, fmt.Sprintf("%d of %d operations failed", failed, n)
	case low > margin*allowed:
		return broken, fmt.Sprintf("%.3g %% of %d operations took longer than %v", 100*float64(late)/float64(succeeded), succeeded, l.slo.Latency)
	case high < allowed/margin && (failed == 0 || highFailed < l.slo.Errors/margin):
		return met, ""
	}
	return undecided, ""
}

// fewest returns the least number of operations that can show the level met:
// those of which none is late.
func (s SLO) fewest(z float64) int64 {
	return int64(math.Ceil(z * z * s.Quantile / (1 - s.Quantile)))
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
