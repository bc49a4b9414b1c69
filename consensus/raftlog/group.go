package raftlog

import (
	"fmt"
	"sync"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A Completion hears how a write ended. Written is called once, with nil after
// the write and everything before it in its group is on stable storage (see
// Append for the one exception), otherwise with the error that stopped the Disk.
// It comes from the flusher or from Flush, and from the write itself after Close
// of the Log or the Disk or where there is nothing to wait for. It must not
// block, call Flush, or write to the log.
type Completion interface{ Written(err error) }

// A Group is the log of one replica, and raft.Storage but for InitialState and
// Snapshot. Writes must come from one goroutine at a time; reads may come from
// any. Entries handed in and out are shared with the cache and must not be
// changed.
type Group struct {
	id      GroupID
	replica ReplicaID

	// mu guards all below. It is held without waiting for anything but the
	// Disk's mutex.
	mu        sync.Mutex
	log       *Log
	meta      []byte
	destroyed bool
	known     bool // replay has seen a state
	gone      bool // superseded, or the owner has left
	hard      hardState
	base      uint64 // the log begins behind this index
	baseTerm  uint64
	baseSum   uint64 // elem.sum of base
	ring      ring   // Invariant: ring.first == base+1, but during replay.
	state     span   // the newest state record
	// binding is the newest record on which the replica's word may depend: any
	// but a commit index alone. Zero when the owner opens, for then all is durable.
	binding position
}

// A span is a record's place and length.
type span struct {
	at     position
	length uint32
}

// Meta returns what Create was given. It must not be changed.
func (g *Group) Meta() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta
}

// Replica returns the id of the replica.
func (g *Group) Replica() ReplicaID { return g.replica }

// refuse tells why a write is not taken. The caller holds d.mu.
func (g *Group) refuse() error {
	if g.gone || g.log.shut.Load() || g.log.disk.closed {
		return ErrClosed
	}
	return nil
}

// end finishes a write: done hears of late, if that is why nothing was
// written, and not from a crashed owner.
func (g *Group) end(done Completion, late error) {
	if done != nil && late != nil && !g.log.dead.Load() {
		done.Written(late)
	}
}

// Append writes entries and the HardState; a nil hs is unchanged. Entries must
// be consecutive and begin at most one above LastIndex: the first that meets
// an existing index replaces it and all behind it. It never blocks; entries
// are visible to reads at once, and done hears when they are durable. A nil
// done asks for no sync. It panics on a gap, and on entries that reach below
// FirstIndex.
//
// A commit index alone is not worth a sync, for a replica that forgets it learns
// it again (of the persistent state of the Raft paper's figure 2 it is no part):
// done hears when the entries, terms and votes before it are durable.
func (g *Group) Append(hs *pb.HardState, entries []*pb.Entry, done Completion) {
	g.mu.Lock()
	if broken := g.checkEntries(entries); broken != "" {
		g.mu.Unlock()
		panic(broken)
	}
	d := g.log.disk
	d.mu.Lock()
	late, stable := g.refuse(), false
	if late == nil {
		binding := g.binding
		g.putAll(d, hs, entries)
		if g.binding != binding || done == nil {
			d.enqueue(g.log, done)
		} else {
			stable = d.follow(g.log, binding, done)
		}
	}
	d.mu.Unlock()
	g.mu.Unlock()
	if stable && !g.log.dead.Load() {
		done.Written(nil)
	}
	g.end(done, late)
}

// checkEntries tells which invariant an append breaks, if any.
func (g *Group) checkEntries(entries []*pb.Entry) string {
	if len(entries) == 0 {
		return ""
	}
	first := entries[0].GetIndex()
	if first > g.ring.end() || first <= g.base {
		return fmt.Sprintf("raftlog: group %d: append at index %d to a log from %d to %d", g.id, first, g.base+1, g.ring.end()-1)
	}
	for i, e := range entries {
		if e.GetIndex() != first+uint64(i) {
			return fmt.Sprintf("raftlog: group %d: entry %d of an append at index %d has index %d", g.id, i, first, e.GetIndex())
		}
		if len(e.GetData()) > mostSegmentBytes {
			return fmt.Sprintf("raftlog: group %d: entry %d of %d bytes, expected at most %d", g.id, e.GetIndex(), len(e.GetData()), mostSegmentBytes)
		}
	}
	return ""
}

// putAll writes an append in one frame if it fits a segment. If not, the new
// term and vote go with the first part but the commit index with the last,
// because a HardState must not commit what a crash may leave out.
func (g *Group) putAll(d *Disk, hs *pb.HardState, entries []*pb.Entry) {
	next := g.hard
	if hs != nil {
		next = hardState{hs.GetTerm(), hs.GetVote(), hs.GetCommit()}
	}
	for {
		n, size := 0, entryOverhead
		for n < len(entries) {
			more := len(entries[n].GetData()) + entryOverhead
			if n > 0 && int64(size+more) > d.opts.MaxSegmentBytes-segmentHeaderBytes-2*frameAlign {
				break
			}
			size, n = size+more, n+1
		}
		hard := next
		if n < len(entries) {
			hard.commit = g.hard.commit
		}
		g.putPart(d, d.room(size), hard, entries[:n])
		if entries = entries[n:]; len(entries) == 0 {
			return
		}
	}
}

// putPart encodes into r, in which there is room.
func (g *Group) putPart(d *Disk, r *run, hard hardState, entries []*pb.Entry) {
	rec := record{owner: g.log.owner, group: g.id}
	if len(entries) > 0 {
		first := entries[0].GetIndex()
		if cut := int(g.ring.end() - first); cut > 0 {
			g.discard(d, g.ring.n-cut, g.ring.n)
			g.ring.dropBack(cut)
		}
		sum, bytes := g.lastSum(), int64(0)
		rec.kind = kindEntry
		for _, e := range entries {
			rec.index, rec.term, rec.typ, rec.data = e.GetIndex(), e.GetTerm(), uint64(e.GetType()), e.GetData()
			d.put(r, &rec)
			sum += uint64(rec.length)
			bytes += int64(rec.length) + cachedOverhead
			g.ring.push(elem{term: rec.term, sum: sum, at: rec.at, entry: e})
		}
		d.segs[len(d.segs)-1].live += int64(sum - g.sumBefore(first))
		d.entries += int64(len(entries))
		d.cache.push(batch{g: g, first: first, n: len(entries), bytes: bytes, last: rec.at})
		rec.data = nil
		g.binding = rec.at
	}
	if hard != g.hard {
		binds := hard.term != g.hard.term || hard.vote != g.hard.vote
		g.hard = hard
		rec.kind, rec.hard = kindHard, hard
		d.put(r, &rec)
		if binds {
			g.binding = rec.at
		}
	}
}

// lastSum is the sum of the last entry.
func (g *Group) lastSum() uint64 { return g.sumBefore(g.ring.end()) }

// sumBefore is the sum of the entry before index i.
func (g *Group) sumBefore(i uint64) uint64 {
	if i == g.ring.first {
		return g.baseSum
	}
	return g.ring.at(i - 1).sum
}

// discard takes the bytes of the entries from one place in the ring to another
// off their segments. The caller holds d.mu.
func (g *Group) discard(d *Disk, from, to int) {
	d.entries -= int64(to - from)
	var s *segment
	before := g.sumBefore(g.ring.first + uint64(from))
	for i := from; i < to; i++ {
		e := g.ring.at(g.ring.first + uint64(i))
		if s == nil || s.num != e.at.seg {
			s = d.segment(e.at.seg)
		}
		s.live -= int64(e.sum - before)
		before = e.sum
	}
}

// Truncate says that entries up to and including index are not needed any
// more. The term of index stays known. It asks for no sync. An index below
// FirstIndex changes nothing; one above LastIndex panics.
func (g *Group) Truncate(index uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if index <= g.base {
		return
	}
	if index >= g.ring.end() {
		panic(fmt.Sprintf("raftlog: group %d: truncate up to index %d of a log from %d to %d", g.id, index, g.base+1, g.ring.end()-1))
	}
	d := g.log.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	if g.refuse() != nil {
		return
	}
	n := int(index - g.base)
	last := g.ring.at(index)
	rec := record{kind: kindTruncate, owner: g.log.owner, group: g.id, index: index, term: last.term}
	d.put(d.room(entryOverhead), &rec)
	g.base, g.baseTerm = index, last.term
	sum := last.sum
	g.discard(d, 0, n)
	g.baseSum = sum
	g.ring.dropFront(n)
	d.enqueue(g.log, nil)
}

// Reset empties the log, which then begins behind (index, term), as after a
// snapshot. A nil hs is unchanged.
func (g *Group) Reset(hs *pb.HardState, index, term uint64, done Completion) {
	g.replace(done, func() uint64 {
		if hs != nil {
			g.hard = hardState{hs.GetTerm(), hs.GetVote(), hs.GetCommit()}
		}
		g.base, g.baseTerm = index, term
		return flagFresh
	})
}

// Destroy leaves a tombstone: no replica with an id up to this one is created
// again. The Group must not be used any more.
func (g *Group) Destroy(done Completion) {
	g.replace(done, func() uint64 {
		g.destroyed, g.meta = true, nil
		g.hard, g.base, g.baseTerm = hardState{}, 0, 0
		return flagFresh | flagDestroyed
	})
}

// replace drops all entries and writes the state that change makes.
func (g *Group) replace(done Completion, change func() (flags uint64)) {
	g.mu.Lock()
	d := g.log.disk
	d.mu.Lock()
	late := g.refuse()
	if late == nil {
		g.discard(d, 0, g.ring.n)
		g.ring = ring{}
		flags := change()
		g.ring.first, g.baseSum = g.base+1, 0
		d.putState(g, flags)
		g.binding = g.state.at
		d.enqueue(g.log, done)
	}
	d.mu.Unlock()
	g.mu.Unlock()
	g.end(done, late)
}

// putState writes the state of g. The caller holds d.mu and g.mu.
func (d *Disk) putState(g *Group, flags uint64) {
	if g.destroyed {
		flags |= flagDestroyed
	}
	rec := record{
		kind: kindState, owner: g.log.owner, group: g.id, flags: flags, replica: g.replica,
		index: g.base, term: g.baseTerm, hard: g.hard, data: g.meta,
	}
	d.put(d.room(len(g.meta)+stateOverhead), &rec)
	d.move(&g.state, span{rec.at, rec.length})
}

// move makes a live record be somewhere else, or nowhere. The caller holds
// d.mu.
func (d *Disk) move(s *span, to span) {
	if s.length > 0 {
		d.segment(s.at.seg).live -= int64(s.length)
	}
	if to.length > 0 {
		d.segment(to.at.seg).live += int64(to.length)
	}
	*s = to
}

// unaccount takes everything of g off the segments. The caller holds d.mu.
func (g *Group) unaccount() {
	d := g.log.disk
	g.discard(d, 0, g.ring.n)
	d.move(&g.state, span{})
}

// evict drops a batch from memory, except for entries that replaced it and are
// not written yet.
func (g *Group) evict(b batch, written position) {
	g.mu.Lock()
	defer g.mu.Unlock()
	from, to := max(b.first, g.ring.first), min(b.first+uint64(b.n), g.ring.end())
	for i := from; i < to; i++ {
		if e := g.ring.at(i); e.at.before(written) {
			e.entry = nil
		}
	}
}
