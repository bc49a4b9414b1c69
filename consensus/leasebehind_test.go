package consensus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
)

// A leader whose own disk is slower than its followers' commits what it has not
// applied. A follower may then show what the leader's machine does not hold
// yet, and a read under the lease would step back behind it.
func TestNoLeaseWhileMachineIsBehindCommit(t *testing.T) {
	a := newArena(t, arenaSetup{nodes: 3, groups: 1, seed: harness.Seed(), options: func(o *consensus.Options) { o.AsyncApply = false }})
	require.True(t, a.accept(t.Context()))
	var leader *arenaNode
	require.Eventually(t, func() bool {
		for _, n := range a.nodes {
			if _, ok := n.Host().Lease(1); ok {
				leader = n
			}
		}
		return leader != nil
	}, recovery, time.Millisecond)
	require.NoError(t, a.SlowDisk(uint64(leader.id), 300*time.Millisecond))
	machine := func(n *arenaNode) *kv.Machine {
		sm, err := n.Host().Machine(1)
		require.NoError(t, err)
		return sm.(*kv.Machine)
	}
	follower := a.nodes[leader.id%3]
	proposed := make(chan error, 1)
	host := leader.Host()
	go func() {
		_, err := host.Propose(t.Context(), 1, put("k", "v"))
		proposed <- err
	}()
	require.Eventually(t, func() bool {
		_, shown := machine(follower).Get([]byte("k"))
		return shown
	}, recovery, time.Millisecond)
	_, held := host.Lease(1)
	_, found := machine(leader).Get([]byte("k"))
	require.True(t, found || !held, "a lease on a machine that is behind what a follower shows")
	require.NoError(t, a.SlowDisk(uint64(leader.id), 0))
	require.NoError(t, <-proposed)
	require.Eventually(t, func() bool { _, held := host.Lease(1); return held }, recovery, time.Millisecond, "the lease never came back")
}
