package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// load writes n commands with values of size bytes to every group but the first,
// all groups at once and one entry a command.
func (c *cluster) load(ctx context.Context, n, size int) error {
	value := strings.Repeat("v", size)
	errs := make([]error, c.s.groups)
	var wg sync.WaitGroup
	for g := 1; g < c.s.groups; g++ {
		wg.Go(func() {
			for i := 0; i < n && errs[g] == nil; i++ {
				_, errs[g] = c.hosts[0].Propose(ctx, consensus.GroupID(g+1), put(fmt.Sprint(i%4), value))
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Many groups each of which keeps less log than it may, and together more than
// the store may: one look is enough to cut the log to its bound, whether its
// bytes or the memory of its index is too much.
func TestStoreLogIsBounded(t *testing.T) {
	const groups = 200
	for _, c := range []struct {
		commands, size int
		bound          int64
	}{
		{16, 4 << 10, 4 << 20},
		{16, 4 << 10, 1 << 20}, // less than a quarter of the log
		{150, 1, 4 << 20},
	} {
		t.Run(fmt.Sprintf("size=%d/bound=%d", c.size, c.bound), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cl := boot(t, setup{nodes: 1, replicas: 1, groups: groups, options: func(o *consensus.Options) {
					o.LogTailBytes, o.MaxStoreLogBytes = 1<<20, c.bound
					o.MaxBatchCommands = 1
				}})
				cl.leaders()
				require.NoError(t, cl.load(t.Context(), c.commands, c.size))
				status := func(g consensus.GroupID) consensus.Status {
					st, err := cl.hosts[0].Status(g)
					require.NoError(t, err)
					return st
				}
				for g := range consensus.GroupID(groups) {
					require.Less(t, status(g+1).LogBytes, int64(1<<20))
				}
				cost := func() int64 {
					st := cl.disks[0].Stats()
					return st.LiveBytes + st.LiveEntries*raftlog.IndexBytes
				}
				before, short := cost(), status(1).First
				require.Greater(t, before, c.bound)
				time.Sleep(20 * 50 * time.Millisecond) // ticks, so that the log is looked at once
				synctest.Wait()
				require.LessOrEqual(t, cost(), c.bound)
				require.Greater(t, cost(), c.bound-2*before/groups, "no log is cut without need")
				if c.bound > before/4 {
					require.Equal(t, short, status(1).First, "nor a short one")
				}
				require.NoError(t, cl.load(t.Context(), 1, 1), "and the groups go on")
			})
		})
	}
}

// A follower that is a few entries behind when the store's log is cut is
// repaired from the log.
func TestStoreBoundSparesFollowers(t *testing.T) {
	o := manualOptions{host: func(o *consensus.Options) { o.MaxStoreLogBytes = 64 << 10 }}
	stepwise(t, o, func(t *testing.T, m *manual) {
		m.elect(1)
		for i := range 40 {
			if i == 37 {
				m.lose = dropping([]consensus.NodeID{3}, "MsgApp")
			}
			m.mustPut(1, fmt.Sprint("k", i), strings.Repeat("v", 4<<10))
		}
		first := m.status(1).First
		m.tick(25)
		require.Greater(t, m.status(1).First, first, "the log has been cut")
		require.LessOrEqual(t, m.status(1).LogBytes, int64(64<<10))
		m.lose = nil
		m.settle()
		m.until("the rest", func() bool { return m.status(3).Applied == m.status(1).Applied })
		require.Zero(t, m.host(1).Stats().SnapshotsSent)
		require.Equal(t, m.get(1, "k39"), m.get(3, "k39"))
	})
}
