package harness

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// Bounds of the self check. They tell a run that measured something else than
// it says from one that was merely noisy.
const (
	// checkedFrom is the number of operations below which a single hiccup of
	// the machine would decide.
	checkedFrom = 100
	// slack is how far two accounts of the same time may lie apart. They are
	// taken from the same clock readings and differ by rounding only.
	slack = 0.01
	// lagShare is how much of the mean latency, lagTail of its 99th
	// percentile, the harness may have added itself.
	lagShare = 0.1
	lagTail  = 0.5
	// lagMean and lagMost are lags that no system of milliseconds would
	// notice, whatever their share.
	lagMean = 50 * time.Microsecond
	lagMost = time.Millisecond
	// behindShare of the arrivals may be undone when the last one is offered,
	// or behindMean times the mean number that an arrival met: slow is not
	// behind. Of a backlog that only grows, the mean is half.
	behindShare = 0.1
	behindMean  = 1.5
)

// books are two accounts of one pass: by its latencies and by its moments.
type books struct {
	ops      int64
	clients  int
	elapsed  time.Duration
	recorded float64 // the sum of all latencies as recorded, in ns
	mean     float64 // of the latencies of successful operations, in ns
	p99      time.Duration

	// Of an open loop.
	open     bool
	moments  float64 // the sum of the ends less that of the intended starts, in ns
	lagMean  float64 // in ns
	lagP99   time.Duration
	offered  int
	window   time.Duration
	backlog  int64
	overdue  time.Duration
	met      float64 // the mean number of operations under way at an arrival
	left     bool
	overload bool
}

func (t *trial) books() books {
	latency := t.crew.pool.Histogram()
	k := books{
		ops: t.crew.ops(), clients: t.spec.Clients, elapsed: t.elapsed,
		recorded: latency.Mean() * float64(latency.Count()), mean: latency.Mean(), p99: latency.Quantile(0.99),
		overload: t.spec.Overload,
	}
	for _, m := range t.crew.members {
		k.recorded += m.failed
	}
	if t.spec.Schedule == nil {
		return k
	}
	k.open, k.offered, k.window, k.backlog, k.left = true, t.run.offered, t.run.window(), t.run.backlog, t.run.left
	k.overdue, k.met = t.run.overdue, t.run.seen/float64(max(t.run.offered, 1))
	for _, m := range t.crew.members {
		k.moments += m.open.ends
	}
	k.moments -= t.run.starts
	lag := t.crew.lag.Histogram()
	k.lagMean, k.lagP99 = lag.Mean(), lag.Quantile(0.99)
	return k
}

// contradiction says what is wrong with a pass, or returns "".
func (k books) contradiction() string {
	if k.ops < checkedFrom {
		return ""
	}
	if !k.open {
		// Clients are under way for the whole run at most.
		if limit := float64(k.clients) * float64(k.elapsed); k.recorded > limit*(1+slack) {
			return fmt.Sprintf("latencies add up to %v, and %d clients had %v", time.Duration(k.recorded), k.clients, time.Duration(limit))
		}
		return ""
	}
	for _, check := range []func() string{k.little, k.late, k.behind} {
		if why := check(); why != "" {
			return why
		}
	}
	return ""
}

// little is Little's law: the mean number of operations under way, as the
// integral over time of arrivals due less operations done, is the throughput
// times the mean latency. Latencies that leave out the wait break it.
func (k books) little() string {
	if math.Abs(k.moments-k.recorded) <= slack*math.Max(k.moments, k.recorded) {
		return ""
	}
	t := float64(k.elapsed)
	return fmt.Sprintf("Little's law: %.4g operations under way by their starts and ends, %.4g by their latencies",
		k.moments/t, k.recorded/t)
}

// late looks at the time that the harness added to the latencies.
func (k books) late() string {
	if k.lagMean > max(lagShare*k.mean, float64(lagMean)) {
		return fmt.Sprintf("the generator was late by %v on average, of a mean latency of %v",
			time.Duration(k.lagMean), time.Duration(k.mean))
	}
	if enoughFor99(k.ops) && float64(k.lagP99) > max(lagTail*float64(k.p99), float64(lagMost)) {
		return fmt.Sprintf("the generator was late by %v in the 99th percentile, of one of %v of the latency", k.lagP99, k.p99)
	}
	return ""
}

// behind looks for arrivals that were not done in time.
func (k books) behind() string {
	if k.overload {
		return ""
	}
	rate := float64(k.offered) / max(k.window.Seconds(), 1e-9)
	if k.left {
		return fmt.Sprintf("saturated: after twice the length %d operations had been begun, of %.4g/s", k.offered, rate)
	}
	// The buffer bounds the backlog. Beyond it, the generator itself is behind.
	if float64(k.overdue) > behindShare*float64(k.window) {
		return fmt.Sprintf("saturated: the last of %d operations was on offer %v after it was due, at %.4g/s", k.offered, k.overdue, rate)
	}
	if float64(k.backlog) > max(behindShare*float64(k.offered), behindMean*k.met) {
		return fmt.Sprintf("saturated: %d of %d operations were still to do when the last was due, at %.4g/s", k.backlog, k.offered, rate)
	}
	return ""
}

// condemn marks b as measured and not to be used. The line gets a figure that
// no table knows how to compare, and none of those that one would: package
// testing prints the line whatever happens, once the name is out, and skipping
// the first of several samples would lose the others.
func condemn(b *testing.B, m *meter, why string) {
	skips.Add(1)
	b.ReportMetric(0, "ns/op") // which is then not printed
	b.ReportMetric(1, "invalid")
	m.watcher.condemn(why)
	tail.remark("# skipped " + b.Name() + ": invalid twice: " + why)
}
