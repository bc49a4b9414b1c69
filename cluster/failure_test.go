package cluster_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// lan are options of a test cluster that notices failures soon.
func lan(o *cluster.LocalOptions) {
	o.Node = func(_ int, o *cluster.Options) {
		o.Interval = 20 * time.Millisecond
		o.Consensus = func(c *consensus.Options) { c.TickInterval = 20 * time.Millisecond }
	}
}

func is(id consensus.NodeID, c meta.Condition) func(*meta.State) bool {
	return func(s *meta.State) bool {
		n, ok := s.Node(id)
		return ok && n.Condition == c
	}
}

// A node that crashes is found dead, what it held is made anew elsewhere, and when it
// comes back it is a live node under another epoch.
func TestCrashIsRepaired(t *testing.T) {
	l := boot(t, 5, lan)
	ids := create(t, l, 6)
	await(t, l, "all replicas", settled)
	victim := l.Node(3).ID()
	l.Crash(3)
	await(t, l, "its death", is(victim, meta.Dead))
	await(t, l, "repair", func(s *meta.State) bool {
		for _, sh := range s.Shards() {
			if _, ok := sh.On(victim); ok && sh.ID != meta.MetaShard {
				return false
			}
		}
		return true
	})
	for _, id := range ids {
		put(t, l, id, "k", "v")
	}
	require.NoError(t, l.Start(within(t, time.Minute), 3))
	require.NoError(t, l.Node(3).Joined(within(t, time.Minute)))
	await(t, l, "its return", is(victim, meta.Live))
	await(t, l, "all replicas", settled)
}

// A node that hears of a shard only when the others have begun without it gets its
// replica all the same.
func TestMemberThatIsLate(t *testing.T) {
	l := boot(t, 3, lan)
	await(t, l, "all replicas", settled)
	late := l.Node(3)
	if late.Host().Leader(1).Node == late.ID() {
		late = l.Node(2)
	}
	for _, n := range l.Nodes() {
		if n != late {
			l.Network().Cut(n.ID(), late.ID())
			l.Network().Cut(late.ID(), n.ID())
		}
	}
	maker := l.Node(1)
	if maker == late {
		maker = l.Node(2)
	}
	id, err := maker.CreateShard(within(t, time.Minute), cluster.ShardSpec{})
	require.NoError(t, err)
	_, err = late.Host().Status(consensus.GroupID(id))
	require.Error(t, err, "it was not late")
	l.Network().Heal()
	require.Eventually(t, func() bool {
		st, err := late.Host().Status(consensus.GroupID(id))
		return err == nil && st.Applied > 0
	}, 20*time.Second, time.Millisecond)
	put(t, l, id, "k", "v")
}

// The node that leads the meta group crashes; another goes on with what it did.
func TestMetaLeaderCrashes(t *testing.T) {
	l := boot(t, 5, lan)
	create(t, l, 4)
	await(t, l, "all replicas", settled)
	leader := l.Node(1).Host().Leader(1).Node
	require.NotZero(t, leader)
	for i := range 5 {
		if l.Node(i+1).ID() == leader {
			l.Crash(i + 1)
			break
		}
	}
	await(t, l, "its death", is(leader, meta.Dead))
	await(t, l, "repair", func(s *meta.State) bool {
		for _, sh := range s.Shards() {
			if _, ok := sh.On(leader); ok && sh.ID != meta.MetaShard {
				return false
			}
		}
		return true
	})
}

// A node that the leader of the meta group does not hear, while others do, is left
// alone.
func TestAsymmetricPartition(t *testing.T) {
	l := boot(t, 5, lan)
	await(t, l, "all replicas", settled)
	leader := l.Node(1).Host().Leader(1).Node
	var deaf *cluster.Node
	for _, n := range l.Nodes() {
		if n.ID() != leader {
			deaf = n
		}
	}
	l.Network().Cut(deaf.ID(), leader)
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		for _, n := range l.Nodes() {
			s, _ := n.View()
			node, ok := s.Node(deaf.ID())
			require.True(t, ok)
			if n.Host().Leader(1).Node == leader { // another leader hears it
				require.Equal(t, meta.Live, node.Condition)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	l.Network().Heal()
	require.NoError(t, deaf.Err())
}

// With the meta group without a majority everything but change goes on: reads and
// writes, leases, a shard's failover, the restart of a node.
func TestWithoutMeta(t *testing.T) {
	l := boot(t, 5, func(o *cluster.LocalOptions) { lan(o); o.Network = transport.NetworkOptions{Seed: 1} })
	ids := create(t, l, 4)
	await(t, l, "all replicas", settled)
	s, _ := l.Node(1).View()
	m, _ := s.Shard(meta.MetaShard)
	require.Len(t, m.Members, 5)
	// The replicas of the meta group stop; the nodes do not.
	for _, n := range l.Nodes()[:3] {
		require.NoError(t, n.Host().Destroy(1))
	}
	ctx := within(t, 300*time.Millisecond)
	err := l.Node(1).Decommission(ctx, l.Node(5).ID())
	require.Error(t, err)
	for _, id := range ids {
		put(t, l, id, "k", "v")
	}
	var victim int
	for i, n := range l.Nodes() {
		if n.Host().Leader(consensus.GroupID(ids[0])).Node == n.ID() {
			victim = i + 1
		}
	}
	require.NotZero(t, victim)
	l.Crash(victim)
	put(t, l, ids[0], "k", "w") // another leads
	require.NoError(t, l.Start(within(t, time.Minute), victim))
	for _, id := range ids {
		put(t, l, id, "k", "x")
	}
	for _, n := range l.Nodes() {
		_, age := n.View()
		require.False(t, age >= 0 && age < 100*time.Millisecond, "node %d says that what it knows is the latest", n.ID())
	}
}
