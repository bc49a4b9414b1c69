package lock

import "github.com/phantomdb/phantomdb/txn/id"

// obey applies the policy to a request and those that it waits for. It returns why the
// request must not wait, and then has changed nothing.
func (t *Table) obey(w *wait) error {
	switch t.o.Policy {
	case WoundWait:
		// Those ahead in the line are older. See "Lines" in the package comment.
		var victims []id.Key
		for _, h := range w.against() {
			if h.owner.prepared == 0 && w.owner.id.Compare(h.owner.id) < 0 {
				victims = append(victims, h.owner.id)
			}
		}
		for _, v := range victims {
			t.wound(v, w.owner.id, w.queue.key)
		}
	case WaitDie:
		if by, dies := w.older(); dies {
			t.stats.Dies++
			return &DieError{Owner: w.owner.id, By: by, Key: w.queue.key}
		}
	}
	return nil
}

// older returns somebody older whom a request waits for. Who is prepared does not
// count: it waits for nobody.
func (w *wait) older() (id.Key, bool) {
	for _, h := range w.against() {
		if h.owner.prepared == 0 && h.owner.id.Compare(w.owner.id) < 0 {
			return h.owner.id, true
		}
	}
	for p := w.prev; p != nil; p = p.prev {
		if p.mode.Conflicts(w.mode) && p.owner.id.Compare(w.owner.id) < 0 {
			return p.owner.id, true
		}
	}
	return id.Key{}, false
}

// thin ends those behind a request, an upgrade that has gone ahead of them, that must
// not wait for it.
func (t *Table) thin(w *wait) {
	for p := w.next; p != nil; {
		next := p.next
		if by := w.owner.id; p.mode.Conflicts(w.mode) && by.Compare(p.owner.id) < 0 {
			t.stats.Dies++
			t.leave(p)
			p.err = &DieError{Owner: p.owner.id, By: by, Key: w.queue.key}
			p.ready <- struct{}{}
			t.tidy(p.owner)
		}
		p = next
	}
}

// review applies the policy where what an owner has or wants has changed so that others
// may wait for it who must not. See promote and drop.
func (t *Table) review(o *owner) {
	if t.o.Policy == Detect {
		t.breakCycles(o)
		return
	}
	var keys []string
	for _, h := range o.holds {
		keys = append(keys, h.queue.key)
	}
	for _, key := range keys {
		if q := t.keys[key]; q != nil {
			for _, w := range q.waiting() {
				if !w.queued {
					continue
				}
				if err := t.obey(w); err != nil {
					t.end(w, err)
				}
			}
		}
	}
}

// wound takes the locks of an owner for another one.
func (t *Table) wound(who, by id.Key, key string) {
	o := t.owners[who]
	if o == nil {
		return
	}
	t.stats.Wounds++
	t.abort(o, &WoundedError{Owner: who, By: by, Key: key})
	if t.o.Wounded != nil {
		t.after = append(t.after, func() { t.o.Wounded(who, by) })
	}
}

// abort takes all locks that are not prepared from an owner, ends its requests, and
// remembers why.
func (t *Table) abort(o *owner, err error) {
	t.ended.add(o.id, err)
	var left []*queue
	for len(o.waits) > 0 {
		w := o.waits[0]
		t.leave(w)
		w.err = err
		w.ready <- struct{}{}
		left = append(left, w.queue)
	}
	for i := len(o.holds) - 1; i >= 0; i-- {
		if h := o.holds[i]; !h.prepared {
			left = append(left, h.queue)
			t.drop(h)
		}
	}
	// Only now is it in nobody's way at any key.
	for _, q := range left {
		t.advance(q)
	}
	for _, q := range left {
		t.tidyQueue(q)
	}
	t.tidy(o)
}

// pushAhead has those pushed that a request stands behind and that are prepared.
func (t *Table) pushAhead(w *wait) {
	for _, h := range w.against() {
		t.push(h, w.owner.id)
	}
}

// pushBehind has the owner of a lock that was just prepared pushed if anybody stands
// behind it.
func (t *Table) pushBehind(h *hold) {
	for w := h.queue.first; w != nil; w = w.next {
		if w.owner != h.owner && w.mode.Conflicts(h.mode) {
			t.push(h, w.owner.id)
			return
		}
	}
}

func (t *Table) push(h *hold, by id.Key) {
	o := h.owner
	if o.prepared == 0 || o.pushed || t.o.Push == nil {
		return
	}
	o.pushed = true
	holder, key := o.id, h.queue.key
	t.after = append(t.after, func() { t.o.Push(holder, key, by) })
}
