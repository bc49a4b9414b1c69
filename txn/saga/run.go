package saga

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// A run is a saga under way in this orchestrator. One goroutine decides what is next;
// steps that are independent of each other are done by others.
type run struct {
	o  *Orchestrator
	id ID
	g  *graph

	begun chan struct{} // closed when the saga is there for good
	left  chan struct{} // closed when nothing more happens here
	wake  chan struct{} // somebody has changed rows of the saga, or wants hurry

	// mu guards what follows. It is written by the loop alone.
	mu    sync.Mutex
	h     *header // as it was read or written last, but for the records of steps
	steps []progress
	// fresh says that there is no header yet, tried that a step of a fresh saga has
	// failed, so that the header does not wait for it any longer.
	fresh, tried bool
	// turned says that the saga turns back, and that its header does not say so yet.
	turned  bool
	writing bool // a job writes the header
	hurry   bool // pauses end now
	err     error
	next    time.Time // when the header can be tried again
	looked  time.Time // when the rows were read last
}

// progress is how far a step is.
type progress struct {
	record
	dirty  bool    // the record is ahead of what is kept
	busy   bool    // a job is under way
	called bool    // what is kept says Called; if the record does not, nothing happened
	write  *record // what has to be kept next
	tries  int     // failures in a row
	asked  int     // how often nobody could tell
	first  time.Time
	next   time.Time // when it can be tried again
}

func (o *Orchestrator) newRun(id ID, g *graph) *run {
	return &run{o: o, id: id, g: g, begun: make(chan struct{}), left: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// loop runs the saga until it is finished, or not this orchestrator's any more.
func (r *run) loop() {
	defer r.leave()
	results := make(chan result)
	for busy := 0; ; {
		jobs, wait, over := r.plan(busy)
		if over && busy == 0 {
			return
		}
		if len(jobs) == 1 && busy == 0 {
			r.settle(r.do(jobs[0]))
			continue
		}
		for _, j := range jobs {
			busy++
			go func() { results <- r.do(j) }()
		}
		stop := r.o.stop
		if busy > 0 {
			stop = nil
		}
		timer := time.NewTimer(wait)
		select {
		case res := <-results:
			busy--
			r.settle(res)
		case <-r.wake:
			r.refresh()
		case <-timer.C:
			r.poll()
		case <-stop:
		}
		timer.Stop()
	}
}

// leave gives the saga up, here.
func (r *run) leave() {
	r.mu.Lock()
	if r.err == nil && (r.fresh || !r.h.state.Finished()) {
		r.err = r.o.why()
	}
	r.mu.Unlock()
	r.o.mu.Lock()
	delete(r.o.runs, r.id)
	r.o.mu.Unlock()
	<-r.o.slots
	close(r.left)
}

// poke has the loop look at the rows.
func (r *run) poke(hurry bool) {
	r.mu.Lock()
	r.hurry = r.hurry || hurry
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// poll looks at the rows if the saga waits for what others write there.
func (r *run) poll() {
	for i := range r.steps {
		if p := &r.steps[i]; (p.state == Parked || p.state == Stuck) && time.Since(r.looked) >= r.o.pollPause() {
			r.refresh()
			return
		}
	}
}

func (o *Orchestrator) pollPause() time.Duration {
	if o.o.Scan > 0 {
		return o.o.Scan
	}
	return o.o.Lease
}

// An end is how a job ended.
type end byte

const (
	wrote    end = iota // it is done, and kept
	answered            // a call happened, and that is not kept yet
	unknown             // nobody knows what came of a call
	failed              // it did not happen
	again               // it did not happen, for reasons that are not the step's
	stale               // it did not happen: the rows are not as they were thought to be
	unsure              // nobody knows whether the transaction committed
)

// A result is what came of a job.
type result struct {
	*job
	end    end
	record record
	wrote  *header // if the header was written
	err    error
}

// settle takes a result.
func (r *run) settle(res result) {
	r.mu.Lock()
	var p *progress
	if res.step >= 0 {
		p = &r.steps[res.step]
		p.busy = false
	}
	if res.header != nil {
		r.writing = false
	}
	now := time.Now()
	switch res.end {
	case wrote:
		r.kept(p, &res, now)
	case answered:
		p.write = &res.record
	case unknown:
		p.note, p.asked = brief(res.err), p.asked+1
		p.next = now.Add(r.retry(res.step, res.undo).pause(p.asked, rand.Float64()))
		if p.state != Parked {
			p.write = &record{undo: res.undo, state: Parked, attempts: res.attempt, note: p.note, output: p.output, locks: p.locks}
			p.next = now
		}
	case failed:
		r.failed(p, &res, now)
	case again:
		r.o.o.Logger.Info("saga: tried again", "saga", r.id, "error", res.err)
		pause := now.Add((&Retry{Initial: time.Millisecond, Max: time.Second}).pause(1, rand.Float64()))
		r.next = pause
		if p != nil {
			p.next = pause
		}
	}
	r.mu.Unlock()
	switch res.end {
	case stale:
		r.refresh()
	case unsure:
		r.retake(res.err)
		r.uncalled(&res)
	}
}

// uncalled notes that a call is yet to be made of which it was in doubt whether it was
// written that it is about to be: who wrote so knows that it has not made it.
func (r *run) uncalled(res *result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if res.kind != write || res.job.record.state != Called || r.err != nil {
		return
	}
	if p := &r.steps[res.step]; p.state == Called && p.rev == res.base.rev+1 {
		p.state = Pending
	}
}

// kept notes what was written.
func (r *run) kept(p *progress, res *result, now time.Time) {
	if p != nil {
		*p = progress{record: res.record, called: p.called, tries: p.tries, first: p.first}
		switch res.record.state {
		case Called:
			p.state, p.called = Pending, true // and it will be called now
		case Parked:
			p.next = now.Add(r.retry(res.step, res.undo).pause(1, rand.Float64()))
		case Finished:
			*p = progress{record: res.record}
		}
	}
	if res.wrote == nil || res.wrote.token != r.h.token {
		return // what retake has read since is what is there
	}
	for i := range r.steps {
		if q := &r.steps[i]; q != p && q.dirty && q.rev+1 == res.wrote.steps[i].rev {
			q.rev, q.dirty = q.rev+1, false
		}
	}
	r.h, r.turned = res.wrote, false
	if r.fresh {
		r.fresh = false
		close(r.begun)
	}
}

// failed has a step tried again, or given up.
func (r *run) failed(p *progress, res *result, now time.Time) {
	if p.tries++; p.tries == 1 || p.first.IsZero() {
		p.first = now
	}
	p.attempts, p.note, p.dirty, p.undo, p.state = res.attempt, brief(res.err), true, res.undo, Pending
	r.tried = true
	retry := r.retry(res.step, res.undo)
	var forever permanent
	switch {
	case !errors.As(res.err, &forever) && !refused(res.err) &&
		(retry.Attempts == 0 || p.tries < retry.Attempts) && (retry.Deadline == 0 || now.Sub(p.first) < retry.Deadline):
		p.next = now.Add(retry.pause(p.tries, rand.Float64()))
	case res.undo || r.g.final[res.step] && res.step != r.g.pivot:
		p.write = &record{undo: res.undo, state: Stuck, attempts: p.attempts, note: p.note, output: p.output, locks: p.locks}
		r.o.o.Logger.Warn("saga: stuck", "saga", r.id, "step", r.g.steps[res.step].Name, "error", res.err)
	default:
		p.state = Failed
		if r.h.state == Running {
			h := *r.h
			h.state, h.cause, h.failed = Compensating, p.note, r.g.steps[res.step].Name
			r.h, r.turned = &h, true
		}
	}
}

// refused reports whether a transaction was aborted for a reason that stays.
func refused(err error) bool {
	var a *txn.AbortedError
	return errors.As(err, &a) && !a.Retry()
}

func (r *run) retry(step int, undo bool) *Retry {
	if undo {
		return &r.g.steps[step].UndoRetry
	}
	return &r.g.steps[step].Retry
}
