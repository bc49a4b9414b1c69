package raftlog

import "fmt"

// A replay rebuilds groups from records in the order of the log. The oldest
// segments are gone, and what was live in them comes again later, so the index
// of a group may have holes until the end.
type replay struct {
	disk    *Disk
	only    *owner // nil: every owner
	records int64
	// maxHole bounds the memory that one record can ask for: what is missing
	// comes later in the log, so there is no more of it than fits there.
	maxHole uint64

	// The owner and group of the last record: the next is mostly of them.
	owner *owner
	group *Group
}

// newReplay prepares to replay segs for one owner, or for all if it is nil.
func newReplay(d *Disk, only *owner, segs []*segment) *replay {
	rp := &replay{disk: d, only: only}
	for _, s := range segs {
		rp.maxHole += uint64(s.limit) / recordHeaderBytes
	}
	return rp
}

// apply replays one record.
func (rp *replay) apply(r *record) error {
	rp.records++
	if r.kind == kindSkip || rp.only != nil && r.owner != rp.only.id {
		return nil
	}
	o := rp.findOwner(r)
	if r.kind == kindOwner {
		o.replayOwner(r)
		return nil
	}
	g := rp.find(r)
	switch r.kind {
	case kindEntry:
		return g.replayEntry(r, rp.maxHole)
	case kindRewrite:
		return g.replayRewrite(r, rp.maxHole)
	case kindHard:
		g.hard = r.hard
	case kindTruncate:
		g.replayBase(r.index, r.term)
	case kindState:
		g.replayState(r)
	}
	return nil
}

func (rp *replay) findOwner(r *record) *owner {
	if rp.owner == nil || rp.owner.id != r.owner {
		rp.owner, rp.group = rp.disk.owners[r.owner], nil
		if rp.owner == nil {
			rp.owner = rp.disk.newOwner(r.owner)
		}
	}
	return rp.owner
}

// find returns the group of r, of the owner that was found last.
func (rp *replay) find(r *record) *Group {
	if rp.group != nil && rp.group.id == r.group {
		return rp.group
	}
	g := rp.owner.groups[r.group]
	if g == nil {
		g = &Group{log: rp.owner.parked, id: r.group}
		rp.owner.groups[r.group] = g
	}
	rp.group = g
	return g
}

// During replay elem.sum holds the length of the record alone, and an elem of
// length 0 is a hole.

func (g *Group) replayEntry(r *record, maxHole uint64) error {
	if r.index <= g.base {
		return fmt.Errorf("group %d: entry %d of a log that begins at %d", g.id, r.index, g.base+1)
	}
	switch {
	case g.ring.n == 0 || r.index < g.ring.first:
		g.ring.dropBack(g.ring.n)
		g.ring.first = r.index
	case r.index < g.ring.end():
		g.ring.dropBack(int(g.ring.end() - r.index))
	case r.index-g.ring.end() > maxHole:
		return fmt.Errorf("group %d: entry %d of a log that ends at %d", g.id, r.index, g.ring.end()-1)
	}
	for g.ring.end() < r.index {
		g.ring.push(elem{})
	}
	g.ring.push(elem{term: r.term, sum: uint64(r.length), at: r.at})
	return nil
}

func (g *Group) replayRewrite(r *record, maxHole uint64) error {
	e := elem{term: r.term, sum: uint64(r.length), at: r.at}
	switch {
	case r.index <= g.base:
		return nil // cut between the copy and its taking effect
	case g.ring.n == 0:
		g.ring.first = r.index
		g.ring.push(e)
	case r.index < g.ring.first:
		if g.ring.first-r.index > maxHole {
			return fmt.Errorf("group %d: copy of entry %d of a log that begins at %d", g.id, r.index, g.ring.first)
		}
		g.ring.unshift(int(g.ring.first - r.index))
		*g.ring.at(r.index) = e
	case r.index < g.ring.end():
		*g.ring.at(r.index) = e
	default:
		if r.index-g.ring.end() > maxHole {
			return fmt.Errorf("group %d: copy of entry %d of a log that ends at %d", g.id, r.index, g.ring.end()-1)
		}
		for g.ring.end() < r.index {
			g.ring.push(elem{})
		}
		g.ring.push(e)
	}
	return nil
}

// replayBase drops everything up to index.
func (g *Group) replayBase(index, term uint64) {
	g.base, g.baseTerm = index, term
	if g.ring.n > 0 && g.ring.first <= index {
		g.ring.dropFront(int(min(index+1-g.ring.first, uint64(g.ring.n))))
	}
}

func (g *Group) replayState(r *record) {
	g.known = true
	g.replica, g.hard = r.replica, r.hard
	g.destroyed = r.flags&flagDestroyed != 0
	g.meta = append([]byte(nil), r.data...)
	g.state = span{r.at, r.length}
	if r.flags&flagFresh != 0 {
		g.ring = ring{}
	}
	g.replayBase(r.index, r.term)
}

// finish checks that every group is whole and accounts for what is live.
func (rp *replay) finish() error {
	d := rp.disk
	for _, o := range d.owners {
		if rp.only != nil && o != rp.only {
			continue
		}
		d.finishOwner(o)
		for _, g := range o.groups {
			if err := g.finish(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Group) finish() error {
	d, r := g.log.disk, &g.ring
	if !g.known {
		return &CorruptionError{Segment: d.segs[0].num, Detail: fmt.Sprintf("group %d of owner %d has records but no state", g.id, g.log.owner)}
	}
	if r.n == 0 {
		r.first = g.base + 1
	}
	if r.first != g.base+1 {
		return &CorruptionError{Segment: d.segs[0].num, Detail: fmt.Sprintf("group %d of owner %d: entries %d to %d are missing", g.id, g.log.owner, g.base+1, r.first-1)}
	}
	d.entries += int64(r.n)
	var sum uint64
	for i := r.first; i < r.end(); i++ {
		e := r.at(i)
		if e.sum == 0 {
			return &CorruptionError{Segment: d.segs[0].num, Detail: fmt.Sprintf("group %d of owner %d: entry %d is missing", g.id, g.log.owner, i)}
		}
		sum += e.sum
		d.segment(e.at.seg).live += int64(e.sum)
		e.sum = sum
	}
	d.segment(g.state.at.seg).live += int64(g.state.length)
	return nil
}

// refresh reads an owner that was closed or has crashed back from the
// segments. The caller holds maint, so that none is recycled meanwhile.
func (d *Disk) refresh(o *owner) error {
	d.mu.Lock()
	stale := o.stale
	d.mu.Unlock()
	if !stale {
		return nil
	}
	// Nothing of the owner is left in the buffer, or under way, and what it finds
	// is durable: it will say so to others.
	d.flush(true)
	if err := d.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	end := d.written
	segs := append([]*segment(nil), d.segs...)
	d.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.groups, o.meta = make(map[GroupID]*Group), nil
	rp, sc := newReplay(d, o, segs), newScanner(d.store, segs)
	for _, s := range segs {
		if end.seg < s.num {
			break
		}
		size := s.limit
		if s.num == end.seg {
			size = int64(end.off)
		}
		if err := sc.load(s, size); err != nil {
			return d.fail(err)
		}
		off, err := sc.scan(segmentHeaderBytes, rp.apply)
		if err != nil {
			return d.fail(err)
		}
		if s.num == end.seg && off != end.off {
			return d.fail(&CorruptionError{Segment: s.num, Offset: int64(off), Detail: fmt.Sprintf("no valid frame, but the log was written up to offset %d", end.off)})
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := rp.finish(); err != nil {
		return d.fail(err)
	}
	o.stale = false
	return nil
}
