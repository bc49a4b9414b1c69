package transport

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"
)

// A desk serves the calls of one connection.
type desk struct {
	t    *TCP
	from NodeID
	w    *combiner
	busy sync.WaitGroup

	mu      sync.Mutex
	running map[uint64]context.CancelFunc
	bytes   int64 // of requests that run
}

// A request as it arrived.
type request struct {
	id      uint64
	timeout time.Duration
	svc     string
	data    []byte
}

func parseRequest(body []byte) (request, error) {
	bad := fmt.Errorf("transport: %w: request of %d bytes is cut off", errFormat, len(body))
	id, n := binary.Uvarint(body)
	if n <= 0 {
		return request{}, bad
	}
	body = body[n:]
	timeout, n := binary.Uvarint(body)
	if n <= 0 || int64(timeout) < 0 {
		return request{}, bad
	}
	body = body[n:]
	if len(body) == 0 || len(body) < 1+int(body[0]) {
		return request{}, bad
	}
	end := 1 + int(body[0])
	return request{id, time.Duration(timeout), string(body[1:end]), body[end:len(body):len(body)]}, nil
}

// serveCalls answers requests until the connection ends, then waits for the
// handlers that still run.
func (t *TCP) serveCalls(c net.Conn, from NodeID) error {
	over := make(chan struct{})
	d := &desk{t: t, from: from, w: newCombiner(c, t, over), running: make(map[uint64]context.CancelFunc)}
	life, cancel := context.WithCancel(t.life)
	d.busy.Go(d.w.run)
	err := d.serve(life, c)
	c.Close()
	cancel()
	close(over)
	d.busy.Wait()
	return err
}

func (d *desk) serve(life context.Context, c net.Conn) error {
	frames := newFrameReader(c, d.t.o.MaxFrameBytes)
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		switch f.kind {
		case frameRequest:
			r, err := parseRequest(f.body)
			if err != nil {
				return err
			}
			if !f.kept {
				frames.keep()
			}
			d.t.in[Calls].count(1, f.bytes)
			d.t.observe(f.stamp)
			if err := d.open(life, r); err != nil {
				return err
			}
		case frameCancel:
			d.t.in[Calls].count(0, f.bytes)
			id, _ := binary.Uvarint(f.body)
			d.mu.Lock()
			if stop := d.running[id]; stop != nil {
				stop()
			}
			d.mu.Unlock()
		default:
			return fmt.Errorf("transport: %w: frame of kind %d among calls", errFormat, f.kind)
		}
	}
}

// open starts a request's handler, or answers that it will not run.
func (d *desk) open(life context.Context, r request) error {
	h := d.t.handler(r.svc)
	if h == nil {
		d.answer(r.id, statusNoService, nil)
		return nil
	}
	ctx, cancel := within(life, r.timeout)
	d.mu.Lock()
	_, twice := d.running[r.id]
	full := len(d.running) >= d.t.o.MaxCalls || len(d.running) > 0 && d.bytes+int64(len(r.data)) > d.t.o.MaxCallBytes
	if !twice && !full {
		d.running[r.id] = cancel
		d.bytes += int64(len(r.data))
	}
	d.mu.Unlock()
	if twice {
		cancel()
		return fmt.Errorf("transport: %w: request %d is open already", errFormat, r.id)
	}
	if full {
		cancel()
		d.answer(r.id, statusBusy, nil)
		return nil
	}
	d.busy.Go(func() {
		defer cancel()
		data, err := h(ctx, d.from, r.data)
		d.mu.Lock()
		delete(d.running, r.id)
		d.bytes -= int64(len(r.data))
		d.mu.Unlock()
		d.reply(r, data, err)
	})
	return nil
}

func (d *desk) reply(r request, data []byte, err error) {
	if err == nil && len(data)+callEnvelope > d.t.o.MaxFrameBytes {
		err = fmt.Errorf("answer of %d bytes, at most %d fit a frame", len(data), d.t.o.MaxFrameBytes-callEnvelope)
	}
	if err != nil {
		text := err.Error()
		d.answer(r.id, statusRefused, []byte(text[:min(len(text), maxErrorBytes)]))
		return
	}
	d.answer(r.id, statusDone, data)
}

// answer sends the end of a request. A peer that does not read its answers
// loses its connection.
func (d *desk) answer(id uint64, status byte, data []byte) {
	head := append(binary.AppendUvarint(make([]byte, 0, 16), id), status)
	if d.w.put(frame{class: Calls, kind: frameAnswer, stamp: d.t.stamp()}, head, data, true) != nil {
		d.t.out[Calls].dropped.Add(1)
		d.w.conn.Close()
	}
}

// within is life with a timeout, if there is one.
func within(life context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout > 0 {
		return context.WithTimeout(life, timeout)
	}
	return context.WithCancel(life)
}
