package saga

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// A Saga is one that was started.
type Saga struct {
	o   *Orchestrator
	id  ID
	run *run // nil: it does not run here
}

// ID returns its name.
func (s *Saga) ID() ID { return s.id }

// Start starts a saga of a definition and returns when that is durable: with the commit
// of its first step, or before if that does not succeed at once. It goes on without
// ctx. Starting a saga again does nothing and returns the same one, if definition and
// input are the same; otherwise it returns a *DifferentError. After any other error than
// those of package saga nobody knows whether the saga was started; to start it again
// tells.
//
// While there are as many sagas under way as Options.Limit says, Start waits, or returns
// ErrBusy.
func (o *Orchestrator) Start(ctx context.Context, id ID, name string, ver uint32, input []byte) (*Saga, error) {
	g := o.graphs[version{name, ver}]
	switch {
	case g == nil:
		return nil, &UnknownDefinitionError{Name: name, Version: ver}
	case len(input) > maxInput:
		return nil, &InputError{ID: id, Text: fmt.Sprintf("input of %d bytes, expected at most %d", len(input), maxInput)}
	case !slices.Contains(o.o.Homes, id.Home):
		return nil, &InputError{ID: id, Text: fmt.Sprintf("home %q is none of the orchestrator's", id.Home)}
	}
	at, err := g.places(id, input)
	if err := errors.Join(id.check(), err); err != nil {
		return nil, err
	}
	h := &header{
		token: 1, state: Running, owner: o.lease, life: o.life, name: name, version: ver, shape: g.shape,
		input: bytes.Clone(input), at: at, steps: make([]record, len(g.steps)),
	}
	r, mine, err := o.admit(ctx, id, !o.o.Refuse)
	if err != nil {
		return nil, err
	}
	if mine {
		r.mu.Lock()
		r.g, r.fresh, r.h, r.steps = g, true, h, make([]progress, len(g.steps))
		r.mu.Unlock()
		go r.loop()
	}
	select {
	case <-r.begun:
	case <-r.left:
	case <-ctx.Done():
		return nil, fmt.Errorf("saga: start of %v: %w", id, ctx.Err())
	}
	select {
	case <-r.begun:
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.h.same(h) {
			return nil, &DifferentError{id}
		}
		return &Saga{o, id, r}, nil
	default:
	}
	if mine && !errors.Is(r.err, errTaken) {
		return nil, fmt.Errorf("saga: start of %v: %w", id, r.err)
	}
	return o.join(ctx, id, h)
}

// same reports whether two sagas were started as the same.
func (h *header) same(o *header) bool {
	return h.name == o.name && h.version == o.version && bytes.Equal(h.input, o.input)
}

// join finds a saga that was started elsewhere, or before.
func (o *Orchestrator) join(ctx context.Context, id ID, h *header) (*Saga, error) {
	there, err := o.load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("saga: start of %v: %w", id, err)
	}
	if !there.same(h) {
		return nil, &DifferentError{id}
	}
	return &Saga{o: o, id: id}, nil
}

// admit makes a run of a saga, or finds the one that there is: mine says which.
func (o *Orchestrator) admit(ctx context.Context, id ID, wait bool) (r *run, mine bool, err error) {
	if r, err := o.find(id); r != nil || err != nil {
		return r, false, err
	}
	select {
	case o.slots <- struct{}{}:
	default:
		if !wait {
			return nil, false, ErrBusy
		}
		select {
		case o.slots <- struct{}{}:
		case <-o.stop:
			return nil, false, o.why()
		case <-ctx.Done():
			return nil, false, fmt.Errorf("%w: %w", ErrBusy, ctx.Err())
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if r = o.runs[id]; r != nil || o.closed != nil {
		<-o.slots
		return r, false, o.closed
	}
	r = o.newRun(id, nil)
	o.runs[id] = r
	return r, true, nil
}

// find returns the run of a saga, nil if it does not run here.
func (o *Orchestrator) find(id ID) (*run, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs[id], o.closed
}

// A Result is how a saga ended.
type Result struct {
	ID ID
	// State is Done or Compensated.
	State State
	// Cause says why it was taken back, and Failed which step failed; empty: none did,
	// it was aborted.
	Cause, Failed string
	// Outputs are those of the steps that were done, by name.
	Outputs map[string][]byte
}

// Wait waits until the saga is finished, here or elsewhere, which is not before
// somebody settles what is parked or stuck. If it returns an error, nobody knows how the
// saga ends.
func (s *Saga) Wait(ctx context.Context) (*Result, error) {
	if s.run != nil {
		select {
		case <-s.run.left:
		case <-ctx.Done():
			return nil, fmt.Errorf("saga: wait for %v: %w", s.id, ctx.Err())
		}
		if r := s.run; r.err == nil {
			return r.g.result(s.id, r.h), nil
		} else if !errors.Is(r.err, ErrFenced) {
			return nil, fmt.Errorf("saga: wait for %v: %w", s.id, r.err)
		}
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		h, err := s.o.load(ctx, s.id)
		if errors.Is(err, ErrNotFound) {
			return nil, fmt.Errorf("saga: wait for %v: %w", s.id, err)
		}
		if err == nil && h.ended != 0 {
			g, err := s.o.graph(h.name, h.version, h.shape)
			if err != nil {
				return nil, err
			}
			return g.result(s.id, h), nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("saga: wait for %v: %w", s.id, errors.Join(ctx.Err(), err))
		}
	}
}

// load reads a saga.
func (o *Orchestrator) load(ctx context.Context, id ID) (h *header, err error) {
	err = o.client.Run(ctx, readOnly, func(tx *txn.Tx) (err error) {
		h, err = load(ctx, tx, id)
		return err
	})
	return h, err
}

func (g *graph) result(id ID, h *header) *Result {
	res := &Result{ID: id, State: h.state, Cause: h.cause, Failed: h.failed, Outputs: map[string][]byte{}}
	for i := range h.steps {
		if rec := &h.steps[i]; rec.state == Finished || rec.undo {
			res.Outputs[g.steps[i].Name] = rec.output
		}
	}
	return res
}
