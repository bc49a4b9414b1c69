package lock

import (
	"slices"

	"github.com/phantomdb/phantomdb/txn/id"
)

// breakCycles ends victims until an owner waits for itself no longer. A cycle can only
// come about through who has just begun to wait, so nobody else has to be looked at.
func (t *Table) breakCycles(o *owner) {
	for {
		cycle := t.cycle(o)
		if cycle == nil {
			return
		}
		t.stats.Deadlocks++
		victim := Victim(cycle)
		t.abort(t.owners[victim], &DeadlockError{Victim: victim, Cycle: cycle})
	}
}

// cycle returns a cycle of who waits for whom with an owner in it, nil if there is none
// in this table.
func (t *Table) cycle(o *owner) []id.Key {
	t.search++
	o.search, o.from = t.search, nil
	for stack := []*owner{o}; len(stack) > 0; {
		x := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, w := range x.waits {
			found := false
			w.ahead(t.search, func(y *owner) {
				switch {
				case y == o && x != o:
					found = true
				case y.search != t.search:
					y.search, y.from = t.search, x
					stack = append(stack, y)
				}
			})
			if found {
				return path(x)
			}
		}
	}
	return nil
}

// path is how a search came to an owner.
func path(o *owner) (all []id.Key) {
	for ; o != nil; o = o.from {
		all = append(all, o.id)
	}
	slices.Reverse(all)
	return all
}

// ahead visits owners whom a request waits for, and perhaps its own: of those ahead in a long line only so
// many that all others are reached through them, or through a request that the same
// search has been to.
func (w *wait) ahead(search uint64, visit func(*owner)) {
	w.search = search
	for p := w.prev; p != nil; p = p.prev {
		if p.mode.Conflicts(w.mode) {
			visit(p.owner)
			if p.mode == Exclusive { // which waits for all that is further ahead
				return
			}
		}
		// It waits for the same ones, except for other requests of its own owner.
		if p.mode == w.mode && p.search == search && len(p.owner.waits) == 1 {
			return
		}
	}
	for _, h := range w.queue.holds {
		if h.mode.Conflicts(w.mode) {
			visit(h.owner)
		}
	}
}

// waitsFor returns all whom an owner's requests wait for, in the order of age.
func (o *owner) waitsFor() (all []id.Key) {
	for _, w := range o.waits {
		for p := w.prev; p != nil; p = p.prev {
			if p.owner != o && p.mode.Conflicts(w.mode) {
				all = append(all, p.owner.id)
			}
		}
		for _, h := range w.against() {
			all = append(all, h.owner.id)
		}
	}
	slices.SortFunc(all, id.Key.Compare)
	return slices.Compact(all)
}

// WaitsFor returns whom an owner's requests in this table wait for, directly: those who
// have a lock, and those who are ahead in the line. They are in the order of age.
func (t *Table) WaitsFor(who id.Key) []id.Key {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o := t.owners[who]; o != nil {
		return o.waitsFor()
	}
	return nil
}

// Abort takes from an owner all locks that are not prepared and ends its requests with
// err, which must not be nil: a *DeadlockError if a Probe has chosen it. It reports
// whether the owner had or wanted anything here. If so it is remembered.
func (t *Table) Abort(who id.Key, err error) bool {
	t.mu.Lock()
	defer t.unlock()
	o := t.owners[who]
	if o == nil {
		return false
	}
	t.abort(o, err)
	return true
}
