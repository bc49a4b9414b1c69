package raftlog

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// An owner is what the Disk knows of one logical log, open or not.
type owner struct {
	id uint64
	// parked stands for a Log while none is open, so that collection can move
	// what belongs to the owner.
	parked *Log

	// Guarded by the Disk's mutex.
	log *Log // nil unless open
	// stale says that groups is empty and the truth is in the segments. It
	// changes only while maint is held, but for Close and Crash, which set it.
	stale bool

	mu     sync.Mutex
	groups map[GroupID]*Group // guarded by mu, tombstones included
	meta   []byte             // guarded by mu; as given to SetMeta
	at     span               // guarded by mu; of its newest record, length 0 if there is none
}

// newOwner adds an owner without groups. The caller holds d.mu or is alone.
func (d *Disk) newOwner(id uint64) *owner {
	o := &owner{id: id, groups: make(map[GroupID]*Group)}
	o.parked = &Log{disk: d, owner: id, state: o}
	o.parked.shut.Store(true)
	d.owners[id] = o
	return o
}

// each calls f for every group, in order.
func (o *owner) each(f func(*Group)) {
	o.mu.Lock()
	list := make([]*Group, 0, len(o.groups))
	for _, g := range o.groups {
		list = append(list, g)
	}
	o.mu.Unlock()
	slices.SortFunc(list, func(a, b *Group) int { return cmp.Compare(a.id, b.id) })
	for _, g := range list {
		f(g)
	}
}

// A Log is the logical log of one owner. It is safe for concurrent use.
type Log struct {
	disk  *Disk
	owner uint64
	state *owner
	dead  atomic.Bool // crashed: completions are not delivered
	shut  atomic.Bool // closed or crashed: writes change nothing
}

// Info describes a group of a Log.
type Info struct {
	Group     GroupID
	Replica   ReplicaID
	Meta      []byte // as given to Create
	Destroyed bool   // a tombstone
}

// Disk returns the physical log.
func (l *Log) Disk() *Disk { return l.disk }

// Groups lists the groups and tombstones, ordered by id: after Disk.Log, what
// was recovered.
func (l *Log) Groups() []Info {
	var list []Info
	l.state.each(func(g *Group) {
		g.mu.Lock()
		list = append(list, Info{Group: g.id, Replica: g.replica, Meta: slices.Clone(g.meta), Destroyed: g.destroyed})
		g.mu.Unlock()
	})
	slices.SortFunc(list, func(a, b Info) int { return cmp.Compare(a.Group, b.Group) })
	return list
}

// Group returns a group that was recovered or created. The error wraps
// ErrNoGroup if there is none.
func (l *Log) Group(id GroupID) (*Group, error) {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	g := l.state.groups[id]
	if g == nil || l.shut.Load() {
		return nil, fmt.Errorf("%w: group %d of owner %d", ErrNoGroup, id, l.owner)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.destroyed {
		return nil, fmt.Errorf("%w: group %d of owner %d: replica %d was destroyed", ErrNoGroup, id, l.owner, g.replica)
	}
	return g, nil
}

// Create makes the log of replica r of a group. It begins behind (index,
// term), which is then committed: HardState is {Term: term, Commit: index}.
// Index 0 makes the log of a replica that joins with nothing. Meta is kept for
// the life of the group. It returns an *ExistsError if the group exists or had
// a replica with an id that is not below r. Done may be nil.
func (l *Log) Create(id GroupID, r ReplicaID, index, term uint64, meta []byte, done Completion) (*Group, error) {
	if limit := l.disk.opts.MaxSegmentBytes / 2; int64(len(meta)) > limit {
		return nil, fmt.Errorf("raftlog: group %d: create replica %d: meta of %d bytes, expected at most %d", id, r, len(meta), limit)
	}
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	if l.shut.Load() {
		return nil, fmt.Errorf("raftlog: group %d: create replica %d: %w", id, r, ErrClosed)
	}
	old := l.state.groups[id]
	if old != nil {
		old.mu.Lock()
		defer old.mu.Unlock()
		if !old.destroyed || r <= old.replica {
			return nil, &ExistsError{Group: id, Replica: r, Existing: old.replica, Destroyed: old.destroyed}
		}
	}
	g := &Group{log: l, id: id, replica: r, meta: slices.Clone(meta)}
	g.hard = hardState{term: term, commit: index}
	g.base, g.baseTerm, g.ring.first = index, term, index+1
	d := l.disk
	d.mu.Lock()
	late := g.refuse()
	if late == nil {
		if old != nil {
			old.gone = true
			d.move(&old.state, span{})
		}
		d.putState(g, flagFresh)
		g.binding = g.state.at
		l.state.groups[id] = g
		d.enqueue(l, done)
	}
	d.mu.Unlock()
	if late != nil {
		return nil, fmt.Errorf("raftlog: group %d: create replica %d: %w", id, r, late)
	}
	return g, nil
}

// Close writes and syncs what the owner has buffered and waits for it. Then
// the owner can be opened again.
func (l *Log) Close() error {
	if l.shut.Load() {
		return nil
	}
	d := l.disk
	done := make(waiting, 1)
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		l.leave(false)
		return d.Err()
	}
	d.enqueue(nil, done)
	d.mu.Unlock()
	if d.opts.Inline {
		_ = d.Flush() // done tells
	}
	err := <-done
	l.leave(false)
	if err != nil {
		return fmt.Errorf("raftlog: close owner %d: %w", l.owner, err)
	}
	return nil
}

// Crash ends the logical log as the end of its process would: what the owner
// has buffered and no flush has taken is gone, and no Completion is called any
// more, but for one that is being called. The owner can be opened again while
// others go on.
func (l *Log) Crash() { l.leave(true) }

// leave gives the owner up. What is known of its groups goes too: the segments
// hold the truth from here on.
func (l *Log) leave(crash bool) {
	d, o := l.disk, l.state
	o.mu.Lock()
	defer o.mu.Unlock()
	d.mu.Lock()
	again := l.shut.Swap(true)
	if !again {
		l.dead.Store(crash)
		if crash && !d.closed {
			d.forget(l)
		}
		// In the same breath: what a collection under way has written for
		// this owner may be forgotten, so it must start over.
		d.crashes++
		o.stale, o.log = true, nil
	}
	d.mu.Unlock()
	if again {
		return
	}
	for _, g := range o.groups {
		g.mu.Lock()
		d.mu.Lock()
		g.gone = true
		g.unaccount()
		d.mu.Unlock()
		g.mu.Unlock()
	}
	o.groups = make(map[GroupID]*Group)
	d.mu.Lock()
	d.move(&o.at, span{})
	d.mu.Unlock()
}

// waiting is a Completion to wait for.
type waiting chan error

func (w waiting) Written(err error) { w <- err }
