package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// The meta group has as many replicas as the cluster's size asks for.
func TestMetaGroupGrows(t *testing.T) {
	for nodes, want := range map[int]int{1: 1, 2: 1, 3: 3, 4: 3, 6: 5} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			l := boot(t, nodes, nil)
			await(t, l, "the meta group", func(s *meta.State) bool {
				sh, ok := s.Shard(meta.MetaShard)
				return ok && len(sh.Members) == want && len(s.Moves()) == 0
			})
		})
	}
}

// settled says that all shards have what they are to have, the meta group as many
// replicas as the number of nodes asks for, and that nothing is under way.
func settled(s *meta.State) bool {
	stay := 0
	for _, n := range s.Nodes() {
		if n.Condition != meta.Dead && !n.Draining {
			stay++
		}
	}
	if sh, ok := s.Shard(meta.MetaShard); !ok || len(sh.Members) != min(5, (stay-1)/2*2+1) {
		return false
	}
	for _, sh := range s.Shards() {
		if len(sh.Members) != sh.Want || sh.Version == 0 || sh.ID != meta.MetaShard && sh.Generation == 0 || sh.Into != 0 {
			return false
		}
		for _, m := range sh.Members {
			if n, ok := s.Node(m.Node); !ok || m.Learner || n.Condition == meta.Dead || n.Draining {
				return false
			}
		}
	}
	return len(s.Moves()) == 0
}

// create makes shards that divide all keys.
func create(t testing.TB, l *cluster.Local, shards int) []meta.ShardID {
	t.Helper()
	var ids []meta.ShardID
	key := func(i int) string {
		if i == 0 || i == shards {
			return ""
		}
		return fmt.Sprintf("%06d", i)
	}
	for i := range shards {
		id, err := l.Node(1).CreateShard(within(t, time.Minute), cluster.ShardSpec{Span: meta.Span{Start: key(i), End: key(i + 1)}})
		require.NoError(t, err)
		ids = append(ids, id)
	}
	return ids
}

// Who joins gets a share, and who drains gives it all up and can go.
func TestReplicasFollowTheNodes(t *testing.T) {
	l := boot(t, 4, nil)
	ids := create(t, l, 12)
	for _, id := range ids {
		put(t, l, id, "k", "v")
	}
	n := l.Node(4)
	require.NoError(t, l.Node(2).Decommission(within(t, time.Minute), n.ID()))
	await(t, l, "nothing at the node", func(s *meta.State) bool {
		for _, sh := range s.Shards() {
			if _, ok := sh.On(n.ID()); ok {
				return false
			}
		}
		return settled(s)
	})
	require.NoError(t, l.Node(1).Remove(within(t, time.Minute), n.ID()))
	for _, id := range ids {
		put(t, l, id, "k", "w")
	}
	require.Eventually(t, func() bool { return n.Err() != nil }, 20*time.Second, time.Millisecond, "the node goes on though it was removed")

	// Nor does it act again from its directory: the cluster does not take it back, and
	// nothing is asked of it.
	l.Crash(4)
	if err := l.Start(within(t, 20*time.Second), 4); err != nil {
		require.ErrorIs(t, err, meta.ErrRemoved)
		return
	}
	again := l.Node(4)
	require.ErrorIs(t, again.Joined(within(t, 20*time.Second)), meta.ErrRemoved)
	require.ErrorIs(t, again.Err(), meta.ErrRemoved)
	require.ErrorIs(t, again.Host().Campaign(consensus.GroupID(ids[0])), consensus.ErrRejected)
	s, err := l.Node(1).Latest(within(t, 20*time.Second))
	require.NoError(t, err)
	require.True(t, s.Removed(again.ID()))
	for _, n := range l.Nodes()[:3] {
		require.NoError(t, n.Err())
	}
}

// A replica that nobody has filled goes if its move was given up, and stays if what
// the node knows is from before the move.
func TestEmptyReplicas(t *testing.T) {
	l := boot(t, 2, nil)
	old, err := l.Node(1).CreateShard(within(t, time.Minute), cluster.ShardSpec{Span: meta.Span{End: "m"}, Want: 1})
	require.NoError(t, err)
	s, err := l.Node(2).Latest(within(t, time.Minute))
	require.NoError(t, err)
	sh, ok := s.Shard(old)
	require.True(t, ok)
	other := l.Node(1)
	if _, here := sh.On(other.ID()); here {
		other = l.Node(2)
	}
	_, err = other.Await(within(t, time.Minute), func(s *meta.State) bool { _, ok := s.Shard(old); return ok })
	require.NoError(t, err)
	g := consensus.GroupID(old)
	require.NoError(t, other.Host().Create(g, sh.Replicas, consensus.Initial{}))
	other.KeepReplicas()
	_, err = other.Host().Status(g)
	require.ErrorIs(t, err, consensus.ErrNoReplica)
	require.Eventually(t, func() bool {
		return other.Host().Create(g, sh.Replicas+1, consensus.Initial{}) == nil
	}, 20*time.Second, time.Millisecond)
	other.KeepReplicas()
	_, err = other.Host().Status(g)
	require.NoError(t, err)
}

// An empty replica of a move that was given up makes room for that of the next.
func TestEmptyReplicaInTheWay(t *testing.T) {
	l := boot(t, 4, nil)
	ids := create(t, l, 1)
	await(t, l, "all replicas", settled)
	s, _ := l.Node(1).View()
	sh, _ := s.Shard(ids[0])
	var other *cluster.Node
	for _, n := range l.Nodes() {
		if _, here := sh.On(n.ID()); !here {
			other = n
		}
	}
	g := consensus.GroupID(ids[0])
	require.NoError(t, other.Host().Create(g, sh.Replicas, consensus.Initial{}))
	_, err := l.Node(1).Propose(within(t, time.Minute), &meta.Begin{
		Shard: ids[0], Kind: meta.MoveSwap, From: sh.Members[0].Node, To: other.ID(), Why: "test",
	})
	require.NoError(t, err)
	await(t, l, "the move", func(s *meta.State) bool {
		sh, _ := s.Shard(ids[0])
		_, here := sh.On(other.ID())
		return here && settled(s)
	})
}

// A cluster of any size can shrink by a node.
func TestClusterShrinks(t *testing.T) {
	for nodes, want := range map[int]int{5: 3, 3: 1} {
		t.Run(fmt.Sprint(nodes), func(t *testing.T) {
			l := boot(t, nodes, nil)
			await(t, l, "the meta group", func(s *meta.State) bool {
				sh, ok := s.Shard(meta.MetaShard)
				return ok && len(sh.Members) == nodes && len(s.Moves()) == 0
			})
			gone := l.Node(nodes).ID()
			require.NoError(t, l.Node(1).Decommission(within(t, time.Minute), gone))
			await(t, l, "the rest", func(s *meta.State) bool {
				sh, _ := s.Shard(meta.MetaShard)
				_, on := sh.On(gone)
				return !on && len(sh.Members) == want && len(s.Moves()) == 0
			})
			require.NoError(t, l.Node(1).Remove(within(t, time.Minute), gone))
		})
	}
}
