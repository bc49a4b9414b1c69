package harness

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// breath is how often, at most, a running loop tells the watchdog that it lives.
const breath = time.Second

// A crew is the clients of one run. In a closed loop they share stints, and each
// takes its next operation itself; in an open loop they serve arrivals.
type crew struct {
	members []*member
	pool    measure.Pool
	kinds   []*measure.Pool // one for each kind of a mix
	lag     measure.Pool    // of an open loop's members
	clock   measure.Clock   // the members' clock counts from here
	over    time.Duration   // when a closed loop had come to its end, on that clock

	permits   chan permit    // nil when one client runs inline
	done      sync.WaitGroup // goroutines of the members
	dismissed bool

	// pending counts permits handed out and not yet used. While draining is
	// set, the member that brings it to zero leaves a token in idle, if there
	// is none. With very short operations it is zero all the time, and without
	// the flag every one of them would pay for a token.
	pending  atomic.Int64
	draining atomic.Bool
	idle     chan struct{}
}

// A permit is for a part in a stint, or, without one, for an operation that
// arrived in an open loop.
type permit struct {
	stint *stint
	due   arrival
}

// A member is a client and its books. Between permits nobody writes to it, so
// the benchmark's goroutine may read it when pending is zero.
type member struct {
	Client
	op       Op
	mix      load.Mix
	chance   *rand.Rand // draws kinds, so that the operation's own draws stay what they are
	kind     int        // of the operation under way, out of the operation's reach
	kinds    []kindBooks
	recorder *measure.Recorder
	open     openBooks
	ops      int64
	errors   int64
	failed   float64       // the sum of the latencies of failed operations, in ns
	first    error         // the first error since the last reset
	rest     time.Duration // when the last permit was used up, on the crew's clock
	away     time.Duration // time between permits and in flushes, of a closed loop
	turn     turn          // its part in the stint under way
	deserted bool          // its goroutine ended inside op
}

func newCrew(ctx context.Context, s Spec, op Op) *crew {
	c := &crew{clock: measure.StartClock(), idle: make(chan struct{}, 1)}
	for range s.Mix.Len() {
		c.kinds = append(c.kinds, new(measure.Pool))
	}
	if evidence.Load() != nil {
		for _, t := range c.tracks(s.Mix) {
			t.pool.Watch()
		}
	}
	for id := range s.Clients {
		m := &member{
			Client: Client{
				ID:      id,
				Rand:    rand.New(rand.NewPCG(s.Seed, uint64(id))),
				Context: ctx,
			},
			op:       op,
			mix:      s.Mix,
			recorder: c.pool.Recorder(),
		}
		m.openKinds(s.Seed, c.kinds)
		if s.Schedule != nil {
			m.open.lag, m.open.timeline = c.lag.Recorder(), new(timeline)
		}
		c.members = append(c.members, m)
	}
	if s.Clients > 1 || s.Schedule != nil {
		// The starts of an open loop are known ahead, and a buffer keeps
		// clients busy that are behind them. A closed loop must have none.
		buffer := 0
		if s.Schedule != nil {
			buffer = arrivalBuffer
		}
		c.permits = make(chan permit, buffer)
		for _, m := range c.members {
			c.done.Go(func() { c.serve(m) })
		}
	}
	return c
}

// serve is the life of a member that has a goroutine.
func (c *crew) serve(m *member) {
	orderly := false
	defer func() {
		if orderly {
			return
		}
		// The operation ended this goroutine (runtime.Goexit). Permits must
		// still be taken, or who hands them out would wait for ever; Run fails.
		m.deserted = true
		if s := m.turn.stint; s != nil {
			s.abandon()
		}
		c.settle()
		for p := range c.permits {
			if p.stint != nil {
				p.stint.miss()
			}
			c.settle()
		}
	}()
	for p := range c.permits {
		if p.stint != nil {
			p.stint.arrive()
			p.stint.serve(m)
		} else {
			m.arrive(c.clock, p.due)
		}
		c.settle()
	}
	orderly = true
}

// settle takes a permit off the books.
func (c *crew) settle() {
	if c.pending.Add(-1) == 0 && c.draining.Load() {
		select {
		case c.idle <- struct{}{}:
		default:
		}
	}
}

// work does n operations. The end of one is the start of the next, which saves
// a clock reading.
func (m *member) work(clock measure.Clock, n int) {
	start := clock.Now()
	m.away += start - m.rest
	for range n {
		m.choose()
		err := m.op(&m.Client)
		end := clock.Now()
		if m.account(err, end-start) {
			end = m.flushed(clock, end)
		}
		start = end
	}
	m.rest = start
}

// flushed reads the clock again after an operation that ended at end and whose
// booking took long.
func (m *member) flushed(clock measure.Clock, end time.Duration) time.Duration {
	now := clock.Now()
	m.away += now - end
	return now
}

// begin starts the members' account of a closed loop and returns the time. No
// operation may be under way.
func (c *crew) begin() time.Duration {
	now := c.clock.Now()
	for _, m := range c.members {
		m.rest, m.away = now, 0
	}
	return now
}

// away returns the time that all members together spent outside of operations
// since begin: waiting for a permit at first, in between and in the end, and
// handing latencies over.
func (c *crew) away() (sum time.Duration) {
	for _, m := range c.members {
		sum += m.away + c.over - m.rest
	}
	return sum
}

// account books one operation and reports whether that took long enough to
// read the clock again. The latency of a failed operation is left out: quick
// failures would flatter the distribution.
func (m *member) account(err error, took time.Duration) (slow bool) {
	m.Iter++
	m.ops++
	if m.kinds != nil {
		slow = m.kinds[m.kind].account(err, took)
	}
	if err == nil {
		return m.recorder.Record(took) || slow
	}
	m.errors++
	m.failed += float64(took)
	m.recorder.Fail()
	if m.first == nil {
		m.first = err
	}
	return false
}

// drain waits until every permit is used. Either it sees the zero, or who made
// the zero sees the flag.
func (c *crew) drain() {
	c.draining.Store(true)
	defer c.draining.Store(false)
	for c.pending.Load() > 0 {
		<-c.idle
	}
}

// warmUp runs the untimed operations: the number asked for, or 5 % of count
// iterations or of length, and at least one operation of each client.
func (c *crew) warmUp(asked, count int, length time.Duration) {
	if asked < 0 {
		return
	}
	s := stint{clients: len(c.members), first: 1}
	least := s.clients
	if asked > 0 {
		least, length, s.first = asked, 0, 0
	} else if count > 0 {
		least, length = max(least, (count+19)/20), 0
	}
	begin, n := c.clock.Now(), s.first*s.clients
	s.next = func() bool {
		if n >= least && (length == 0 || c.clock.Now()-begin >= length/20) {
			return false
		}
		n++
		return true
	}
	c.share(&s)
}

// reset forgets the warm-up.
func (c *crew) reset() {
	for _, m := range c.members {
		m.recorder.Discard()
		m.ops, m.errors, m.failed, m.first = 0, 0, 0, nil
		m.forgetKinds()
		m.open.forget()
	}
	for _, p := range c.kinds {
		p.Reset()
	}
	c.lag.Reset()
	c.pool.Reset()
}

// dismiss ends the members' goroutines and collects their latencies. It may be
// called twice.
func (c *crew) dismiss() {
	if c.dismissed {
		return
	}
	c.dismissed = true
	if c.permits != nil {
		close(c.permits)
		c.done.Wait()
	}
	c.flush()
}

// flush collects the latencies that members hold back. No operation may be
// under way.
func (c *crew) flush() {
	for _, m := range c.members {
		m.recorder.Flush()
		for _, k := range m.kinds {
			k.recorder.Flush()
		}
		if m.open.lag != nil {
			m.open.lag.Flush()
		}
	}
}

func (c *crew) ops() (n int64) {
	for _, m := range c.members {
		n += m.ops
	}
	return n
}

func (c *crew) errors() (n int64) {
	for _, m := range c.members {
		n += m.errors
	}
	return n
}

// failed reports whether there were operations, and all of them failed.
func (c *crew) failed() bool { return c.ops() > 0 && c.errors() == c.ops() }

func (c *crew) firstError() error {
	for _, m := range c.members {
		if m.first != nil {
			return m.first
		}
	}
	return nil
}

func (c *crew) deserted() bool {
	for _, m := range c.members {
		if m.deserted {
			return true
		}
	}
	return false
}
