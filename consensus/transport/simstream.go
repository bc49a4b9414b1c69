package transport

import (
	"context"
	"fmt"
	"io"
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
	dest, r := s, route{}
	if to != s.id {
		r = s.route(to)
		if dest = r.out.dest.Load(); dest == nil {
			return nil, fmt.Errorf("%w: node %d is down", ErrUnreachable, to)
		}
	}
	h, err := s.openStream(ctx, dest, r, svc)
	if err != nil {
		if s.closed.Load() {
			err = ErrClosed
		}
		return nil, streamError(to, svc, err)
	}
	p := newPipe(s.id, to)
	if to != s.id {
		p.here.out.over(r.out, &s.out[Bulk], &dest.in[Bulk])
		p.there.out.over(r.back, &dest.out[Bulk], &s.in[Bulk])
	}
	// Entered, so that Close of dest does not wait for its goroutines yet.
	if !dest.enter() {
		return nil, streamError(to, svc, fmt.Errorf("%w: node closed", ErrUnreachable))
	}
	defer dest.leave()
	if err := s.net.connect(p, s, dest); err != nil {
		return nil, streamError(to, svc, err)
	}
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

// openStream asks dest for a service and waits for its answer.
func (s *Sim) openStream(ctx context.Context, dest *Sim, r route, svc string) (StreamHandler, error) {
	opening, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	far := dest != s
	if far {
		stamp := s.stamp()
		if err := r.out.shake(opening, s, dest, requestBytes(svc, nil)); err != nil {
			return nil, err
		}
		dest.observe(stamp)
	}
	h := dest.streamHandler(svc)
	if far {
		stamp := dest.stamp()
		if err := r.back.shake(opening, dest, s, answerBytes(nil, nil)); err != nil {
			return nil, err
		}
		s.observe(stamp)
	}
	if h == nil {
		return nil, ErrNoService
	}
	return h, nil
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
	if err := f.travel(ctx, life, to, Bulk, bytes); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	to.in[Bulk].count(1, bytes)
	return nil
}

// connect registers an open stream, so that cuts and closed nodes break it.
func (n *Network) connect(p *pipe, a, b *Sim) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range [...]*Sim{a, b} {
		if s.closed.Load() {
			return fmt.Errorf("%w: node %d closed", ErrUnreachable, s.id)
		}
	}
	for _, d := range [...]direction{{a.id, b.id}, {b.id, a.id}} {
		if n.cuts[d] {
			return fmt.Errorf("%w: link %d to %d cut", ErrUnreachable, d.from, d.to)
		}
	}
	n.pipes[p] = struct{}{}
	p.forget = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.pipes, p)
	}
	return nil
}
