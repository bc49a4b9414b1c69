package consensus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A cold cluster keeps next to nothing of its logs in memory, and its disks can
// make whoever reads wait. All nodes share one worker.
type cold struct {
	*cluster
	disks []*stuckDisk
	// slowStart makes reads wait on a node from the moment its log is open.
	slowStart func(i int)
}

func bootCold(t *testing.T, s setup) *cold {
	c := &cold{}
	w := slow(s)
	w.workers = 1
	w.link.Loss, w.link.Duplicate, w.link.Reorder = 0, 0, 0
	delay := w.raftlog
	w.raftlog = func(o *raftlog.Options) {
		delay(o)
		o.CacheBytes = 16 << 10
	}
	w.fs = func(_ int, fs vfs.FS) vfs.FS {
		c.disks = append(c.disks, &stuckDisk{FS: fs})
		return c.disks[len(c.disks)-1]
	}
	with := s.options
	w.options = func(o *consensus.Options) {
		o.LogTailBytes = 1 << 30
		if with != nil {
			with(o)
		}
		if c.slowStart != nil {
			c.slowStart(int(o.Node - 1))
		}
	}
	c.cluster = boot(t, w)
	return c
}

// coldBytes is what a follower misses or a node replays: several windows.
const coldBytes = 10 << 20

// fill writes coldBytes to g and returns the index of the last entry.
func (c *cold) fill(t *testing.T, g consensus.GroupID) uint64 {
	const size = 64 << 10
	value := strings.Repeat("v", size)
	for i := range coldBytes / size {
		c.put(t.Context(), g, fmt.Sprint("k", i), value)
	}
	st, err := c.leader(g).Status(g)
	require.NoError(t, err)
	return st.Last
}

// hang makes reads of a node's log wait until the function returned is called.
func (c *cold) hang(t *testing.T, i int) (open func()) {
	open = sync.OnceFunc(shut(&c.disks[i].read.shut))
	t.Cleanup(open)
	return open
}

// equal waits until node i has applied index, and says that no worker waited.
func (c *cold) equal(t *testing.T, i int, g consensus.GroupID, index uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		st, err := c.hosts[i].Status(g)
		return err == nil && st.Applied >= index
	}, time.Minute, time.Millisecond)
	l := c.leader(g)
	require.NoError(t, l.ReadIndex(t.Context(), g))
	require.NoError(t, c.hosts[i].ReadIndex(t.Context(), g))
	_, want := c.machine(int(l.Node()-1), g).Digest()
	_, got := c.machine(i, g).Digest()
	require.Equal(t, want, got)
	for _, h := range c.hosts {
		if h != nil {
			require.Zero(t, h.Stats().ColdReads, "a worker waited for the disk")
			require.Zero(t, h.Stats().SnapshotsReceived)
		}
	}
}

// While entries for a follower are read from a disk that hangs, the leader's
// worker serves all other groups, and this one. What is read comes in handy
// only while this replica leads: a change of leaders in between does no harm.
func TestCatchUpFromTheDiskHoldsUpNobody(t *testing.T) {
	for _, during := range []string{"nothing", "transfer"} {
		t.Run("during="+during, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := bootCold(t, setup{groups: 2})
				l := c.leader(1)
				away := int(c.others(l)[0] - 1)
				third := c.others(l)[1]
				c.wire.Partition([]consensus.NodeID{c.hosts[away].Node()}, c.others(c.hosts[away]))
				last := c.fill(t, 1)
				open := c.hang(t, int(l.Node()-1))
				c.wire.Heal()
				c.disks[l.Node()-1].read.await(t)
				for g := consensus.GroupID(1); g <= 2; g++ {
					c.put(t.Context(), g, "during", "v")
				}
				if during == "transfer" {
					require.NoError(t, l.Transfer(t.Context(), 1, consensus.ReplicaID(third)))
					c.put(t.Context(), 1, "during", "w")
				}
				st, err := c.hosts[away].Status(1)
				require.NoError(t, err)
				if during == "nothing" {
					require.Less(t, st.Last, last)
				}
				open()
				c.equal(t, away, 1, last)
				require.Greater(t, c.hosts[c.leader(1).Node()-1].Stats().ReadAheads, uint64(2), "it was repaired from memory")
			})
		})
	}
}

// The same for a replica that replays its log into its machine.
func TestReplayFromTheDiskHoldsUpNobody(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := bootCold(t, setup{groups: 2, options: func(o *consensus.Options) { o.AsyncApply = async }})
				last := c.fill(t, 1)
				i := int(c.others(c.leader(1))[0] - 1)
				time.Sleep(time.Second)
				c.crash(i)
				c.put(t.Context(), 2, "k", "v") // under another leader, if need be
				open := func() {}
				c.slowStart = func(int) { open = c.hang(t, i) }
				c.start(i)
				c.disks[i].read.await(t)
				for g := consensus.GroupID(1); g <= 2; g++ {
					c.put(t.Context(), g, "during", "v")
				}
				st, err := c.hosts[i].Status(1)
				require.NoError(t, err)
				require.Less(t, st.Applied, last)
				open()
				c.equal(t, i, 1, last)
				require.Greater(t, c.hosts[i].Stats().ReadAheads, uint64(2))
			})
		})
	}
}

// A replica that replays does not campaign, for Raft would read all of it at
// once, not even when it is told to; it does when it has caught up.
func TestReplayingReplicaCampaignsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bootCold(t, setup{nodes: 1, replicas: 1, options: func(o *consensus.Options) { o.ElectionTicks = 100 }})
		last := c.fill(t, 1)
		c.crash(0)
		open := func() {}
		c.slowStart = func(int) { open = c.hang(t, 0) }
		c.start(0)
		h := c.hosts[0]
		time.Sleep(time.Minute) // of ticks
		require.NoError(t, h.Campaign(1))
		st, err := h.Status(1)
		require.NoError(t, err)
		require.Equal(t, "follower", st.Role)
		require.Less(t, st.Applied, last)
		began := time.Now()
		open()
		c.leader(1)
		require.Less(t, time.Since(began), 2*time.Second, "it was told to campaign, and an election timeout is 5 s")
		c.equal(t, 0, 1, last)
	})
}

// A read that fails in the background stops the host, as one on the worker
// would.
func TestReadErrorStopsTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bootCold(t, setup{})
		l := c.leader(1)
		i := int(l.Node() - 1)
		away := c.hosts[c.others(l)[0]-1]
		c.wire.Partition([]consensus.NodeID{away.Node()}, c.others(away))
		c.fill(t, 1)
		c.disks[i].broken.Store(true)
		c.wire.Heal()
		require.Eventually(t, func() bool { return l.Err() != nil }, time.Minute, time.Millisecond)
		require.ErrorIs(t, l.Err(), errMachine)
		require.ErrorContains(t, l.Err(), "group 1: read log at index")
		_ = l.Close() // its log is broken
		c.hosts[i] = nil
		_ = c.cluster.disks[i].Close()
		c.cluster.disks[i] = nil
		c.put(t.Context(), 1, "k", "v")
	})
}

// What is read ahead for many groups stays within the bound, nobody is passed
// over, and what nobody came for is dropped.
func TestReadAheadIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const groups = 5
		c := bootCold(t, setup{nodes: 3, groups: groups})
		away := c.hosts[2]
		var limit int64
		for _, h := range c.hosts {
			limit = h.LimitWindows(1) // one read at a time, however large
		}
		cut := func() { c.wire.Partition([]consensus.NodeID{3}, c.others(away)) }
		cut()
		last := map[consensus.GroupID]uint64{}
		for g := consensus.GroupID(1); g <= groups; g++ {
			last[g] = c.fill(t, g)
		}
		c.wire.Heal()
		used := func() (most int64) {
			for _, h := range c.hosts {
				most = max(most, h.Stats().WarmBytes)
			}
			return most
		}
		require.Eventually(t, func() bool { return used() > 0 }, time.Minute, 100*time.Microsecond)
		cut() // with windows in memory
		time.Sleep(10 * time.Second)
		require.Zero(t, used(), "windows that nobody came for")
		c.wire.Heal()
		behind := func() bool {
			for g, index := range last {
				if st, err := away.Status(g); err != nil || st.Applied < index {
					return true
				}
			}
			return false
		}
		for deadline := time.Now().Add(time.Minute); behind(); time.Sleep(100 * time.Microsecond) {
			require.LessOrEqual(t, used(), limit)
			require.True(t, time.Now().Before(deadline), "somebody was passed over")
		}
		for g, index := range last {
			c.equal(t, 2, g, index)
		}
	})
}

// A window of the little that a follower misses is charged for that.
func TestReadAheadIsChargedForWhatItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bootCold(t, setup{})
		l := c.leader(1)
		away := c.hosts[c.others(l)[0]-1]
		cut := func() { c.wire.Partition([]consensus.NodeID{away.Node()}, c.others(away)) }
		cut()
		const value = 64 << 10
		for i := range 8 {
			c.put(t.Context(), 1, fmt.Sprint("k", i), strings.Repeat("v", value))
		}
		open := c.hang(t, int(l.Node()-1))
		c.wire.Heal()
		c.disks[l.Node()-1].read.await(t)
		whole := l.Stats().WarmBytes
		cut()
		time.Sleep(2 * time.Second) // so that it is not sent to one believed to listen
		open()
		synctest.Wait()
		require.Less(t, l.Stats().WarmBytes, whole/4)
		require.Greater(t, l.Stats().WarmBytes, int64(value))
	})
}

// That a window has come must not count as word from a follower that is silent:
// a leader without a quorum would stay in office.
func TestReadAheadIsNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bootCold(t, setup{})
		l := c.leader(1)
		i := int(l.Node() - 1)
		away := c.hosts[c.others(l)[0]-1]
		c.wire.Partition([]consensus.NodeID{away.Node()}, c.others(away))
		c.fill(t, 1)
		open := c.hang(t, i)
		c.wire.Heal()
		c.disks[i].read.await(t)
		time.Sleep(2 * time.Second)
		c.wire.Partition([]consensus.NodeID{l.Node()}, c.others(l))
		began := time.Now()
		time.AfterFunc(700*time.Millisecond, open) // Raft looks every 500 ms
		leads := func() bool {
			st, err := l.Status(1)
			require.NoError(t, err)
			return st.Role == "leader"
		}
		for leads() {
			require.Less(t, time.Since(began), 1100*time.Millisecond)
			time.Sleep(time.Millisecond)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := c.leader(1).Propose(ctx, 1, put("k", "v"))
		require.NoError(t, err)
	})
}

// A replica that goes gives back what it read ahead, also what is still to come.
func TestDestroyGivesBackWhatWasReadAhead(t *testing.T) {
	for _, underWay := range []bool{false, true} {
		t.Run(fmt.Sprintf("underway=%v", underWay), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := bootCold(t, setup{})
				l := c.leader(1)
				away := c.hosts[c.others(l)[0]-1]
				c.wire.Partition([]consensus.NodeID{away.Node()}, c.others(away))
				c.fill(t, 1)
				open := func() {}
				if underWay {
					open = c.hang(t, int(l.Node()-1))
				}
				c.wire.Heal()
				require.Eventually(t, func() bool { return l.Stats().WarmBytes > 0 }, time.Minute, 100*time.Microsecond)
				require.NoError(t, l.Destroy(1))
				open()
				time.Sleep(time.Second)
				require.Zero(t, l.Stats().WarmBytes)
			})
		})
	}
}

// A follower gets what was read for it at once, and not with the next heartbeat.
func TestReadAheadMakesRaftTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bootCold(t, setup{options: func(o *consensus.Options) { o.HeartbeatTicks, o.ElectionTicks = 20, 100 }})
		l := c.leader(1)
		away := int(c.others(l)[0] - 1)
		c.wire.Partition([]consensus.NodeID{c.hosts[away].Node()}, c.others(c.hosts[away]))
		last := c.fill(t, 1)
		open := c.hang(t, int(l.Node()-1))
		c.wire.Heal()
		c.disks[l.Node()-1].read.await(t) // a heartbeat has just been answered
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		open()
		c.equal(t, away, 1, last)
		require.Less(t, time.Since(began), 500*time.Millisecond, "heartbeats are a second apart")
	})
}

// Two followers that lack the same entries get them from one window: the first
// does not use it up, so that it is read again for the second, and the first
// tried again with that, and so on for as long as neither answers.
func TestFollowersShareAWindow(t *testing.T) {
	stepwise(t, manualOptions{nodes: 5, replicas: 5}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.isolate(4, 5)
		for i := range 20 {
			m.mustPut(1, fmt.Sprint("k", i), "v")
		}
		for _, id := range []consensus.NodeID{1, 2, 3} {
			m.crash(id)
			m.restart(id) // and with it goes what its log had in memory
		}
		m.wire.Heal()
		for _, id := range []consensus.NodeID{4, 5} {
			m.until("all is level", func() bool { return m.get(id, "k19") == "v" })
		}
		leader := m.host(consensus.NodeID(m.status(4).Leader))
		require.LessOrEqual(t, leader.Stats().ReadAheads, uint64(3), "its own replay, and one for each follower")
	})
}

// Nor does it when a leader asks it to: the transfer fails.
func TestReplayingReplicaTakesNoTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bootCold(t, setup{})
		c.fill(t, 1)
		l := c.leader(1)
		i := int(c.others(l)[0] - 1)
		time.Sleep(time.Second)
		c.crash(i)
		open := func() {}
		c.slowStart = func(int) { open = c.hang(t, i) }
		c.start(i)
		c.disks[i].read.await(t)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.Eventually(t, func() bool { // its log is level
			st, err := l.Status(1)
			return err == nil && st.Match[consensus.ReplicaID(i+1)] == st.Last
		}, time.Minute, time.Millisecond)
		require.Error(t, l.Transfer(ctx, 1, consensus.ReplicaID(i+1)))
		require.NoError(t, l.ReadIndex(t.Context(), 1))
		st, err := c.hosts[i].Status(1)
		require.NoError(t, err)
		require.Equal(t, "follower", st.Role)
		open()
		require.NoError(t, c.hosts[i].ReadIndex(t.Context(), 1))
		require.Zero(t, c.hosts[i].Stats().ColdReads)
	})
}
