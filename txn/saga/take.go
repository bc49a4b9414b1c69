package saga

import (
	"context"
	"errors"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// load reads all that is kept of a saga: its header, with the records of steps as they
// are now.
func load(ctx context.Context, tx *txn.Tx, id ID) (*header, error) {
	b, there, err := tx.Get(ctx, headerKey(id))
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, ErrNotFound
	}
	h, err := parseHeader(b)
	if err != nil || h.ended != 0 {
		return h, err
	}
	first := stepKey(id, nil, 0)
	first = first[:len(first)-1]
	rows, err := tx.Scan(ctx, first, first[:len(first)-1]+"\x01", 0)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		i := int(row.Key[len(row.Key)-1])
		if len(row.Key) != len(first)+1 || i >= len(h.steps) {
			continue
		}
		rec, err := parseRecord(row.Value)
		if err != nil {
			return nil, err
		}
		if rec.rev >= h.steps[i].rev {
			h.steps[i] = rec
		}
	}
	for i := range h.at {
		if h.at[i] == id.Home {
			continue
		}
		if h.steps[i], err = current(ctx, tx, id, h, i); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// refresh reads what others have written.
func (r *run) refresh() {
	var h *header
	err := r.insist(func(ctx context.Context) error {
		return r.o.client.Run(ctx, readOnly, func(tx *txn.Tx) (err error) {
			h, err = load(ctx, tx, r.id)
			return err
		})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked = time.Now()
	switch {
	case r.err != nil: // it was given up before
	case err != nil:
		r.err = err
	case r.fresh:
		r.err = errTaken
	case h.token != r.h.token || h.owner != r.o.lease || h.life != r.o.life:
		r.err = ErrFenced
	default:
		r.adopt(h)
	}
}

// insist calls fn until it succeeds, or nothing is there, or the orchestrator ends.
func (r *run) insist(fn func(ctx context.Context) error) error {
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := fn(r.o.ctx)
		if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrFenced) || errors.Is(err, errTaken) {
			return err
		}
		r.o.o.Logger.Info("saga: tried again", "saga", r.id, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-r.o.stop:
			timer.Stop()
			return r.o.why()
		case <-r.o.ctx.Done():
			timer.Stop()
			return errors.Join(r.o.why(), r.o.ctx.Err())
		}
	}
}

// adopt takes over what was read. What this run knows and has not written yet stays.
func (r *run) adopt(h *header) {
	if r.turned && h.state == Running {
		h.state, h.cause, h.failed = r.h.state, r.h.cause, r.h.failed
	} else {
		r.turned = false
	}
	r.h = h
	if r.steps == nil {
		r.steps = make([]progress, len(h.steps))
	}
	for i := range h.steps {
		p := &r.steps[i]
		if rec := h.steps[i]; rec.rev > p.rev {
			*p = progress{record: rec, busy: p.busy, called: rec.state == Called || rec.state == Parked}
		}
	}
	if r.fresh {
		r.fresh = false
		close(r.begun)
	}
}

// retake finds out what came of a transaction of which nobody knows. A transaction in
// which the saga's token grows bars it from committing later: it has read the token, or
// that there is no saga. So what is there then is what is true.
func (r *run) retake(why error) {
	r.o.o.Logger.Info("saga: nobody knows whether a transaction committed", "saga", r.id, "error", why)
	var h *header
	err := r.insist(func(ctx context.Context) error {
		return r.o.client.Run(ctx, readWrite, func(tx *txn.Tx) (err error) {
			h, err = load(ctx, tx, r.id)
			switch {
			case errors.Is(err, ErrNotFound) && r.fresh:
				first := *r.h
				first.state, first.began = Running, tx.At().Time().UnixMicro()
				first.cause, first.failed = "", ""
				h = first.clone()
				return r.o.own(tx, r.id, h)
			case err != nil:
				return err
			case r.fresh && !h.same(r.h):
				return errTaken // another one of this name, which may have other steps
			case h.owner != r.o.lease || h.life != r.o.life:
				if r.fresh {
					return errTaken
				}
				return ErrFenced
			case h.ended != 0:
				return nil
			}
			return r.o.own(tx, r.id, h)
		})
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = err
		return
	}
	r.adopt(h)
}

// own makes a saga this orchestrator's, and bars all that was begun before.
func (o *Orchestrator) own(tx *txn.Tx, id ID, h *header) error {
	h.token, h.owner, h.life = h.token+1, o.lease, o.life
	if err := o.list(tx, id, true); err != nil {
		return err
	}
	return tx.Put(headerKey(id), h.encode())
}

// errAlive says that the orchestrator of a saga has its lease.
var errAlive = errors.New("saga: its orchestrator lives")

// take takes a saga over, if told to even from an orchestrator that lives.
func (r *run) take(ctx context.Context, force bool) error {
	var h *header
	var g *graph
	err := r.o.client.Run(ctx, readWrite, func(tx *txn.Tx) (err error) {
		if h, err = load(ctx, tx, r.id); err != nil {
			return err
		}
		if g, err = r.o.graph(h.name, h.version, h.shape); err != nil || h.ended != 0 {
			return err
		}
		if !force && (h.owner != r.o.lease || h.life != r.o.life) {
			l, err := getLease(ctx, tx, h.owner)
			if err != nil {
				return err
			}
			if l.life == h.life && l.until > tx.At() {
				return errAlive
			}
		}
		return r.o.own(tx, r.id, h)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.g = g
	r.adopt(h)
	close(r.begun)
	return nil
}
