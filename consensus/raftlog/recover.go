package raftlog

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// recover finds the segments, replays them, and repairs a torn end.
func (d *Disk) recover() error {
	nums, err := d.list()
	if err != nil {
		return err
	}
	if len(nums) == 0 {
		if d.store, err = newStore(); err != nil {
			return err
		}
		d.segs = []*segment{{num: 1, limit: d.nextSize}}
		d.limit = d.nextSize
		d.nextSize = min(2*d.nextSize, d.opts.MaxSegmentBytes)
		d.tail = position{1, segmentHeaderBytes}
		d.written, d.durable, d.synced = d.tail, d.tail, d.tail
		return nil
	}
	if err := d.openSegments(nums); err != nil {
		return err
	}
	rp := newReplay(d, nil, d.segs)
	sc := newScanner(d.store, d.segs)
	end, err := d.replayAll(sc, rp)
	if err != nil {
		return err
	}
	if err := d.cut(end); err != nil {
		return err
	}
	if err := rp.finish(); err != nil {
		return err
	}
	d.opts.Logger.Info("raftlog: recovered", "dir", d.dir, "segments", len(d.segs), "end", end.String(), "records", rp.records)
	return nil
}

// list returns the numbers of the segments in order and removes what is left
// of files that had not become segments.
func (d *Disk) list() ([]uint32, error) {
	names, err := d.fs.List(d.dir)
	if err != nil {
		return nil, fmt.Errorf("raftlog: list %s: %w", d.dir, err)
	}
	var nums []uint32
	for _, name := range names {
		num, ok := parseSegmentName(name)
		switch {
		case ok:
			nums = append(nums, num)
		case strings.HasSuffix(name, segmentSuffix):
			return nil, fmt.Errorf("raftlog: %s: a foreign file %q, expected names like %s", d.dir, name, segmentName(1))
		case strings.HasSuffix(name, spareSuffix):
			if err := d.fs.Remove(d.path(name)); err != nil {
				return nil, fmt.Errorf("raftlog: remove %s: %w", name, err)
			}
		}
	}
	slices.Sort(nums)
	for i, n := range nums {
		if want := nums[0] + uint32(i); n != want {
			return nil, &CorruptionError{Segment: want, Detail: fmt.Sprintf("segment is missing between %d and %d", want-1, n)}
		}
	}
	return nums, nil
}

// openSegments opens the files and checks that they are of one store.
func (d *Disk) openSegments(nums []uint32) error {
	for i, num := range nums {
		name := segmentName(num)
		f, err := d.fs.OpenReadWrite(d.path(name), category)
		if err != nil {
			return fmt.Errorf("raftlog: open %s: %w", name, err)
		}
		s := &segment{num: num, file: f}
		d.segs = append(d.segs, s)
		info, err := f.Stat()
		if err != nil {
			return fmt.Errorf("raftlog: stat %s: %w", name, err)
		}
		s.limit = info.Size()
		header := make([]byte, min(s.limit, segmentHeaderBytes))
		if _, err := f.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("raftlog: read %s: %w", name, err)
		}
		store, err := decodeSegmentHeader(header, name, num)
		if err != nil {
			return err
		}
		if i > 0 && store != d.store {
			return &CorruptionError{Segment: num, Detail: fmt.Sprintf("%s is of store %016x, the segments before it are of %016x", name, store, d.store)}
		}
		d.store = store
	}
	return nil
}

// replayAll replays the segments in order and returns where the log ends.
func (d *Disk) replayAll(sc *scanner, rp *replay) (end position, err error) {
	end = position{d.segs[0].num, segmentHeaderBytes}
	var prevEnd uint32
	for i, s := range d.segs {
		if err := sc.load(s, s.limit); err != nil {
			return end, err
		}
		if i > 0 {
			first, ok := sc.firstHeader()
			if !ok || first.prevEnd != prevEnd {
				return end, d.checkDamage(sc, i, end)
			}
		} else if h, ok := sc.firstHeader(); ok {
			d.prevEnd = h.prevEnd
		}
		off, err := sc.scan(segmentHeaderBytes, rp.apply)
		if err != nil {
			return end, err
		}
		if stated := sc.stated(off); (position{s.num, off}).before(stated) {
			return end, damaged(s.num, off, stated)
		}
		if i > 0 {
			d.prevEnd = prevEnd
		}
		prevEnd, end = off, position{s.num, off}
	}
	return end, nil
}

// checkDamage looks in what follows the end of the log for a frame that states
// a position beyond it. The scanner holds segment i, whose beginning does not
// continue the segment before it.
func (d *Disk) checkDamage(sc *scanner, i int, end position) error {
	for j := i; j < len(d.segs); j++ {
		if j > i {
			if err := sc.load(d.segs[j], d.segs[j].limit); err != nil {
				return err
			}
		}
		stated, from := sc.stated(segmentHeaderBytes), end
		if prev, ok := sc.anyPrevEnd(); ok && j == i && prev == end.off {
			// The segment before it is whole, and its end is this one's
			// beginning: so calls it a log that was opened with nothing in its
			// last segment.
			from = position{d.segs[j].num, segmentHeaderBytes}
		}
		if from.before(stated) {
			return damaged(from.seg, from.off, stated)
		}
	}
	return nil
}

func damaged(seg, off uint32, stated position) error {
	return &CorruptionError{Segment: seg, Offset: int64(off),
		Detail: fmt.Sprintf("no valid frame, but a later one states the log durable up to offset %d of segment %d", stated.off, stated.seg)}
}

// cut makes end the end of the log: later segments go, the rest of the last
// one becomes zeros, all durably.
func (d *Disk) cut(end position) error {
	for last := d.segs[len(d.segs)-1]; last.num > end.seg; last = d.segs[len(d.segs)-1] {
		// The last first, so that a crash in between leaves no gap.
		if err := last.file.Close(); err != nil {
			return fmt.Errorf("raftlog: close segment %d: %w", last.num, err)
		}
		d.segs = d.segs[:len(d.segs)-1]
		if err := d.fs.Remove(d.path(segmentName(last.num))); err != nil {
			return fmt.Errorf("raftlog: remove segment %d: %w", last.num, err)
		}
		if err := d.syncDir(d.dir); err != nil {
			return err
		}
	}
	s := d.segs[len(d.segs)-1]
	size := s.limit
	if dirty, err := notZero(s, int64(end.off)); err != nil {
		return err
	} else if dirty {
		d.opts.Logger.Info("raftlog: cut", "dir", d.dir, "segment", s.num, "offset", end.off)
		if err := zero(s.file, int64(end.off), size); err != nil {
			return fmt.Errorf("raftlog: zero segment %d from offset %d: %w", s.num, end.off, err)
		}
		d.stats.prepared.Add(size - int64(end.off))
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("raftlog: sync segment %d: %w", s.num, err)
	}
	d.stats.prepareSyncs.Add(1)
	// A file that was not filled ahead is as long as what was written.
	d.nextSize = min(max(d.opts.MinSegmentBytes, size), d.opts.MaxSegmentBytes)
	s.limit = max(size, d.nextSize)
	d.limit = s.limit
	d.nextSize = min(2*d.nextSize, d.opts.MaxSegmentBytes)
	d.current = s
	d.tail, d.written, d.durable, d.synced = end, end, end, end
	return nil
}

// notZero tells whether anything but zeros lies in a segment from an offset on.
func notZero(s *segment, from int64) (bool, error) {
	if from >= s.limit {
		return false, nil
	}
	buf := make([]byte, min(s.limit-from, 1<<20))
	for from < s.limit {
		b := buf[:min(s.limit-from, int64(len(buf)))]
		if _, err := s.file.ReadAt(b, from); err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("raftlog: read segment %d at offset %d: %w", s.num, from, err)
		}
		for len(b) >= 8 {
			if le.Uint64(b) != 0 {
				return true, nil
			}
			b = b[8:]
		}
		for _, c := range b {
			if c != 0 {
				return true, nil
			}
		}
		from += int64(len(buf))
	}
	return false, nil
}

// A scanner reads segments one after another.
type scanner struct {
	store uint64
	seg   uint32
	buf   []byte
	rec   record
}

// newScanner has room for the largest of segs, so that a row of growing
// segments does not allocate for each.
func newScanner(store uint64, segs []*segment) *scanner {
	var size int64
	for _, s := range segs {
		size = max(size, s.limit)
	}
	return &scanner{store: store, buf: make([]byte, 0, size)}
}

// load reads a segment up to size. One at a time is in memory.
func (sc *scanner) load(s *segment, size int64) error {
	sc.seg, sc.buf = s.num, sc.buf[:size]
	const piece = 4 << 20
	for off := int64(0); off < size; off += piece {
		b := sc.buf[off:min(off+piece, size)]
		n, err := s.file.ReadAt(b, off)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("raftlog: read segment %d at offset %d: %w", s.num, off, err)
		}
		clear(b[n:])
	}
	return nil
}

func (sc *scanner) firstHeader() (frameHeader, bool) {
	if len(sc.buf) < segmentHeaderBytes {
		return frameHeader{}, false
	}
	return decodeFrameHeader(sc.buf[segmentHeaderBytes:], sc.store, position{sc.seg, segmentHeaderBytes})
}

// scan calls apply for the records of all frames from an offset on, up to the
// first that does not check, and returns where that is.
func (sc *scanner) scan(off uint32, apply func(*record) error) (uint32, error) {
	for {
		n, ok := sc.frame(off)
		if !ok {
			return off, nil
		}
		rest, at := sc.buf[off+frameHeaderBytes:], position{sc.seg, off + frameHeaderBytes}
		for at.off < off+frameHeaderBytes+n {
			size := recordHeaderBytes + le.Uint32(rest)
			sc.rec = record{at: at, length: size}
			err := sc.rec.decode(rest[recordHeaderBytes:size])
			if err == nil {
				err = apply(&sc.rec)
			}
			if err != nil {
				// The checksum is right: no torn write looks like this.
				return off, &CorruptionError{Segment: at.seg, Offset: int64(at.off), Detail: err.Error()}
			}
			rest, at.off = rest[size:], at.off+size
		}
		off += uint32(frameBytes(int(n)))
	}
}

// frame checks the frame at an offset with all its records and returns how
// many bytes of them it has.
func (sc *scanner) frame(off uint32) (length uint32, ok bool) {
	if int64(off) > int64(len(sc.buf)) {
		return 0, false
	}
	h, ok := decodeFrameHeader(sc.buf[off:], sc.store, position{sc.seg, off})
	rest := sc.buf[off:]
	if !ok || int64(h.length) > int64(len(rest)-frameHeaderBytes) {
		return 0, false
	}
	rest = rest[frameHeaderBytes : frameHeaderBytes+h.length]
	at := position{sc.seg, off + frameHeaderBytes}
	for range h.records {
		body := checkRecord(rest, sc.store, at)
		if body == nil {
			return 0, false
		}
		size := recordHeaderBytes + len(body)
		rest, at.off = rest[size:], at.off+uint32(size)
	}
	return h.length, len(rest) == 0
}

// stated is the highest position that any frame header from an offset on
// states as durable. What lies between headers is not trusted to lead from one
// to the next: every place where a header may begin is tried.
func (sc *scanner) stated(off uint32) (highest position) {
	for ; int64(off)+frameHeaderBytes <= int64(len(sc.buf)); off += frameAlign {
		if h, ok := decodeFrameHeader(sc.buf[off:], sc.store, position{sc.seg, off}); ok && highest.before(h.durable) {
			highest = h.durable
		}
	}
	return highest
}

// anyPrevEnd tells what the first valid header states about the segment before.
func (sc *scanner) anyPrevEnd() (uint32, bool) {
	for off := uint32(segmentHeaderBytes); int64(off)+frameHeaderBytes <= int64(len(sc.buf)); off += frameAlign {
		if h, ok := decodeFrameHeader(sc.buf[off:], sc.store, position{sc.seg, off}); ok {
			return h.prevEnd, true
		}
	}
	return 0, false
}
