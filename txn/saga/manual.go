package saga

import (
	"context"
	"fmt"

	"github.com/phantomdb/phantomdb/txn"
)

// Abort has a saga turn back, wherever it runs. After its pivot, or while that is being
// called, it returns a *StateError, and nothing happens.
func (o *Orchestrator) Abort(ctx context.Context, id ID, why string) error {
	return o.change(ctx, id, "abort", func(tx *txn.Tx, h *header, g *graph) error {
		if h.state == Compensating {
			return nil
		}
		if g.pivot >= 0 {
			if rec := &h.steps[g.pivot]; rec.state != Pending && rec.state != Failed {
				return &StateError{ID: id, Step: g.steps[g.pivot].Name, Is: rec.state.String(), Want: Pending.String()}
			}
		}
		h.state, h.cause = Compensating, why[:min(len(why), maxNote)]
		return tx.Put(headerKey(id), h.encode())
	})
}

// Retry has a saga try at once what it waits with: steps that are stuck, wherever it
// runs, and, if it runs here, all pauses between attempts.
func (o *Orchestrator) Retry(ctx context.Context, id ID) error {
	return o.change(ctx, id, "retry", func(tx *txn.Tx, h *header, g *graph) error {
		for i := range h.steps {
			rec := h.steps[i]
			if rec.state != Stuck {
				continue
			}
			rec.state = Pending
			if err := rec.renew(tx, id, h, i); err != nil {
				return err
			}
		}
		return nil
	})
}

// Resolve says what became of a call of which nobody knew: of a step that is parked, or
// of what takes it back. One that happened has the output; one that did not is called
// again, unless its saga turns back.
func (o *Orchestrator) Resolve(ctx context.Context, id ID, step string, v Verdict, output []byte) error {
	switch {
	case v != Happened && v != NotHappened:
		return &InputError{ID: id, Text: fmt.Sprintf("verdict %v, expected %v or %v", v, Happened, NotHappened)}
	case len(output) > maxOutput:
		return &InputError{ID: id, Text: fmt.Sprintf("output of %d bytes, expected at most %d", len(output), maxOutput)}
	}
	return o.change(ctx, id, "resolve", func(tx *txn.Tx, h *header, g *graph) error {
		i := g.index(step)
		if i < 0 {
			return &InputError{ID: id, Text: fmt.Sprintf("no step %q", step)}
		}
		rec := h.steps[i]
		if rec.state != Parked {
			return &StateError{ID: id, Step: step, Is: rec.state.String(), Want: Parked.String()}
		}
		if rec.state = Pending; v == Happened {
			rec.state, rec.note = Finished, ""
			if rec.undo {
				if err := unlock(tx, &rec); err != nil {
					return err
				}
			} else {
				rec.output = output
			}
		}
		return rec.renew(tx, id, h, i)
	})
}

// renew writes a record as its next revision.
func (r *record) renew(tx *txn.Tx, id ID, h *header, step int) error {
	r.rev, r.since = r.rev+1, tx.At().Time().UnixMicro()
	return tx.Put(stepKey(id, h.at, step), r.append(nil))
}

// change changes rows of a saga that is not finished, and tells it.
func (o *Orchestrator) change(ctx context.Context, id ID, what string, fn func(tx *txn.Tx, h *header, g *graph) error) error {
	err := o.client.Run(ctx, byHand, func(tx *txn.Tx) error {
		h, err := load(ctx, tx, id)
		if err != nil {
			return err
		}
		g, err := o.graph(h.name, h.version, h.shape)
		if err != nil {
			return err
		}
		if h.ended != 0 {
			return &StateError{ID: id, Is: h.state.String(), Want: "unfinished"}
		}
		return fn(tx, h, g)
	})
	if err != nil {
		return fmt.Errorf("saga: %s: %w", what, err)
	}
	if r, _ := o.find(id); r != nil {
		r.poke(what == "retry")
	}
	return nil
}
