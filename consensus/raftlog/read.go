package raftlog

import (
	"errors"
	"fmt"
	"io"
	"math/bits"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

const (
	// readWindowBytes is what one read brings back of neighbouring entries.
	readWindowBytes = 256 << 10
	// readGapBytes is the longest stretch of other groups' records that is
	// read along: about as long as takes the time of another read from the
	// cache of the operating system. Without it a store of many groups reads
	// its whole log once for every group.
	readGapBytes = 16 << 10
	// maxScratch bounds the windows of memory that a Disk keeps for reads.
	maxScratch = 2
)

// HardState returns the newest HardState, never nil.
func (g *Group) HardState() *pb.HardState {
	g.mu.Lock()
	h := g.hard
	g.mu.Unlock()
	return &pb.HardState{Term: &h.term, Vote: &h.vote, Commit: &h.commit}
}

// FirstIndex returns the lowest index that Entries has. The error is nil.
func (g *Group) FirstIndex() (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.base + 1, nil
}

// LastIndex returns the highest index, or FirstIndex-1 if there is none. The
// error is nil.
func (g *Group) LastIndex() (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ring.end() - 1, nil
}

// Term returns the term of the entry at index i, from FirstIndex-1 on. Below
// it the error is raft.ErrCompacted, above LastIndex raft.ErrUnavailable.
func (g *Group) Term(i uint64) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case i < g.base:
		return 0, raft.ErrCompacted
	case i == g.base:
		return g.baseTerm, nil
	case i >= g.ring.end():
		return 0, raft.ErrUnavailable
	}
	return g.ring.at(i).term, nil
}

// Bytes returns the encoded size of the live entries, in bytes.
func (g *Group) Bytes() int64 {
	bytes, _ := g.Size()
	return bytes
}

// Size returns the encoded size of the live entries, in bytes, and how many
// they are.
func (g *Group) Size() (bytes, entries int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return int64(g.lastSum() - g.baseSum), int64(g.ring.n)
}

// SizeTo returns the encoded size of the live entries up to and including
// index, in bytes; an index out of range counts as the nearest in it.
func (g *Group) SizeTo(index uint64) int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := min(max(index+1, g.ring.first), g.ring.end())
	if index == ^uint64(0) {
		i = g.ring.end()
	}
	return int64(g.sumBefore(i) - g.baseSum)
}

// Entries returns entries from lo up to but not including hi, no more than
// maxSize bytes of them as raft counts, but at least one. The caller owns the
// slice and shares the entries. Below FirstIndex the error is
// raft.ErrCompacted, above LastIndex raft.ErrUnavailable. Entries that the
// cache no longer has are read from the segments, which may wait for the disk;
// a failed read stops the Disk.
func (g *Group) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	for {
		list, cold, err := g.lookUp(lo, hi, maxSize)
		if err != nil || len(cold) == 0 {
			return list, err
		}
		ok, err := g.readBack(list, cold, lo)
		if err != nil {
			return nil, err
		}
		if ok {
			return list, nil
		}
		// Collection moved an entry before its segment could be held.
	}
}

// A coldEntry is to be read from the segments.
type coldEntry struct {
	index, term uint64
	span
}

// lookUp gathers what the cache has and lists what it does not have.
func (g *Group) lookUp(lo, hi, maxSize uint64) (list []*pb.Entry, cold []coldEntry, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, err := g.fit(lo, hi, maxSize, nil)
	if n == 0 || err != nil {
		return nil, nil, err
	}
	list = make([]*pb.Entry, n)
	for i := range n {
		e := g.ring.at(lo + i)
		if list[i] = e.entry; e.entry == nil {
			cold = append(cold, coldEntry{lo + i, e.term, span{e.at, uint32(e.sum - g.sumBefore(lo+i))}})
		}
	}
	if len(cold) > 0 && g.gone {
		return nil, nil, ErrClosed
	}
	return list, cold, nil
}

// fit counts the entries from lo on that are below hi, no more than maxSize
// bytes as raft counts, but at least one. It ends before the first that ok
// refuses, if ok is set. The caller holds g.mu.
func (g *Group) fit(lo, hi, maxSize uint64, ok func(i uint64, e *elem) bool) (n uint64, err error) {
	switch {
	case lo <= g.base:
		return 0, raft.ErrCompacted
	case hi > g.ring.end():
		return 0, raft.ErrUnavailable
	}
	overhead := recordHeaderBytes + 1 + uvarintLen(g.log.owner) + uvarintLen(uint64(g.id))
	var size uint64
	for i := lo; i < hi; i++ {
		// The record holds the same fields as raft's encoding, which has a
		// tag before each and a length before the data.
		e := g.ring.at(i)
		data := e.sum - g.sumBefore(i) - uint64(overhead)
		size += data + 4 + uint64(uvarintLen(data))
		if n > 0 && size > maxSize || ok != nil && !ok(i, e) {
			break
		}
		n++
	}
	return n, nil
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// readBack fills the holes in list, which begins at index lo. It returns false
// if a segment has been recycled meanwhile.
func (g *Group) readBack(list []*pb.Entry, cold []coldEntry, lo uint64) (bool, error) {
	g.mu.Lock()
	d, owner := g.log.disk, g.log.owner
	g.mu.Unlock()
	for len(cold) > 0 {
		s, err := d.acquire(cold[0].at.seg)
		if s == nil {
			return false, err
		}
		n, err := d.readWindow(s, cold, func(rec *record) error {
			if rec.owner != owner || rec.group != g.id || rec.index != cold[0].index || rec.term != cold[0].term {
				return fmt.Errorf("record of entry %d of group %d, term %d, expected entry %d of group %d, term %d",
					rec.index, rec.group, rec.term, cold[0].index, g.id, cold[0].term)
			}
			list[cold[0].index-lo] = newEntry(rec)
			cold = cold[1:]
			return nil
		})
		d.release(s)
		if err != nil {
			return false, d.fail(err)
		}
		d.stats.readBack.Add(n)
	}
	return true, nil
}

// newEntry makes an entry of a record, in one piece. Its data is the record's.
func newEntry(r *record) *pb.Entry {
	e := &struct {
		entry       pb.Entry
		term, index uint64
		typ         pb.EntryType
	}{term: r.term, index: r.index, typ: pb.EntryType(r.typ)}
	e.entry.Term, e.entry.Index, e.entry.Type = &e.term, &e.index, &e.typ
	if len(r.data) > 0 {
		e.entry.Data = r.data
	}
	return &e.entry
}

// acquire keeps a segment from being recycled; nil if it is gone.
func (d *Disk) acquire(num uint32) (*segment, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	s := d.segment(num)
	if s == nil {
		return nil, nil
	}
	s.refs++
	return s, nil
}

func (d *Disk) release(s *segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s.refs--
}

// readWindow reads the first of cold and those behind it that lie near it in
// the segment, checks them, and calls apply for each in turn. What a record
// points into is nobody else's. It returns how many bytes it read.
func (d *Disk) readWindow(s *segment, cold []coldEntry, apply func(*record) error) (int64, error) {
	cold, bytes := window(cold)
	buf, read, err := d.readSpans(s, cold, bytes)
	if err != nil {
		return 0, err
	}
	for _, c := range cold {
		rec := record{at: c.at, length: c.length}
		body := checkRecord(buf[:c.length:c.length], d.store, c.at)
		err := errRecord
		if len(body) == int(c.length)-recordHeaderBytes {
			err = rec.decode(body)
		}
		if err == nil {
			err = apply(&rec)
		}
		if err != nil {
			return 0, &CorruptionError{Segment: s.num, Offset: int64(c.at.off), Detail: err.Error()}
		}
		buf = buf[c.length:]
	}
	return read, nil
}

// window cuts cold down to what one read brings back, and tells how many bytes
// of it are wanted.
func window(cold []coldEntry) (list []coldEntry, bytes int) {
	start, end := cold[0].at.off, cold[0].at.off
	for i, c := range cold {
		if i > 0 && (c.at.seg != cold[0].at.seg || c.at.off < end ||
			c.at.off-end > readGapBytes || c.at.off+c.length-start > readWindowBytes) {
			return cold[:i], bytes
		}
		end = c.at.off + c.length
		bytes += int(c.length)
	}
	return cold, bytes
}

// readSpans reads the records of a window into memory of their own, one behind
// the other without what lies between them, so that an entry that is kept for
// long does not keep what other groups wrote.
func (d *Disk) readSpans(s *segment, cold []coldEntry, bytes int) (buf []byte, read int64, err error) {
	start, last := cold[0].at.off, cold[len(cold)-1]
	whole := int(last.at.off + last.length - start)
	buf = make([]byte, bytes)
	if whole == bytes {
		return buf, int64(bytes), readAt(s, buf, start)
	}
	scratch := d.takeScratch()
	defer d.giveScratch(scratch)
	if err := readAt(s, scratch[:whole], start); err != nil {
		return nil, 0, err
	}
	n := 0
	for _, c := range cold {
		n += copy(buf[n:], scratch[c.at.off-start:][:c.length])
	}
	return buf, int64(whole), nil
}

// readAt fills buf from an offset of a segment.
func readAt(s *segment, buf []byte, off uint32) error {
	if got, err := s.file.ReadAt(buf, int64(off)); err != nil && !(errors.Is(err, io.EOF) && got == len(buf)) {
		return fmt.Errorf("raftlog: read %d bytes of segment %d at offset %d: %w", len(buf), s.num, off, err)
	}
	return nil
}

// takeScratch finds memory for a window with gaps.
func (d *Disk) takeScratch() []byte {
	select {
	case b := <-d.scratch:
		return b
	default:
		return make([]byte, readWindowBytes)
	}
}

// giveScratch keeps it for the next one, unless enough is kept.
func (d *Disk) giveScratch(b []byte) {
	select {
	case d.scratch <- b:
	default:
	}
}
