package saga

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn"
)

// errStale says that the rows of a saga are not as they were thought to be. errTaken
// says that there is a saga of this name.
var (
	errStale = errors.New("saga: its rows have changed")
	errTaken = errors.New("saga: it was started already")
)

// do does a job.
func (r *run) do(j *job) result {
	if j.kind == write {
		return r.commit(j, func(tx *txn.Tx, rec *record) error {
			*rec = j.record
			if j.record.undo && j.record.state == Finished {
				return unlock(tx, rec)
			}
			return nil
		})
	}
	a := &r.g.steps[j.step].Do
	if j.undo {
		a = &r.g.steps[j.step].Undo
	}
	switch {
	case j.kind == check:
		return r.check(j, a.check)
	case a.call != nil:
		return r.call(j, a.call)
	}
	return r.commit(j, func(tx *txn.Tx, rec *record) error {
		c := r.context(j, tx)
		out, err := a.data(r.o.ctx, c)
		if err != nil {
			return err
		}
		if len(out) > maxOutput {
			return Permanent(&InputError{ID: r.id, Text: fmt.Sprintf("step %q returns %d bytes, expected at most %d", c.Step, len(out), maxOutput)})
		}
		return j.done(tx, rec, out, c.locks)
	})
}

// done is the record of an action that was carried out.
func (j *job) done(tx *txn.Tx, rec *record, out []byte, locks []string) error {
	rec.undo, rec.state, rec.note, rec.attempts = j.undo, Finished, "", j.attempt
	if j.undo {
		return unlock(tx, rec)
	}
	rec.output, rec.locks = out, locks
	return nil
}

// context is what an action is called with.
func (r *run) context(j *job, tx *txn.Tx) *Context {
	s := &r.g.steps[j.step]
	key := callKey(r.id, s.Name)
	if j.undo {
		key += "/undo"
	}
	return &Context{Saga: r.id, Step: s.Name, Input: j.input, Attempt: j.attempt, Tx: tx, Key: key, graph: r.g, outputs: j.outputs}
}

// call calls what is outside. That it is about to is written already.
func (r *run) call(j *job, f Func) result {
	if err := r.o.ctx.Err(); err != nil {
		return result{job: j, end: again, err: err}
	}
	out, err := f(r.o.ctx, r.context(j, nil))
	var no permanent
	var not transient
	switch {
	case err == nil:
		return r.answer(j, out)
	case errors.As(err, &no) || errors.As(err, &not):
		return result{job: j, end: failed, err: err}
	}
	return result{job: j, end: unknown, err: err}
}

// check asks what came of a call.
func (r *run) check(j *job, f CheckFunc) result {
	v, out, err := f(r.o.ctx, r.context(j, nil))
	switch {
	case err == nil && v == Happened:
		return r.answer(j, out)
	case err == nil && v == NotHappened:
		return result{job: j, end: failed, err: Transient(errors.New("saga: the call did not happen"))}
	case err == nil:
		err = errors.New("saga: nobody knows whether the call happened")
	}
	return result{job: j, end: unknown, err: err}
}

// answer is the result of a call that happened. An output that cannot be kept is for
// somebody to say what it should have been.
func (r *run) answer(j *job, out []byte) result {
	if len(out) > maxOutput {
		return result{job: j, end: unknown, err: &InputError{ID: r.id, Text: fmt.Sprintf("a call returns %d bytes, expected at most %d", len(out), maxOutput)}}
	}
	rec := j.base
	rec.undo, rec.state, rec.note, rec.attempts = j.undo, Finished, "", j.attempt
	if !j.undo {
		rec.output = out
	}
	return result{job: j, end: answered, record: rec}
}

// commit runs a job's transaction: what fn writes, and the record of the step.
func (r *run) commit(j *job, fn func(*txn.Tx, *record) error) result {
	res := result{job: j}
	var guarded, own error // why the last try did not come to its commit
	err := r.o.client.Run(r.o.ctx, readWrite, func(tx *txn.Tx) error {
		res.record, res.wrote, own = j.base, nil, nil
		if guarded = r.guard(tx, j); guarded != nil {
			return guarded
		}
		if own = fn(tx, &res.record); own == nil {
			own = r.keep(tx, &res)
		}
		return own
	})
	var aborted *txn.AbortedError
	switch {
	case err == nil: // wrote
	case errors.Is(guarded, errStale) || errors.Is(guarded, errTaken):
		res.end = stale
	case guarded != nil || errors.As(err, &aborted) && aborted.Retry() || j.step < 0 && own != nil:
		res.end = again
	case own != nil || aborted != nil:
		res.end = failed
	default:
		res.end = unsure
	}
	if res.err = err; j.kind == write && res.end == failed {
		res.end = again
	}
	return res
}

// guard makes sure that the saga is this orchestrator's, and as it believes.
func (r *run) guard(tx *txn.Tx, j *job) error {
	b, there, err := tx.Get(r.o.ctx, headerKey(r.id))
	switch {
	case err != nil:
		return err
	case j.start && there:
		return errTaken
	case j.start:
		return nil
	case !there:
		return errStale
	}
	c := codec.Read(b)
	if token, state := cutTurn(&c); token != j.token || state != j.expect {
		return errStale
	}
	if j.step < 0 || j.base.state != Parked && j.base.state != Stuck {
		return nil
	}
	// Others may have written what became of it.
	h, err := parseHeader(b)
	if err != nil {
		return err
	}
	rec, err := current(r.o.ctx, tx, r.id, h, j.step)
	if err == nil && rec.rev != j.base.rev {
		err = errStale
	}
	return err
}

// current reads the record of one step.
func current(ctx context.Context, tx *txn.Tx, id ID, h *header, step int) (record, error) {
	b, there, err := tx.Get(ctx, stepKey(id, h.at, step))
	if err != nil || !there {
		return h.steps[step], err
	}
	rec, err := parseRecord(b)
	if err == nil && rec.rev < h.steps[step].rev {
		rec = h.steps[step]
	}
	return rec, err
}

// keep writes the record of a job: into the header if that is written, or else into a
// row of its own.
func (r *run) keep(tx *txn.Tx, res *result) error {
	j, now := res.job, tx.At().Time().UnixMicro()
	if j.step >= 0 {
		res.record.rev, res.record.since = j.base.rev+1, now
	}
	if j.header == nil {
		return tx.Put(stepKey(r.id, j.at, j.step), res.record.append(nil))
	}
	h := j.header.clone()
	if j.step >= 0 {
		h.steps[j.step] = res.record
	}
	if j.start {
		h.began = now
	}
	if j.finish {
		h.ended = now
		for i := range h.steps {
			if err := unlock(tx, &h.steps[i]); err != nil {
				return err
			}
		}
	}
	res.wrote = h
	if j.start != j.finish {
		if err := r.o.list(tx, r.id, j.start); err != nil {
			return err
		}
	}
	return tx.Put(headerKey(r.id), h.encode())
}

// list has those who look for unfinished sagas find this one, or not any more.
func (o *Orchestrator) list(tx *txn.Tx, id ID, open bool) error {
	if open {
		return tx.Put(openKey(id), binary.AppendUvarint(codec.AppendText(nil, o.lease), o.life))
	}
	return tx.Delete(openKey(id))
}
