package transport

import (
	"container/heap"
	"sync"
	"time"
)

// A delivery is messages under way on a link.
type delivery struct {
	at    time.Duration // since the network's base
	seq   uint64        // breaks ties, in the order sent
	flow  *flow
	dest  *Sim // the incarnation it was sent to
	class Class
	stamp uint64
	bytes int
	m     []Message
}

// A wire keeps what is under way in a network, in the order of arrival. Its
// goroutine lives while there is anything, so that a network which nobody
// closes leaves nothing behind.
type wire struct {
	wake    chan struct{} // the head changed
	running sync.WaitGroup

	mu      sync.Mutex
	active  bool
	closed  bool
	seq     uint64
	pending deliveries
}

func (w *wire) push(d delivery) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || d.dest.closed.Load() {
		d.abandon()
		return
	}
	w.seq++
	d.seq = w.seq
	heap.Push(&w.pending, d)
	if !w.active {
		w.active = true
		w.running.Go(w.run)
	} else if w.pending[0].seq == d.seq {
		w.nudge()
	}
}

// nudge makes run look again.
func (w *wire) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *wire) run() {
	var timer *time.Timer
	var due []delivery
	for {
		var wait time.Duration
		due, wait = w.take(due[:0])
		for i := range due {
			due[i].deliver()
			due[i] = delivery{}
		}
		if len(due) > 0 {
			continue
		}
		if wait < 0 {
			return
		}
		if timer == nil {
			timer = time.NewTimer(wait)
			defer timer.Stop()
		} else {
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// take moves what is due to dst. If nothing is due it returns the time to the
// next, or a negative one if there is none: then the goroutine has ended in
// the eyes of push.
func (w *wire) take(dst []delivery) ([]delivery, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		w.active = false
		return dst, -1
	}
	now := w.pending[0].flow.net.elapsed()
	for len(w.pending) > 0 && w.pending[0].at <= now {
		dst = append(dst, heap.Pop(&w.pending).(delivery))
	}
	if len(dst) > 0 {
		return dst, 0
	}
	return dst, w.pending[0].at - now
}

// drop abandons everything under way to a node.
func (w *wire) drop(s *Sim) {
	w.mu.Lock()
	defer w.mu.Unlock()
	kept := w.pending[:0]
	for _, d := range w.pending {
		if d.dest == s {
			d.abandon()
		} else {
			kept = append(kept, d)
		}
	}
	clear(w.pending[len(kept):])
	w.pending = kept
	heap.Init(&w.pending)
	w.nudge()
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	for _, d := range w.pending {
		d.abandon()
	}
	w.pending = nil
	w.nudge()
	w.mu.Unlock()
	w.running.Wait()
}

// deliver ends the journey: the link may have been cut meanwhile.
func (d *delivery) deliver() {
	if d.flow.now.Load().cut {
		d.dest.in[d.class].dropped.Add(uint64(len(d.m)))
	} else {
		d.arrive()
	}
	d.abandon()
}

// arrive hands the messages to the node, unless it is closed by now.
func (d *delivery) arrive() {
	if !d.dest.enter() {
		return
	}
	d.dest.observe(d.stamp)
	d.dest.receive(d.flow.from, d.class, d.bytes, d.m)
	d.dest.leave()
	// The load keeps the common case from writing memory that cores share.
	if d.flow.lost.Load() {
		d.flow.lost.Store(false)
	}
}

// abandon returns what the delivery held of its link.
func (d *delivery) abandon() {
	f := d.flow
	if f.queued[d.class].Add(-int64(d.bytes)) < f.net.o.QueueBytes/2 {
		f.full[d.class].Store(false)
	}
	f.underway.Add(-1)
}

// deliveries is a heap by time of arrival.
type deliveries []delivery

func (h deliveries) Len() int { return len(h) }
func (h deliveries) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h deliveries) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *deliveries) Push(x any)   { *h = append(*h, x.(delivery)) }
func (h *deliveries) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = delivery{}
	*h = old[:len(old)-1]
	return last
}
