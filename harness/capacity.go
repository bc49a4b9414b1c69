package harness

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// CapacityResult is what a search found.
type CapacityResult struct {
	Result // of the step that confirmed the rate

	// Rate is the highest offered rate, in operations per second, at which the
	// service level was shown to be met; 0 if there was none.
	Rate float64
	// Limit is the lowest rate at which it was not; +Inf if it held at all
	// rates tried. The capacity lies between the two.
	Limit float64
	// Broke says which part of the service level gave way at Limit.
	Broke string
	// Steps is how many rates were tried.
	Steps int
}

const (
	// certain is how many deviations an interval must lie off the limit. It is
	// more than the customary 1.96, because a step is looked at several times
	// while it runs, each time with half as many operations more.
	certain = 3.1
	// narrow is the ratio of the two ends of the answer that is narrow enough.
	narrow = 1.05
	// maxSteps bounds a search: from any start, ten doublings and as many
	// halvings of the interval.
	maxSteps = 24
	// maxConfirms is how often a rate may turn out too high in the end: the last
	// one tried is half of the first.
	maxConfirms = 5
	// gross is how far off the limit a step must be to end early. In a queue
	// late operations come in bursts: a second tells little about a minute.
	gross = 3
	// stepShare of the length is what a step may last, unless it needs more to
	// show anything. A step that decides
	// early leaves its time to the others.
	stepShare = 0.1
	// settled is how many times the latency limit a step lasts at least, so
	// that a queue has time to grow or to drain.
	settled = 10
)

// Capacity searches the highest rate of Poisson arrivals that op can serve
// within a service level, and reports it on b's line as capacity-ops/s, with
// capacity-limit-ops/s, the lowest rate that broke the level. The other figures
// are those of a last step at the rate found, with fresh data: the highest of
// many noisy steps would flatter.
//
// The search begins at half of what s.Clients do in a closed loop, doubles or
// halves the rate until it has one that holds and one that does not, then halves
// the ratio of the two. A step ends as soon as its operations have decided;
// one that stays undecided counts as a boundary, not as a break. If the last step
// breaks the level, which then was not monotone in the rate or only just met,
// the rate is lowered, by more each time, and confirmed anew.
//
// Under -benchtime a length is the whole search's, about, and a number of
// operations that of each step at most. With too few to decide anything, the
// line carries no capacity. Why the level broke is said on standard error.
//
// s.Clients bounds the operations under way and should be well above the rate
// times the latency. s.Schedule must be nil. For the rest, Capacity is as Run.
func Capacity(b *testing.B, s Spec, slo SLO, op Op) CapacityResult {
	b.Helper()
	if s.Schedule != nil {
		b.Fatalf("harness: capacity: schedule %v: want none, the search sets the rate", s.Schedule)
	}
	s.Schedule, s.Overload = load.Poisson(1), true
	if err := firstError(slo.validate(), s.validate()); err != nil {
		b.Fatal(err)
	}
	Begin(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			b.Fatalf("harness: ready: %v", err)
		}
	}
	t := &trial{b: b, spec: &s, crew: newCrew(ctx, s, op)}
	defer t.crew.dismiss()
	t.count, t.length = benchtime()
	x := &search{trial: t, slo: slo, arrivals: poisson, limit: math.Inf(1), edge: math.Inf(1)}
	x.run()
	t.crew.dismiss()
	t.failures()
	return x.report()
}

func poisson(rate float64) load.Schedule { return load.Poisson(rate) }

// A search looks for a rate.
type search struct {
	*trial
	slo      SLO
	arrivals func(rate float64) load.Schedule
	began    measure.Clock

	// Invariant: rate < edge <= limit.
	rate  float64 // the highest that held; 0 means none yet
	edge  float64 // the lowest that did not show that it holds
	limit float64 // the lowest that broke
	broke string  // why
	doubt string  // what was wrong with the figures of the last step; "" if nothing
	steps int
}

// run does everything within the first iteration of b.Loop, as an open loop
// does.
func (x *search) run() {
	done := false
	for x.b.Loop() {
		if done {
			continue
		}
		done = true
		x.began = measure.StartClock()
		start := x.warmUpRate()
		x.climb(start)
		x.confirm()
		if x.count == 0 {
			// b.Loop would fill what is left of the length by counting.
			w := waiter{clock: x.began}
			w.until(x.length)
		}
	}
	x.b.N = max(x.ops, 1) //nolint:staticcheck // the loop is over: from here on it is the number on the line
}

// warmUpRate warms up and returns half of the rate that the clients reached.
func (x *search) warmUpRate() float64 {
	begin := time.Now()
	x.crew.warmUp(x.spec.Warmup, x.count, x.length)
	x.failures()
	rate := float64(x.crew.ops()) / max(time.Since(begin).Seconds(), 1e-6)
	return min(max(rate/2, 1), maxOffered)
}

// maxOffered bounds the rates tried: beyond it the generator would be what is
// measured.
const maxOffered = 1e6

// climb brackets the capacity, then halves the bracket.
func (x *search) climb(rate float64) {
	for x.steps < maxSteps && x.hasTime() {
		enough := x.step(rate, false)
		switch {
		case x.crew.deserted() || !enough && x.rate == 0:
			return
		case x.rate == 0:
			rate = x.edge / 2
		case math.IsInf(x.edge, 1):
			if rate = 2 * x.rate; rate > maxOffered {
				return
			}
		case x.edge/x.rate <= narrow:
			return
		default:
			rate = math.Sqrt(x.rate * x.edge)
		}
		if rate < 1 {
			return
		}
	}
}

// hasTime reports whether the search may go on: the rest is for confirming.
func (x *search) hasTime() bool {
	return x.count > 0 || x.began.Now() < time.Duration((1-2*stepShare)*float64(x.length))
}

// confirm measures at the rate found, and lowers it while it does not hold.
func (x *search) confirm() {
	lower := narrow
	for range maxConfirms {
		if x.rate == 0 {
			return
		}
		rate := x.rate
		x.rate = 0 // until shown again
		x.step(rate, true)
		if x.rate > 0 || x.crew.deserted() {
			return
		}
		x.rate = rate / lower
		lower *= lower
	}
	x.rate = 0
}

// step offers a rate and books what it shows. It returns false if the step had
// too few operations to show anything.
//
// Figures that contradict themselves are taken once more, and if they still do,
// show nothing. But a level that is met although the generator was late is met:
// its lag only adds to the latencies.
func (x *search) step(rate float64, last bool) (enough bool) {
	x.steps++
	l, o, why := x.attempt(rate, last)
	if x.doubt != "" {
		l, o, why = x.attempt(rate, last)
	}
	if x.doubt != "" {
		o = undecided
	}
	x.note(rate, o, why)
	return o != undecided || l.done.Load() >= x.slo.fewest(certain)
}

// attempt offers a rate and says what it shows, and by x.doubt, whether that
// may be believed.
func (x *search) attempt(rate float64, last bool) (l *level, o opinion, why string) {
	l, overflow := x.offer(rate, last)
	o, why = l.judge(certain, 1)
	if behind := x.behind(overflow); behind != "" {
		o, why = broken, behind
	}
	k := x.books()
	x.doubt = ""
	if k.ops >= checkedFrom {
		x.doubt = k.little()
	}
	if x.doubt == "" && o != met && k.ops >= checkedFrom {
		// What counts is how much of the limit the lag takes up.
		k.mean, k.p99 = float64(x.slo.Latency), x.slo.Latency
		x.doubt = k.late()
	}
	return l, o, why
}

// offer runs a pass at a rate, until it has decided or its time is over.
// overflow says that more operations waited than a steady queue would hold.
func (x *search) offer(rate float64, last bool) (l *level, overflow bool) {
	l = &level{slo: x.slo}
	x.spec.Schedule = x.arrivals(rate)
	length := x.length
	// Twice as long as the fewest operations take, if there is time for that.
	needed := 2 * float64(x.slo.fewest(certain)) / rate
	most := time.Duration(max(stepShare*float64(x.length), min(needed*float64(time.Second), float64(x.length)/4)))
	if last {
		most *= 2
	}
	if x.count > 0 {
		length, most = load.Length(x.spec.Schedule, x.count), math.MaxInt64
	}
	// A queue that takes ten limits to drain is a queue that grows.
	queue := int64(x.spec.Clients) + int64(rate*(10*x.slo.Latency+100*time.Millisecond).Seconds())
	look := x.slo.fewest(certain) // operations at the next look
	x.start()
	for _, m := range x.crew.members {
		m.open.level = l
	}
	x.trial.run = x.crew.offer(x.spec.Schedule, x.spec.Seed+uint64(x.steps), x.count, length, func(now, _ time.Duration) bool {
		overflow = x.crew.pending.Load() > queue
		if overflow || now > most {
			return true
		}
		if last || x.crew.pending.Load() > queue/2 || now < settled*x.slo.Latency || now < most/10 {
			return false
		}
		if l.done.Load() < look {
			return false
		}
		look += look / 2
		o, _ := l.judge(certain, gross)
		return o != undecided
	})
	x.ops = x.trial.run.offered
	x.stop()
	x.elapsed = x.trial.run.elapsed
	return l, overflow
}

// behind says that the system did not keep up with the arrivals, whatever their
// latencies so far.
func (x *search) behind(overflow bool) string {
	r := &x.trial.run
	if overflow {
		return fmt.Sprintf("saturated: %d operations waited", r.backlog)
	}
	k := x.books()
	k.overload, k.left = false, false
	if k.ops < checkedFrom {
		return ""
	}
	return k.behind()
}

// note moves the bracket by what a step at a rate showed.
func (x *search) note(rate float64, o opinion, why string) {
	switch o {
	case met:
		x.rate = max(x.rate, rate)
	case broken:
		if rate < x.limit {
			x.limit, x.broke = rate, why
		}
		fallthrough
	default:
		x.edge = min(x.edge, rate)
	}
}

// report prints the line.
func (x *search) report() CapacityResult {
	r := CapacityResult{Result: x.result(), Rate: x.rate, Limit: x.limit, Broke: x.broke, Steps: x.steps}
	if r.Rate == 0 && x.doubt != "" {
		r.Invalid = x.doubt
		condemn(x.b, x.meter, x.doubt)
		return r
	}
	r.Invalid = "" // whatever a step was that came to nothing
	x.b.ReportMetric(float64(x.steps), "steps")
	if r.Ops == 0 {
		x.b.ReportMetric(0, "ns/op") // which is then not printed
	} else {
		r.Result.report(x.b, x.trial)
	}
	if r.Rate == 0 {
		tail.remark(fmt.Sprintf("# capacity %s: no rate was shown to meet %v in %d steps%s", x.b.Name(), x.slo, x.steps, because(r.Broke)))
		return r
	}
	x.b.ReportMetric(r.Rate, "capacity-ops/s")
	if math.IsInf(r.Limit, 1) {
		tail.remark(fmt.Sprintf("# capacity %s: %.4g/s meet %v, and nothing broke it", x.b.Name(), r.Rate, x.slo))
		return r
	}
	x.b.ReportMetric(r.Limit, "capacity-limit-ops/s")
	tail.remark(fmt.Sprintf("# capacity %s: %.4g/s meet %v, %.4g/s do not%s", x.b.Name(), r.Rate, x.slo, r.Limit, because(r.Broke)))
	return r
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}
