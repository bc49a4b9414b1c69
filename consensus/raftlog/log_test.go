package raftlog_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

func noDelay(int, bool) time.Duration { return 0 }

// Create refuses what exists and what was destroyed, and says what stands in
// the way, also after the log was opened again.
func TestCreate(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs, "log", small)
	l := logOf(t, d, 1)
	g := create(t, l, 4, 7)
	_, err := l.Create(4, 9, 0, 0, nil, nil)
	var e *raftlog.ExistsError
	require.ErrorAs(t, err, &e)
	require.Equal(t, raftlog.ExistsError{Group: 4, Replica: 9, Existing: 7}, *e)
	fill(t, d, g, 3)
	done := make(written, 1)
	g.Destroy(done)
	require.NoError(t, d.Flush())
	require.NoError(t, <-done)
	for range 2 {
		_, err = l.Group(4)
		require.ErrorIs(t, err, raftlog.ErrNoGroup)
		_, err = l.Create(4, 7, 0, 0, nil, nil)
		require.ErrorAs(t, err, &e)
		require.Equal(t, raftlog.ExistsError{Group: 4, Replica: 7, Existing: 7, Destroyed: true}, *e)
		require.Equal(t, []raftlog.Info{{Group: 4, Replica: 7, Destroyed: true}}, l.Groups())
		require.NoError(t, d.Close())
		d = open(t, fs, "log", small)
		l = logOf(t, d, 1)
	}
	_, err = l.Create(4, 8, 0, 0, make([]byte, 3000), nil)
	require.ErrorContains(t, err, "meta of 3000 bytes, expected at most 2048")
	g = create(t, l, 4, 8)
	require.Equal(t, "replica 8 meta meta hard 0/0/0 base 0/0:", contents(t, g))
	require.NoError(t, d.Close())
}

// Broken invariants panic with their values.
func TestPanics(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", small)
	g := create(t, logOf(t, d, 1), 3, 1)
	g.Append(nil, []*pb.Entry{entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")}, nil)
	g.Truncate(1)
	for want, f := range map[string]func(){
		"raftlog: group 3: append at index 5 to a log from 2 to 3":      func() { g.Append(nil, []*pb.Entry{entry(5, 1, "")}, nil) },
		"raftlog: group 3: append at index 1 to a log from 2 to 3":      func() { g.Append(nil, []*pb.Entry{entry(1, 1, "")}, nil) },
		"raftlog: group 3: entry 1 of an append at index 4 has index 6": func() { g.Append(nil, []*pb.Entry{entry(4, 1, ""), entry(6, 1, "")}, nil) },
		"raftlog: group 3: truncate up to index 4 of a log from 2 to 3": func() { g.Truncate(4) },
	} {
		require.PanicsWithValue(t, want, f)
	}
	require.NoError(t, d.Close())
}

// order is a Completion that remembers when it was called.
type order struct {
	list *[]int
	n    int
	errs *[]error
}

func (o order) Written(err error) {
	*o.list = append(*o.list, o.n)
	*o.errs = append(*o.errs, err)
}

// Completions come in the order of the writes, and only for writes that are
// durable; a write that nobody waits for costs no sync.
func TestCompletions(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := open(t, fs, "log", small)
	l := logOf(t, d, 1)
	g, h := create(t, l, 1, 1), create(t, l, 2, 1)
	require.NoError(t, d.Flush())
	require.Zero(t, d.Stats().Syncs)
	var list []int
	var errs []error
	for i := range 50 {
		target := []*raftlog.Group{g, h}[i%2]
		target.Append(nil, []*pb.Entry{entry(uint64(i/2+1), 1, "x")}, order{&list, i, &errs})
	}
	require.Empty(t, list)
	require.NoError(t, d.Flush())
	require.Len(t, list, 50)
	for i, n := range list {
		require.Equal(t, i, n)
		require.NoError(t, errs[i])
	}
	require.Equal(t, int64(1), d.Stats().Syncs)
	lost := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), "log", small)
	require.Equal(t, contents(t, g), contents(t, groupOf(t, logOf(t, lost, 1), 1)))
	require.NoError(t, lost.Close())
	require.NoError(t, d.Close())
	done := make(written, 1)
	g.Append(nil, []*pb.Entry{entry(26, 1, "x")}, done)
	require.ErrorIs(t, <-done, raftlog.ErrClosed)
	_, err := d.Log(2)
	require.ErrorIs(t, err, raftlog.ErrClosed)
	_, err = l.Create(9, 1, 0, 0, nil, nil)
	require.ErrorIs(t, err, raftlog.ErrClosed)
	require.NoError(t, d.Close())
}

// The first error of a write or a sync ends it for good.
func TestFatal(t *testing.T) {
	for _, inline := range []bool{true, false} {
		for _, what := range []string{"write", "sync"} {
			t.Run(fmt.Sprintf("inline=%v/%s", inline, what), func(t *testing.T) {
				fs := &hookFS{FS: vfs.NewMem()}
				d := open(t, fs, "log", raftlog.Options{Inline: inline, MinSegmentBytes: 64 << 10, MaxSegmentBytes: 64 << 10})
				l := logOf(t, d, 1)
				g := create(t, l, 1, 1)
				fill(t, d, g, 1)
				boom := errors.New("boom")
				fs.fail(what, boom)
				done := make(written, 3)
				g.Append(nil, []*pb.Entry{entry(2, 1, "x")}, done)
				_ = d.Flush()
				require.ErrorIs(t, <-done, boom)
				fs.fail(what, nil)
				g.Append(nil, []*pb.Entry{entry(3, 1, "y")}, done)
				require.ErrorIs(t, d.Flush(), boom)
				require.ErrorIs(t, <-done, boom)
				require.ErrorIs(t, d.Err(), boom)
				if inline { // otherwise the preparer may be the first to meet it
					require.ErrorContains(t, d.Err(), what+" ")
				}
				_, err := d.Log(2)
				require.ErrorIs(t, err, boom)
				require.ErrorIs(t, l.Close(), boom)
				require.ErrorIs(t, d.Close(), boom)

				d = open(t, fs.FS, "log", small)
				last, err := groupOf(t, logOf(t, d, 1), 1).LastIndex()
				require.NoError(t, err)
				require.LessOrEqual(t, last, uint64(2))
				require.GreaterOrEqual(t, last, uint64(1))
				require.NoError(t, d.Close())
			})
		}
	}
}
