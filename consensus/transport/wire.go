package transport

import (
	"container/heap"
	"runtime"
	"sync"
	"time"
)

// A delivery is messages under way on a link, or a call that waits for its
// arrival.
type delivery struct {
	at    time.Duration // since the network's base
	seq   uint64        // breaks ties, in the order sent
	flow  *flow
	dest  *Sim // the incarnation it was sent to
	class Class
	stamp uint64
	bytes int
	m     []Message
	// arrived, if set, is closed at the end of the journey; there are no
	// messages then, and nothing is held of the link.
	arrived chan struct{}
}

// A wire keeps what is under way in a network, in the order of arrival. Its
// goroutine lives while there is anything, so that a network which nobody
// closes leaves nothing behind.
type wire struct {
	wake    chan struct{} // the head changed
	precise bool
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
	timer := time.NewTimer(0)
	defer timer.Stop()
	var due []delivery
	for {
		var now, next time.Duration
		due, now, next = w.take(due[:0])
		for i := range due {
			due[i].deliver()
			due[i] = delivery{}
		}
		if len(due) > 0 {
			continue
		}
		if next < 0 {
			return
		}
		wait := next - now
		if w.precise {
			if wait <= coarse && w.spin(now) {
				continue
			}
			if wait > coarse {
				wait -= coarse
			}
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-w.wake:
		}
	}
}

// coarse is how late a timer of an idle process may be: the runtime waits in
// the kernel's poller, in whole milliseconds.
const coarse = 1500 * time.Microsecond

// spin lets others run and says whether time has passed since now. Where the
// clock only moves when all wait, as in a synctest bubble, it has not.
func (w *wire) spin(now time.Duration) bool {
	runtime.Gosched()
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pending) == 0 || w.pending[0].flow.net.elapsed() != now
}

// take moves what is due to dst and returns the time and that of the next
// delivery. The latter is negative if there is none: then, unless something
// was due, the goroutine has ended in the eyes of push.
func (w *wire) take(dst []delivery) (due []delivery, now, next time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		w.active = false
		return dst, 0, -1
	}
	now = w.pending[0].flow.net.elapsed()
	for len(w.pending) > 0 && w.pending[0].at <= now {
		dst = append(dst, heap.Pop(&w.pending).(delivery))
	}
	if len(w.pending) == 0 {
		return dst, now, -1
	}
	return dst, now, w.pending[0].at
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
	if d.arrived != nil {
		close(d.arrived)
		return
	}
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
	if d.arrived != nil {
		close(d.arrived)
		return
	}
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
