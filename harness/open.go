package harness

import (
	"runtime"
	"time"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// arrivalBuffer bounds the arrivals that wait for a client in a channel. Those
// beyond it wait in the generator, as the position in its schedule.
const arrivalBuffer = 1024

// openBooks are what a member books of an open loop, beside its latencies.
type openBooks struct {
	lag   *measure.Recorder
	level *level        // of a capacity search; nil otherwise
	ready time.Duration // when the last operation was over, on the crew's clock
	left  float64       // the sum of the moments at which operations left pending, in ns
	// timeline is of all operations, failed ones too.
	timeline *timeline
}

func (o *openBooks) forget() {
	if o.lag != nil {
		o.lag.Discard()
	}
	o.ready, o.left = 0, 0
}

// An arrival is an operation of an open loop, in moments of the crew's clock.
type arrival struct {
	start   time.Duration // when it was meant to start
	offered time.Duration // when the generator had it ready for a client
	late    time.Duration // how much of the time between is the generator's fault
}

// arrive does an operation, whose latency counts from when it was meant to
// start. The lag is what the harness added to that: what the generator was late
// by, and the time during which the operation was on offer and this client free.
//
// The clock is read once more for the moment at which the operation is taken off
// pending, which with that at which it was put there is the other account of
// Little's law: of the end that made the latency it would know nothing new.
func (m *member) arrive(clock measure.Clock, a arrival) {
	m.choose()
	began := clock.Now()
	err := m.op(&m.Client)
	end := clock.Now()
	m.account(err, end-a.start)
	m.open.lag.Record(a.late + began - max(a.offered, m.open.ready))
	m.open.timeline.add(a.start, end-a.start)
	if m.open.level != nil {
		m.open.level.count(a.start, end-a.start, err)
	}
	m.open.ready = clock.Now()
	m.open.left += float64(m.open.ready)
}

// An openRun is one pass of an open loop: what was offered, and when.
type openRun struct {
	begin   time.Duration // on the crew's clock
	offered int           // arrivals handed to the clients
	seen    float64       // the sum of the operations under way at each arrival, itself included
	entered float64       // the sum of the moments at which they were put on pending, in ns of the crew's clock
	late    float64       // the sum of how long after they were due that was, in ns
	last    time.Duration // the last intended start, from begin
	overdue time.Duration // how far behind the last start the generator was
	left    bool          // arrivals of the length were never offered
	backlog int64         // operations that were due and not done when offering ended
	elapsed time.Duration // from begin until the last operation came back, and at least the length
}

// offer runs an open loop: count arrivals, or those of length where count is
// zero. stop, if not nil, is asked before each arrival and given the time since
// the begin and how far the generator is behind its schedule.
//
// It is the generator, and has this goroutine for itself. While all clients are
// busy and the buffer is full it waits for them, behind its schedule; arrivals
// still count from when they were meant to start.
func (c *crew) offer(s load.Schedule, seed uint64, count int, length time.Duration, stop func(now, behind time.Duration) bool) openRun {
	next := s.Starts(length, seed)
	r := openRun{begin: c.clock.Now()}
	w := waiter{clock: c.clock}
	breathed := r.begin
	for _, m := range c.members {
		m.open.timeline.reset(r.begin)
	}
	free := r.begin // since when the generator has not been waiting for clients
	for count == 0 || r.offered < count {
		offset := next()
		if count == 0 && offset >= length {
			break
		}
		due := r.begin + offset
		now := w.until(due)
		if now-breathed > breath {
			breathed = now
			progress()
		}
		if stop != nil && stop(now-r.begin, now-due) {
			r.left = true
			break
		}
		r.seen += float64(c.pending.Add(1))
		full := len(c.permits) == cap(c.permits)
		c.permits <- permit{due: arrival{start: due, offered: now, late: now - max(due, free)}}
		if full {
			free = c.clock.Now()
		}
		r.offered++
		r.entered += float64(now)
		r.late += float64(max(now-due, 0))
		r.last, r.overdue = offset, now-due
	}
	r.backlog = c.pending.Load()
	c.drain()
	if count == 0 && !r.left {
		w.until(r.begin + length) // a run of a length lasts that long
	}
	r.elapsed = c.clock.Now() - r.begin
	return r
}

// window returns the time over which the arrivals were offered: from the first
// to where the next one would have been.
func (r *openRun) window() time.Duration {
	if r.offered < 2 {
		return r.last
	}
	return r.last + r.last/time.Duration(r.offered-1)
}

// A waiter waits for moments more exactly than a timer does, which on an idle
// machine may be a millisecond late: it sleeps until shortly before, then looks
// at the clock again and again and lets others run in between.
//
// What that costs the processor cannot be told from what operations do. The time
// between two looks may have been others'; and to wake up costs more than an
// operation on the rest of the process too, 50 us on a virtual machine, which is
// why it does not help to count the time of one thread. Bound to a thread and
// subtracting its time, this left 170 to 320 us an operation that does nothing at
// 500 a second and 14 to 20 us at 20,000, and was late by 50 us instead of 3. So
// there is no cpu-ns/op of an open loop.
type waiter struct {
	clock   measure.Clock
	virtual bool // a sleep ended to the nanosecond: time is virtual
}

const (
	// early is how long before the moment the sleep ends. The poller of the
	// Go runtime counts in milliseconds on Linux.
	early time.Duration = 1200 * time.Microsecond
	// still is how often the clock may show the same time before the rest is
	// slept. Only the virtual time of a synctest bubble, which does not pass
	// while somebody runs, stands still so long.
	still = 64
)

// until waits for a moment of the crew's clock and returns the time.
func (w *waiter) until(moment time.Duration) (now time.Duration) {
	now = w.clock.Now()
	if now >= moment {
		return now
	}
	margin := early
	if w.virtual {
		margin = 0
	}
	for rest := moment - now; rest > margin; rest = moment - now {
		time.Sleep(min(rest-margin, breath))
		now = w.clock.Now()
		if rest > breath {
			progress()
		}
	}
	for same := 0; now < moment; {
		runtime.Gosched()
		last := now
		if now = w.clock.Now(); now != last {
			same = 0
		} else if same++; same >= still {
			time.Sleep(moment - now)
			now = w.clock.Now()
			w.virtual = now == moment
		}
	}
	return now
}
