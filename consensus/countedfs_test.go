package consensus_test

import (
	"io"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

// diskTotals are what was written and synced through countedFS.
type diskTotals struct{ bytes, syncs atomic.Int64 }

// A countedFS counts every byte that is written to files, and every sync of a
// file or directory. It lies below all that a node stores, so nothing that a
// node may come to store goes uncounted, and its totals outlive the node.
type countedFS struct {
	vfs.FS
	totals *diskTotals
}

func (c *countedFS) wrap(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &countedFile{File: f, totals: c.totals}, nil
}

func (c *countedFS) Create(name string, w vfs.DiskWriteCategory) (vfs.File, error) {
	return c.wrap(c.FS.Create(name, w))
}

func (c *countedFS) OpenReadWrite(name string, w vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return c.wrap(c.FS.OpenReadWrite(name, w, o...))
}

func (c *countedFS) OpenDir(name string) (vfs.File, error) { return c.wrap(c.FS.OpenDir(name)) }

func (c *countedFS) ReuseForWrite(from, to string, w vfs.DiskWriteCategory) (vfs.File, error) {
	return c.wrap(c.FS.ReuseForWrite(from, to, w))
}

type countedFile struct {
	vfs.File
	totals *diskTotals
}

func (f *countedFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.totals.bytes.Add(int64(n))
	return n, err
}

func (f *countedFile) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.totals.bytes.Add(int64(n))
	return n, err
}

func (f *countedFile) Sync() error {
	f.totals.syncs.Add(1)
	return f.File.Sync()
}

func (f *countedFile) SyncData() error {
	f.totals.syncs.Add(1)
	return f.File.SyncData()
}

func (f *countedFile) SyncTo(length int64) (fullSync bool, err error) {
	f.totals.syncs.Add(1)
	return f.File.SyncTo(length)
}

// What the lines of benchmarks say of a disk is the log, the files that it fills
// ahead, and what the machines write, also after a node has come up again.
func TestCountersSeeTheWholeDisk(t *testing.T) {
	for _, disk := range []string{"sync", "shared"} {
		t.Run(harness.Name("disk", disk), func(t *testing.T) {
			c := boot(t, counted(setup{disk: disk, dir: t.TempDir()}))
			c.put(t.Context(), 1, "k", "v")
			var want harness.Counters // of the logs
			var machines int64        // checkpoints
			for i, h := range c.hosts {
				require.NoError(t, h.ReadIndex(t.Context(), 1))
				m := c.machine(i, 1)
				index, _ := m.Position()
				require.NoError(t, m.Flush(t.Context(), index))
				view, err := m.View()
				require.NoError(t, err)
				n, err := view.WriteTo(io.Discard)
				require.NoError(t, err)
				require.NoError(t, view.Close())
				machines += n
			}
			again := 2 // a node that comes up a second time
			require.NoError(t, c.hosts[again].Close())
			if disk == "sync" {
				require.NoError(t, c.disks[again].Close())
				want = c.logs(want, again)
				c.start(again)
			}
			for i := range c.hosts {
				if disk == "sync" || i != again {
					require.NoError(t, c.hosts[i].Close())
				}
				c.hosts[i] = nil
			}
			for i, d := range c.disks {
				if d != nil {
					require.NoError(t, d.Close())
					want = c.logs(want, i)
				}
			}
			got := c.counters()
			require.Equal(t, want.DiskBytes+machines, got.DiskBytes)
			// A checkpoint is synced, and the directories that hold it.
			require.GreaterOrEqual(t, got.Fsyncs, want.Fsyncs+int64(2*len(c.hosts)))
			require.Positive(t, want.DiskBytes)
		})
	}
}

// logs adds to t what the log of node i says of itself.
func (c *cluster) logs(t harness.Counters, i int) harness.Counters {
	s := c.disks[i].Stats()
	t.DiskBytes += s.Bytes + s.PreparedBytes
	t.Fsyncs += s.Syncs + s.PrepareSyncs
	return t
}
