package saga

import (
	"time"
)

// A job is what is done next, for one step, in at most one transaction.
type job struct {
	step int // -1: the header alone
	undo bool
	kind kind
	base record // what the record of the step is now
	// record is what is to be kept, of a job that only writes.
	record  record
	attempt int
	outputs [][]byte
	input   []byte
	at      []string // where the rows of steps lie

	token  uint64 // which the header must have
	expect State  // in which it must be
	start  bool   // there must be no header
	finish bool   // the saga ends with this
	header *header
}

// A kind is what a job does.
type kind byte

const (
	act   kind = iota // do it, or take it back
	check             // ask what came of a call
	write             // write down what is known
)

// idle is how long a run waits that nothing else wakes.
const idle = time.Hour

// plan returns what can be done now, and when to look again if nothing comes back
// before. over says that nothing is left to do here.
func (r *run) plan(busy int) (jobs []*job, wait time.Duration, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil || r.h.ended != 0 || r.o.ctx.Err() != nil {
		return nil, idle, true
	}
	select {
	case <-r.o.stop:
		over = true // but for what happened and is not kept yet
	default:
	}
	now := time.Now()
	wait = idle
	settled := r.settled(-1)
	for i := range r.steps {
		p := &r.steps[i]
		if r.hurry {
			p.next = time.Time{}
		}
		if p.busy || over && p.write == nil {
			continue
		}
		j := r.ready(i, settled)
		if p.state == Parked || p.state == Stuck {
			wait = min(wait, r.o.pollPause())
		}
		if j == nil {
			continue
		}
		if over = false; p.next.After(now) {
			wait = min(wait, p.next.Sub(now))
			continue
		}
		jobs = append(jobs, j)
	}
	r.hurry = false
	if over {
		return nil, idle, true
	}
	if len(jobs) == 0 && busy == 0 && r.headerDue(settled) {
		if d := r.next.Sub(now); d > 0 {
			return nil, d, false
		}
		jobs = append(jobs, &job{step: -1, kind: write})
	}
	return r.dispatch(jobs, busy, settled), wait, false
}

// ready returns what a step has to have done, nil if it has to wait.
func (r *run) ready(i int, settled []bool) *job {
	p, s := &r.steps[i], &r.g.steps[i]
	undo := p.undo || p.state == Finished
	action := &s.Do
	if undo {
		action = &s.Undo
	}
	j := &job{step: i, undo: undo}
	switch {
	case p.write != nil:
		j.kind, j.record, j.undo = write, *p.write, p.write.undo
		return j
	case p.state == Called || p.state == Parked:
		if action.check != nil {
			j.kind = check
			return j
		}
		if p.state == Called {
			j.kind, j.record = write, p.record
			j.record.state, j.record.note = Parked, "nobody has seen its answer"
			return j
		}
		return nil
	case undo && !r.takesBack(i, settled), !undo && !r.goesOn(i):
		return nil
	case action.call != nil && !(p.called && undo == p.undo):
		j.kind, j.record = write, p.record
		j.record.undo, j.record.state = undo, Called
		if !p.undo && undo {
			j.record.attempts = 0
		}
	}
	return j
}

// goesOn reports whether a step can begin.
func (r *run) goesOn(i int) bool {
	if r.h.state != Running || r.steps[i].state != Pending {
		return false
	}
	for _, j := range r.g.before[i] {
		if !r.finished(j) {
			return false
		}
	}
	return true
}

// takesBack reports whether a step can be taken back: all behind it are.
func (r *run) takesBack(i int, settled []bool) bool {
	p := &r.steps[i]
	if r.h.state != Compensating || r.g.steps[i].NoUndo || p.undo != (p.state == Pending) {
		return false
	}
	for _, j := range r.g.behind[i] {
		if !settled[j] {
			return false
		}
	}
	return true
}

func (r *run) finished(i int) bool { return !r.steps[i].undo && r.steps[i].state == Finished }

// settled returns which steps have nothing that would have to be taken back, and all
// behind them neither: as if taken were taken back, unless it is -1.
func (r *run) settled(taken int) []bool {
	settled := make([]bool, len(r.steps))
	for n := len(r.g.order) - 1; n >= 0; n-- {
		i := r.g.order[n]
		p := &r.steps[i]
		switch {
		case i == taken:
			settled[i] = true
		case p.busy || p.write != nil:
		case p.undo:
			settled[i] = p.state == Finished
		case p.state == Pending || p.state == Failed:
			settled[i] = true
		case p.state == Finished && r.g.steps[i].NoUndo:
			settled[i] = true
			for _, j := range r.g.behind[i] {
				settled[i] = settled[i] && settled[j]
			}
		}
	}
	return settled
}

// over reports whether nothing is left to do but to say so, once a step is done, or
// taken back, or -1.
func (r *run) over(step int, settled []bool) bool {
	if r.h.state == Compensating {
		if step >= 0 {
			settled = r.settled(step)
		}
		for _, ok := range settled {
			if !ok {
				return false
			}
		}
		return true
	}
	for i := range r.steps {
		if i != step && !r.finished(i) {
			return false
		}
	}
	return true
}

// headerDue reports whether the header has to be written by itself.
func (r *run) headerDue(settled []bool) bool {
	return r.turned || r.fresh && r.tried || r.over(-1, settled)
}

// dispatch makes jobs complete. The header is written by one job at a time.
func (r *run) dispatch(jobs []*job, busy int, settled []bool) []*job {
	if r.writing {
		return nil
	}
	alone := len(jobs) == 1 && busy == 0
	out := jobs[:0]
	for _, j := range jobs {
		commits := j.kind == write || j.kind == act && r.action(j).data != nil
		if commits && r.writing {
			continue
		}
		// What is done in a saga that turns back is yet to be taken back.
		ends := (j.kind == act || j.record.state == Finished) && j.undo == (r.h.state == Compensating)
		j.finish = alone && commits && (j.step < 0 || ends) && r.over(j.step, settled)
		j.token, j.expect, j.start = r.h.token, r.h.state, r.fresh
		if r.turned {
			j.expect = Running
		}
		if commits && (r.fresh || r.turned || j.finish || j.step < 0) {
			j.header = r.nextHeader(j.finish)
			r.writing = true
		}
		r.complete(j)
		out = append(out, j)
	}
	return out
}

// action is what a job does.
func (r *run) action(j *job) *Action {
	if j.undo {
		return &r.g.steps[j.step].Undo
	}
	return &r.g.steps[j.step].Do
}

// complete gives a job what it needs of the saga.
func (r *run) complete(j *job) {
	j.input, j.at = r.h.input, r.h.at
	if j.step < 0 {
		return
	}
	p := &r.steps[j.step]
	p.busy, j.base, j.attempt = true, p.record, p.attempts+1
	if j.undo && !p.undo {
		j.attempt = 1
	}
	if j.kind == write {
		return
	}
	if p.first.IsZero() {
		p.first = time.Now()
	}
	j.outputs = make([][]byte, len(r.steps))
	for i := range r.steps {
		j.outputs[i] = r.steps[i].output
	}
}

// nextHeader is the header as it has to be written now.
func (r *run) nextHeader(finish bool) *header {
	h := *r.h
	h.steps = make([]record, len(r.steps))
	for i := range r.steps {
		p := &r.steps[i]
		h.steps[i] = p.record
		switch open := p.busy || p.write != nil; {
		case open && p.called && p.state == Pending:
			h.steps[i].state = Called // which perhaps only the header says
		case p.dirty && !open:
			h.steps[i].rev++
		}
	}
	if finish {
		h.state = Done
		if r.h.state == Compensating {
			h.state = Compensated
		}
	}
	return &h
}
