package raftlog

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A segment is one file of the log.
type segment struct {
	num uint32

	// Guarded by the Disk's mutex.
	file  vfs.File // nil until the flusher makes it
	limit int64    // what may be written of it, in bytes
	live  int64    // bytes of live entries and states
	refs  int      // readers; a segment with readers is not recycled
}

// A spare is a file that waits to become a segment.
type spare struct {
	name  string
	bytes int64
}

const (
	segmentSuffix = ".seg"
	spareSuffix   = ".spare"
	lockName      = "LOCK"
	category      = vfs.WriteCategoryUnspecified
	// maxSpares bounds the files that wait: one is being filled while the
	// other is taken.
	maxSpares = 2
)

func segmentName(num uint32) string { return fmt.Sprintf("%08x%s", num, segmentSuffix) }

// parseSegmentName tells the number of a segment file.
func parseSegmentName(name string) (num uint32, ok bool) {
	hex, ok := strings.CutSuffix(name, segmentSuffix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || segmentName(uint32(n)) != name {
		return 0, false
	}
	return uint32(n), true
}

func (d *Disk) path(name string) string { return d.fs.PathJoin(d.dir, name) }

// syncDir makes the names in dir durable.
func (d *Disk) syncDir(dir string) error {
	f, err := d.fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("raftlog: open %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("raftlog: sync %s: %w", dir, err)
	}
	d.stats.prepareSyncs.Add(1)
	return nil
}

// makeDir makes the directory of the log and what is missing above it, durably:
// a log whose directory is lost is lost. The parent is synced in any case,
// because an earlier attempt may have ended before it came to that.
func (d *Disk) makeDir() error {
	fs, dir := d.fs, d.dir
	parents := []string{fs.PathDir(dir)}
	for p := parents[0]; p != fs.PathDir(p); p = fs.PathDir(p) {
		if _, err := fs.Stat(p); err == nil {
			break
		}
		parents = append(parents, fs.PathDir(p))
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("raftlog: make %s: %w", dir, err)
	}
	for _, p := range parents {
		if err := d.syncDir(p); err != nil {
			return err
		}
	}
	return nil
}

// segment finds a segment by number, nil if it is gone. The caller holds d.mu.
func (d *Disk) segment(num uint32) *segment {
	if i := int64(num) - int64(d.segs[0].num); i >= 0 && i < int64(len(d.segs)) {
		return d.segs[i]
	}
	return nil
}

// makeSegment gives a segment its file: a spare of the right size, or a new
// one. The header is on stable storage before the file has its name, so a file
// with a segment's name always has a header.
func (d *Disk) makeSegment(s *segment) error {
	sp, err := d.takeSpare(s.limit)
	if err != nil {
		return err
	}
	f, err := d.fs.OpenReadWrite(d.path(sp.name), category)
	if err != nil {
		return fmt.Errorf("raftlog: open %s: %w", sp.name, err)
	}
	var header [segmentHeaderBytes]byte
	encodeSegmentHeader(header[:], d.store, s.num)
	if _, err := f.WriteAt(header[:], 0); err != nil {
		return errors.Join(fmt.Errorf("raftlog: write %s: %w", sp.name, err), f.Close())
	}
	// Closed before it is renamed, as Windows wants it.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("raftlog: sync %s: %w", sp.name, err)
	}
	d.stats.prepared.Add(segmentHeaderBytes)
	d.stats.prepareSyncs.Add(1)
	name := segmentName(s.num)
	if err := d.fs.Rename(d.path(sp.name), d.path(name)); err != nil {
		return fmt.Errorf("raftlog: rename %s to %s: %w", sp.name, name, err)
	}
	if err := d.syncDir(d.dir); err != nil {
		return err
	}
	f, err = d.fs.OpenReadWrite(d.path(name), category)
	if err != nil {
		return fmt.Errorf("raftlog: open %s: %w", name, err)
	}
	d.mu.Lock()
	s.file = f
	d.mu.Unlock()
	d.stats.segmentsMade.Add(1)
	if !d.opts.Inline {
		signal(d.chores)
	}
	return nil
}

// takeSpare finds a spare of at least so many bytes, or makes one.
func (d *Disk) takeSpare(bytes int64) (spare, error) {
	d.mu.Lock()
	for i, sp := range d.spares {
		if sp.bytes >= bytes {
			d.spares = append(d.spares[:i], d.spares[i+1:]...)
			d.mu.Unlock()
			d.stats.recycled.Add(1)
			return sp, nil
		}
	}
	d.mu.Unlock()
	// Nothing is ready. Filling a large file here would hold up every group;
	// it grows as it is written instead, at the price of slower syncs.
	fill := bytes
	if d.opts.Inline || fill > 4<<20 {
		fill = 0
	}
	return d.makeSpare(bytes, fill)
}

// makeSpare makes a file and fills it with zeros. Writing them is what makes
// later syncs cheap: blocks that were only allocated change the file's
// metadata when they are first written.
func (d *Disk) makeSpare(bytes, fill int64) (spare, error) {
	sp := spare{name: fmt.Sprintf("%08x%s", d.spareNum.Add(1), spareSuffix), bytes: bytes}
	f, err := d.fs.Create(d.path(sp.name), category)
	if err != nil {
		return sp, fmt.Errorf("raftlog: create %s: %w", sp.name, err)
	}
	// Synced in small pieces: a sync of the log beside it waits for whatever is
	// on its way to the disk, and with pieces of 4 MiB that alone made the
	// slowest hundredth of all commands.
	const piece = int64(len(zeros))
	for off := int64(0); off < fill && err == nil && !d.stopped(); off += piece {
		n := min(piece, fill-off)
		if _, err = f.WriteAt(zeros[:n], off); err != nil {
			break
		}
		d.stats.prepared.Add(n)
		if err = f.SyncData(); err == nil {
			d.stats.prepareSyncs.Add(1)
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return sp, fmt.Errorf("raftlog: fill %s: %w", sp.name, err)
	}
	d.stats.prepareSyncs.Add(1)
	return sp, nil
}

// zeros is what files are filled with. It is never written to.
var zeros [256 << 10]byte

// zero writes zeros from one offset to another.
func zero(f io.WriterAt, from, to int64) error {
	for from < to {
		n := min(to-from, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:n], from); err != nil {
			return err
		}
		from += n
	}
	return nil
}

// prepare keeps one spare of the next segment's size ready.
func (d *Disk) prepare() error {
	d.mu.Lock()
	want := d.nextSize
	var small []spare
	kept := d.spares[:0]
	for _, sp := range d.spares {
		if sp.bytes >= want {
			kept = append(kept, sp)
		} else {
			small = append(small, sp)
		}
	}
	d.spares = kept
	ready := len(kept) > 0
	d.mu.Unlock()
	for _, sp := range small {
		if err := d.fs.Remove(d.path(sp.name)); err != nil {
			return fmt.Errorf("raftlog: remove %s: %w", sp.name, err)
		}
	}
	if ready || d.stopped() {
		return nil
	}
	sp, err := d.makeSpare(want, want)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.spares = append(d.spares, sp)
	d.mu.Unlock()
	return nil
}

// retire takes the oldest segment, which nothing needs any more, out of the
// log and keeps its file as a spare. Its name goes durably before its bytes
// are touched, and one segment after the other, so that a crash leaves a row
// without gaps.
func (d *Disk) retire(s *segment) error {
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("raftlog: close segment %d: %w", s.num, err)
	}
	d.stats.retired.Add(1)
	sp := spare{name: fmt.Sprintf("%08x%s", d.spareNum.Add(1), spareSuffix), bytes: s.limit}
	d.mu.Lock()
	keep := len(d.spares) < maxSpares && sp.bytes >= d.nextSize
	d.mu.Unlock()
	name := segmentName(s.num)
	if !keep {
		if err := d.fs.Remove(d.path(name)); err != nil {
			return fmt.Errorf("raftlog: remove %s: %w", name, err)
		}
		return d.syncDir(d.dir)
	}
	if err := d.fs.Rename(d.path(name), d.path(sp.name)); err != nil {
		return fmt.Errorf("raftlog: rename %s to %s: %w", name, sp.name, err)
	}
	if err := d.syncDir(d.dir); err != nil {
		return err
	}
	d.mu.Lock()
	d.spares = append(d.spares, sp)
	d.mu.Unlock()
	return nil
}
