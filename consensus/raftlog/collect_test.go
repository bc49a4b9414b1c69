package raftlog_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A crash of an owner in the middle of a collection loses nothing of it,
// although what collection wrote for it goes with its buffer.
func TestCrashWhileCollecting(t *testing.T) {
	reached := false
	for at := 1; at < 40; at++ {
		mem := vfs.NewCrashableMem()
		fs := &hookFS{FS: mem}
		o := small
		o.CacheBytes = 1
		d := open(t, fs, "log", o)
		busy, idle := create(t, logOf(t, d, 1), 1, 1), logOf(t, d, 2)
		h := create(t, idle, 1, 1)
		fill(t, d, h, 3)
		want := contents(t, h)
		n := 0
		fs.reading = func() {
			if n++; n == at {
				idle.Crash()
			}
		}
		for range 120 {
			fill(t, d, busy, 1)
			last, err := busy.LastIndex()
			require.NoError(t, err)
			busy.Truncate(last)
		}
		reached = reached || n >= at && d.Stats().SegmentsRetired > 0
		fs.reading = nil
		idle.Crash()
		h = groupOf(t, logOf(t, d, 2), 1)
		require.Equal(t, want, contents(t, h), "crash at read %d", at)
		require.NoError(t, d.Close())
		d = open(t, mem, "log", o)
		require.Equal(t, want, contents(t, groupOf(t, logOf(t, d, 2), 1)), "crash at read %d", at)
		require.NoError(t, d.Close())
	}
	require.True(t, reached)
}

// A log under load stays as small as what is live asks for, though some groups
// lag and hold the oldest segments, and its files are used again.
func TestCollection(t *testing.T) {
	for _, inline := range []bool{true, false} {
		t.Run(fmt.Sprintf("inline=%v", inline), func(t *testing.T) {
			const segment = 64 << 10
			fs := vfs.NewMem()
			o := raftlog.Options{Inline: inline, MinSegmentBytes: segment, MaxSegmentBytes: segment, CacheBytes: 32 << 10}
			d := open(t, fs, "log", o)
			l := logOf(t, d, 1)
			var lag []string
			for i := range 20 {
				g := create(t, l, raftlog.GroupID(100+i), 1)
				fill(t, d, g, 5)
				g.Append(hard(7, uint64(i), 2), nil, nil)
				g.Truncate(2)
				lag = append(lag, contents(t, g))
			}
			dead := create(t, l, 200, 5)
			dead.Destroy(nil)
			g := create(t, l, 1, 1)
			peak := int64(0)
			data := strings.Repeat("w", 1000)
			for i := uint64(1); i <= 6000; i++ {
				done := make(written, 1)
				g.Append(nil, []*pb.Entry{entry(i, 1, data)}, done)
				if inline {
					require.NoError(t, d.Flush())
				}
				require.NoError(t, <-done)
				if i > 30 {
					g.Truncate(i - 30)
				}
				if !inline && i%100 == 0 { // the collector has its own pace
					require.Eventually(t, func() bool { return d.Stats().DiskBytes <= 8*segment }, 30*time.Second, 100*time.Microsecond)
				}
				peak = max(peak, d.Stats().DiskBytes)
			}
			s := d.Stats()
			require.Greater(t, s.SegmentsRetired, int64(80))
			require.Greater(t, s.SegmentsRecycled, int64(20))
			require.Positive(t, s.RewrittenBytes)
			require.Less(t, s.RewrittenBytes, int64(1<<20))
			require.LessOrEqual(t, peak, int64(12*segment), "6 MB were written, 60 KB are live")
			require.LessOrEqual(t, s.CacheBytes, int64(32<<10))
			for i, want := range lag {
				require.Equal(t, want, contents(t, groupOf(t, l, raftlog.GroupID(100+i))))
			}
			require.NoError(t, d.Close())
			d = open(t, fs, "log", o)
			l = logOf(t, d, 1)
			for i, want := range lag {
				require.Equal(t, want, contents(t, groupOf(t, l, raftlog.GroupID(100+i))))
			}
			_, err := l.Create(200, 5, 0, 0, nil, nil)
			require.Error(t, err, "the tombstone was written again too")
			names, err := fs.List("log")
			require.NoError(t, err)
			require.LessOrEqual(t, len(names), 16)
			require.NoError(t, d.Close())
		})
	}
}
