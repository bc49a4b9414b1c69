package harness

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// maxAhead bounds the operations that a stint has asked for and nobody has begun.
const maxAhead = 8

// A stint is a stretch of a closed loop: operations that clients share. Each takes
// its next one itself when its last has come back, so that handing out costs no
// switch between goroutines, nothing waits in between, and asking for another
// never runs ahead of the work: b.Loop, which predicts from the time that its
// iterations take, would then ask for far too many.
type stint struct {
	clients int         // members that take part
	next    func() bool // reports whether there is one more operation, and takes it; called under mu
	first   int         // operations of each client that next need not be asked for
	// batch returns how many operations a client may take at once, by how many
	// were given out and done so far. Without it: one.
	batch func(given, done int, elapsed time.Duration) int
	begin time.Duration // when elapsed counts from, on the crew's clock

	clock  measure.Clock
	absent sync.WaitGroup // members that have not come yet

	given atomic.Int64 // operations given out; written under mu
	ahead int64        // how many single operations are taken from next together

	_     [64]byte // what is written for each operation, apart from what is only read
	spare atomic.Int64
	_     [64]byte

	mu       sync.Mutex
	done     int           // operations that members said are done; guarded by mu
	breathed time.Duration // when the watchdog last heard of this stint; guarded by mu
	over     bool          // next said no; guarded by mu
}

// A turn is the part of a member in a stint.
type turn struct {
	stint *stint
	taken int // operations
	last  int // those of the last permit
	told  int // operations that the stint knows are done
}

// share has members work off s, and returns when all of it is done.
func (c *crew) share(s *stint) {
	s.clock = c.clock
	s.breathed = s.clock.Now()
	s.ahead = int64(min(max(s.clients/8, 1), maxAhead))
	s.given.Add(int64(s.first * s.clients))
	if c.permits == nil {
		s.serve(c.members[0])
		return
	}
	s.absent.Add(s.clients)
	for range s.clients {
		c.pending.Add(1)
		c.permits <- permit{stint: s}
	}
	c.drain()
}

// arrive waits until all members are there. The first would otherwise be done
// with very short operations before the last has heard of them.
func (s *stint) arrive() {
	s.absent.Done()
	s.absent.Wait()
}

// miss is arrive for a member whose goroutine has ended inside an operation.
func (s *stint) miss() {
	s.absent.Done()
	s.abandon()
}

// serve is a member's part in s.
func (s *stint) serve(m *member) {
	m.turn = turn{stint: s, taken: s.first, last: s.first}
	if s.first > 0 {
		m.work(s.clock, s.first)
	}
	for s.take(m) > 0 {
		m.work(s.clock, m.turn.last)
	}
	m.turn.stint = nil
}

// take gives a member a permit for some operations, or for none when all are
// taken.
func (s *stint) take(m *member) int {
	t := &m.turn
	// Whoever never waits inside an operation would keep the processor, and the
	// others from it, for the scheduler's ten milliseconds at a time.
	if share := int(s.given.Load()) / s.clients; t.taken > share+share/8+2*t.last {
		runtime.Gosched()
	}
	t.last = 1
	if !s.takeSpare() {
		t.last = s.ask(t)
	}
	t.taken += t.last
	return t.last
}

// takeSpare takes one of the operations that were asked for ahead, if there is
// one. The count may fall below zero, which is none as well.
func (s *stint) takeSpare() bool { return s.spare.Load() > 0 && s.spare.Add(-1) >= 0 }

// ask takes operations from next, under the lock.
func (s *stint) ask(t *turn) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock() // also when next ends the goroutine
	s.done += t.taken - t.told
	t.told = t.taken
	if s.takeSpare() {
		return 1 // somebody else has asked meanwhile
	}
	if s.over {
		return 0
	}
	now, given, batch := s.clock.Now(), s.given.Load(), 1
	if s.batch != nil {
		batch = s.batch(int(given), s.done, now-s.begin)
	}
	want := batch
	if batch == 1 {
		want = int(s.ahead)
	}
	for n < want && s.next() {
		n++
	}
	s.over = n < want
	s.given.Store(given + int64(n))
	if batch == 1 && n > 1 {
		s.spare.Store(int64(n - 1))
		n = 1
	}
	if now-s.breathed > breath {
		s.breathed = now
		progress()
	}
	return n
}

// abandon ends s: no member takes another operation from next.
func (s *stint) abandon() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
}
