package transport

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// A combiner writes frames of many goroutines to one connection. Whoever finds
// nobody writing may write at once, which saves a lone call a wake-up; what is
// added meanwhile goes out with the next write, by the combiner's goroutine,
// so that nobody works for the others for long.
type combiner struct {
	conn    net.Conn
	timeout time.Duration
	limit   int64 // of what waits, in bytes
	out     *counters
	kick    chan struct{}
	done    <-chan struct{}

	mu      sync.Mutex
	buf     []byte
	spare   []byte
	writing bool // somebody writes or was kicked to
	err     error
}

func newCombiner(c net.Conn, t *TCP, done <-chan struct{}) *combiner {
	return &combiner{
		conn: c, timeout: t.o.WriteTimeout, limit: t.o.OutboxBytes, out: &t.out[Calls],
		kick: make(chan struct{}, 1), done: done,
	}
}

// put adds a frame whose body is head and tail. If it may block it writes,
// when nobody does. An error says that the frame was not taken.
func (w *combiner) put(f frame, head, tail []byte, mayBlock bool) error {
	w.mu.Lock()
	if w.err != nil {
		w.mu.Unlock()
		return w.err
	}
	bytes := headerBytes + len(head) + len(tail)
	if len(w.buf) > 0 && int64(len(w.buf)+bytes) > w.limit {
		defer w.mu.Unlock()
		return fmt.Errorf("%w: %d bytes wait to be written, at most %d may", ErrBusy, len(w.buf), w.limit)
	}
	at := len(w.buf)
	kind := f.kind
	if len(tail) > 0 {
		kind |= frameKept
	}
	w.buf = beginFrame(w.buf, f.class, kind, f.stamp)
	w.buf = append(append(w.buf, head...), tail...)
	endFrame(w.buf, at)
	if f.kind == frameCancel {
		w.out.count(0, bytes)
	} else {
		w.out.count(1, bytes)
	}
	if w.writing {
		w.mu.Unlock()
		return nil
	}
	w.writing = true
	w.mu.Unlock()
	if !mayBlock || w.write() {
		signal(w.kick)
	}
	return nil
}

// write writes what waits and returns whether more came meanwhile. If not, or
// after an error, writing is over.
func (w *combiner) write() bool {
	w.mu.Lock()
	buf := w.buf
	w.buf, w.spare = w.spare[:0], nil
	w.mu.Unlock()
	err := writeWithin(w.timeout, w.conn, buf)
	w.mu.Lock()
	defer w.mu.Unlock()
	if cap(buf) <= writeTarget {
		w.spare = buf[:0]
	}
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%w: %w", ErrBroken, err)
		w.buf = nil
		w.conn.Close() // ends the reader, which tells all who wait
	}
	w.writing = w.err == nil && len(w.buf) > 0
	return w.writing
}

// run is the combiner's goroutine.
func (w *combiner) run() {
	for {
		select {
		case <-w.kick:
			for w.write() {
			}
		case <-w.done:
			return
		}
	}
}

// stop lets nothing more in.
func (w *combiner) stop(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.buf = nil
}
