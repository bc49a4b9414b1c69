package cluster_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
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

// While the processors are taken by others, nobody is declared dead, and no node takes
// itself for one that stands still; and who dies is found when they are free again. In
// the mode long-running this goes on for ten minutes.
func TestStarvation(t *testing.T) {
	length := 3 * time.Second
	switch {
	case harness.CurrentMode() == harness.ModeLongRunning:
		length = 10 * time.Minute
	case testing.Short():
		length = time.Second
	}
	l := boot(t, 20, lan)
	ids := create(t, l, 10)
	await(t, l, "all replicas", settled)
	stop := starve(4)
	defer stop()
	elections := func() (sum uint64) {
		for _, n := range l.Nodes() {
			sum += n.Host().Stats().Elections
		}
		return sum
	}
	before, writes, slowest := elections(), 0, time.Duration(0)
	for began := time.Now(); time.Since(began) < length; writes++ {
		start := time.Now()
		put(t, l, ids[writes%len(ids)], "k", "v")
		slowest = max(slowest, time.Since(start))
	}
	for _, n := range l.Nodes() {
		s, _ := n.View()
		require.NoError(t, n.Err())
		require.Zero(t, n.Host().Stats().Stalls, "node %d", n.ID())
		for _, at := range s.Nodes() {
			require.Equal(t, uint64(1), at.Epoch)
			require.NotEqual(t, meta.Dead, at.Condition)
		}
	}
	t.Logf("%d writes, the slowest in %v, %d elections", writes, slowest, elections()-before)
	victim := l.Node(20).ID()
	stop()
	l.Crash(20)
	await(t, l, "its death", is(victim, meta.Dead))
}

// starve has so many others compete for each processor, until stop.
func starve(others int) (stop func()) {
	done := make(chan struct{})
	var work sync.WaitGroup
	for range others * runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for n := 0; ; n++ {
				if n%(1<<20) == 0 {
					select {
					case <-done:
						return
					default:
					}
				}
			}
		})
	}
	return sync.OnceFunc(func() { close(done); work.Wait() })
}

// A failing store fails once, in one shard.
type failingStore struct {
	*kv.Machine
	fail *atomic.Bool
}

func (s failingStore) Apply(b *consensus.Batch, results []consensus.Result) error {
	if len(b.Commands) > 0 && s.fail.CompareAndSwap(true, false) {
		return errors.New("the store is broken")
	}
	return s.Machine.Apply(b, results)
}

// A replica that stopped after an error is replaced, though its node lives, and on the
// very same node if there is no other.
func TestStoppedReplicaIsReplaced(t *testing.T) {
	var fail atomic.Bool
	l := boot(t, 3, func(o *cluster.LocalOptions) {
		quick(o)
		inner := o.Node
		o.Node = func(i int, o *cluster.Options) {
			inner(i, o)
			if i == 3 {
				o.Stores = kvStores(func(m *kv.Machine) shard.Store { return failingStore{m, &fail} })
			}
		}
	})
	id := all(t, l)
	await(t, l, "all replicas", settled)
	leadAt(t, l, id, l.Node(1))
	n, g := l.Node(3), consensus.GroupID(id)
	first, err := n.Host().Status(g)
	require.NoError(t, err)
	fail.Store(true)
	for i := range 100 {
		require.NoError(t, write(within(t, time.Minute), l.Node(1), fmt.Sprint(i), "v"))
	}
	require.Eventually(t, func() bool {
		st, err := n.Host().Status(g)
		return err == nil && st.Err == nil && st.Replica > first.Replica && len(st.Voters) == 3
	}, 20*time.Second, time.Millisecond)
	await(t, l, "all replicas again", settled)
	leadAt(t, l, id, n)
	value, err := read(within(t, time.Minute), n, "99")
	require.NoError(t, err)
	require.Equal(t, "v", value)
}
