package mvcc

import (
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A stillFS is the file system of an engine. Pebble ends the process if it cannot write
// down which files it has, and tries without a pause, and for ever, to write others. So
// once something could not be written, as on a full disk, nothing changes here any more
// though Pebble is told that it does: what is there is what a crash at that moment would
// have left. The engine is told why, and can be read and closed like any other.
type stillFS struct {
	vfs.FS
	fail  func(error) // called before anybody is told that something was written
	still atomic.Bool
	void  vfs.FS // takes what is not to be found later
}

func newStillFS(fs vfs.FS, fail func(error)) *stillFS {
	return &stillFS{FS: fs, fail: fail, void: vfs.NewMem()}
}

// errStill is what becomes of a compaction: there may be more to compact than memory
// takes, while a flush only moves what is there already.
var errStill = errors.New("mvcc: nothing is written any more")

// What Pebble says of files with rows when it creates them.
const (
	compaction = "pebble-compaction"
	flush      = "pebble-memtable-flush"
)

// compactAt is how far compactions are apart that fail.
const compactAt = 100 * time.Millisecond

// stop has nothing change any more, if err is not nil.
func (s *stillFS) stop(err error) {
	if err != nil {
		s.fail(err)
		s.still.Store(true)
	}
}

// change does what changes the names of files.
func (s *stillFS) change(do func() error) error {
	if s.still.Load() {
		return nil
	}
	return do()
}

// Create implements vfs.FS.
func (s *stillFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !s.still.Load() {
		f, err := s.FS.Create(name, c)
		if err == nil {
			return &stillFile{f, s, c == compaction || c == flush}, nil
		}
		s.stop(err)
	}
	if c == compaction {
		time.Sleep(compactAt)
		return nil, errStill
	}
	return s.void.Create(s.PathBase(name), c)
}

// Open implements vfs.FS.
func (s *stillFS) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := s.FS.Open(name, o...)
	if err != nil && s.still.Load() {
		if f, err := s.void.Open(s.PathBase(name), o...); err == nil {
			return f, nil
		}
	}
	return f, err
}

// OpenDir implements vfs.FS.
func (s *stillFS) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &stillFile{f, s, false}, nil
}

// OpenReadWrite implements vfs.FS.
func (s *stillFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if s.still.Load() {
		return s.Create(name, c)
	}
	return s.FS.OpenReadWrite(name, c, o...)
}

// ReuseForWrite implements vfs.FS.
func (s *stillFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if s.still.Load() {
		return s.Create(to, c)
	}
	return s.FS.ReuseForWrite(from, to, c)
}

// Link implements vfs.FS. Pebble reads what it takes in under another name, and if it
// does not list that nobody finds it later.
func (s *stillFS) Link(from, to string) error { return s.FS.Link(from, to) }

// Remove implements vfs.FS.
func (s *stillFS) Remove(name string) error {
	return s.change(func() error { return s.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (s *stillFS) RemoveAll(name string) error {
	return s.change(func() error { return s.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (s *stillFS) Rename(from, to string) error {
	return s.change(func() error { return s.FS.Rename(from, to) })
}

// MkdirAll implements vfs.FS.
func (s *stillFS) MkdirAll(dir string, perm os.FileMode) error {
	return s.change(func() error { return s.FS.MkdirAll(dir, perm) })
}

// Unwrap implements vfs.FS.
func (s *stillFS) Unwrap() vfs.FS { return s.FS }

// A stillFile is a file that is written to, or a directory.
type stillFile struct {
	vfs.File
	s    *stillFS
	rows bool
}

// change does what changes the file. One with rows that is half there is written again.
func (f *stillFile) change(do func() error) error {
	if !f.s.still.Load() {
		f.s.stop(do())
	}
	if f.rows && f.s.still.Load() {
		return errStill
	}
	return nil
}

// Write implements vfs.File.
func (f *stillFile) Write(b []byte) (int, error) {
	err := f.change(func() error { _, err := f.File.Write(b); return err })
	return len(b), err
}

// Preallocate implements vfs.File.
func (f *stillFile) Preallocate(offset, length int64) error {
	return f.change(func() error { return f.File.Preallocate(offset, length) })
}

// Sync implements vfs.File.
func (f *stillFile) Sync() error { return f.change(f.File.Sync) }

// SyncData implements vfs.File.
func (f *stillFile) SyncData() error { return f.change(f.File.SyncData) }

// SyncTo implements vfs.File.
func (f *stillFile) SyncTo(length int64) (full bool, err error) {
	err = f.change(func() error { full, err = f.File.SyncTo(length); return err })
	return full, err
}
