package transport

import (
	"slices"
	"sync"
)

// Pending is a message that a manual Network holds.
type Pending struct {
	Seq      uint64 // counts what was sent; a duplicate has its own
	From, To NodeID
	Class    Class
	Message  Message
}

// holding keeps the messages of a manual network.
type holding struct {
	mu    sync.Mutex
	seq   uint64
	items []held
}

type held struct {
	Pending
	delivery
}

// hold draws each message's fate and keeps it until Deliver. A reordered one
// goes before a random one of those that wait on the same link.
func (s *Sim) hold(cond *condition, d delivery) {
	n, f := s.net, d.flow
	h := &n.held
	all := n.copyOf(d.m)
	f.mu.Lock()
	defer f.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range all {
		d.m = all[i : i+1 : i+1]
		d.bytes = bytesOf(d.m)
		lost, again, late := f.draw(cond.Loss), f.draw(cond.Duplicate), f.draw(cond.Reorder)
		s.out[d.class].count(1, d.bytes)
		if lost || cond.cut {
			s.out[d.class].dropped.Add(1)
			continue
		}
		h.insert(d, late)
		if again {
			s.out[d.class].count(1, d.bytes)
			h.insert(d, false)
		}
	}
}

func (h *holding) insert(d delivery, late bool) {
	h.seq++
	item := held{
		Pending:  Pending{Seq: h.seq, From: d.flow.from, To: d.flow.to, Class: d.class, Message: d.m[0]},
		delivery: d,
	}
	at := len(h.items)
	if late {
		var same []int
		for i := range h.items {
			if h.items[i].delivery.flow == d.flow {
				same = append(same, i)
			}
		}
		if len(same) > 0 {
			at = same[d.flow.rng.IntN(len(same))]
		}
	}
	h.items = slices.Insert(h.items, at, item)
}

// take removes and returns up to n of what match accepts, in order.
func (h *holding) take(n int, match func(Pending) bool) []held {
	h.mu.Lock()
	defer h.mu.Unlock()
	var taken []held
	h.items = slices.DeleteFunc(h.items, func(item held) bool {
		if len(taken) == n || match != nil && !match(item.Pending) {
			return false
		}
		taken = append(taken, item)
		return true
	})
	return taken
}

// drop forgets what waits for a node that closed.
func (h *holding) drop(s *Sim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.items = slices.DeleteFunc(h.items, func(item held) bool { return item.dest == s })
}

// Pending returns what a manual network holds, in the order of delivery.
func (n *Network) Pending() []Pending {
	n.held.mu.Lock()
	defer n.held.mu.Unlock()
	all := make([]Pending, len(n.held.items))
	for i := range all {
		all[i] = n.held.items[i].Pending
	}
	return all
}

// Deliver delivers the first count messages held, or fewer if there are not
// as many, on the calling goroutine, and returns how many it took. What they
// cause to be sent is held behind them. A message whose link is cut by now is
// lost.
func (n *Network) Deliver(count int) int { return n.release(count, nil) }

// DeliverAll delivers what is held at the time of the call, not what that
// causes to be sent: repeat it until it returns zero.
func (n *Network) DeliverAll() int { return n.release(-1, nil) }

// DeliverIf delivers, of what is held at the time of the call, the messages
// that match accepts. match must not call the network.
func (n *Network) DeliverIf(match func(Pending) bool) int { return n.release(-1, match) }

// DropIf loses, of what is held, the messages that match accepts.
func (n *Network) DropIf(match func(Pending) bool) int {
	lost := n.held.take(-1, match)
	for i := range lost {
		d := &lost[i].delivery
		d.dest.in[d.class].dropped.Add(1)
	}
	return len(lost)
}

func (n *Network) release(count int, match func(Pending) bool) int {
	taken := n.held.take(count, match)
	for i := range taken {
		d := &taken[i].delivery
		if d.flow.now.Load().cut {
			d.dest.in[d.class].dropped.Add(1)
		} else {
			d.arrive()
		}
	}
	return len(taken)
}
