package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// Frames of calls:
//
//	request  id | timeout in ns, 0: none | length of name u8, name | request
//	answer   id | status u8 | answer or text of the error
//	cancel   id
const (
	statusDone = iota
	statusRefused
	statusNoService
	statusBusy
	statuses
)

const (
	// callEnvelope is the most that a call's frame holds beside its data.
	callEnvelope = headerBytes + 2*binary.MaxVarintLen64 + 1 + maxServiceBytes
	// maxErrorBytes bounds the text of an error that travels.
	maxErrorBytes = 4 << 10
	// eagerBytes is how much may be under way unanswered for a caller to write
	// its request itself: so much the kernel holds even if the peer does not
	// read, so that the caller does not hang.
	eagerBytes = 32 << 10
)

// Call implements Transport.
func (t *TCP) Call(ctx context.Context, to NodeID, svc string, req []byte) ([]byte, error) {
	if t.shut.Load() {
		return nil, fmt.Errorf("%w: node %d", ErrClosed, t.id)
	}
	if err := ctx.Err(); err != nil {
		return nil, callError(to, svc, err)
	}
	if len(req)+callEnvelope > t.o.MaxFrameBytes || len(svc) > maxServiceBytes {
		return nil, callError(to, svc, fmt.Errorf("request of %d bytes, at most %d fit a frame", len(req), t.o.MaxFrameBytes-callEnvelope))
	}
	if to == t.id {
		return t.callSelf(ctx, svc, req)
	}
	s, err := t.peer(to).calls.session(ctx)
	if err != nil {
		return nil, callError(to, svc, err)
	}
	data, err := s.call(ctx, svc, req)
	if err != nil {
		var remote *RemoteError
		if errors.As(err, &remote) {
			return nil, err
		}
		return nil, callError(to, svc, err)
	}
	return data, nil
}

func (t *TCP) callSelf(ctx context.Context, svc string, req []byte) ([]byte, error) {
	h := t.handler(svc)
	if h == nil {
		return nil, callError(t.id, svc, ErrNoService)
	}
	if !t.enter() {
		return nil, fmt.Errorf("%w: node %d", ErrClosed, t.id)
	}
	defer t.running.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	data, err := h(ctx, t.id, req)
	if err != nil {
		return nil, &RemoteError{Node: t.id, Service: svc, Message: err.Error()}
	}
	return data, nil
}

// A caller keeps the connection for calls to one node.
type caller struct {
	t  *TCP
	to NodeID

	mu      sync.Mutex
	now     *session
	made    bool
	dialing *attempt // under way
	failure error    // of the last attempt
	failed  time.Time
	pause   time.Duration // after failed, before the next attempt
}

// An attempt to connect, for all who wait for it.
type attempt struct {
	over chan struct{}
	s    *session // of these, one is set when it is over
	err  error
}

func newCaller(t *TCP, to NodeID) *caller { return &caller{t: t, to: to} }

// session returns the connection, made if need be. One caller dials and
// others wait; for a moment after a failure all fail alike.
func (c *caller) session(ctx context.Context) (*session, error) {
	c.mu.Lock()
	if s := c.now; s != nil && s.alive() {
		c.mu.Unlock()
		return s, nil
	}
	if c.failure != nil && time.Since(c.failed) < c.pause {
		defer c.mu.Unlock()
		return nil, c.failure
	}
	a := c.dialing
	if a == nil {
		a = &attempt{over: make(chan struct{})}
		if !c.t.start(func() { c.connect(a) }) {
			c.mu.Unlock()
			return nil, ErrClosed
		}
		c.dialing = a
	}
	c.mu.Unlock()
	select {
	case <-a.over:
		return a.s, a.err
	case <-ctx.Done():
		return nil, ctx.Err() // nothing was sent
	}
}

// connect makes the connection for whoever waits, and serves it to its end.
func (c *caller) connect(a *attempt) {
	conn, err := c.t.dial(c.t.life, c.to, forCalls)
	c.mu.Lock()
	c.dialing = nil
	c.failure, c.failed = err, time.Now()
	a.err = err
	if err != nil {
		c.pause = min(max(2*c.pause, c.t.o.DialBackoff), c.t.o.MaxDialBackoff)
	} else {
		c.pause = 0
		a.s = newSession(c.t, c.to, conn)
		if c.made {
			c.t.reconnects.Add(1)
		}
		c.now, c.made = a.s, true
	}
	close(a.over)
	c.mu.Unlock()
	if err == nil {
		a.s.serve()
	}
}

// A session is one connection for calls, seen from the calling side.
type session struct {
	t    *TCP
	to   NodeID
	conn net.Conn
	w    *combiner
	over chan struct{}

	mu      sync.Mutex
	err     error
	id      uint64
	unread  int // bytes of requests not answered
	waiting map[uint64]waiting
}

// A waiting call; answer is nil if its caller gave up.
type waiting struct {
	answer chan answer
	svc    string
	bytes  int
}

func newSession(t *TCP, to NodeID, conn net.Conn) *session {
	s := &session{t: t, to: to, conn: conn, over: make(chan struct{}), waiting: make(map[uint64]waiting)}
	s.w = newCombiner(conn, t, s.over)
	return s
}

func (s *session) alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == nil
}

func (s *session) call(ctx context.Context, svc string, req []byte) ([]byte, error) {
	done := make(chan answer, 1)
	bytes := len(req) + callEnvelope
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: node %d: connection just lost", ErrUnreachable, s.to)
	}
	if n := len(s.waiting); n >= s.t.o.MaxCalls {
		s.mu.Unlock()
		return nil, fmt.Errorf("%w: node %d has %d calls to answer, at most %d may wait", ErrBusy, s.to, n, s.t.o.MaxCalls)
	}
	s.id++
	id := s.id
	s.unread += bytes
	eager := s.unread <= eagerBytes
	s.waiting[id] = waiting{done, svc, bytes}
	s.mu.Unlock()

	var timeout time.Duration
	if at, ok := ctx.Deadline(); ok {
		timeout = max(time.Until(at), 1)
	}
	head := make([]byte, 0, 64)
	head = binary.AppendUvarint(head, id)
	head = binary.AppendUvarint(head, uint64(timeout))
	head = append(append(head, byte(len(svc))), svc...)
	err := s.w.put(frame{class: Calls, kind: frameRequest, stamp: s.t.stamp()}, head, req, eager)
	if err != nil {
		s.forget(id)
		if errors.Is(err, ErrBusy) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: node %d: nothing sent: %s", ErrUnreachable, s.to, err.Error())
	}
	select {
	case a := <-done:
		return a.data, a.err
	case <-ctx.Done():
		s.cancel(id)
		return nil, ctx.Err()
	}
}

// cancel tells the peer that nobody waits any more. The entry stays until the
// answer: its bytes are still under way.
func (s *session) cancel(id uint64) {
	s.mu.Lock()
	w, ok := s.waiting[id]
	if ok {
		w.answer = nil
		s.waiting[id] = w
	}
	s.mu.Unlock()
	if ok {
		// If it is not taken, the connection is about to end.
		_ = s.w.put(frame{class: Calls, kind: frameCancel}, binary.AppendUvarint(nil, id), nil, false)
	}
}

func (s *session) forget(id uint64) (waiting, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, ok := s.waiting[id]
	if ok {
		delete(s.waiting, id)
		s.unread -= w.bytes
	}
	return w, ok
}

// serve reads answers until the connection ends.
func (s *session) serve() {
	defer s.t.drop(s.conn)
	s.t.start(s.w.run)
	err := s.read()
	s.t.refuse(s.t.log.With("to", uint64(s.to), "for", forCalls.String()), err)
	close(s.over)
	err = fmt.Errorf("%w: node %d: %w", ErrBroken, s.to, err)
	s.w.stop(err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	for _, w := range s.waiting {
		if w.answer != nil {
			w.answer <- answer{err: err}
		}
	}
	s.waiting = nil
}

func (s *session) read() error {
	frames := newFrameReader(s.conn, s.t.o.MaxFrameBytes)
	for {
		f, err := frames.next()
		if err != nil {
			return err
		}
		id, n := binary.Uvarint(f.body)
		if f.kind != frameAnswer || n <= 0 || n == len(f.body) || f.body[n] >= statuses {
			return fmt.Errorf("transport: %w: frame of kind %d and %d bytes, expected an answer", errFormat, f.kind, len(f.body))
		}
		s.t.in[Calls].count(1, f.bytes)
		s.t.observe(f.stamp)
		w, ok := s.forget(id)
		if !ok {
			return fmt.Errorf("transport: %w: answer to request %d, which is not open", errFormat, id)
		}
		if w.answer != nil {
			w.answer <- s.parse(w, f.body[n], f.body[n+1:])
		}
		if !f.kept {
			frames.keep()
		}
	}
}

func (s *session) parse(w waiting, status byte, data []byte) answer {
	switch status {
	case statusRefused:
		return answer{err: &RemoteError{Node: s.to, Service: w.svc, Message: string(data)}}
	case statusNoService:
		return answer{err: ErrNoService}
	case statusBusy:
		return answer{err: ErrBusy}
	}
	return answer{data: data}
}
