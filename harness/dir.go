package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// Dir returns an empty directory for the data of a case, under PHANTOM_DIR or,
// by default, in the benchmark's temporary directory. It is removed when b
// ends. It may lie in memory: for data that must be durable see DurableDir.
func Dir(b *testing.B) string {
	b.Helper()
	Begin(b)
	root := settings().dir
	if root == "" {
		dir := b.TempDir()
		evidence.Load().noteDir(b, dir)
		return dir
	}
	dir, err := os.MkdirTemp(root, "phantom-*") //nolint:usetesting // below the root that the user chose
	if err != nil {
		b.Fatalf("harness: data directory under %s: %v", root, err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Errorf("harness: data directory: %v", err)
		}
	})
	evidence.Load().noteDir(b, dir)
	return dir
}

// DurableDir is Dir for a case that claims durability. It skips b, with one
// line on standard error, when the directory lies in memory (tmpfs, ramfs) or
// when flushing a written block to it takes less than 20 us, which no disk
// does. PHANTOM_DISK_UNSAFE=1 lets the case run; DiskLabel then names it.
// PHANTOM_STRICT=1 makes a skipped case fail the run. Call it before b.Loop.
func DurableDir(b *testing.B) string {
	b.Helper()
	dir := Dir(b)
	if settings().diskUnsafe {
		return dir
	}
	switch err := durable(dir); {
	case errors.Is(err, errNotDurable):
		Skip(b, fmt.Sprintf("%v; set PHANTOM_DIR to a directory on a disk, or PHANTOM_DISK_UNSAFE=1", err))
	case err != nil:
		b.Fatal(err)
	}
	return dir
}

// DiskLabel returns the value of the disk key for a kind of disk (none, sync,
// shared): the kind itself, or under PHANTOM_DISK_UNSAFE=1 "unsafe" for sync
// and "unsafe-<kind>" for every other kind but none. The label follows the
// setting and not the disk found: a run that did not insist on durability must
// not look like one that did.
func DiskLabel(kind string) string {
	switch {
	case kind == "none" || !settings().diskUnsafe:
		return kind
	case kind == "sync":
		return "unsafe"
	}
	return "unsafe-" + kind
}

// errNotDurable marks a directory that would lose its data.
var errNotDurable = errors.New("harness: not durable")

// fastestDisk is the shortest flush believed. Drives with a protected cache
// answer in 25 us or more; memory in well under 20.
const fastestDisk = 20 * time.Microsecond

// durable returns an error that is errNotDurable unless files in dir survive a
// loss of power, as far as one can tell from outside.
func durable(dir string) error {
	fs := fileSystem(dir)
	if fs == "tmpfs" || fs == "ramfs" {
		return fmt.Errorf("%w: %s is %s", errNotDurable, dir, fs)
	}
	took, err := probe(dir)
	if err != nil {
		return err
	}
	return plausible(dir, took)
}

// plausible judges a flush that took so long.
func plausible(dir string, took time.Duration) error {
	if took < fastestDisk {
		return fmt.Errorf("%w: a flush to %s takes %v: want at least %v", errNotDurable, dir, took, fastestDisk)
	}
	return nil
}

// probe returns the median time of flushing one overwritten block in dir.
func probe(dir string) (took time.Duration, err error) {
	path := filepath.Join(dir, "probe")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return 0, fmt.Errorf("harness: disk probe: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(path)) }()
	// The first flush pays for the allocation of the block, and the median
	// ignores it with every other outlier.
	block := []byte(strings.Repeat("phantom ", 512))
	times := make([]time.Duration, 15)
	for i := range times {
		clock := measure.StartClock()
		if _, err := f.WriteAt(block, 0); err != nil {
			return 0, fmt.Errorf("harness: disk probe: %w", err)
		}
		if err := flush(f); err != nil {
			return 0, fmt.Errorf("harness: disk probe: %w", err)
		}
		times[i] = clock.Now()
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
