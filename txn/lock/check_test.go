package lock

import (
	"errors"
	"fmt"

	"github.com/phantomdb/phantomdb/txn/id"
)

// check compares what is kept with the invariants of the package comment.
func (t *Table) check() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	locks, waiting := 0, 0
	edges := map[id.Key][]id.Key{}
	for key, q := range t.keys {
		if q.key != key || len(q.holds) == 0 {
			complain("queue of %q at %q with %d locks", q.key, key, len(q.holds))
		}
		locks += len(q.holds)
		t.checkHolds(q, complain)
		n := 0
		for w := q.first; w != nil; w = w.next {
			n++
			t.checkWait(w, edges, complain)
		}
		waiting += n
		if q.grantable() != nil {
			complain("%q: %v could be granted", key, q.grantable().owner.id)
		}
	}
	t.checkOwners(locks, waiting, complain)
	if t.stats.Locks != locks || t.stats.Waiting != waiting {
		complain("%+v, expected %d locks and %d waiting", t.stats, locks, waiting)
	}
	if waiting > t.o.MaxWaiting || len(t.after) > 0 || len(t.suspects) > 0 {
		complain("%d wait, %d calls and %d suspects are left", waiting, len(t.after), len(t.suspects))
	}
	if len(t.ended.of) != t.ended.used.Len() || len(t.ended.of) > t.ended.max {
		complain("%d and %d are remembered", len(t.ended.of), t.ended.used.Len())
	}
	t.checkFree(complain)
	for who := range edges {
		if reaches(edges, who, who, map[id.Key]bool{}) {
			complain("%v waits for itself", who)
		}
	}
	return errors.Join(errs...)
}

func (t *Table) checkHolds(q *queue, complain func(string, ...any)) {
	var held [Add + 1]int
	for j, h := range q.holds {
		held[h.mode]++
		if h.queue != q || h.j != j || h.owner.holds[h.i] != h || t.owners[h.owner.id] != h.owner {
			complain("%q: lock %d is misplaced", q.key, j)
		}
		for _, o := range q.holds[:j] {
			if o.owner == h.owner || o.mode.Conflicts(h.mode) {
				complain("%q: %v has it %v and %v %v", q.key, o.owner.id, o.mode, h.owner.id, h.mode)
			}
		}
	}
	if held != q.held {
		complain("%q: counts %v, expected %v", q.key, q.held, held)
	}
}

func (t *Table) checkWait(w *wait, edges map[id.Key][]id.Key, complain func(string, ...any)) {
	if !w.queued || w.next == nil && w.queue.last != w || w.next != nil && w.next.prev != w {
		complain("%q: line is broken at %v", w.queue.key, w.owner.id)
	}
	if !w.blocked() {
		complain("%q: nobody is in the way of %v", w.queue.key, w.owner.id)
	}
	var waitsFor []*owner
	for _, h := range w.against() {
		waitsFor = append(waitsFor, h.owner)
	}
	for p := w.queue.first; p != w; p = p.next {
		if p.owner != w.owner && p.mode.Conflicts(w.mode) {
			waitsFor = append(waitsFor, p.owner)
		}
	}
	for _, o := range waitsFor {
		edges[w.owner.id] = append(edges[w.owner.id], o.id)
		younger := w.owner.id.Compare(o.id) < 0
		if p := t.o.Policy; o.prepared == 0 && (p == WoundWait && younger || p == WaitDie && !younger || p == NoWait) {
			complain("%v: at %q %v waits for %v", p, w.queue.key, w.owner.id, o.id)
		}
	}
}

func (t *Table) checkOwners(locks, waiting int, complain func(string, ...any)) {
	for who, o := range t.owners {
		locks -= len(o.holds)
		waiting -= len(o.waits)
		prepared := 0
		for i, h := range o.holds {
			if h.owner != o || h.i != i || t.keys[h.queue.key] != h.queue {
				complain("lock %d of %v is misplaced", i, who)
			}
			if h.prepared {
				prepared++
			}
		}
		if o.id != who || prepared != o.prepared || len(o.holds)+len(o.waits) == 0 || o.pushed && prepared == 0 {
			complain("owner %v at %v with %d prepared, expected %d", o.id, who, o.prepared, prepared)
		}
		if _, lost := t.ended.of[who]; lost && (len(o.waits) > 0 || prepared < len(o.holds)) {
			complain("%v has lost its locks and has some", who)
		}
	}
	if locks != 0 || waiting != 0 {
		complain("%d locks and %d requests of owners that are not known", locks, waiting)
	}
}

// checkFree looks whether what is kept for use again is blank, and kept once.
func (t *Table) checkFree(complain func(string, ...any)) {
	seen := map[any]bool{}
	for _, q := range t.freeQueues {
		if seen[q] || q.key != "" || len(q.holds) > 0 || q.first != nil || q.held != [Add + 1]int{} {
			complain("queue %v is kept for use again", q)
		}
		seen[q] = true
	}
	for _, o := range t.freeOwners {
		if seen[o] || !o.id.Zero() || len(o.holds)+len(o.waits)+o.prepared > 0 || o.pushed {
			complain("owner %v is kept for use again", o)
		}
		seen[o] = true
	}
	for _, h := range t.freeHolds {
		if seen[h] || *h != (hold{}) {
			complain("lock %v is kept for use again", h)
		}
		seen[h] = true
	}
}

// reaches reports whether somebody waits, through others, for to.
func reaches(edges map[id.Key][]id.Key, from, to id.Key, seen map[id.Key]bool) bool {
	for _, next := range edges[from] {
		if next == to {
			return true
		}
		if !seen[next] {
			seen[next] = true
			if reaches(edges, next, to, seen) {
				return true
			}
		}
	}
	return false
}
