package lock

import (
	"cmp"
	"slices"

	"github.com/phantomdb/phantomdb/txn/id"
)

// Stats counts what a table has done since it was made, and what it has now.
type Stats struct {
	// Grants are locks that were given or made stronger, Waits requests that waited,
	// Wounds owners that lost their locks to others, Dies requests that were refused
	// because of somebody older, Conflicts those that NoWait refused, and Deadlocks
	// cycles that were found in this table.
	Grants, Waits, Wounds, Dies, Conflicts, Deadlocks uint64
	// Locks are held, and requests are Waiting, now.
	Locks, Waiting int
}

// Stats returns the counters.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stats
}

// Held returns the mode in which an owner has a key, 0 if it has not. An owner whose
// locks were lost, with the table or without, and that is not remembered, finds out here.
func (t *Table) Held(who id.Key, key string) Mode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.held(who, key)
}

func (t *Table) held(who id.Key, key string) Mode {
	if h := t.find(who, key); h != nil {
		return h.mode
	}
	return 0
}

// A Holder is an owner that has a lock.
type Holder struct {
	Owner    id.Key
	Mode     Mode
	Prepared bool
}

// Holders returns who has a lock on a key, in the order of age.
func (t *Table) Holders(key string) (all []Holder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.keys[key]; q != nil {
		for _, h := range q.holds {
			all = append(all, Holder{Owner: h.owner.id, Mode: h.mode, Prepared: h.prepared})
		}
	}
	slices.SortFunc(all, func(a, b Holder) int { return a.Owner.Compare(b.Owner) })
	return all
}

// A Waiter is a request that waits.
type Waiter struct {
	Owner id.Key
	Key   string
	Mode  Mode // joined with that of the lock which the owner had before
}

// Waits returns all requests that wait, by key and in the order of the line.
func (t *Table) Waits() (all []Waiter) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, q := range t.keys {
		for w := q.first; w != nil; w = w.next {
			all = append(all, Waiter{Owner: w.owner.id, Key: key, Mode: w.mode})
		}
	}
	slices.SortStableFunc(all, func(a, b Waiter) int { return cmp.Compare(a.Key, b.Key) })
	return all
}
