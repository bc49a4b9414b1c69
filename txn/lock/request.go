package lock

import (
	"slices"

	"github.com/phantomdb/phantomdb/txn/id"
)

// ask grants a lock at once, or returns the request that waits for it, or an error. mu
// is held, here and below.
func (t *Table) ask(who id.Key, key string, mode Mode) (*wait, error) {
	if t.closed != nil {
		return nil, t.closed
	}
	if err := t.ended.why(who); err != nil {
		return nil, err
	}
	o, q := t.ownerOf(who), t.queueOf(key)
	own := holdOf(o, q)
	if own != nil {
		if mode = own.mode.Join(mode); mode == own.mode {
			return nil, nil
		}
	} else if t.stats.Locks+t.stats.Waiting >= t.o.MaxLocks {
		return nil, t.overloaded(o, q)
	}
	if q.first == nil && !q.heldAgainst(mode, own) {
		t.grant(o, q, own, mode)
		return nil, nil
	}
	return t.stand(o, q, mode, own != nil)
}

// stand puts a request into line and applies the policy.
func (t *Table) stand(o *owner, q *queue, mode Mode, upgrade bool) (*wait, error) {
	w := &wait{owner: o, queue: q, mode: mode, upgrade: upgrade, ready: make(chan struct{}, 1), queued: true}
	o.waits = append(o.waits, w)
	t.stats.Waiting++
	q.link(w, q.place(w, t.o.Policy))
	if w.blocked() {
		if t.o.Policy == NoWait {
			return nil, t.refuse(w)
		}
		if t.stats.Waiting > t.o.MaxWaiting {
			t.leave(w)
			return nil, t.overloaded(o, q)
		}
		if err := t.obey(w); err != nil {
			t.leave(w)
			t.tidy(o)
			t.tidyQueue(q)
			return nil, err
		}
	}
	if t.o.Policy == WaitDie {
		t.thin(w)
	}
	t.advance(q)
	if t.o.Policy == Detect {
		t.breakCycles(o)
	}
	if !w.queued {
		return nil, w.err
	}
	t.stats.Waits++
	t.pushAhead(w)
	if t.o.Policy == Detect && t.o.Blocked != nil {
		waitsFor := o.waitsFor()
		t.after = append(t.after, func() { t.o.Blocked(o.id, q.key, waitsFor) })
	}
	return w, nil
}

// refuse takes back a request that NoWait does not let wait.
func (t *Table) refuse(w *wait) error {
	t.pushAhead(w)
	t.stats.Conflicts++
	h := w.against()[0] // since nobody waits, it is holders that are in the way
	err := &ConflictError{Owner: w.owner.id, Holder: h.owner.id, Key: w.queue.key, Mode: w.mode, Held: h.mode}
	t.leave(w)
	t.tidy(w.owner)
	t.tidyQueue(w.queue)
	return err
}

func (t *Table) overloaded(o *owner, q *queue) error {
	err := &OverloadError{Owner: o.id, Key: q.key, Locks: t.stats.Locks, Waiting: t.stats.Waiting}
	t.tidy(o)
	t.tidyQueue(q)
	return err
}

// grant gives an owner a lock, or makes the one that it has stronger.
func (t *Table) grant(o *owner, q *queue, own *hold, mode Mode) *hold {
	t.stats.Grants++
	h := own
	if h != nil {
		t.setMode(h, h.mode.Join(mode))
	} else {
		h = t.newHold(o, q, mode)
	}
	if len(o.waits) > 0 {
		t.promote(h)
	}
	return h
}

func (t *Table) newHold(o *owner, q *queue, mode Mode) (h *hold) {
	if n := len(t.freeHolds); n > 0 {
		h, t.freeHolds = t.freeHolds[n-1], t.freeHolds[:n-1]
	} else {
		h = &hold{}
	}
	*h = hold{owner: o, queue: q, mode: mode, i: len(o.holds), j: len(q.holds)}
	o.holds, q.holds = append(o.holds, h), append(q.holds, h)
	q.held[mode]++
	t.stats.Locks++
	return h
}

func (t *Table) setMode(h *hold, mode Mode) {
	h.queue.held[h.mode]--
	h.mode = mode
	h.queue.held[mode]++
}

// promote sees to other requests for a key whose owner has just got a lock on it.
// Those that want no more are granted, and where lines are in the order of arrival the
// others become upgrades: those between would wait for the owner, and it for them.
func (t *Table) promote(h *hold) {
	for _, w := range slices.Clone(h.owner.waits) {
		switch {
		case w.queue != h.queue:
		case w.mode.Join(h.mode) == h.mode:
			t.leave(w)
			w.ready <- struct{}{}
		case t.o.Policy != WoundWait:
			h.queue.unlink(w)
			w.upgrade, w.mode = true, w.mode.Join(h.mode)
			h.queue.link(w, h.queue.place(w, t.o.Policy))
			t.suspects = append(t.suspects, h.owner.id)
		}
	}
}

// advance grants all requests for a key that nobody is in the way of.
func (t *Table) advance(q *queue) {
	for w := q.grantable(); w != nil; w = q.grantable() {
		t.leave(w)
		t.grant(w.owner, q, holdOf(w.owner, q), w.mode)
		w.ready <- struct{}{}
	}
}

// leave takes a request out of its line.
func (t *Table) leave(w *wait) {
	w.queued = false
	w.queue.unlink(w)
	w.owner.removeWait(w)
	t.stats.Waiting--
}

// end ends a request without a lock.
func (t *Table) end(w *wait, err error) {
	t.leave(w)
	w.err = err
	w.ready <- struct{}{}
	t.settle(w.queue)
	t.tidy(w.owner)
}

// find returns the lock of an owner on a key, nil if it has none.
func (t *Table) find(who id.Key, key string) *hold {
	if o, q := t.owners[who], t.keys[key]; o != nil && q != nil {
		return holdOf(o, q)
	}
	return nil
}

// lower takes back what of a lock on a key is more than mode, 0 for all, unless it has
// been prepared in the meantime.
func (t *Table) lower(who id.Key, key string, mode Mode) {
	h := t.find(who, key)
	if h == nil || h.prepared {
		return
	}
	o, q := h.owner, h.queue
	if mode == 0 {
		t.drop(h)
	} else {
		t.setMode(h, mode)
	}
	t.settle(q)
	t.tidy(o)
}

// drop takes a lock from its owner, without giving it to anybody.
func (t *Table) drop(h *hold) {
	o, q := h.owner, h.queue
	last := len(o.holds) - 1
	o.holds[h.i] = o.holds[last]
	o.holds[h.i].i = h.i
	o.holds[last] = nil
	o.holds = o.holds[:last]
	last = len(q.holds) - 1
	q.holds[h.j] = q.holds[last]
	q.holds[h.j].j = h.j
	q.holds[last] = nil
	q.holds = q.holds[:last]
	q.held[h.mode]--
	t.stats.Locks--
	if h.prepared {
		o.prepared--
		if o.prepared == 0 {
			o.pushed = false
			t.suspects = append(t.suspects, o.id) // from now on it can be wounded
		}
	}
	*h = hold{}
	if len(t.freeHolds) < spares {
		t.freeHolds = append(t.freeHolds, h)
	}
}

// settle gives a key to those who wait, and forgets it if nobody does.
func (t *Table) settle(q *queue) {
	t.advance(q)
	t.tidyQueue(q)
}

// queueOf returns the queue of a key, a new one if there is none.
func (t *Table) queueOf(key string) *queue {
	q := t.keys[key]
	if q != nil {
		return q
	}
	if n := len(t.freeQueues); n > 0 {
		q, t.freeQueues = t.freeQueues[n-1], t.freeQueues[:n-1]
	} else {
		q = &queue{}
	}
	q.key = key
	t.keys[key] = q
	return q
}

// tidyQueue forgets a key that nobody has or wants.
func (t *Table) tidyQueue(q *queue) {
	if len(q.holds) > 0 || q.first != nil {
		return
	}
	delete(t.keys, q.key)
	*q = queue{holds: q.holds}
	if len(t.freeQueues) < spares && cap(q.holds) <= largeList {
		t.freeQueues = append(t.freeQueues, q)
	}
}

// ownerOf returns the owner of a name, a new one if there is none.
func (t *Table) ownerOf(who id.Key) *owner {
	o := t.owners[who]
	if o != nil {
		return o
	}
	if n := len(t.freeOwners); n > 0 {
		o, t.freeOwners = t.freeOwners[n-1], t.freeOwners[:n-1]
	} else {
		o = &owner{}
	}
	o.id = who
	t.owners[who] = o
	return o
}

// tidy forgets an owner that has and wants nothing.
func (t *Table) tidy(o *owner) {
	if len(o.holds) > 0 || len(o.waits) > 0 {
		return
	}
	delete(t.owners, o.id)
	*o = owner{holds: o.holds, waits: o.waits}
	if len(t.freeOwners) < spares && cap(o.holds) <= largeList {
		t.freeOwners = append(t.freeOwners, o)
	}
}

// largeList is how much room the lists of what is kept for use again may have.
const largeList = 64
