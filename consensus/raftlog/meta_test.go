package raftlog_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// What an owner keeps is its own, outlives every segment it was written to, and
// is gone only if it was not durable.
func TestMeta(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := open(t, fs, "log", small)
	l, other := logOf(t, d, 1), logOf(t, d, 2)
	require.Nil(t, l.Meta())
	done := make(written, 1)
	require.NoError(t, l.SetMeta([]byte("one"), done))
	require.NoError(t, other.SetMeta([]byte("two"), nil))
	require.Empty(t, done)
	require.NoError(t, d.Flush())
	require.NoError(t, <-done)

	// Collection takes the record along, of an owner that is open and of one
	// that is not.
	require.NoError(t, other.Close())
	g := create(t, l, 1, 1)
	for d.Stats().SegmentsRetired < 5 {
		fill(t, d, g, 1)
		last, err := g.LastIndex()
		require.NoError(t, err)
		g.Truncate(last)
	}
	require.NoError(t, d.Flush())
	require.NoError(t, l.SetMeta([]byte("lost"), nil))
	require.Equal(t, "lost", string(l.Meta()))
	lost := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), "log", small)
	require.Equal(t, "one", string(logOf(t, lost, 1).Meta()))
	require.Equal(t, "two", string(logOf(t, lost, 2).Meta()))
	require.NoError(t, lost.Close())

	l.Crash()
	require.Nil(t, l.Meta())
	l = logOf(t, d, 1)
	require.Equal(t, "one", string(l.Meta()))
	require.Equal(t, "two", string(logOf(t, d, 2).Meta()))
	fresh := logOf(t, d, 3)
	require.NoError(t, fresh.SetMeta([]byte("lost"), nil))
	fresh.Crash()
	require.Nil(t, logOf(t, d, 3).Meta(), "it was the first")
	require.NoError(t, d.Close())
	require.ErrorIs(t, l.SetMeta([]byte("late"), done), raftlog.ErrClosed)
	require.Empty(t, done)
}

func TestMetaIsSmall(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", small)
	l := logOf(t, d, 3)
	require.NoError(t, l.SetMeta(make([]byte, 1024), nil))
	require.ErrorContains(t, l.SetMeta(make([]byte, 1025), nil), "owner 3: meta of 1025 bytes, expected at most 1024")
	require.Len(t, l.Meta(), 1024)
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.SetMeta(nil, nil), raftlog.ErrClosed)
	require.NoError(t, d.Close())
}
