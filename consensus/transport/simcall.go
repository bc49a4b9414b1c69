package transport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Call implements Transport. Over perfect links the handler runs on the
// calling goroutine.
func (s *Sim) Call(ctx context.Context, to NodeID, svc string, req []byte) ([]byte, error) {
	if s.closed.Load() {
		return nil, fmt.Errorf("%w: node %d", ErrClosed, s.id)
	}
	if err := ctx.Err(); err != nil {
		return nil, callError(to, svc, err)
	}
	if to == s.id {
		return s.serve(ctx, s, svc, req)
	}
	r := s.route(to)
	dest := r.out.dest.Load()
	if dest == nil {
		return nil, fmt.Errorf("%w: node %d is down", ErrUnreachable, to)
	}
	if s.net.o.Marshal {
		req = slices.Clone(req)
	}
	if !r.out.now.Load().plain || !r.back.now.Load().plain {
		return s.callFar(ctx, r, dest, svc, req)
	}
	s.countCall(dest, requestBytes(svc, req))
	dest.observe(s.stamp())
	answer, err := dest.serve(ctx, s, svc, req)
	if errors.Is(err, ErrUnreachable) {
		return nil, err
	}
	dest.countCall(s, answerBytes(answer, err))
	s.observe(dest.stamp())
	// The answer of a node that crashed meanwhile, or over a link that was
	// cut, would not have arrived.
	if dest.closed.Load() || s.closed.Load() {
		return nil, fmt.Errorf("%w: node %d or %d closed during %q", ErrBroken, s.id, to, svc)
	}
	if r.back.now.Load().cut {
		if err := r.back.open(ctx, s.life); err != nil {
			return nil, callError(to, svc, err)
		}
	}
	return answer, err
}

func callError(to NodeID, svc string, err error) error {
	return fmt.Errorf("transport: call of %q on node %d: %w", svc, to, err)
}

// countCall counts one request or answer on both sides.
func (s *Sim) countCall(dest *Sim, bytes int) {
	s.out[Calls].count(1, bytes)
	dest.in[Calls].count(1, bytes)
}

// serve runs a handler of s for another node or itself.
func (s *Sim) serve(ctx context.Context, from *Sim, svc string, req []byte) ([]byte, error) {
	if !s.enter() {
		return nil, fmt.Errorf("%w: node %d is down", ErrUnreachable, s.id)
	}
	defer s.leave()
	h := s.handler(svc)
	if h == nil {
		return nil, fmt.Errorf("%w: %q on node %d", ErrNoService, svc, s.id)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	if from != s {
		defer context.AfterFunc(from.life, cancel)()
	}
	answer, err := h(ctx, from.id, req)
	if err != nil {
		return nil, &RemoteError{Node: s.id, Service: svc, Message: err.Error()}
	}
	if s.net.o.Marshal {
		answer = slices.Clone(answer)
	}
	return answer, nil
}

type answer struct {
	data []byte
	err  error
}

// callFar makes a call over links that delay, lose or are cut. The journey has
// its own goroutine: a request that departed arrives even if the caller gave
// up, and its answer then goes nowhere.
func (s *Sim) callFar(ctx context.Context, r route, dest *Sim, svc string, req []byte) ([]byte, error) {
	if !s.enter() {
		return nil, fmt.Errorf("%w: node %d", ErrClosed, s.id)
	}
	done := make(chan answer, 1)
	s.calls.Go(func() {
		data, err := s.journey(ctx, r, dest, svc, req)
		done <- answer{data, err}
	})
	s.leave()
	select {
	case a := <-done:
		return a.data, a.err
	case <-ctx.Done():
		return nil, callError(r.out.to, svc, ctx.Err())
	case <-s.life.Done():
		return nil, callError(r.out.to, svc, fmt.Errorf("%w: node %d closed", ErrBroken, s.id))
	}
}

func (s *Sim) journey(ctx context.Context, r route, dest *Sim, svc string, req []byte) ([]byte, error) {
	bytes, stamp := requestBytes(svc, req), s.stamp()
	s.out[Calls].count(1, bytes)
	if err := r.out.travel(ctx, s.life, dest, Calls, bytes); err != nil {
		return nil, callError(r.out.to, svc, err)
	}
	dest.in[Calls].count(1, bytes)
	dest.observe(stamp)
	data, err := s.serveFar(ctx, r, dest, svc, req)
	if errors.Is(err, ErrUnreachable) {
		return nil, callError(r.out.to, svc, fmt.Errorf("%w: node %d closed", ErrBroken, dest.id))
	}
	bytes, stamp = answerBytes(data, err), dest.stamp()
	if dest.closed.Load() {
		return nil, callError(r.out.to, svc, fmt.Errorf("%w: node %d closed", ErrBroken, dest.id))
	}
	dest.out[Calls].count(1, bytes)
	if lost := r.back.travel(ctx, s.life, s, Calls, bytes); lost != nil {
		return nil, callError(r.out.to, svc, lost)
	}
	s.in[Calls].count(1, bytes)
	s.observe(stamp)
	return data, err
}

// serveFar runs the handler under a context of its own, which hears of the
// caller's end one delay later.
func (s *Sim) serveFar(ctx context.Context, r route, dest *Sim, svc string, req []byte) ([]byte, error) {
	far, cancel := context.WithCancel(s.life)
	defer cancel()
	delay := r.out.now.Load().Delay
	if at, ok := ctx.Deadline(); ok {
		var expire context.CancelFunc
		far, expire = context.WithDeadline(far, at.Add(delay))
		defer expire()
	}
	defer context.AfterFunc(ctx, func() {
		pause(far, delay)
		cancel()
	})()
	return dest.serve(far, s, svc, req)
}

// pause waits for d or for ctx, whichever ends first, and says whether it was
// the time.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// open waits until the link is not cut.
func (f *flow) open(ctx, life context.Context) error {
	for {
		cond := f.now.Load()
		if !cond.cut {
			return nil
		}
		select {
		case <-cond.changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-life.Done():
			return fmt.Errorf("%w: closed while link %d to %d was cut", ErrBroken, f.from, f.to)
		}
	}
}

// travel waits as long as bytes take over the link, once more if the link was
// cut on the way: what a connection does that repeats what got lost. ctx ends
// the wait at a cut link only, what departed arrives.
func (f *flow) travel(ctx, life context.Context, dest *Sim, c Class, bytes int) error {
	for {
		if err := f.open(ctx, life); err != nil {
			return err
		}
		cond := f.now.Load()
		f.mu.Lock()
		lost := f.draw(cond.Loss)
		at := f.arrival(cond, c, bytes, true)
		f.mu.Unlock()
		arrived := make(chan struct{})
		f.net.wire.push(delivery{at: at, flow: f, dest: dest, arrived: arrived})
		select {
		case <-arrived:
		case <-life.Done():
		}
		if life.Err() != nil {
			return fmt.Errorf("%w: closed under way from %d to %d", ErrBroken, f.from, f.to)
		}
		if lost {
			return fmt.Errorf("%w: lost on the link from %d to %d", ErrBroken, f.from, f.to)
		}
		if !f.now.Load().cut {
			return nil
		}
	}
}

// requestBytes and answerBytes are the lengths of a call's frames.
func requestBytes(svc string, req []byte) int {
	return headerBytes + 8 + 8 + 1 + len(svc) + len(req)
}

func answerBytes(data []byte, err error) int {
	n := headerBytes + 8 + 1 + len(data)
	if err != nil {
		n += len(err.Error())
	}
	return n
}
