package raftlog

import (
	"math"

	pb "go.etcd.io/raft/v3/raftpb"
)

// A Window is a row of entries that was read back before its use, so that
// whoever uses it need not wait for the disk. It is never changed and does not
// follow the log: InMemory compares.
type Window struct {
	first   uint64
	entries []*pb.Entry
	bytes   int64
}

// First returns the lowest index of the window.
func (w *Window) First() uint64 { return w.first }

// End returns the index behind the window's last.
func (w *Window) End() uint64 { return w.first + uint64(len(w.entries)) }

// Bytes returns about what the window keeps in memory.
func (w *Window) Bytes() int64 { return w.bytes }

// at returns the entry at index i if it is in the window and of that term: the
// same index and term mean the same entry (Raft paper, section 5.3), and one of
// another term has been replaced since.
func (w *Window) at(i, term uint64) *pb.Entry {
	if i < w.first || i >= w.End() {
		return nil
	}
	if e := w.entries[i-w.first]; e.GetTerm() == term {
		return e
	}
	return nil
}

// ReadAhead reads entries from lo on, as many as take maxBytes in memory, but at
// least one. It may wait for the disk, and may be called while the log is
// written, cut and replaced. Its errors are those of Entries.
func (g *Group) ReadAhead(lo uint64, maxBytes int64) (*Window, error) {
	n, err := g.holds(lo, maxBytes)
	if err != nil {
		return nil, err
	}
	entries, err := g.Entries(lo, lo+n, uint64(maxBytes))
	if err != nil {
		return nil, err
	}
	w := &Window{first: lo, entries: entries}
	for _, e := range entries {
		w.bytes += int64(len(e.GetData())) + cachedOverhead
	}
	return w, nil
}

// holds counts the entries from lo on that take maxBytes in memory, but at least
// one: small ones take several times what they have in the log.
func (g *Group) holds(lo uint64, maxBytes int64) (n uint64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var bytes int64
	return g.fit(lo, max(lo+1, g.ring.end()), math.MaxUint64, func(i uint64, e *elem) bool {
		bytes += int64(e.sum-g.sumBefore(i)) + cachedOverhead
		return i == lo || bytes <= maxBytes
	})
}

// InMemory returns what Entries would, as far as the cache and the windows have
// it: a prefix, maybe none of it. It never waits.
func (g *Group) InMemory(lo, hi, maxSize uint64, windows []*Window) ([]*pb.Entry, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, err := g.fit(lo, hi, maxSize, func(i uint64, e *elem) bool {
		return e.entry != nil || find(windows, i, e.term) != nil
	})
	if n == 0 || err != nil {
		return nil, err
	}
	list := make([]*pb.Entry, n)
	for i := range n {
		e := g.ring.at(lo + i)
		if list[i] = e.entry; e.entry == nil {
			list[i] = find(windows, lo+i, e.term)
		}
	}
	return list, nil
}

func find(windows []*Window, i, term uint64) *pb.Entry {
	for _, w := range windows {
		if e := w.at(i, term); e != nil {
			return e
		}
	}
	return nil
}

// Cached tells whether the entry at index i is in the cache. An index that the
// log does not hold is not.
func (g *Group) Cached(i uint64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return i > g.base && i < g.ring.end() && g.ring.at(i).entry != nil
}
