package mvcc

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// An engine that cannot write its files, or list them, says so, ends nobody, and calls
// nothing durable that a crash does not leave. It opens again when it can.
func TestFilesThatCannotBeWritten(t *testing.T) {
	kinds := map[string]func(errorfs.Op) bool{
		"rows": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst")
		},
		"half": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".sst")
		},
		"write": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpFileWrite && strings.Contains(op.Path, "MANIFEST-")
		},
		"sync": func(op errorfs.Op) bool {
			return (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData) && strings.Contains(op.Path, "MANIFEST-")
		},
		"create": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "MANIFEST-")
		},
		"mark": func(op errorfs.Op) bool {
			return op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "marker.manifest")
		},
	}
	for name, fails := range kinds {
		t.Run(name, func(t *testing.T) {
			var full atomic.Bool
			inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if full.Load() && fails(op) {
					return syscall.ENOSPC
				}
				return nil
			})
			r := &rig{t: t, fs: vfs.NewCrashableMem()}
			open := func() error {
				var err error
				r.e, err = Open(Options{FS: errorfs.Wrap(r.fs, inject), Dir: "data"})
				return err
			}
			require.NoError(t, open())
			r.s = r.shard(7)
			r.apply(r.put(1, 10, "a", "1"))
			require.NoError(t, r.s.Flush(t.Context(), r.index))
			kept := r.index
			full.Store(true)
			if name != "create" && name != "mark" { // which happen when it opens
				for ts := hlc.Timestamp(20); r.e.lives() == nil; ts += 10 {
					require.Less(t, ts, hlc.Timestamp(1<<10), "nothing failed")
					r.apply(r.put(2, ts, "a", "2"))
					if err := r.s.Flush(t.Context(), r.index); err == nil {
						kept = r.index
					}
				}
				require.ErrorIs(t, r.s.Flush(t.Context(), r.index), syscall.ENOSPC)
				err := r.s.Apply(&consensus.Batch{Index: r.index + 1, Term: 1, Commands: [][]byte{r.put(3, 1<<30, "a", "2")}}, make([]consensus.Result, 1))
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.Equal(t, kept, r.s.Durable(), "as if it was written down")
				require.Equal(t, "2", r.get("a", hlc.Max))
				require.Equal(t, "1", r.get("a", 10))
			}
			left := r.fs.CrashClone(vfs.CrashCloneCfg{})
			require.NoError(t, r.e.Close())

			// What it has done since it failed is nothing.
			for _, fs := range []*vfs.MemFS{left, r.fs} {
				r.fs = fs
				full.Store(true)
				if name != "rows" && name != "half" { // it opens without
					require.ErrorIs(t, open(), syscall.ENOSPC, "it is full yet")
				}
				full.Store(false)
				require.NoError(t, open())
				r.s = r.shard(7)
				if fs == left {
					require.Equal(t, kept, r.s.Applied())
				} else { // what was not synced may be there
					require.GreaterOrEqual(t, r.s.Applied(), kept)
				}
				require.NoError(t, r.e.Close())
			}
		})
	}
}
