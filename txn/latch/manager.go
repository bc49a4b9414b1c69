package latch

import (
	"context"
	"fmt"
	"sync"

	"github.com/tidwall/btree"
)

// Options configures a Manager. A zero field selects its default.
type Options struct {
	// MaxWaiting is how many calls may wait at a time. Further ones that would have to
	// are refused. Default: 16384.
	MaxWaiting int
	_          struct{} // keyed literals only, so that fields can be added
}

// A Manager gives out the latches of one shard. Use New.
type Manager struct {
	maxWaiting int

	mu     sync.Mutex
	closed error                     // guarded by mu; why nothing is given out any more
	seq    uint64                    // guarded by mu; of the latest set
	points btree.Map[string, *queue] // guarded by mu
	spans  line                      // guarded by mu
	parked set                       // guarded by mu; the root of the ring of sets that wait
	drains map[*drain]struct{}       // guarded by mu
	count  int                       // guarded by mu; of sets and drains that wait. Invariant: count <= maxWaiting.
	sets   []*set                    // guarded by mu; for use again
	queues []*queue                  // guarded by mu; for use again
}

// spares bounds how many sets and how many queues are kept for use again.
const spares = 1024

// New returns a manager of which nobody has a latch.
func New(o Options) (*Manager, error) {
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 1 << 14
	}
	if o.MaxWaiting < 1 {
		return nil, fmt.Errorf("latch: MaxWaiting is %d, expected at least 1", o.MaxWaiting)
	}
	m := &Manager{maxWaiting: o.MaxWaiting, drains: map[*drain]struct{}{}}
	m.parked.prev, m.parked.next = &m.parked, &m.parked
	// An empty tree gives its only node back, and would allocate it again for the next
	// latch. The queue that stays is in nobody's way.
	m.points.Set("", &queue{})
	return m, nil
}

// A Guard is a set of latches that somebody has. The zero Guard is nobody's.
type Guard struct {
	set *set
	seq uint64
}

// Acquire waits until it has all latches that are wanted. A key that is wanted in
// several modes is in the weakest one that is as strong as all of them: Read with Add
// is Write. Where nothing conflicts it returns at once, whatever ctx says. It does not
// keep want.
//
// It returns the cause of ctx if that ends first, an *OverloadError if it would have to
// wait and too many do, what Close was called with, and an error if want is malformed.
// In all these cases it has no latch, and those who came later are where they would be
// had it not been called.
func (m *Manager) Acquire(ctx context.Context, want []Want) (Guard, error) {
	if err := valid(want); err != nil {
		return Guard{}, err
	}
	m.mu.Lock()
	if m.closed != nil {
		defer m.mu.Unlock()
		return Guard{}, m.closed
	}
	s := m.enter(want)
	if s.count == 0 {
		g := Guard{set: s, seq: s.seq}
		m.mu.Unlock()
		return g, nil
	}
	if m.count >= m.maxWaiting {
		defer m.mu.Unlock()
		m.leave(s)
		m.recycle(s)
		return Guard{}, &OverloadError{Waiting: m.count}
	}
	m.park(s)
	m.mu.Unlock()
	select {
	case <-s.ready:
		return m.woken(s)
	case <-ctx.Done():
		return m.abandon(ctx, s)
	}
}

// woken returns what a set that waited has come to.
func (m *Manager) woken(s *set) (Guard, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := s.err; err != nil { // Close has made it leave
		m.recycle(s)
		return Guard{}, err
	}
	return Guard{set: s, seq: s.seq}, nil
}

// abandon takes back a set whose caller does not wait any more.
func (m *Manager) abandon(ctx context.Context, s *set) (Guard, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := s.err
	if s.waits() {
		m.unpark(s)
	} else {
		<-s.ready // it is used again
	}
	if err == nil {
		err = context.Cause(ctx)
		m.leave(s)
	}
	m.recycle(s)
	return Guard{}, err
}

// Release gives the latches back, and wakes those who waited for nobody else. It panics
// if they have been given back already. Release of the zero Guard does nothing.
func (g Guard) Release() {
	if g.set == nil {
		return
	}
	m := g.set.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	if g.set.seq != g.seq {
		panic(fmt.Sprintf("latch: set %d is released again", g.seq))
	}
	m.leave(g.set)
	m.recycle(g.set)
}

// Wait waits until all who have or wait for a latch that conflicts with want, at the
// time of the call, have gone. It is in nobody's way: who comes later does not wait for
// it. The caller must have none of these latches itself. Its errors are those of Acquire.
func (m *Manager) Wait(ctx context.Context, want []Want) error {
	if err := valid(want); err != nil {
		return err
	}
	m.mu.Lock()
	if m.closed != nil {
		defer m.mu.Unlock()
		return m.closed
	}
	d := &drain{}
	m.watch(d, want)
	if d.count == 0 {
		m.mu.Unlock()
		return nil
	}
	if m.count >= m.maxWaiting {
		defer m.mu.Unlock()
		return &OverloadError{Waiting: m.count}
	}
	d.ready = make(chan struct{})
	m.count++
	m.drains[d] = struct{}{}
	m.mu.Unlock()
	select {
	case <-d.ready:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, waits := m.drains[d]; waits {
		m.endDrain(d, context.Cause(ctx))
	}
	return d.err
}

// Close ends all that wait, and all later calls, with err, which must not be nil. It
// does not wait for those who have latches; they release them as before. Only the
// first call counts.
func (m *Manager) Close(err error) {
	if err == nil {
		panic("latch: Close without an error")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed != nil {
		return
	}
	m.closed = err
	for d := range m.drains {
		m.endDrain(d, err)
	}
	var ended []*set
	for s := m.parked.next; s != &m.parked; s = m.parked.next {
		m.unpark(s)
		s.err = err
		ended = append(ended, s)
	}
	// None is parked any more, so that none is granted because another one leaves.
	for _, s := range ended {
		m.leave(s)
		s.ready <- struct{}{}
	}
}

// Waiting is how many calls wait.
func (m *Manager) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.count
}

// An OverloadError refuses to let a further call wait. It may be tried again.
type OverloadError struct {
	Waiting int // calls that wait
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("latch: %d requests wait already", e.Waiting)
}

// valid reports what is wrong with a set.
func valid(want []Want) error {
	for _, w := range want {
		switch {
		case w.Mode < Read || w.Mode > Write:
			return fmt.Errorf("latch: %v: mode is %d, expected %d to %d", w, w.Mode, Read, Write)
		case w.span && w.end != "" && w.end <= w.start:
			return fmt.Errorf("latch: %v: the span is empty", w)
		}
	}
	if len(want) > maxWanted {
		return fmt.Errorf("latch: %d latches wanted at once, expected at most %d", len(want), maxWanted)
	}
	return nil
}

// maxWanted is the most latches that are wanted at once, which bounds how long the
// others wait for the mutex.
const maxWanted = 1 << 16
