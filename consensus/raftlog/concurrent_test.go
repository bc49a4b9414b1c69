package raftlog_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// Owners of one disk come and go alone.
func TestShared(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", raftlog.Options{MinSegmentBytes: 4 << 10, MaxSegmentBytes: 64 << 10})
	stay := logOf(t, d, 1)
	_, err := d.Log(1)
	require.ErrorIs(t, err, raftlog.ErrOwned)
	g := create(t, stay, 1, 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			done := make(written, 1)
			g.Append(nil, []*pb.Entry{entry(i, 1, strings.Repeat("s", 200))}, done)
			if <-done != nil {
				return
			}
			if i%50 == 0 {
				g.Truncate(i - 20)
			}
		}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	acked := uint64(0)
	for round := range 60 {
		l := logOf(t, d, 2)
		if round == 0 {
			create(t, l, 1, 1)
		}
		h := groupOf(t, l, 1)
		last, err := h.LastIndex()
		require.NoError(t, err)
		require.GreaterOrEqual(t, last, acked)
		done := make(written, 100)
		for range rng.IntN(20) {
			last++
			h.Append(hard(last, 1, 0), []*pb.Entry{entry(last, last, strings.Repeat("c", rng.IntN(300)))}, done)
			if rng.IntN(2) == 0 {
				require.NoError(t, <-done)
				acked++
			}
		}
		if round%3 == 2 {
			require.NoError(t, l.Close())
		} else {
			l.Crash()
			silent := len(done)
			require.LessOrEqual(t, silent, 20)
		}
		acked += uint64(len(done))
	}
	close(stop)
	wg.Wait()
	require.NoError(t, d.Err())
	require.NoError(t, d.Close())
}

// Many workers append to groups of their own while others read.
func TestConcurrent(t *testing.T) {
	fs := vfs.NewMem()
	o := raftlog.Options{MinSegmentBytes: 16 << 10, MaxSegmentBytes: 128 << 10, CacheBytes: 16 << 10}
	d := open(t, fs, "log", o)
	var wg sync.WaitGroup
	var total atomic.Int64
	want := make([]string, 8)
	for w := range uint64(8) {
		l := logOf(t, d, w%2*10+w/2) // two workers never share an owner's group
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w, 3))
			g := create(t, l, 5, 1)
			done := make(written, 400) // Written must not block
			for i := uint64(1); i <= 400; i++ {
				g.Append(hard(i, w, i-1), []*pb.Entry{entry(i, i, strings.Repeat("k", rng.IntN(900)))}, done)
				total.Add(1)
				if rng.IntN(3) == 0 {
					for range len(done) {
						if err := <-done; err != nil {
							t.Error(err)
						}
					}
				}
				first, _ := g.FirstIndex()
				if i-first > 60 {
					g.Truncate(first + rng.Uint64N(40))
				}
				if rng.IntN(10) == 0 {
					first, _ = g.FirstIndex()
					list, err := g.Entries(first, i+1, 1<<30)
					if err != nil || len(list) != int(i+1-first) {
						t.Errorf("entries %d to %d: %d, %v", first, i, len(list), err)
					}
				}
			}
			want[w] = contents(t, g)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = d.Stats(), d.Buffered()
				_ = d.Flush()
			}
		}
	})
	wg.Wait()
	close(stop)
	reader.Wait()
	require.NoError(t, d.Close())
	d = open(t, fs, "log", o)
	for w := range uint64(8) {
		require.Equal(t, want[w], contents(t, groupOf(t, logOf(t, d, w%2*10+w/2), 5)))
	}
	require.NoError(t, d.Close())
}

// A slow disk takes its time in a bubble too, and its writers go on meanwhile:
// what gathers during a sync goes with the next.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sync = 10 * time.Millisecond
		d := open(t, vfs.NewMem(), "log", raftlog.Options{MaxSegmentBytes: 64 << 10, Delay: func(bytes int, synced bool) time.Duration {
			if !synced {
				return 0
			}
			return sync
		}})
		l := logOf(t, d, 1)
		start := time.Now()
		done := make(written, 1000)
		var groups []*raftlog.Group
		for i := range 8 {
			groups = append(groups, create(t, l, raftlog.GroupID(i), 1))
		}
		for i := uint64(1); i <= 100; i++ {
			for _, g := range groups {
				g.Append(nil, []*pb.Entry{entry(i, 1, "slow")}, done)
			}
			time.Sleep(sync / 10)
		}
		for range 800 {
			require.NoError(t, <-done)
		}
		s := d.Stats()
		require.GreaterOrEqual(t, time.Since(start), 100*sync/10)
		require.LessOrEqual(t, s.Syncs, int64(13))
		require.GreaterOrEqual(t, s.Syncs, int64(10))
		require.Equal(t, sync, (s.SyncTime / time.Duration(s.Syncs)).Round(sync))
		require.NoError(t, d.Close())
	})
}
