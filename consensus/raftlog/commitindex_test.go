package raftlog_test

import (
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A commit index alone costs no sync, wherever the entries before it are when it
// comes, and its Completion hears of nothing before they are durable.
func TestCommitIndexAsksForNoSync(t *testing.T) {
	fs := &hookFS{FS: vfs.NewMem()}
	o := raftlog.Options{Inline: true}
	d := open(t, fs, "log", o)
	l := logOf(t, d, 1)
	g := create(t, l, 1, 1)
	syncs := func() int64 { return d.Stats().Syncs }
	entries, commit := make(written, 1), make(written, 1)
	add := func(index uint64) {
		g.Append(hard(1, 1, index-1), []*pb.Entry{entry(index, 1, "e")}, entries)
	}

	// Behind entries that are durable it waits for nothing.
	add(1)
	require.NoError(t, d.Flush())
	require.NoError(t, <-entries)
	before := syncs()
	g.Append(hard(1, 1, 1), nil, commit)
	require.Len(t, commit, 1)
	require.NoError(t, <-commit)
	require.NoError(t, d.Flush())
	require.Equal(t, before, syncs())
	g.Append(nil, nil, commit) // nor does nothing at all
	require.Len(t, commit, 1)
	require.NoError(t, <-commit)

	// Behind entries that wait it waits for them.
	add(2)
	g.Append(hard(1, 1, 2), nil, commit)
	require.Empty(t, commit)
	require.NoError(t, d.Flush())
	require.NoError(t, <-entries)
	require.NoError(t, <-commit)
	require.Equal(t, before+1, syncs())

	// While their sync is under way it waits for that one.
	add(3)
	fs.before = func() {
		if len(entries)+len(commit) == 0 && d.Stats().Syncs == before+1 && g.HardState().GetCommit() == 2 {
			g.Append(hard(1, 1, 3), nil, commit)
			require.Empty(t, commit, "nothing is durable yet")
		}
	}
	require.NoError(t, d.Flush())
	fs.before = nil
	require.NoError(t, <-entries)
	require.NoError(t, d.Flush())
	require.NoError(t, <-commit)
	require.Equal(t, before+2, syncs())

	// A term or a vote is worth a sync, and so is what they stand behind.
	g.Append(hard(2, 1, 3), nil, commit)
	require.Empty(t, commit)
	g.Append(hard(2, 3, 3), nil, entries)
	require.Empty(t, entries)
	require.NoError(t, d.Flush())
	require.NoError(t, <-commit)
	require.NoError(t, <-entries)
	require.Equal(t, before+3, syncs())
	g.Reset(hard(2, 3, 9), 9, 2, nil)
	g.Append(hard(2, 3, 10), nil, commit)
	require.Empty(t, commit)
	require.NoError(t, d.Flush())
	require.NoError(t, <-commit)
	require.Equal(t, before+4, syncs())

	// It is written all the same.
	g.Append(hard(2, 3, 11), nil, nil)
	require.NoError(t, d.Close())
	require.EqualValues(t, 11, groupOf(t, logOf(t, open(t, fs, "log", o), 1), 1).HardState().GetCommit())
}

// Where a write without a Completion has left entries that no flush has synced,
// a commit index behind them has them synced.
func TestCommitIndexBehindUnsyncedEntries(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", raftlog.Options{Inline: true})
	g := create(t, logOf(t, d, 1), 1, 1)
	done := make(written, 1)
	for _, flushed := range []bool{false, true} {
		last, err := g.LastIndex()
		require.NoError(t, err)
		g.Append(nil, []*pb.Entry{entry(last+1, 1, "e")}, nil)
		if flushed {
			require.NoError(t, d.Flush())
		}
		before := d.Stats().Syncs
		g.Append(hard(1, 1, last+1), nil, done)
		require.Empty(t, done)
		require.NoError(t, d.Flush())
		require.NoError(t, <-done)
		require.Equal(t, before+1, d.Stats().Syncs)
	}
}

// An owner that comes back vouches for what it finds, so it finds nothing that a
// loss of power would still take.
func TestOwnerFindsWhatIsDurable(t *testing.T) {
	fs := &hookFS{FS: vfs.NewMem()}
	d := open(t, fs, "log", raftlog.Options{Inline: true})
	l := logOf(t, d, 1)
	create(t, l, 1, 1).Append(hard(1, 1, 0), []*pb.Entry{entry(1, 1, "e")}, nil)
	require.NoError(t, d.Flush()) // written, and not synced
	l.Crash()
	before := d.Stats().Syncs
	g := groupOf(t, logOf(t, d, 1), 1)
	require.Equal(t, before+1, d.Stats().Syncs)
	done := make(written, 1)
	g.Append(hard(1, 1, 1), nil, done)
	require.NoError(t, <-done)
	require.NoError(t, d.Flush())
	require.Equal(t, before+1, d.Stats().Syncs)

	logOf(t, d, 2).Crash() // and if that sync fails, it does not come back
	create(t, logOf(t, d, 3), 1, 1)
	broken := errors.New("broken")
	fs.fail("sync", broken)
	_, err := d.Log(2)
	require.ErrorIs(t, err, broken)
}

// A log that has failed vouches for nothing more, and a crashed owner hears
// nothing more.
func TestCommitIndexAfterFailure(t *testing.T) {
	fs := &hookFS{FS: vfs.NewMem()}
	d := open(t, fs, "log", raftlog.Options{Inline: true})
	l := logOf(t, d, 1)
	g, other := create(t, l, 1, 1), create(t, logOf(t, d, 2), 1, 1)
	done := make(written, 1)
	g.Append(hard(1, 1, 0), []*pb.Entry{entry(1, 1, "e")}, done)
	require.NoError(t, d.Flush())
	require.NoError(t, <-done)
	l.Crash()
	g.Append(hard(1, 1, 1), nil, done)
	require.Empty(t, done)

	other.Append(hard(1, 1, 0), []*pb.Entry{entry(1, 1, "e")}, done)
	require.NoError(t, d.Flush())
	require.NoError(t, <-done)
	broken := errors.New("broken")
	fs.fail("sync", broken)
	create(t, logOf(t, d, 3), 1, 1).Append(nil, []*pb.Entry{entry(1, 1, "e")}, done)
	require.ErrorIs(t, d.Flush(), broken)
	require.ErrorIs(t, <-done, broken)
	other.Append(hard(1, 1, 1), nil, done)
	require.ErrorIs(t, d.Flush(), broken)
	require.ErrorIs(t, <-done, broken)
}
