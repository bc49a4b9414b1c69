package consensus_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var errNoPower = errors.New("the power is off")

// A powerDisk is a file system in memory whose power can be cut between any
// two operations. What was not synced is then lost at random, block by block,
// and whoever still holds the disk gets errors: nothing that is acknowledged
// afterwards can rest on an operation that the clone has not seen.
type powerDisk struct {
	vfs.FS // the crashable memory below; reads go straight to it
	mem    *vfs.MemFS

	mu   sync.Mutex // held during an operation, so that a cut falls between two
	off  bool       // guarded by mu
	fuse int        // guarded by mu; operations until the power goes, 0: it stays
	rng  *rand.Rand // guarded by mu; of the fuse
	left *vfs.MemFS // guarded by mu; what the cut left
}

func newPowerDisk(mem *vfs.MemFS) *powerDisk { return &powerDisk{FS: mem, mem: mem} }

// cut turns the power off and returns what is left on the disk.
func (d *powerDisk) cut(rng *rand.Rand) *vfs.MemFS {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lose(rng)
	return d.left
}

func (d *powerDisk) lose(rng *rand.Rand) {
	if d.off {
		return
	}
	d.off = true
	percent := []int{0, 30, 70, 100}[rng.IntN(4)]
	d.left = d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
}

// burn has the power go at the n-th operation from now, instead of it.
func (d *powerDisk) burn(n int, rng *rand.Rand) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse, d.rng = n, rng
}

// dark says whether the power is off. If not, the fuse is taken out.
func (d *powerDisk) dark() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fuse = 0
	return d.off
}

// isOff says whether the power is off.
func (d *powerDisk) isOff() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.off
}

// on runs an operation if there is power.
func (d *powerDisk) on(op func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fuse > 0 {
		if d.fuse--; d.fuse == 0 {
			d.lose(d.rng)
		}
	}
	if d.off {
		return errNoPower
	}
	return op()
}

// open runs an operation that gives a file.
func (d *powerDisk) open(op func() (vfs.File, error)) (vfs.File, error) {
	var f vfs.File
	err := d.on(func() (err error) { f, err = op(); return err })
	if err != nil {
		return nil, err
	}
	return &powerFile{File: f, disk: d}, nil
}

func (d *powerDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open(func() (vfs.File, error) { return d.mem.Create(name, c) })
}

func (d *powerDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return d.open(func() (vfs.File, error) { return d.mem.OpenReadWrite(name, c, o...) })
}

func (d *powerDisk) OpenDir(name string) (vfs.File, error) {
	return d.open(func() (vfs.File, error) { return d.mem.OpenDir(name) })
}

func (d *powerDisk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return d.open(func() (vfs.File, error) { return d.mem.ReuseForWrite(from, to, c) })
}

func (d *powerDisk) Link(from, to string) error {
	return d.on(func() error { return d.mem.Link(from, to) })
}

func (d *powerDisk) Remove(name string) error {
	return d.on(func() error { return d.mem.Remove(name) })
}

func (d *powerDisk) RemoveAll(name string) error {
	return d.on(func() error { return d.mem.RemoveAll(name) })
}

func (d *powerDisk) Rename(from, to string) error {
	return d.on(func() error { return d.mem.Rename(from, to) })
}

func (d *powerDisk) MkdirAll(name string, mode os.FileMode) error {
	return d.on(func() error { return d.mem.MkdirAll(name, mode) })
}

// A powerFile is a file of a powerDisk.
type powerFile struct {
	vfs.File
	disk *powerDisk
}

func (f *powerFile) Write(b []byte) (n int, err error) {
	err = f.disk.on(func() (err error) { n, err = f.File.Write(b); return err })
	return n, err
}

func (f *powerFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.disk.on(func() (err error) { n, err = f.File.WriteAt(b, at); return err })
	return n, err
}

func (f *powerFile) Sync() error     { return f.disk.on(f.File.Sync) }
func (f *powerFile) SyncData() error { return f.disk.on(f.File.SyncData) }

func (f *powerFile) SyncTo(n int64) (full bool, err error) {
	err = f.disk.on(func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, err
}

// makeDir makes a directory whose name survives a loss of power.
func makeDir(fs vfs.FS, dir string) error {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for {
		parent := fs.PathDir(dir)
		d, err := fs.OpenDir(parent)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil || parent == "." || parent == dir {
			return err
		}
		dir = parent
	}
}
