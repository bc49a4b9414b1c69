package harness

import (
	"cmp"
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
	// Steps is how many steps were run, the confirming ones included.
	Steps int
	// Confirms is how many of them were to confirm a rate: more than 1 if the
	// first was too high.
	Confirms int
}

const (
	// narrow is the ratio of the two ends of the answer that is narrow enough.
	narrow = 1.05
	// maxSteps bounds a search: from any start, ten doublings and as many
	// halvings of the interval.
	maxSteps = 24
	// stepShare of the length is what a step lasts, unless it needs more to show
	// anything, searchShare what all of them do, and confirmShare a confirming one.
	stepShare    = 1.0 / 16
	searchShare  = 0.45
	confirmShare = 0.5
	// sliceLimits is how many times the latency limit a slice of the confirming
	// step lasts at least, so that a burst is of one slice, or two.
	sliceLimits = 10
)

// ladder is what parts of the rate found are tried until one is confirmed. Steps of
// the search are too short to see what is rare, so that the first may be too high.
// Each try may hold by chance, once in a hundred times, and so there are few.
var ladder = [...]float64{1, 0.92, 0.7}

// Capacity searches the highest rate of Poisson arrivals that op can serve
// within a service level, and reports it on b's line as capacity-ops/s, with
// capacity-limit-ops/s, the lowest rate that broke the level. The other figures
// are those of a last step at the rate found, with fresh data: the highest of
// many noisy steps would flatter.
//
// The search begins at half of what s.Clients do in a closed loop, doubles or
// halves the rate until it has one that holds and one that does not, then halves
// the ratio of the two. Each step is judged by how the late operations lie over
// its slices of time, for they come in bursts; one that stays undecided is tried
// once more, and then counts as a boundary, not as a break.
//
// The rate found is confirmed by a step of half the length, which sees what comes
// about several times in that: a system that stands still more rarely shows it by
// max-ns at most. If the step does not show that the level is met, 0.92 of the
// rate is tried and then 0.7, and no other: of many tries one would hold by luck.
// If none holds, the figures of the last are on the line, and no capacity. The
// line says by confirms how many there were.
//
// Under -benchtime a length is the whole search's, and up to twice that if the
// first rate is not confirmed; a number of operations is that of each step. A
// confirming step of less than 200 latency limits confirms nothing: the line then
// carries no capacity. Why the level broke is said on standard error.
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
	t := newTrial(b, &s, op)
	defer t.end()
	x := &search{trial: t, slo: slo, arrivals: poisson, limit: math.Inf(1), edge: math.Inf(1)}
	x.run()
	t.end()
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

	steps    int
	confirms int
	passes   int    // steps that were done twice count double
	open     string // why the last confirming step confirmed nothing
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
		enough := x.step(rate)
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
	return x.count > 0 || x.began.Now() < time.Duration(searchShare*float64(x.length))
}

// confirm measures at the rate found, and at lower ones while that does not hold.
func (x *search) confirm() {
	found := x.rate
	x.rate = 0 // until shown again
	for _, part := range ladder {
		if found == 0 || x.crew.deserted() {
			return
		}
		rate := found * part
		window := time.Duration(confirmShare * float64(x.length))
		if x.count > 0 {
			window = load.Length(x.arrivals(rate), x.count)
		}
		x.steps++
		x.confirms++
		_, o, why := x.attempt(rate, window, certain)
		x.open = why
		if least := levelSlices * sliceLimits * x.slo.Latency; window < least {
			x.open = fmt.Sprintf("a confirming step of %v is too short: want %v, and a -benchtime of %v", window, least, 2*least)
			return
		}
		if x.doubt != "" {
			o = undecided
		}
		if x.note(rate, o, why); o == met {
			return
		}
	}
}

// step offers a rate and books what it shows. It returns false if the step had
// too few operations to show anything.
//
// What shows nothing is done once more: figures that contradict themselves, and
// late operations that all came in a burst. But a level that is met although the
// generator was late is met: its lag only adds to the latencies.
func (x *search) step(rate float64) (enough bool) {
	x.steps++
	// Twice as long as the fewest operations take, if there is time for that.
	needed := time.Duration(2 * float64(x.slo.fewest()) / rate * float64(time.Second))
	window := max(time.Duration(stepShare*float64(x.length)), min(needed, x.length/4))
	if x.count > 0 {
		window = load.Length(x.arrivals(rate), x.count)
	}
	l, o, why := x.attempt(rate, window, likely)
	if x.doubt != "" || o == undecided && x.hasTime() {
		l, o, why = x.attempt(rate, window, likely)
	}
	if x.doubt != "" {
		o = undecided
	}
	x.note(rate, o, why)
	return o != undecided || l.done() >= x.slo.fewest()
}

// attempt offers a rate for a window and says what it shows, and by x.doubt,
// whether that may be believed.
func (x *search) attempt(rate float64, window time.Duration, c certainty) (l *level, o opinion, why string) {
	l, overflow := x.offer(rate, window)
	o, why = l.judge(math.MaxInt64, c)
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

// offer runs a pass at a rate, until its window is over or the level is broken
// whatever may come. overflow says that more operations waited than a steady
// queue would hold.
func (x *search) offer(rate float64, window time.Duration) (l *level, overflow bool) {
	x.spec.Schedule = x.arrivals(rate)
	// A queue that takes ten limits to drain is a queue that grows.
	queue := int64(x.spec.Clients) + int64(rate*(10*x.slo.Latency+100*time.Millisecond).Seconds())
	x.start()
	begin := x.crew.clock.Now()
	l = newLevel(x.slo, begin, window, rate)
	for _, m := range x.crew.members {
		m.open.level = l
	}
	look := l.slice
	x.trial.run = x.crew.offer(x.spec.Schedule, x.spec.Seed+uint64(x.passes), x.count, window, func(now, _ time.Duration) bool {
		if overflow = x.crew.pending.Load() > queue; overflow || now < look {
			return overflow
		}
		look += l.slice
		o, _ := l.judge(begin+now, certain)
		return o == broken
	})
	x.passes++
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
	r := CapacityResult{Result: x.result(), Rate: x.rate, Limit: x.limit, Broke: x.broke, Steps: x.steps, Confirms: x.confirms}
	if r.Rate == 0 && x.doubt != "" {
		r.Invalid = x.doubt
		condemn(x.b, x.meter, x.doubt)
		return r
	}
	r.Invalid = "" // whatever a step was that came to nothing
	x.b.ReportMetric(float64(x.steps), "steps")
	x.b.ReportMetric(float64(x.confirms), "confirms")
	if r.Ops == 0 {
		x.b.ReportMetric(0, "ns/op") // which is then not printed
	} else {
		r.Result.report(x.b, x.trial)
	}
	if r.Rate == 0 {
		tail.remark(fmt.Sprintf("# capacity %s: no rate was shown to meet %v in %d steps%s", x.b.Name(), x.slo, x.steps, because(cmp.Or(x.open, r.Broke))))
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
