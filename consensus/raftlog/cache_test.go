package raftlog_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// Entries that the cache had to give up are read back, in one piece where they
// lie together.
func TestCache(t *testing.T) {
	o := raftlog.Options{Inline: true, MaxSegmentBytes: 256 << 10, CacheBytes: 8 << 10}
	fs := vfs.NewMem()
	hook := &hookFS{FS: fs}
	d := open(t, hook, "log", o)
	g := create(t, logOf(t, d, 1), 1, 1)
	data := func(i uint64) string { return fmt.Sprintf("%d-%s", i, strings.Repeat("z", 300)) }
	const n = 1000
	for i := uint64(1); i <= n; i++ {
		g.Append(nil, []*pb.Entry{entry(i, i, data(i))}, nil)
		if i%10 == 0 {
			require.NoError(t, d.Flush())
			require.LessOrEqual(t, d.Stats().CacheBytes, o.CacheBytes)
		}
	}
	reads := 0
	hook.reading = func() { reads++ }
	list, err := g.Entries(1, n+1, 1<<30)
	require.NoError(t, err)
	require.Len(t, list, n)
	for i, e := range list {
		require.Equal(t, uint64(i+1), e.GetIndex())
		require.Equal(t, uint64(i+1), e.GetTerm())
		require.Equal(t, data(uint64(i+1)), string(e.GetData()))
	}
	require.LessOrEqual(t, reads, 8, "neighbours come in one read")
	require.Positive(t, d.Stats().ReadBytes)
	hook.reading = nil

	// A damaged entry is not handed to anybody.
	b := readFile(t, fs, segment1)
	at := bytes.Index(b, []byte(data(3)))
	require.Positive(t, at)
	f, err := fs.OpenReadWrite(segment1, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{'!'}, int64(at+5))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = g.Entries(3, 4, 1)
	var c *raftlog.CorruptionError
	require.ErrorAs(t, err, &c)
	require.Equal(t, uint32(1), c.Segment)
	require.ErrorAs(t, d.Err(), &c)
	require.Error(t, d.Close())
}

// A read of one group's entries passes over what other groups wrote in between,
// unless it is so little that another read would cost more.
func TestReadGaps(t *testing.T) {
	const n, groups = 64, 16
	for _, c := range []struct {
		size         int
		reads, bytes int64 // at most
	}{
		{4 << 10, n, n * (4<<10 + 64)},
		{100, 1, n * groups * (100 + 64)},
	} {
		hook := &hookFS{FS: vfs.NewMem()}
		d := open(t, hook, "log", raftlog.Options{Inline: true, CacheBytes: 1, MinSegmentBytes: 8 << 20, MaxSegmentBytes: 8 << 20})
		l := logOf(t, d, 1)
		var list []*raftlog.Group
		for g := range raftlog.GroupID(groups) {
			list = append(list, create(t, l, g+1, 1))
		}
		data := func(g int, i uint64) string {
			return strings.Repeat(string(rune('a'+(g+int(i))%26)), c.size)
		}
		for i := uint64(1); i <= n; i++ {
			for g := range list {
				list[g].Append(nil, []*pb.Entry{entry(i, 1, data(g, i))}, nil)
			}
			require.NoError(t, d.Flush())
		}
		for g := range list {
			before, reads := d.Stats().ReadBytes, int64(0)
			hook.reading = func() { reads++ }
			got, err := list[g].Entries(1, n+1, 1<<30)
			require.NoError(t, err)
			hook.reading = nil
			for i, e := range got {
				require.Equal(t, data(g, uint64(i+1)), string(e.GetData()))
				require.Equal(t, len(e.GetData()), cap(e.GetData()), "who appends to an entry must not reach the next")
			}
			require.LessOrEqual(t, reads, c.reads)
			require.LessOrEqual(t, d.Stats().ReadBytes-before, c.bytes)
		}
		require.NoError(t, d.Close())
	}
}

// Entries larger than a segment, and appends larger than one, are taken.
func TestLarge(t *testing.T) {
	for _, o := range []raftlog.Options{{MinSegmentBytes: 4 << 10, MaxSegmentBytes: 64 << 10}, small} {
		fs := vfs.NewMem()
		d := open(t, fs, "log", o)
		g := create(t, logOf(t, d, 1), 1, 1)
		var list []*pb.Entry
		for i, size := range []int{10, 100 << 10, 3, 60 << 10, 60 << 10, 0, 16 << 20, 5} {
			list = append(list, entry(uint64(i+1), 2, strings.Repeat(string(rune('a'+i)), size)))
		}
		done := make(written, 2)
		g.Append(hard(2, 1, 8), list, done)
		g.Append(nil, []*pb.Entry{entry(9, 2, "next")}, done)
		require.NoError(t, d.Flush())
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		want := contents(t, g)
		require.NoError(t, d.Close())
		d = open(t, fs, "log", o)
		require.Equal(t, want, contents(t, groupOf(t, logOf(t, d, 1), 1)))
		require.NoError(t, d.Close())
	}
}

// The first write of all may be larger than the first segment, which then
// grows: a segment without frames would end the row.
func TestLargeFirst(t *testing.T) {
	fs, o := vfs.NewMem(), raftlog.Options{Inline: true, MinSegmentBytes: 4 << 10, MaxSegmentBytes: 64 << 10}
	d := open(t, fs, "log", o)
	g, err := logOf(t, d, 1).Create(1, 1, 0, 0, make([]byte, 20<<10), nil)
	require.NoError(t, err)
	fill(t, d, g, 300)
	want := contents(t, g)
	require.NoError(t, d.Close())
	d = open(t, fs, "log", o)
	require.Equal(t, want, contents(t, groupOf(t, logOf(t, d, 1), 1)))
	require.NoError(t, d.Close())
}

// An append that takes several frames may be cut between them; then it has not
// committed what is missing, and has the term of what is there.
func TestSplitAppend(t *testing.T) {
	seen := map[uint64]bool{}
	for countdown := 1; countdown < 60; countdown++ {
		mem := vfs.NewCrashableMem()
		hook := &hookFS{FS: mem}
		d := open(t, hook, "log", small)
		g := create(t, logOf(t, d, 1), 1, 1)
		fill(t, d, g, 1)
		var clone *vfs.MemFS
		n := 0
		hook.before = func() {
			if n++; n == countdown {
				clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			}
		}
		var list []*pb.Entry
		for i := range uint64(12) {
			list = append(list, entry(i+2, 9, strings.Repeat("p", 1000)))
		}
		done := make(written, 1)
		g.Append(hard(9, 2, 13), list, done)
		require.NoError(t, d.Flush())
		require.NoError(t, <-done)
		hook.before = nil
		require.NoError(t, d.Close())
		if clone == nil {
			break
		}
		d = open(t, clone, "log", small)
		g = groupOf(t, logOf(t, d, 1), 1)
		last, err := g.LastIndex()
		require.NoError(t, err)
		seen[last] = true
		hs := g.HardState()
		require.LessOrEqual(t, hs.GetCommit(), last)
		if last > 1 {
			require.Equal(t, uint64(9), hs.GetTerm())
		}
		require.NoError(t, d.Close())
	}
	require.Greater(t, len(seen), 3, "%v", seen)
}
