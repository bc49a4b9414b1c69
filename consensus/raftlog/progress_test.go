package raftlog_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A log is busy while a flush is under way, each flush has a step of its own,
// and at rest the log is not busy.
func TestProgress(t *testing.T) {
	var d *raftlog.Disk
	var during []uint64
	d = open(t, vfs.NewMem(), "log", raftlog.Options{Delay: func(int, bool) time.Duration {
		step, busy := d.Progress()
		require.True(t, busy)
		during = append(during, step)
		return 0
	}})
	g := create(t, logOf(t, d, 1), 4, 1)
	for i := range uint64(3) {
		done := make(written, 1)
		g.Append(nil, []*pb.Entry{entry(i+1, 1, "a")}, done)
		require.NoError(t, <-done)
		require.NoError(t, d.Flush()) // the one under way has ended
		_, busy := d.Progress()
		require.False(t, busy)
	}
	require.NoError(t, d.Close())
	for i := 1; i < len(during); i++ {
		require.Greater(t, during[i], during[i-1])
	}
	require.GreaterOrEqual(t, len(during), 3)
}
