package transport

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
)

// A Sim is a node on a simulated Network. It implements Transport.
type Sim struct {
	endpoint
	net  *Network
	life context.Context // done when the node is closed
	end  context.CancelFunc

	// routes is replaced whole, under grow, when a new peer is met.
	routes atomic.Pointer[map[NodeID]route]
	grow   sync.Mutex

	// inside counts deliveries and handlers that run; closed lets no more in.
	inside  atomic.Int64
	closed  atomic.Bool
	drained chan struct{}
	calls   sync.WaitGroup // goroutines of own calls and streams
}

// A route is both directions between two nodes, seen from one.
type route struct{ out, back *flow }

func newSim(n *Network, id NodeID) *Sim {
	s := &Sim{endpoint: endpoint{id: id}, net: n, drained: make(chan struct{}, 1)}
	s.life, s.end = context.WithCancel(context.Background())
	s.routes.Store(&map[NodeID]route{})
	return s
}

func (s *Sim) route(to NodeID) route {
	if r, ok := (*s.routes.Load())[to]; ok {
		return r
	}
	s.grow.Lock()
	defer s.grow.Unlock()
	routes := maps.Clone(*s.routes.Load())
	r := route{out: s.net.flow(s.id, to), back: s.net.flow(to, s.id)}
	routes[to] = r
	s.routes.Store(&routes)
	return r
}

// enter lets a delivery or a handler in unless the node is closed. Each enter
// that returned true needs a leave.
func (s *Sim) enter() bool {
	s.inside.Add(1)
	if s.closed.Load() {
		s.leave()
		return false
	}
	return true
}

func (s *Sim) leave() {
	if s.inside.Add(-1) == 0 && s.closed.Load() {
		s.signal()
	}
}

// signal wakes Close; what it leaves behind wakes the next one.
func (s *Sim) signal() {
	select {
	case s.drained <- struct{}{}:
	default:
	}
}

// Send implements Transport.
func (s *Sim) Send(to NodeID, c Class, m []Message) {
	if len(m) == 0 {
		return
	}
	if s.closed.Load() {
		s.out[c].dropped.Add(uint64(len(m)))
		return
	}
	if to == s.id {
		if s.enter() {
			s.receive(s.id, c, 0, m)
			s.leave()
		}
		return
	}
	f := s.route(to).out
	cond, dest := f.now.Load(), f.dest.Load()
	if dest == nil {
		s.fail(f, c, len(m))
		return
	}
	d := delivery{flow: f, dest: dest, class: c, bytes: bytesOf(m), stamp: s.stamp(), m: m}
	switch {
	case s.net.o.Manual:
		s.hold(cond, d)
	case cond.plain && !s.net.o.Marshal && f.underway.Load() == 0:
		s.out[c].count(len(m), d.bytes)
		d.arrive()
	default:
		s.push(cond, d)
	}
}

// bytesOf is the length of the frame that messages make.
func bytesOf(m []Message) int {
	var sum shape
	for i := range m {
		sum.add(shapeOf(&m[i]))
	}
	return frameBytes(len(m), sum)
}

// fail counts messages to a node that is down and tells the receiver once.
func (s *Sim) fail(f *flow, c Class, messages int) {
	s.out[c].dropped.Add(uint64(messages))
	if !f.lost.Swap(true) {
		s.unreachable(f.to)
	}
}

// push sends over a link that is not plain. d holds the caller's slice.
func (s *Sim) push(cond *condition, d delivery) {
	f := d.flow
	if cond.cut {
		s.out[d.class].count(len(d.m), d.bytes)
		s.out[d.class].dropped.Add(uint64(len(d.m)))
		return
	}
	d.m = s.net.copyOf(d.m)
	fates := [...]delivery{inOrder: d, heldBack: {}, twice: {}}
	over := 0
	f.mu.Lock()
	if cond.chancy() {
		s.split(cond, &fates)
	}
	direct := cond.instant() && f.underway.Load() == 0
	for i := range fates {
		p := &fates[i]
		if len(p.m) == 0 || direct && i != heldBack {
			continue
		}
		if f.queued[p.class].Add(int64(p.bytes)) > s.net.o.QueueBytes {
			f.queued[p.class].Add(-int64(p.bytes))
			over += len(p.m)
			continue
		}
		s.out[p.class].count(len(p.m), p.bytes)
		p.at = f.arrival(cond, p.class, p.bytes, i != heldBack)
		f.underway.Add(1)
		// Under f.mu, so that equal arrivals keep the order sent.
		s.net.wire.push(*p)
	}
	f.mu.Unlock()
	if direct {
		for _, i := range [...]int{inOrder, twice} {
			if p := &fates[i]; len(p.m) > 0 {
				s.out[p.class].count(len(p.m), p.bytes)
				p.arrive()
			}
		}
	}
	if over > 0 {
		s.overflow(f, d.class, over)
	}
}

// What chance makes of the messages of one Send.
const (
	inOrder = iota
	heldBack
	twice
)

// split draws the fate of each message. The caller holds the flow's mu.
func (s *Sim) split(cond *condition, fates *[3]delivery) {
	f, whole := fates[inOrder].flow, fates[inOrder]
	fates[inOrder].m = nil
	fates[heldBack], fates[twice] = fates[inOrder], fates[inOrder]
	for i := range whole.m {
		lost, again, late := f.draw(cond.Loss), f.draw(cond.Duplicate), f.draw(cond.Reorder)
		if lost {
			one := whole.m[i : i+1]
			s.out[whole.class].count(1, bytesOf(one))
			s.out[whole.class].dropped.Add(1)
			continue
		}
		fate := inOrder
		if late {
			fate = heldBack
		}
		fates[fate].m = append(fates[fate].m, whole.m[i])
		if again {
			fates[twice].m = append(fates[twice].m, whole.m[i])
		}
	}
	for i := range fates {
		fates[i].bytes = bytesOf(fates[i].m)
	}
}

// overflow counts messages that found the queue full and tells the receiver
// once until it is half empty.
func (s *Sim) overflow(f *flow, c Class, messages int) {
	s.out[c].dropped.Add(uint64(messages))
	if !f.full[c].Swap(true) {
		s.unreachable(f.to)
	}
}

// Close implements Transport. What is under way to the node is lost.
func (s *Sim) Close() error {
	if !s.closed.Swap(true) {
		s.net.down(s)
		s.end()
		s.net.wire.drop(s)
		s.net.held.drop(s)
	}
	for s.inside.Load() > 0 {
		<-s.drained
	}
	s.signal()
	s.calls.Wait()
	return nil
}

// MessageLimit implements Transport.
func (s *Sim) MessageLimit() int64 { return 0 }
