package raftlog_test

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A window of small entries is bounded by what they take in memory, not by what
// they have in the log.
func TestWindowOfSmallEntries(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", raftlog.Options{Inline: true, CacheBytes: 1})
	g := create(t, logOf(t, d, 1), 1, 1)
	for i := uint64(1); i <= 1000; i++ {
		g.Append(nil, []*pb.Entry{entry(i, 1, "z")}, nil)
	}
	require.NoError(t, d.Flush())
	const most = 32 << 10
	w, err := g.ReadAhead(1, most)
	require.NoError(t, err)
	require.LessOrEqual(t, w.Bytes(), int64(most))
	require.Greater(t, w.Bytes(), int64(most/2))
	require.Less(t, w.End(), uint64(1000))
	require.NoError(t, d.Close())
}

// A window gives what the cache no longer has, up to where both end, and only
// while the log holds the very same entries.
func TestWindow(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", raftlog.Options{Inline: true, CacheBytes: 1 << 10})
	g := create(t, logOf(t, d, 1), 1, 1)
	data := strings.Repeat("z", 300)
	write := func(term, from, to uint64) {
		var list []*pb.Entry
		for i := from; i <= to; i++ {
			list = append(list, entry(i, term, data))
		}
		for _, e := range list {
			g.Append(nil, []*pb.Entry{e}, nil)
			require.NoError(t, d.Flush())
		}
	}
	inMemory := func(lo, hi, size uint64, w ...*raftlog.Window) (got []uint64) {
		list, err := g.InMemory(lo, hi, size, w)
		require.NoError(t, err)
		for i, e := range list {
			require.Equal(t, lo+uint64(i), e.GetIndex())
			require.Equal(t, data, string(e.GetData()))
			got = append(got, e.GetTerm())
		}
		return got
	}
	write(1, 1, 20)
	require.False(t, g.Cached(5))
	require.True(t, g.Cached(20))
	require.False(t, g.Cached(21))
	require.Empty(t, inMemory(5, 21, 1<<20))

	w, err := g.ReadAhead(5, 1400)
	require.NoError(t, err)
	require.Equal(t, [2]uint64{5, 8}, [2]uint64{w.First(), w.End()})
	require.Greater(t, w.Bytes(), int64(3*len(data)))
	require.LessOrEqual(t, w.Bytes(), int64(1400))
	one, err := g.ReadAhead(8, 1)
	require.NoError(t, err)
	require.Equal(t, [2]uint64{8, 9}, [2]uint64{one.First(), one.End()})
	require.Len(t, inMemory(5, 21, 1<<20, w), 3)
	require.Len(t, inMemory(5, 21, 1<<20, one, w), 4)
	require.Len(t, inMemory(6, 8, 1<<20, w), 2)
	require.Len(t, inMemory(5, 21, 700, w), 2)
	require.Len(t, inMemory(5, 21, 1, w), 1)
	require.Empty(t, inMemory(4, 21, 1<<20, w))
	all, err := g.ReadAhead(1, 1<<20)
	require.NoError(t, err)
	require.Len(t, inMemory(1, 21, 1<<20, all), 20)

	write(2, 7, 20) // another leader
	require.Equal(t, []uint64{1, 1}, inMemory(5, 12, 1<<20, w), "an entry that was replaced")
	_, err = g.ReadAhead(21, 1)
	require.ErrorIs(t, err, raft.ErrUnavailable)
	g.Truncate(6)
	_, err = g.InMemory(5, 7, 1<<20, []*raftlog.Window{w})
	require.ErrorIs(t, err, raft.ErrCompacted)
	_, err = g.ReadAhead(5, 1<<20)
	require.ErrorIs(t, err, raft.ErrCompacted)
	require.NoError(t, d.Close())
}
