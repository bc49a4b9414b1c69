package cluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// What was acknowledged is in what is read afterwards, at every node, whether it has a
// replica of the meta group or not; a view has it in time, and says how old it is.
func TestLatestIsTheLatest(t *testing.T) {
	l := boot(t, 7, lan)
	await(t, l, "all replicas", settled)
	for round := range uint64(50) {
		a, err := l.Node(int(round)%7+1).Propose(within(t, time.Minute), &meta.Join{Request: 1000 + round, Profile: meta.Profile{Formats: meta.Range{Min: 1, Max: 1}}})
		require.NoError(t, err)
		leased := 0
		for _, n := range l.Nodes() {
			s, err := n.Latest(within(t, time.Minute))
			require.NoError(t, err)
			last := s.Nodes()[len(s.Nodes())-1]
			require.Equal(t, a.ID, uint64(last.ID), "node %d", n.ID())
			if s, ok := n.Leased(); ok {
				leased++
				last := s.Nodes()[len(s.Nodes())-1]
				require.Equal(t, a.ID, uint64(last.ID), "node %d", n.ID())
			}
		}
		require.LessOrEqual(t, leased, 1)
	}
	for _, n := range l.Nodes() {
		require.Eventually(t, func() bool {
			s, age := n.View()
			return len(s.Nodes()) == 57 && age >= 0 && age < time.Second
		}, 20*time.Second, time.Millisecond)
	}
}

// A replica of the meta group that nobody fills does not blind its node.
func TestEmptyReplicaOfTheMetaGroup(t *testing.T) {
	l := boot(t, 7, lan)
	await(t, l, "all replicas", settled)
	s, _ := l.Node(1).View()
	sh, _ := s.Shard(meta.MetaShard)
	var outside *cluster.Node
	for _, n := range l.Nodes() {
		if _, ok := sh.On(n.ID()); !ok {
			outside = n
		}
	}
	require.NoError(t, outside.Host().Create(1, 99, consensus.Initial{}))
	a, err := l.Node(1).Propose(within(t, time.Minute), &meta.Join{Request: 1000, Profile: meta.Profile{Formats: meta.Range{Min: 1, Max: 1}}})
	require.NoError(t, err)
	_, err = outside.Await(within(t, 20*time.Second), func(s *meta.State) bool {
		_, ok := s.Node(consensus.NodeID(a.ID))
		return ok
	})
	require.NoError(t, err)
	s, err = outside.Latest(within(t, 20*time.Second))
	require.NoError(t, err)
	_, ok := s.Node(consensus.NodeID(a.ID))
	require.True(t, ok)
}

// The node that led the meta group and has left it follows it like any other.
func TestFormerLeaderFollows(t *testing.T) {
	// Its heartbeats are so far apart that it hears of no other leader before it leaves.
	l := boot(t, 7, func(o *cluster.LocalOptions) {
		o.Node = func(_ int, o *cluster.Options) { o.Interval = time.Second }
	})
	await(t, l, "all replicas", settled)
	for range 2 {
		leader := l.Node(1).Host().Leader(1).Node
		for _, n := range l.Nodes() {
			if n.Host().Leader(1).Node == n.ID() {
				leader = n.ID()
			}
		}
		require.NoError(t, l.Node(1).Decommission(within(t, time.Minute), leader))
		await(t, l, "that it has left", func(s *meta.State) bool {
			sh, _ := s.Shard(meta.MetaShard)
			_, on := sh.On(leader)
			return !on && len(s.Moves()) == 0
		})
		require.NoError(t, l.Node(1).Recommission(within(t, time.Minute), leader))
		await(t, l, "that it is back", func(s *meta.State) bool {
			n, ok := s.Node(leader)
			return ok && !n.Draining && settled(s)
		})
	}
}

// A leader of the meta group that may have been deposed takes heartbeats, but does not
// say that what it knows is the latest.
func TestLeaderWithoutLeaseDoesNotVouch(t *testing.T) {
	l := boot(t, 3, func(o *cluster.LocalOptions) {
		o.Node = func(_ int, o *cluster.Options) {
			o.Consensus = func(c *consensus.Options) { c.LeaseDuration = 200 * time.Millisecond }
		}
	})
	await(t, l, "the meta group", func(s *meta.State) bool {
		sh, ok := s.Shard(meta.MetaShard)
		return ok && len(sh.Members) == 3 && len(s.Moves()) == 0
	})
	var leader *cluster.Node
	var cut func()
	held := func() bool { _, ok := leader.Host().Lease(consensus.GroupID(meta.MetaShard)); return ok }
	require.Eventually(t, func() bool {
		if leader, cut = leaderOf(l, meta.MetaShard); leader == nil {
			return false
		}
		latest, taken := leader.Vouches()
		return latest && taken && leader.NewTerm()
	}, time.Minute, time.Millisecond)
	cut()
	require.Eventually(t, func() bool { return !held() }, time.Minute, time.Millisecond)
	unsure := 0
	for leader.Host().Leader(consensus.GroupID(meta.MetaShard)).Node == leader.ID() {
		latest, taken := leader.Vouches()
		require.False(t, latest)
		if taken {
			unsure++
		}
		time.Sleep(time.Millisecond)
	}
	t.Logf("%d heartbeats were taken by a leader without a lease", unsure)
	l.Network().Heal()
}
