package transport

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// frameTarget is where a frame ends and the next begins. An entry keeps
	// the frame it came in, so frames must not be much larger than entries.
	frameTarget = 128 << 10
	// writeTarget is how much is encoded before it is written.
	writeTarget = 1 << 20
	// itemOverhead is what a waiting message costs in memory beside its bytes.
	itemOverhead = 256
	// senderYields is how often a sender lets others run before it takes what
	// waits, so that what they send shares the write. On two cores, with 48
	// messages going back and forth: 86 k round trips a second without, 228 k
	// with two, 234 k with four; a lone message does not notice.
	senderYields = 2
)

// An item is a message that waits.
type item struct {
	m     Message
	shape shape
	class Class
}

// An outbox holds the messages to one node of one connection and sends them
// from a goroutine of its own, which swaps the whole box at once.
type outbox struct {
	t    *TCP
	to   NodeID
	for_ purpose
	wake chan struct{}

	mu      sync.Mutex
	started bool
	items   []item
	bytes   int64 // Invariant: bytes <= TCPOptions.OutboxBytes.
	full    bool  // told Unreachable since the box was last taken
	warned  time.Time

	// Of the sender's goroutine.
	rng     *rand.Rand
	spare   []item
	buf     []byte
	conn    net.Conn
	lost    <-chan struct{} // closed when conn is
	since   time.Time       // when conn was made
	made    bool            // a connection was made before
	backoff time.Duration
	silent  bool // told Unreachable since the last connection
}

func newOutbox(t *TCP, to NodeID, for_ purpose) *outbox {
	return &outbox{
		t: t, to: to, for_: for_,
		wake: make(chan struct{}, 1),
		rng:  rand.New(rand.NewPCG(uint64(t.id), uint64(to)<<8|uint64(for_))),
	}
}

// put adds messages, or drops those that find no room.
func (o *outbox) put(c Class, m []Message) {
	dropped, tell, warn := 0, false, false
	o.mu.Lock()
	if !o.started {
		o.started = o.t.start(o.run)
	}
	if !o.started { // closed
		o.mu.Unlock()
		o.t.out[c].dropped.Add(uint64(len(m)))
		return
	}
	for i := range m {
		s := shapeOf(&m[i])
		cost := int64(s.bytes + itemOverhead)
		if o.bytes+cost > o.t.o.OutboxBytes || !o.fits(s) {
			dropped++
			continue
		}
		o.bytes += cost
		o.items = append(o.items, item{m[i], s, c})
	}
	if dropped > 0 && !o.full {
		o.full, tell = true, true
		// A box that overflows at every turn fills the log no faster than this.
		if time.Since(o.warned) > time.Second {
			o.warned, warn = time.Now(), true
		}
	}
	o.mu.Unlock()
	signal(o.wake)
	if dropped > 0 {
		o.t.out[c].dropped.Add(uint64(dropped))
	}
	if warn {
		o.t.log.Warn("transport: outbox full or message too large", "to", uint64(o.to), "for", o.for_.String(), "dropped", dropped,
			"outbox-bytes", o.t.o.OutboxBytes, "frame-bytes", o.t.o.MaxFrameBytes)
	}
	if tell {
		o.t.unreachable(o.to)
	}
}

// fits tells whether a message can be received in a frame of its own.
func (o *outbox) fits(s shape) bool {
	return frameBytes(1, s)-prefixBytes <= o.t.o.MaxFrameBytes && s.believable()
}

// take swaps the box.
func (o *outbox) take() []item {
	o.mu.Lock()
	defer o.mu.Unlock()
	items := o.items
	o.items, o.spare = o.spare, nil
	o.bytes, o.full = 0, false
	return items
}

// give returns a taken box for the next swap.
func (o *outbox) give(items []item) {
	clear(items)
	if cap(items) <= 1<<14 {
		o.spare = items[:0]
	}
}

func (o *outbox) run() {
	defer o.hangUp()
	for {
		select {
		case <-o.wake:
		case <-o.lost:
			o.hangUp()
			continue
		case <-o.t.life.Done():
			return
		}
		for range senderYields {
			runtime.Gosched()
		}
		if !o.ready() {
			if o.t.shut.Load() {
				return
			}
			continue
		}
		items := o.take()
		if err := o.send(items); err != nil && !o.t.shut.Load() {
			o.t.log.Info("transport: connection lost", "to", uint64(o.to), "for", o.for_.String(), "err", err)
			o.hangUp()
		}
		o.give(items)
	}
}

// ready sees to it that there is a connection. If it cannot be had, what
// waits is dropped and the next attempt put off.
func (o *outbox) ready() bool {
	select {
	case <-o.lost:
		o.hangUp()
	default:
	}
	if o.conn != nil {
		return true
	}
	conn, err := o.t.dial(o.t.life, o.to, o.for_)
	if err == nil {
		o.connected(conn)
		return true
	}
	items := o.take()
	for i := range items {
		o.t.out[items[i].class].dropped.Add(1)
	}
	o.give(items)
	o.tell("transport: cannot connect", err)
	o.rest()
	return false
}

// rest pauses before the next attempt to connect, longer each time.
func (o *outbox) rest() {
	o.backoff = min(max(2*o.backoff, o.t.o.DialBackoff), o.t.o.MaxDialBackoff)
	pause(o.t.life, o.backoff/2+time.Duration(o.rng.Int64N(int64(o.backoff/2)+1)))
}

// tell reports once that the node cannot be reached, until it can be.
func (o *outbox) tell(what string, err error) {
	if o.silent || o.t.shut.Load() {
		return
	}
	o.silent = true
	o.t.log.Warn(what, "to", uint64(o.to), "for", o.for_.String(), "err", err)
	o.t.unreachable(o.to)
}

func (o *outbox) connected(conn net.Conn) {
	if o.made {
		o.t.reconnects.Add(1)
	}
	o.conn, o.made, o.silent, o.since = conn, true, false, time.Now()
	lost := make(chan struct{})
	o.lost = lost
	// The peer never writes on this connection: a read ends when it does.
	ended := o.t.start(func() {
		defer close(lost)
		_, err := io.ReadFull(conn, make([]byte, 1))
		conn.Close()
		if err == nil {
			o.t.log.Warn("transport: connection dropped", "to", uint64(o.to), "reason", fmt.Errorf("%w: bytes on a one-way connection", errFormat))
		}
	})
	if !ended {
		close(lost)
	}
}

// hangUp gives the connection up, if there is one. A connection that lived
// for a while was a good one: the next attempt needs no pause.
func (o *outbox) hangUp() {
	if o.conn == nil {
		return
	}
	o.t.drop(o.conn)
	<-o.lost
	o.conn, o.lost = nil, nil
	o.tell("transport: connection lost", io.EOF)
	if time.Since(o.since) >= o.t.o.MaxDialBackoff {
		o.backoff = 0
	} else {
		o.rest()
	}
}

// send writes all items. Those after an error are lost.
func (o *outbox) send(items []item) error {
	for len(items) > 0 {
		o.buf = o.buf[:0]
		done := 0
		var sent [Classes]struct{ messages, bytes int }
		for done < len(items) && len(o.buf) < writeTarget {
			n, sum := frameful(items[done:], min(frameTarget, o.t.o.MaxFrameBytes/2))
			before, c := len(o.buf), items[done].class
			o.buf = o.encode(o.buf, items[done:done+n], sum)
			sent[c].messages += n
			sent[c].bytes += len(o.buf) - before
			done += n
		}
		if err := o.write(); err != nil {
			for i := range items {
				o.t.out[items[i].class].dropped.Add(1)
			}
			return err
		}
		for c := range sent {
			if sent[c].messages > 0 {
				o.t.out[c].count(sent[c].messages, sent[c].bytes)
			}
		}
		items = items[done:]
	}
	if cap(o.buf) > 2*writeTarget {
		o.buf = nil
	}
	return nil
}

// frameful returns how many of items make the next frame, at least one: they
// share a class and stay within limit bytes.
func frameful(items []item, limit int) (int, shape) {
	sum := items[0].shape
	n := 1
	for n < len(items) && n < maxFrameMessages && items[n].class == items[0].class {
		next := sum
		next.add(items[n].shape)
		if next.bytes > limit || !next.believable() {
			break
		}
		sum = next
		n++
	}
	return n, sum
}

func (o *outbox) encode(dst []byte, items []item, sum shape) []byte {
	at := len(dst)
	kind := byte(frameMessages)
	if sum.refs > 0 {
		kind |= frameKept
	}
	dst = beginFrame(dst, items[0].class, kind, o.t.stamp())
	dst = appendCounts(dst, len(items), sum)
	for i := range items {
		dst = appendMessage(dst, &items[i].m)
	}
	endFrame(dst, at)
	return dst
}

func (o *outbox) write() error { return writeWithin(o.t.o.WriteTimeout, o.conn, o.buf) }

// writeWithin writes b and gives the peer the timeout for each writeTarget of
// it: what is long may take long, as long as it moves.
func writeWithin(timeout time.Duration, c net.Conn, b []byte) error {
	for len(b) > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		n, err := c.Write(b[:min(len(b), writeTarget)])
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
