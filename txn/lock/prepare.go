package lock

import (
	"fmt"

	"github.com/phantomdb/phantomdb/txn/id"
)

// Prepare makes sure that an owner has prepared locks, in mode Exclusive or Add, on
// keys: those that it has are made so, others are taken without waiting, and from those
// who wait for them. It is called before what they stand for is proposed to the log,
// because from then on the owner must not be wounded any more. If that fails they must
// be released.
//
// It returns a *ConflictError if others have locks that exclude them, a *WoundedError
// or a *DeadlockError if the owner has lost its locks, an *OverloadError if the table is
// full, and what Close was called with. In these cases nothing is changed.
func (t *Table) Prepare(who id.Key, mode Mode, keys ...string) error {
	if err := validPrepared(who, mode); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	if t.closed != nil {
		return t.closed
	}
	if err := t.ended.why(who); err != nil {
		return err
	}
	o := t.ownerOf(who)
	defer t.tidy(o)
	fresh := 0
	for _, key := range keys {
		q := t.keys[key]
		if q == nil {
			fresh++
			continue
		}
		own := holdOf(o, q)
		if own == nil {
			fresh++
		}
		for _, h := range q.holds {
			if want := modeWith(own, mode); h != own && h.mode.Conflicts(want) {
				return &ConflictError{Owner: who, Holder: h.owner.id, Key: key, Mode: want, Held: h.mode}
			}
		}
	}
	if fresh > 0 && t.stats.Locks+t.stats.Waiting+fresh > t.o.MaxLocks {
		return &OverloadError{Owner: who, Key: keys[0], Locks: t.stats.Locks, Waiting: t.stats.Waiting}
	}
	for _, key := range keys {
		t.pushBehind(t.prepare(o, key, mode))
	}
	return nil
}

// Restore is Prepare for what is in the log already, which is the truth: when a node
// begins to lead, or hears of an intent otherwise. Owners that have locks in the way,
// none of them prepared, lose all of theirs with a *WoundedError. What was remembered of
// the owner itself is forgotten.
//
// It returns a *ConflictError, and has changed nothing, if an owner that is in the way
// has anything prepared: not both can be in the log.
func (t *Table) Restore(who id.Key, mode Mode, keys ...string) error {
	if err := validPrepared(who, mode); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.unlock()
	if t.closed != nil {
		return t.closed
	}
	o := t.ownerOf(who)
	defer t.tidy(o)
	type victim struct {
		who id.Key
		key string
	}
	var victims []victim
	for _, key := range keys {
		q := t.keys[key]
		if q == nil {
			continue
		}
		own := holdOf(o, q)
		for _, h := range q.holds {
			want := modeWith(own, mode)
			if h == own || !h.mode.Conflicts(want) {
				continue
			}
			if h.owner.prepared > 0 {
				return &ConflictError{Owner: who, Holder: h.owner.id, Key: key, Mode: want, Held: h.mode}
			}
			victims = append(victims, victim{h.owner.id, key})
		}
	}
	t.ended.forget(who)
	var made []*hold
	for _, key := range keys {
		made = append(made, t.prepare(o, key, mode))
	}
	// Now nobody who waits gets what the victims lose.
	for _, v := range victims {
		t.wound(v.who, who, v.key)
	}
	for _, h := range made {
		t.pushBehind(h)
	}
	return nil
}

func validPrepared(who id.Key, mode Mode) error {
	if mode == Shared || mode == Update {
		return fmt.Errorf("lock: transaction %v: prepared %v, expected %v or %v", who, mode, Exclusive, Add)
	}
	return valid(who, mode)
}

// modeWith is the mode that a lock, which may be nil, would have with another one.
func modeWith(own *hold, mode Mode) Mode {
	if own == nil {
		return mode
	}
	return own.mode.Join(mode)
}

// prepare gives an owner a prepared lock.
func (t *Table) prepare(o *owner, key string, mode Mode) *hold {
	q := t.queueOf(key)
	h := holdOf(o, q)
	if h == nil || h.mode.Join(mode) != h.mode {
		h = t.grant(o, q, h, mode)
	}
	if !h.prepared {
		h.prepared = true
		o.prepared++
	}
	if len(o.waits) > 0 {
		t.suspects = append(t.suspects, o.id) // who waited for others may wait for it now
	}
	return h
}
