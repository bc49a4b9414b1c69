package consensus_test

import (
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A stuckDisk is a file system on which syncs and reads of the Raft log wait
// for as long as a test likes.
type stuckDisk struct {
	vfs.FS
	sync, read gateway
	broken     atomic.Bool // reads fail
}

func (d *stuckDisk) wrap(f vfs.File, err error, name string) (vfs.File, error) {
	if err != nil || !strings.HasPrefix(name, "log") {
		return f, err
	}
	return &stuckFile{File: f, disk: d}, nil
}

func (d *stuckDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.wrap(f, err, name)
}

func (d *stuckDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.wrap(f, err, name)
}

// A stuckFile is a file of a stuckDisk.
type stuckFile struct {
	vfs.File
	disk *stuckDisk
}

func (f *stuckFile) SyncData() error {
	f.disk.sync.pass()
	return f.File.SyncData()
}

func (f *stuckFile) ReadAt(b []byte, at int64) (int, error) {
	f.disk.read.pass()
	if f.disk.broken.Load() {
		return 0, errMachine
	}
	return f.File.ReadAt(b, at)
}
