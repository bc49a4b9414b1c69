package transport

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// streamWindow is what one direction of a stream may hold unread.
	streamWindow = 1 << 20
	// chunkBytes is the most that travels as one piece, and chunkHeader what
	// each piece costs beside its data.
	chunkBytes  = 32 << 10
	chunkHeader = 9
	// bulkBacklog is how far ahead a stream may book a link's bandwidth: other
	// messages wait behind what is booked.
	bulkBacklog = 5 * time.Millisecond
)

// Stream implements Transport.
func (s *Sim) Stream(ctx context.Context, to NodeID, svc string) (io.ReadWriteCloser, error) {
	if !s.enter() {
		return nil, fmt.Errorf("%w: node %d", ErrClosed, s.id)
	}
	defer s.leave()
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	dest, r := s, route{}
	if to != s.id {
		r = s.route(to)
		if dest = r.out.dest.Load(); dest == nil {
			return nil, fmt.Errorf("%w: node %d is down", ErrUnreachable, to)
		}
		bytes, stamp := requestBytes(svc, nil), s.stamp()
		if err := r.out.shake(opening, s, dest, bytes); err != nil {
			return nil, streamError(to, svc, err)
		}
		dest.observe(stamp)
	}
	h := dest.streamHandler(svc)
	if h == nil {
		return nil, fmt.Errorf("%w: stream %q on node %d", ErrNoService, svc, to)
	}
	if to != s.id {
		stamp := dest.stamp()
		if err := r.back.shake(opening, dest, s, answerBytes(nil, nil)); err != nil {
			return nil, streamError(to, svc, err)
		}
		s.observe(stamp)
	}
	p := newPipe(s, dest, r)
	if err := s.net.connect(p); err != nil {
		return nil, streamError(to, svc, err)
	}
	// Entered, so that Close of dest does not wait for its goroutines yet.
	if !dest.enter() {
		return nil, streamError(to, svc, fmt.Errorf("%w: node %d closed", ErrUnreachable, to))
	}
	defer dest.leave()
	dest.calls.Go(func() {
		here, cancel := context.WithCancel(dest.life)
		defer cancel()
		p.onBreak(cancel)
		defer p.there.Close()
		h(here, s.id, p.there)
	})
	p.watch(ctx)
	return p.here, nil
}

func streamError(to NodeID, svc string, err error) error {
	return fmt.Errorf("transport: stream %q to node %d: %w", svc, to, err)
}

// shake is one leg of a stream's opening.
func (f *flow) shake(ctx context.Context, from, to *Sim, bytes int) error {
	from.out[Bulk].count(1, bytes)
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(from.life, cancel)()
	if err := f.travel(ctx, life, Bulk, bytes); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	to.in[Bulk].count(1, bytes)
	return nil
}

// connect registers an open stream, so that cuts and closed nodes break it.
func (n *Network) connect(p *pipe) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range [...]*Sim{p.a, p.b} {
		if s.closed.Load() {
			return fmt.Errorf("%w: node %d closed", ErrUnreachable, s.id)
		}
	}
	for _, d := range [...]direction{{p.a.id, p.b.id}, {p.b.id, p.a.id}} {
		if n.cuts[d] {
			return fmt.Errorf("%w: link %d to %d cut", ErrUnreachable, d.from, d.to)
		}
	}
	n.pipes[p] = struct{}{}
	return nil
}

// A pipe is a stream between two simulated nodes: a lane each way.
type pipe struct {
	a, b        *Sim
	here, there *end
	broken      chan struct{} // closed by breakOff

	mu     sync.Mutex
	err    error // why it broke
	then   func()
	unbind func() bool // stops watching the opener's context
	open   int         // ends not closed
}

func newPipe(a, b *Sim, r route) *pipe {
	p := &pipe{a: a, b: b, broken: make(chan struct{}), open: 2}
	out, back := newLane(a, b, r.out), newLane(b, a, r.back)
	p.here = &end{pipe: p, in: back, out: out}
	p.there = &end{pipe: p, in: out, out: back}
	return p
}

func (p *pipe) crosses(d direction) bool {
	return p.a.id == d.from && p.b.id == d.to || p.a.id == d.to && p.b.id == d.from
}

// onBreak has f called when the stream breaks, or at once if it did.
func (p *pipe) onBreak(f func()) {
	p.mu.Lock()
	broken := p.err != nil
	p.then = f
	p.mu.Unlock()
	if broken {
		f()
	}
}

// watch breaks the stream with the opener's context.
func (p *pipe) watch(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.breakOff(fmt.Errorf("%w: %w", ErrBroken, ctx.Err()))
		p.forget()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == 0 || p.err != nil {
		stop()
		return
	}
	p.unbind = stop
}

// breakOff makes every read and write fail, now and later. It calls nothing
// that locks the network.
func (p *pipe) breakOff(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err = err
	close(p.broken)
	if p.then != nil {
		p.then()
	}
	if p.unbind != nil {
		p.unbind()
	}
}

func (p *pipe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// closed notes that one end is closed; the last one takes the stream off the
// network.
func (p *pipe) closed() {
	p.mu.Lock()
	p.open--
	last := p.open == 0
	if last && p.unbind != nil {
		p.unbind()
	}
	p.mu.Unlock()
	if last {
		p.forget()
	}
}

func (p *pipe) forget() {
	p.a.net.mu.Lock()
	defer p.a.net.mu.Unlock()
	delete(p.a.net.pipes, p)
}

// An end is what one side of a stream holds.
type end struct {
	pipe    *pipe
	in, out *lane
	once    sync.Once
}

// Read implements Duplex.
func (e *end) Read(b []byte) (int, error) { return e.in.read(e.pipe, b) }

// Write implements Duplex.
func (e *end) Write(b []byte) (int, error) { return e.out.write(e.pipe, b) }

// CloseWrite implements Duplex.
func (e *end) CloseWrite() error {
	e.out.finish()
	return nil
}

// Close implements Duplex.
func (e *end) Close() error {
	e.once.Do(func() {
		e.out.finish()
		e.in.leave()
		e.pipe.closed()
	})
	return nil
}

// Abort implements Duplex.
func (e *end) Abort() error {
	e.pipe.breakOff(fmt.Errorf("%w: aborted", ErrBroken))
	return e.Close()
}
