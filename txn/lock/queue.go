package lock

import (
	"slices"

	"github.com/phantomdb/phantomdb/txn/id"
)

// An owner is a transaction that has locks or waits for some.
type owner struct {
	id       id.Key
	holds    []*hold
	waits    []*wait
	prepared int  // of holds
	pushed   bool // Push has been called since it was prepared

	// Of the latest search for a deadlock that came by. See cycle.
	search uint64
	from   *owner
}

// A hold is a lock that an owner has.
type hold struct {
	owner    *owner
	queue    *queue
	mode     Mode
	prepared bool
	i, j     int // where it is in owner.holds and queue.holds
}

// A wait is a request that waits.
type wait struct {
	owner   *owner
	queue   *queue
	mode    Mode // joined with what the owner had
	upgrade bool // the owner has a lock on the key
	ready   chan struct{}

	queued     bool
	err        error // if it has ended without a lock. Written before ready gets its token.
	prev, next *wait // in the line of its queue
	search     uint64
}

// A queue is of those who have or want a lock on one key.
type queue struct {
	key         string
	holds       []*hold
	held        [Add + 1]int // holds in each mode
	first, last *wait
}

// holdOf returns the lock of an owner on a key, nil if it has none.
func holdOf(o *owner, q *queue) *hold {
	if len(o.holds) < len(q.holds) {
		for _, h := range o.holds {
			if h.queue == q {
				return h
			}
		}
		return nil
	}
	for _, h := range q.holds {
		if h.owner == o {
			return h
		}
	}
	return nil
}

// heldAgainst reports whether others than the owner of own, which may be nil, have the
// key in modes that exclude mode.
func (q *queue) heldAgainst(mode Mode, own *hold) bool {
	for m := Shared; m <= Add; m++ {
		n := q.held[m]
		if own != nil && own.mode == m {
			n--
		}
		if n > 0 && mode.Conflicts(m) {
			return true
		}
	}
	return false
}

// against returns the locks of others that a request waits for.
func (w *wait) against() []*hold {
	var all []*hold
	for _, h := range w.queue.holds {
		if h.owner != w.owner && h.mode.Conflicts(w.mode) {
			all = append(all, h)
		}
	}
	return all
}

// blocked reports whether a request has to wait.
func (w *wait) blocked() bool {
	if w.queue.heldAgainst(w.mode, holdOf(w.owner, w.queue)) {
		return true
	}
	for p := w.prev; p != nil; p = p.prev {
		if p.mode.Conflicts(w.mode) {
			return true
		}
	}
	return false
}

// grantable returns the first request that nobody is in the way of, nil if there is
// none.
func (q *queue) grantable() *wait {
	excluded := uint8(0) // modes of which somebody ahead is in the way, as bits
	for w := q.first; w != nil; w = w.next {
		if excluded&(1<<w.mode) == 0 && !q.heldAgainst(w.mode, holdOf(w.owner, q)) {
			return w
		}
		excluded |= conflicts[w.mode]
		if excluded == conflicts[Exclusive] {
			return nil
		}
	}
	return nil
}

// link puts a request into line behind another one, or first if that is nil.
func (q *queue) link(w, behind *wait) {
	w.prev, w.next = behind, q.first
	if behind != nil {
		w.next = behind.next
		behind.next = w
	} else {
		q.first = w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		q.last = w
	}
}

func (q *queue) unlink(w *wait) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		q.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		q.last = w.prev
	}
	w.prev, w.next = nil, nil
}

// place returns behind whom a request stands. See "Lines" in the package comment.
func (q *queue) place(w *wait, p Policy) (behind *wait) {
	behind = q.last
	switch {
	case p == WoundWait:
		for behind != nil && w.owner.id.Compare(behind.owner.id) < 0 {
			behind = behind.prev
		}
	case slices.ContainsFunc(w.owner.waits, w.beside):
		for !w.beside(behind) {
			behind = behind.prev
		}
	case w.upgrade:
		for behind != nil && !behind.upgrade {
			behind = behind.prev
		}
	}
	return behind
}

// beside reports whether two requests are one owner's and stand together.
func (w *wait) beside(o *wait) bool {
	return o != w && o.owner == w.owner && o.queue == w.queue && o.upgrade == w.upgrade
}

// waiting returns those who wait, in the order of the line.
func (q *queue) waiting() (all []*wait) {
	for w := q.first; w != nil; w = w.next {
		all = append(all, w)
	}
	return all
}

// removeWait takes a request from those of its owner.
func (o *owner) removeWait(w *wait) {
	i := slices.Index(o.waits, w)
	o.waits = slices.Delete(o.waits, i, i+1)
}
