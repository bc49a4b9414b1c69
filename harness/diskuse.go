package harness

import (
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

// A diskUse is what the data directories of a benchmark hold at one moment. What
// is unknown is NaN.
type diskUse struct {
	bytes   float64
	entries float64 // files and directories
	cut     bool    // there were too many entries to look at each
}

// The size of a file takes a system call, its name does not: beyond the first
// bound entries are only counted, so that files that nobody removes still show.
const (
	maxDiskSizes   = 10_000
	maxDiskEntries = 200_000
)

// diskUsed looks at the data directories of the benchmark. Only the long-running
// mode asks.
func (w *watcher) diskUsed() diskUse {
	u := diskUse{bytes: unknown, entries: unknown}
	if !w.ledger.drift {
		return u
	}
	w.ledger.mu.Lock()
	dirs := w.ledger.dirs[w.b]
	w.ledger.mu.Unlock()
	if len(dirs) == 0 {
		return u
	}
	var sum int64
	entries := 0
	for _, dir := range dirs {
		// Files come and go meanwhile: one that is gone counts for nothing.
		_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
			if entries++; entries > maxDiskEntries {
				return filepath.SkipAll
			}
			if err != nil || entries > maxDiskSizes {
				return nil
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
			return nil
		})
	}
	u.cut = entries > maxDiskSizes
	if !u.cut {
		u.bytes = float64(sum)
	}
	if entries <= maxDiskEntries {
		u.entries = float64(entries)
	}
	return u
}

// uncounted is the finding that sizes are unknown from some moment on, or none.
// It is stated once for a benchmark: a level that vanishes leaks unseen.
func (w *watcher) uncounted() []artifact.Finding {
	for _, r := range w.rows {
		if r.disk.cut {
			return []artifact.Finding{{Reason: "disk", Text: fmt.Sprintf(
				"the data directories hold more than %d files and directories after %.4g s: their size is unknown, and beyond %d their number",
				maxDiskSizes, r.at.Seconds(), maxDiskEntries)}}
		}
	}
	return nil
}
