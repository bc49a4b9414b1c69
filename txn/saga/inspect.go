package saga

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// An Info tells how far a saga is.
type Info struct {
	ID           ID
	Definition   string
	Version      uint32
	State        State
	Cause        string // why it is taken back
	Failed       string // the step that failed; empty: none, or it was aborted
	Began, Ended time.Time
	Orchestrator string // the key of the lease of the one that runs it
	Token        uint64 // how often it changed hands, and once more
	Steps        []StepInfo
}

// A StepInfo tells how far a step is.
type StepInfo struct {
	Name string
	// Undo says that State is about taking it back, and that it was done.
	Undo  bool
	State StepState
	// Attempts is how often it was tried, in sum, and Error why it failed the last time.
	Attempts int
	Error    string
	Since    time.Time // of the state
	Output   []byte
	Locks    []string // the keys that it holds for the saga
}

// Inspect returns how far a saga is, or an error that wraps ErrNotFound. What has failed
// in an action on rows and is tried again is known where the saga runs, and nowhere else.
func (o *Orchestrator) Inspect(ctx context.Context, id ID) (*Info, error) {
	if r, _ := o.find(id); r != nil {
		if in := r.inspect(); in != nil {
			return in, nil
		}
	}
	h, err := o.load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("saga: inspect %v: %w", id, err)
	}
	return o.info(id, h), nil
}

// inspect tells what the run knows, nil if it knows nothing yet.
func (r *run) inspect() *Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.h == nil || r.fresh {
		return nil
	}
	h := *r.h
	h.steps = nil
	for i := range r.steps {
		rec := r.steps[i].record
		if w := r.steps[i].write; w != nil {
			rec.note = w.note
		}
		h.steps = append(h.steps, rec)
	}
	return r.o.info(r.id, &h)
}

func (o *Orchestrator) info(id ID, h *header) *Info {
	in := &Info{
		ID: id, Definition: h.name, Version: h.version, State: h.state, Cause: h.cause, Failed: h.failed,
		Began: moment(h.began), Ended: moment(h.ended), Orchestrator: h.owner, Token: h.token,
	}
	g, _ := o.graph(h.name, h.version, h.shape)
	for i := range h.steps {
		rec := &h.steps[i]
		name := strconv.Itoa(i) // of an unknown definition
		if g != nil {
			name = g.steps[i].Name
		}
		in.Steps = append(in.Steps, StepInfo{
			Name: name, Undo: rec.undo, State: rec.state, Attempts: rec.attempts, Error: rec.note,
			Since: moment(rec.since), Output: rec.output, Locks: rec.locks,
		})
	}
	return in
}

// moment is the time of a number that is kept, the zero one of 0.
func moment(micro int64) time.Time {
	if micro == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micro)
}

// List returns sagas of a home, by name: those behind the name after, at most limit of
// them. all says that finished ones count.
func (o *Orchestrator) List(ctx context.Context, home string, all bool, after string, limit int) ([]*Info, error) {
	var list []*Info
	kind := kindOpen
	if all {
		kind = kindHeader
	}
	from, to := spanOf(home, kind)
	prefix := len(from)
	if after != "" {
		from += after + "\x00"
	}
	err := o.client.Run(ctx, readOnly, func(tx *txn.Tx) error {
		list = nil
		rows, err := tx.Scan(ctx, from, to, limit)
		if err != nil {
			return err
		}
		for _, row := range rows {
			id := ID{Home: home, Name: row.Key[prefix:]}
			h, err := load(ctx, tx, id)
			if err != nil {
				return err
			}
			list = append(list, o.info(id, h))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("saga: list %q: %w", home, err)
	}
	return list, nil
}
