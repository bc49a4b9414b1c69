package latch

// A set is what one request wants. It is used again after it has left.
type set struct {
	manager *Manager
	ready   chan struct{} // takes one token when a set that waited is granted or ended

	// Guarded by the mutex of the manager.
	seq        uint64   // 0: it has left
	latches    []latch  // linked into lines, so it never grows after that
	count      int      // what keeps it from being granted. See invariant 2.
	err        error    // of Close, which has made it leave
	watchers   []*drain // who waits for one of its latches, once for each
	prev, next *set     // in the ring of those that wait, nil if it does not
}

func (s *set) waits() bool { return s.next != nil }

// A latch is a place in the queue of a key or in the line of spans.
type latch struct {
	Want
	set        *set
	queue      *queue // nil for a span
	prev, next *latch
}

// A line is a list of latches in the order in which their sets came.
type line struct{ head, tail *latch }

func (l *line) push(x *latch) {
	x.prev, x.next = l.tail, nil
	if l.tail == nil {
		l.head = x
	} else {
		l.tail.next = x
	}
	l.tail = x
}

func (l *line) remove(x *latch) {
	if x.prev == nil {
		l.head = x.next
	} else {
		x.prev.next = x.next
	}
	if x.next == nil {
		l.tail = x.prev
	} else {
		x.next.prev = x.prev
	}
}

// A queue is the line of the latches on one key.
type queue struct {
	line
	blocked *latch // the first that another one is in the way of, nil if there is none
}

// A drain is a call of Wait.
type drain struct {
	ready chan struct{} // closed when it has ended
	count int           // latches that have not gone
	err   error
}

// enter puts a set at the end of all lines that it belongs in. It is granted if its
// count is 0. mu is held.
func (m *Manager) enter(want []Want) *set {
	s := m.fresh()
	m.seq++
	s.seq = m.seq
	if cap(s.latches) < len(want) {
		s.latches = make([]latch, 0, len(want))
	}
	for _, w := range want {
		if w.span {
			s.latches = append(s.latches, latch{Want: w, set: s})
			m.spans.push(&s.latches[len(s.latches)-1])
			continue
		}
		q := m.queueOf(w.start)
		if q.tail != nil && q.tail.set == s {
			q.tail.Mode = q.tail.Mode.join(w.Mode)
			continue
		}
		s.latches = append(s.latches, latch{Want: w, set: s, queue: q})
		q.push(&s.latches[len(s.latches)-1])
		if q.blocked == nil {
			q.blocked = q.tail
		}
	}
	// Only now is the mode of every latch known.
	for i := range s.latches {
		x := &s.latches[i]
		if !x.span {
			s.count++
			m.advance(x.queue)
		}
		s.count += m.pairs(x)
	}
	return s
}

// pairs counts the earlier latches that x conflicts with where one of the two is a
// span.
func (m *Manager) pairs(x *latch) (n int) {
	for o := m.spans.head; o != nil && o.set.seq < x.set.seq; o = o.next {
		if o.conflicts(x.Want) {
			n++
		}
	}
	if x.span {
		m.eachPoint(x.Want, func(o *latch) {
			if o.set != x.set {
				n++
			}
		})
	}
	return n
}

// eachPoint visits the points that w conflicts with.
func (m *Manager) eachPoint(w Want, visit func(*latch)) {
	m.points.Ascend(w.start, func(key string, q *queue) bool {
		if !w.reaches(key) {
			return false
		}
		for o := q.head; o != nil; o = o.next {
			if o.Mode.conflicts(w.Mode) {
				visit(o)
			}
		}
		return true
	})
}

// leave takes a set out of all lines, be it granted or not, and grants those that only
// it was in the way of. mu is held.
func (m *Manager) leave(s *set) {
	for i := range s.latches {
		x := &s.latches[i]
		if x.span {
			m.spans.remove(x)
			m.eachPoint(x.Want, func(o *latch) {
				if o.set.seq > s.seq {
					m.less(o.set)
				}
			})
		} else {
			m.leaveQueue(x)
		}
		for o := m.spans.tail; o != nil && o.set.seq > s.seq; o = o.prev {
			if o.conflicts(x.Want) {
				m.less(o.set)
			}
		}
	}
	for _, d := range s.watchers {
		d.count--
		if _, waits := m.drains[d]; waits && d.count == 0 {
			m.endDrain(d, nil)
		}
	}
}

func (m *Manager) leaveQueue(x *latch) {
	q := x.queue
	if q.blocked == x {
		q.blocked = x.next
	}
	q.remove(x)
	if q.head != nil {
		m.advance(q)
		return
	}
	if x.start == "" {
		return
	}
	m.points.Delete(x.start)
	if len(m.queues) < spares {
		m.queues = append(m.queues, q)
	}
}

// advance makes the clear part of a queue as long as it can be. See invariant 1.
func (m *Manager) advance(q *queue) {
	for x := q.blocked; x != nil && (x == q.head || !x.Mode.conflicts(q.head.Mode)); x = x.next {
		q.blocked = x.next
		m.less(x.set)
	}
}

// less counts one thing less that is in the way of a set.
func (m *Manager) less(s *set) {
	s.count--
	if s.count == 0 && s.waits() {
		m.unpark(s)
		s.ready <- struct{}{}
	}
}

// watch makes d count the latches that conflict with want.
func (m *Manager) watch(d *drain, want []Want) {
	visit := func(o *latch) {
		o.set.watchers = append(o.set.watchers, d)
		d.count++
	}
	for _, w := range want {
		m.eachPoint(w, visit)
		for o := m.spans.head; o != nil; o = o.next {
			if o.conflicts(w) {
				visit(o)
			}
		}
	}
}

// endDrain wakes a call of Wait.
func (m *Manager) endDrain(d *drain, err error) {
	delete(m.drains, d)
	m.count--
	d.err = err
	close(d.ready)
}

// park puts a set among those that wait.
func (m *Manager) park(s *set) {
	if s.ready == nil {
		s.ready = make(chan struct{}, 1)
	}
	s.prev, s.next = m.parked.prev, &m.parked
	s.prev.next, s.next.prev = s, s
	m.count++
}

func (m *Manager) unpark(s *set) {
	s.prev.next, s.next.prev = s.next, s.prev
	s.prev, s.next = nil, nil
	m.count--
}

// queueOf returns the queue of a key, a new one if there is none.
func (m *Manager) queueOf(key string) *queue {
	if q, ok := m.points.Get(key); ok {
		return q
	}
	var q *queue
	if n := len(m.queues); n > 0 {
		q, m.queues = m.queues[n-1], m.queues[:n-1]
	} else {
		q = &queue{}
	}
	m.points.Set(key, q)
	return q
}

// fresh returns a set that nobody uses.
func (m *Manager) fresh() *set {
	n := len(m.sets)
	if n == 0 {
		return &set{manager: m}
	}
	s := m.sets[n-1]
	m.sets = m.sets[:n-1]
	return s
}

// largeSet is how many latches a set may have had to be kept for use again.
const largeSet = 64

// recycle ends the use of a set that has left.
func (m *Manager) recycle(s *set) {
	clear(s.latches) // lets go of the keys
	clear(s.watchers)
	*s = set{manager: m, ready: s.ready, latches: s.latches[:0], watchers: s.watchers[:0]}
	if len(m.sets) < spares && cap(s.latches) <= largeSet {
		m.sets = append(m.sets, s)
	}
}
