package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// While a follower is down and clients push as fast as they can, what the
// others hold in memory and on disk stays within its bounds: the log is cut
// though the follower has not seen it. When it returns it catches up.
func TestMemoryIsBoundedWhileAFollowerIsDown(t *testing.T) {
	const (
		clients, size = 64, 1 << 10
		tail          = 256 << 10
		cache         = 1 << 20
		quota         = 1 << 20
	)
	pushed := int64(48 << 20)
	if testing.Short() {
		pushed /= 3
	}
	c := boot(t, setup{
		options: func(o *consensus.Options) { o.LogTailBytes, o.MaxGroupBytes = tail, quota },
		raftlog: func(o *raftlog.Options) { o.CacheBytes, o.MaxSegmentBytes = cache, 1<<20 },
	})
	l := c.leader(1)
	c.put(t.Context(), 1, "k", "v")
	down := c.others(l)[0] - 1
	c.hosts[down].Crash()
	c.hosts[down] = nil
	require.NoError(t, c.disks[down].Close())
	c.disks[down] = nil

	heapBefore := heapInUse()
	var sent atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() { push(t, l, i, size, pushed, &sent) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	var most struct{ log, pending, live int64 }
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(2 * time.Millisecond):
		}
		st, err := l.Status(1)
		require.NoError(t, err)
		most.log = max(most.log, st.LogBytes)
		most.pending = max(most.pending, l.Stats().PendingBytes)
		most.live = max(most.live, c.disks[l.Node()-1].Stats().LiveBytes)
	}
	grown := heapInUse() - heapBefore
	t.Logf("%d MiB pushed: log %d KiB, pending %d KiB, live log of the disk %d KiB at most; heap grew by %d KiB",
		sent.Load()>>20, most.log>>10, most.pending>>10, most.live>>10, grown>>10)
	require.GreaterOrEqual(t, sent.Load(), pushed)
	require.LessOrEqual(t, most.pending, int64(quota))
	// The tail, and what arrives while the machine is flushed.
	require.Less(t, most.log, pushed/4, "the log was not cut")
	require.Less(t, most.live, pushed/2, "the disk's log was not cut")
	require.Less(t, grown, pushed/2, "memory grew with what was pushed")
	require.NotZero(t, l.Stats().Truncations)

	require.Eventually(t, func() bool { // at rest only the tail is left
		st, err := l.Status(1)
		return err == nil && st.LogBytes <= tail
	}, 20*time.Second, time.Millisecond)
	c.start(int(down))
	c.put(t.Context(), 1, "last", "v")
	require.Eventually(t, func() bool {
		at, sum := c.machine(int(l.Node()-1), 1).Digest()
		other, otherSum := c.machine(int(down), 1).Digest()
		return at == other && sum == otherSum
	}, 30*time.Second, time.Millisecond, "the follower did not catch up")
	require.NotZero(t, c.hosts[down].Stats().SnapshotsReceived)
}

// push proposes until all clients together have had enough bytes applied.
// Refusals for overload are part of the deal.
func push(t *testing.T, l *consensus.Host, client, size int, enough int64, sent *atomic.Int64) {
	key, value := []byte(fmt.Sprint("key", client)), make([]byte, size)
	for i := 0; sent.Load() < enough; i++ {
		copy(value, fmt.Sprint(i))
		_, err := l.Propose(context.Background(), 1, consensus.Command{Data: kv.EncodePut(nil, key, value)})
		var over *consensus.OverloadError
		switch {
		case err == nil:
			sent.Add(int64(size))
		case errors.As(err, &over):
			time.Sleep(time.Millisecond)
		default:
			t.Errorf("client %d: %v", client, err)
			return
		}
	}
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
