package consensus_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
)

var errSector = errors.New("bad sector")

// badReads is a file system whose files can be written, but not read once
// broken is set.
type badReads struct {
	vfs.FS
	broken *atomic.Bool
}

type badFile struct {
	vfs.File
	broken *atomic.Bool
}

func (f badReads) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	if err != nil {
		return nil, err
	}
	return badFile{file, f.broken}, nil
}

func (f badFile) ReadAt(p []byte, off int64) (int, error) {
	if f.broken.Load() {
		return 0, errSector
	}
	return f.File.ReadAt(p, off)
}

// mending runs a test on disks that can be broken. A node
// that failed is taken down before the cluster is, which asks for good order.
func mending(t *testing.T, f func(t *testing.T, m *manual, broken *atomic.Bool)) {
	t.Helper()
	broken := new(atomic.Bool)
	o := manualOptions{fs: func() vfs.FS { return badReads{vfs.NewMem(), broken} }}
	stepwise(t, o, func(t *testing.T, m *manual) {
		m.elect(1)
		for range 20 {
			m.mustPut(1, "k", string(make([]byte, 1<<10))) // more than the cache holds
		}
		f(t, m, broken)
		broken.Store(false)
		for _, n := range m.nodes {
			if n.host.Err() != nil {
				n.host.Crash()
				_ = n.disk.Close() // may tell of the bad sector once more
				n.host, n.disk = nil, nil
			}
		}
	})
}

// An entry that cannot be read back stops the one host whose log it is, not the
// process, whatever Raft wanted it for. The others go on.
func TestUnreadableLogStopsTheHostAlone(t *testing.T) {
	t.Run("entries to apply", func(t *testing.T) {
		mending(t, func(t *testing.T, m *manual, broken *atomic.Bool) {
			m.crash(2)
			m.start(2)
			broken.Store(true)
			m.settle()
			m.tick(3)
			require.ErrorIs(t, m.host(2).Err(), errSector)
			require.NoError(t, m.host(1).Err())
			m.mustPut(1, "k", "v")
		})
	})
	t.Run("entries of a follower", func(t *testing.T) {
		mending(t, func(t *testing.T, m *manual, broken *atomic.Bool) {
			broken.Store(true)
			list, err := m.host(1).EntriesFor(1, 3, 5, false) // not in memory: they are fetched
			require.NoError(t, err)
			require.Empty(t, list)
			m.settle()
			require.ErrorIs(t, m.host(1).Err(), errSector)
			require.NoError(t, m.host(2).Err())
		})
	})
	t.Run("changes before a campaign", func(t *testing.T) {
		mending(t, func(t *testing.T, m *manual, broken *atomic.Bool) {
			broken.Store(true)
			list, err := m.host(2).EntriesFor(1, 3, 5, false)
			require.NoError(t, err)
			require.Len(t, list, 1, "one that forbids the campaign")
			require.Equal(t, "EntryConfChangeV2", list[0].GetType().String())
			require.ErrorIs(t, m.host(2).Err(), errSector)
			m.mustPut(1, "k", "v")
		})
	})
}

// Entries that the log has lost are no error where a snapshot helps, and the
// end of the host where nothing does.
func TestEntriesThatTheLogDoesNotHave(t *testing.T) {
	for name, c := range map[string]struct {
		node     uint64
		lo, hi   uint64
		draining bool
		want     error // of the host
		answer   error
		entries  int
	}{
		"cut off, for a follower": {1, 1, 2, false, nil, raft.ErrCompacted, 0},
		"cut off, to apply":       {1, 1, 2, true, raft.ErrCompacted, nil, 0},
		"cut off, to scan":        {2, 1, 2, false, raft.ErrCompacted, nil, 1},
		"beyond, for a follower":  {1, 1000, 1001, false, raft.ErrUnavailable, nil, 0},
		"beyond, to apply":        {2, 1000, 1001, true, raft.ErrUnavailable, nil, 0},
		"beyond, to scan":         {2, 1000, 1001, false, raft.ErrUnavailable, nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			mending(t, func(t *testing.T, m *manual, _ *atomic.Bool) {
				h := m.nodes[c.node-1].host
				list, err := h.EntriesFor(1, c.lo, c.hi, c.draining)
				require.Equal(t, c.answer, err)
				require.Len(t, list, c.entries)
				if c.want == nil {
					require.NoError(t, h.Err())
					return
				}
				require.ErrorIs(t, h.Err(), c.want)
			})
		})
	}
}
