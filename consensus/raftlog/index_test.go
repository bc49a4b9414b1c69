package raftlog_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// What the index takes in memory keeps its bound while a log grows and after
// most of it was cut off.
func TestIndexMemory(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", raftlog.Options{Inline: true, CacheBytes: 1, MaxSegmentBytes: 1 << 20})
	g := create(t, logOf(t, d, 1), 1, 1)
	base := heap() - d.Stats().DiskBytes
	check := func() {
		st := d.Stats()
		first, _ := g.FirstIndex()
		last, _ := g.LastIndex()
		require.Equal(t, int64(last-first+1), st.LiveEntries)
		const slack = 2 << 20 // the buffers of log and cache
		require.Less(t, heap()-base-2*st.DiskBytes, st.LiveEntries*raftlog.IndexBytes+slack)
	}
	const n = 300_000
	for i := uint64(1); i <= n; i++ {
		g.Append(nil, []*pb.Entry{entry(i, 1, "")}, nil)
		if i%1000 == 0 {
			require.NoError(t, d.Flush())
		}
		if i%(n/4) == 0 {
			check()
		}
	}
	for _, keep := range []uint64{n / 2, n / 3, n / 8, 100} {
		g.Truncate(n - keep)
		require.NoError(t, d.Flush())
		check()
	}
	require.NoError(t, d.Close())
}
