package raftlog_test

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// once calls f at the nth call of what it returns.
func once(n int, f func()) func() {
	return func() {
		if n--; n == 0 {
			f()
		}
	}
}

// No completion comes to an owner that has crashed, neither of what it had
// buffered nor of what was on its way to the disk.
func TestCrashIsSilent(t *testing.T) {
	for _, way := range []string{"buffered", "under way"} {
		fs := &hookFS{FS: vfs.NewMem()}
		d := open(t, fs, "log", small)
		l, other := logOf(t, d, 1), create(t, logOf(t, d, 2), 1, 1)
		g := create(t, l, 1, 1)
		require.NoError(t, d.Flush())
		done, theirs := make(written, 1), make(written, 1)
		g.Append(nil, []*pb.Entry{entry(1, 1, "a")}, done)
		other.Append(nil, []*pb.Entry{entry(1, 1, "a")}, theirs)
		if way == "buffered" {
			l.Crash()
		} else {
			fs.before = once(1, l.Crash)
		}
		require.NoError(t, d.Flush())
		fs.before = nil
		require.Empty(t, done, way)
		require.NoError(t, <-theirs)
		last, err := groupOf(t, logOf(t, d, 1), 1).LastIndex()
		require.NoError(t, err)
		require.Equal(t, way == "under way", last == 1, way)
		g.Append(nil, []*pb.Entry{entry(2, 1, "stray")}, done)
		require.Empty(t, done, "a write after the crash changes nothing and tells nobody")
		require.NoError(t, d.Flush())
		require.NoError(t, d.Close())
	}
}

// The cache never gives up what is not written: not the newest entries, nor
// those that replaced older ones which it may give up.
func TestCacheKeepsUnwritten(t *testing.T) {
	for _, at := range []uint64{1, 2} { // replaced, appended
		fs := &hookFS{FS: vfs.NewMem()}
		o := small
		o.CacheBytes = 1
		d := open(t, fs, "log", o)
		g := create(t, logOf(t, d, 1), 1, 1)
		require.NoError(t, d.Flush())
		g.Append(nil, []*pb.Entry{entry(1, 1, "old")}, nil)
		fs.before = once(1, func() { g.Append(nil, []*pb.Entry{entry(at, 2, "new")}, nil) })
		require.NoError(t, d.Flush())
		fs.before = nil
		list, err := g.Entries(at, at+1, 1)
		require.NoError(t, err)
		require.Equal(t, "new", string(list[0].GetData()))
		// Once it is written it goes as all others do.
		require.NoError(t, d.Flush())
		reads := 0
		fs.reading = func() { reads++ }
		list, err = g.Entries(at, at+1, 1)
		require.NoError(t, err)
		require.Equal(t, "new", string(list[0].GetData()))
		require.Equal(t, 1, reads)
		require.NoError(t, d.Close())
	}
}

// A group may change in the midst of the collection of its entries, between
// their reading, their copy and its taking effect.
func TestCollectionMeetsWrites(t *testing.T) {
	reached := 0
	for _, way := range []string{"read", "write"} {
		for at := 1; at < 12; at++ {
			for what, change := range map[string]func(*raftlog.Group){
				"replace":  func(g *raftlog.Group) { g.Append(hard(8, 1, 2), []*pb.Entry{entry(4, 8, "replaced")}, nil) },
				"truncate": func(g *raftlog.Group) { g.Truncate(4) },
				"reset":    func(g *raftlog.Group) { g.Reset(nil, 40, 9, nil) },
				"destroy":  func(g *raftlog.Group) { g.Destroy(nil) },
			} {
				mem := vfs.NewMem()
				fs := &hookFS{FS: mem}
				o := small
				o.CacheBytes = 1
				d := open(t, fs, "log", o)
				l := logOf(t, d, 1)
				lag, busy := create(t, l, 1, 1), create(t, l, 2, 1)
				fill(t, d, lag, 6)
				for d.Stats().Segments < 3 {
					fill(t, d, busy, 1)
				}
				last, err := busy.LastIndex()
				require.NoError(t, err)
				busy.Truncate(last)
				hook := once(at, func() { change(lag); reached++ })
				if way == "read" {
					fs.reading = hook
				} else {
					fs.before = hook
				}
				for d.Stats().SegmentsRetired < 2 {
					fill(t, d, busy, 1)
					last++
					busy.Truncate(last)
				}
				fs.reading, fs.before = nil, nil
				want := ""
				if g, err := l.Group(1); err == nil {
					want = contents(t, g)
				}
				require.NoError(t, d.Close())
				d = open(t, mem, "log", o)
				if g, err := logOf(t, d, 1).Group(1); want != "" {
					require.NoError(t, err)
					require.Equal(t, want, contents(t, g), "%s at %s %d", what, way, at)
				} else {
					require.ErrorIs(t, err, raftlog.ErrNoGroup)
				}
				require.NoError(t, d.Close())
			}
		}
	}
	require.Greater(t, reached, 40)
}

// A segment that somebody reads is not recycled.
func TestCollectionWaitsForReaders(t *testing.T) {
	fs := &hookFS{FS: vfs.NewMem()}
	o := small
	o.CacheBytes = 1
	d := open(t, fs, "log", o)
	l := logOf(t, d, 1)
	slow, busy := create(t, l, 1, 1), create(t, l, 2, 1)
	fill(t, d, slow, 1)
	for d.Stats().Segments < 2 {
		fill(t, d, busy, 1)
	}
	fill(t, d, busy, 3)
	require.Zero(t, d.Stats().SegmentsRetired)
	last, err := busy.LastIndex()
	require.NoError(t, err)
	busy.Truncate(last)

	// The reader holds the segment when collection has copied the entry.
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	reader := func() {
		defer close(left)
		list, err := slow.Entries(1, 2, 1)
		if err != nil || string(list[0].GetData()) != strings.Repeat("v", 100) {
			t.Errorf("read %v, %v", list, err)
		}
	}
	fs.before = once(3, func() { // within the flush that makes the copies durable
		fs.before = nil
		fs.reading = once(1, func() {
			close(inside)
			<-leave
		})
		go reader()
		<-inside
	})
	require.NoError(t, d.Flush())
	require.Nil(t, fs.before, "collection was reached")
	require.Zero(t, d.Stats().SegmentsRetired)
	close(leave)
	<-left
	fs.reading = nil
	require.NoError(t, d.Flush())
	require.Positive(t, d.Stats().SegmentsRetired)
	require.NoError(t, d.Close())
}

// A group of an owner that has left does not look for its entries in segments
// that may be gone.
func TestReadAfterCrash(t *testing.T) {
	o := small
	o.CacheBytes = 1
	d := open(t, vfs.NewMem(), "log", o)
	l := logOf(t, d, 1)
	g := create(t, l, 1, 1)
	fill(t, d, g, 2)
	l.Crash()
	_, err := g.Entries(1, 2, 1)
	require.ErrorIs(t, err, raftlog.ErrClosed)
	require.NoError(t, d.Close())
}
