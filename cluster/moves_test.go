package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
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

// settled says that all shards have what they are to have, and nothing is under way.
func settled(s *meta.State) bool {
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
}
