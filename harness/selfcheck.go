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
	// slack is how far two accounts of the same time may lie apart, of the
	// larger.
	slack = 0.01
	// between is how far they may lie apart for each operation that has
	// readings of the clock of its own in both, and for each client at the
	// begin and the end of a closed loop: a reading, the books and, once in 128
	// operations, the handing over of latencies.
	between = time.Microsecond
	apart   = 100 * time.Microsecond
	// timedFrom is the mean latency from which the clients of a closed loop must
	// account for their time. Shorter operations are for Micro.
	timedFrom = 5 * time.Microsecond
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
	// behind. Of a backlog that only grows, the mean is half. This is for runs
	// whose timeline tells nothing, or whose rate changes.
	behindShare = 0.1
	behindMean  = 1.5
)

// books are two accounts of one pass: by its latencies, as the recorders have
// them, and by what the clients were doing or how many operations there were.
type books struct {
	ops      int64 // as the clients count them
	kept     int64 // as the recorders do, with those that failed
	clients  int
	elapsed  time.Duration
	recorded float64 // the sum of all latencies as recorded, in ns
	mean     float64 // of the latencies of successful operations, in ns
	p99      time.Duration
	away     time.Duration // time that clients of a closed loop spent outside of operations

	// Of an open loop.
	open     bool
	pending  float64 // the integral over time of the operations under way, in ns
	unborn   float64 // the sum of the times by which operations were put among them too late, in ns
	growth   growth
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
		ops: t.crew.ops(), kept: latency.Count() + t.crew.errors(), clients: t.spec.Clients, elapsed: t.elapsed,
		recorded: latency.Mean() * float64(latency.Count()), mean: latency.Mean(), p99: latency.Quantile(0.99),
		overload: t.spec.Overload,
	}
	for _, m := range t.crew.members {
		k.recorded += m.failed
	}
	if t.spec.Schedule == nil {
		k.away = t.crew.away()
		return k
	}
	k.open, k.offered, k.window, k.backlog, k.left = true, t.run.offered, t.run.window(), t.run.backlog, t.run.left
	k.overdue, k.met = t.run.overdue, t.run.seen/float64(max(t.run.offered, 1))
	k.pending, k.unborn = -t.run.entered, t.run.late
	var all timeline
	all.reset(t.run.begin)
	for _, m := range t.crew.members {
		k.pending += m.open.left
		all.join(m.open.timeline)
	}
	k.growth = all.growth()
	lag := t.crew.lag.Histogram()
	k.lagMean, k.lagP99 = lag.Mean(), lag.Quantile(0.99)
	return k
}

// contradiction says what is wrong with a pass, or returns "".
func (k books) contradiction() string {
	if k.ops < checkedFrom {
		return ""
	}
	if k.kept != k.ops {
		return fmt.Sprintf("%d operations were done, and the latencies of %d recorded", k.ops, k.kept)
	}
	if !k.open {
		return k.busy()
	}
	for _, check := range []func() string{k.little, k.late, k.behind} {
		if why := check(); why != "" {
			return why
		}
	}
	return ""
}

// busy compares the latencies of a closed loop with the time that its clients
// had: all of the run, less what they noted themselves as spent elsewhere. Where
// operations are short, that is much, and only that latencies are not longer
// than the run can be told.
func (k books) busy() string {
	had := float64(k.clients) * float64(k.elapsed)
	margin := slack*had + float64(k.clients)*float64(apart)
	if k.recorded > had+margin {
		return fmt.Sprintf("latencies add up to %v, and %d clients had %v", time.Duration(k.recorded), k.clients, time.Duration(had))
	}
	if k.recorded >= float64(k.ops)*float64(timedFrom) && math.Abs(k.recorded+float64(k.away)-had) > margin {
		return fmt.Sprintf("latencies add up to %v, and %d clients were in operations for %v of %v",
			time.Duration(k.recorded), k.clients, time.Duration(had)-k.away, time.Duration(had))
	}
	return ""
}

// little is Little's law: the mean number of operations under way is the
// throughput times the mean latency. One side is that number over time, by the
// readings of the clock at which it changed, together with what was due and not
// yet among them; the other is what the recorders have. Latencies that leave
// out a wait, and latencies that are lost, break it.
func (k books) little() string {
	pending := k.pending + k.unborn
	if math.Abs(pending-k.recorded) <= slack*math.Max(pending, k.recorded)+float64(k.ops)*float64(between) {
		return ""
	}
	t := float64(k.elapsed)
	return fmt.Sprintf("Little's law: %.4g operations were under way by their number, %.4g by their latencies",
		pending/t, k.recorded/t)
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
	if k.growth.behind(k.offered, k.clients, k.window) {
		return fmt.Sprintf("saturated: the mean latency rose from %v to %v over the run, at %.4g/s",
			time.Duration(k.growth.first), time.Duration(k.growth.last), rate)
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
