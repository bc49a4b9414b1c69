package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/load"
)

// The kinds of operation on a cluster.
const (
	opHeartbeat = iota // sent by a node that is not the leader, watched over, answered
	opLocal            // a node's own view
	opLease            // the state at the leader, under its lease
	opIndex            // the latest state at any node, confirmed and waited for
	opRegistry         // a node joins, or one that has joined is removed
	opReshape          // a shard is split, or what was split off is merged again
)

// A mixture is how often each is done, in a thousand.
type mixture [6]int

var opNames = [...]string{"heartbeat", "local", "lease", "index", "registry", "reshape"}

func (m mixture) mix(b *testing.B) load.Mix {
	var kinds []load.Kind
	for i, weight := range m {
		kinds = append(kinds, load.Kind{Name: opNames[i], Weight: weight})
	}
	mix, err := load.NewMix(kinds...)
	require.NoError(b, err)
	return mix
}

// A manager does what it is told to a cluster. Each has a shard of its own to split
// and merge.
type manager struct {
	c      *bench
	nodes  []*cluster.Node
	leader *cluster.Node // when last heard of
	guest  guest
	key    string // of its shard's start
	split  bool
}

// managers makes one for each client, and their shards.
func (c *bench) managers(b *testing.B, clients int) []manager {
	b.Helper()
	require.NoError(b, c.ready(b.Context()))
	for i := range clients {
		span := meta.Span{Start: fmt.Sprintf("%06d", i), End: fmt.Sprintf("%06d", i+1)}
		_, err := c.Node(i%c.nodes+1).CreateShard(b.Context(), cluster.ShardSpec{Span: span})
		require.NoError(b, err)
	}
	require.NoError(b, c.ready(b.Context()))
	leader, _, err := c.leader(b.Context())
	require.NoError(b, err)
	list := make([]manager, clients)
	for i := range list {
		list[i] = manager{c: c, nodes: c.Nodes(), leader: leader, key: fmt.Sprintf("%06d", i)}
	}
	return list
}

// leased returns the state at the node that leads the meta group, which may be
// another one than before.
func (m *manager) leased(ctx context.Context) (*meta.State, error) {
	for {
		if s, ok := m.leader.Leased(); ok {
			return s, nil
		}
		n, _, err := m.c.leader(ctx)
		if err != nil {
			return nil, err
		}
		m.leader = n
	}
}

func (m *manager) do(cl *harness.Client) error {
	other := m.nodes[cl.Rand.IntN(len(m.nodes))]
	switch cl.Kind {
	case opHeartbeat:
		if other == m.leader {
			other = m.nodes[(cl.ID+1)%len(m.nodes)]
		}
		return other.Beat(cl.Context, m.leader.ID())
	case opLocal:
		s, _ := other.View()
		return m.check(s)
	case opLease:
		s, err := m.leased(cl.Context)
		if err != nil {
			return err
		}
		return m.check(s)
	case opIndex:
		s, err := other.Latest(cl.Context)
		if err != nil {
			return err
		}
		return m.check(s)
	case opRegistry:
		return m.guest.turn(cl.Context, other, uint64(cl.ID+1)<<32)
	}
	return m.reshape(cl.Context, other)
}

// check wants a state that has the shard of the manager.
func (m *manager) check(s *meta.State) error {
	if _, ok := s.Locate(m.key); !ok {
		return fmt.Errorf("no shard has %q at index %d", m.key, s.Index)
	}
	return nil
}

func (m *manager) reshape(ctx context.Context, n *cluster.Node) error {
	if !m.split {
		_, err := n.Split(ctx, m.key+"m")
		m.split = err == nil
		return err
	}
	s, err := n.Latest(ctx)
	if err != nil {
		return err
	}
	sh, ok := s.Locate(m.key)
	if !ok {
		return errors.New("its shard is gone")
	}
	m.split = false
	return n.Merge(ctx, sh.ID)
}

func benchManagement(b *testing.B, nodes int, m mixture) {
	clients := harness.Clients()
	b.Run(harness.Name("nodes", nodes, "clients", clients), func(b *testing.B) {
		c := bootBench(b, nodes, "none", nil)
		managers := c.managers(b, clients)
		counters := func() harness.Counters {
			t := c.counters()
			t.Elections = 0 // those of shards that were split off are no disturbance
			return t
		}
		harness.Run(b, harness.Spec{Clients: clients, Mix: m.mix(b), Counters: counters}, func(cl *harness.Client) error {
			return managers[cl.ID].do(cl)
		})
	})
}

// BenchmarkClusterOps asks how many operations a second a cluster takes of the mix
// that its service level is bound to: of a thousand, 500 heartbeats, 200 looks at a
// node's own view, 150 at the leader's under the lease and 100 at any node's confirmed
// latest, 45 nodes that join or are removed, 5 shards that are split or merged.
//
//	go test -run='^$' -bench=ClusterOps -count=10 ./cluster
func BenchmarkClusterOps(b *testing.B) {
	benchManagement(b, harness.Nodes(), mixture{500, 200, 150, 100, 45, 5})
}

// BenchmarkConcurrentManagement asks the same where most operations change the
// cluster, all at once: of a thousand 400 joins and removals, 100 splits and merges,
// 200 looks at the confirmed latest, 100 at the others', 200 heartbeats.
//
//	go test -run='^$' -bench=ConcurrentManagement -count=10 ./cluster
func BenchmarkConcurrentManagement(b *testing.B) {
	benchManagement(b, 5, mixture{200, 50, 50, 200, 400, 100})
}

// BenchmarkRebalance asks how long 1,000 shards take to spread when a node joins:
// plan-ns is the time of a plan for what they are then, excess is how many moves there
// were for each that no plan can do without, uneven how much more than its share the
// fullest node has in the end, and uneven-before how much less than that the new one
// had.
//
//	go test -run='^$' -bench=Rebalance -count=10 ./cluster
func BenchmarkRebalance(b *testing.B) {
	sizes := []int{5}
	if harness.Full() {
		sizes = []int{5, 20, 50}
	}
	const shards = 1000
	for _, nodes := range harness.Axis("nodes", sizes...) {
		if nodes >= cluster.MaxLocal {
			nodes = cluster.MaxLocal - 1 // and one that joins
		}
		b.Run(harness.Name("nodes", nodes, "shards", shards), func(b *testing.B) {
			c := bootBench(b, nodes, "none", nil)
			c.fillWith(b, shards)
			harness.Events(b, harness.Spec{Counters: c.counters, Warmup: -1}, func(int) (harness.Event, error) { return c.rebalance(b) })
		})
	}
}

func (c *bench) rebalance(b *testing.B) (harness.Event, error) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	if err := c.Add(ctx); err != nil {
		return harness.Event{}, err
	}
	began := time.Now()
	n := c.Node(c.nodes + 1)
	s, err := n.Await(ctx, is(n.ID(), meta.Live))
	if err != nil {
		return harness.Event{}, err
	}
	world := cluster.PlacementOf(s)
	bound, err := placement.LowerBound(world, 0.05)
	if err != nil {
		return harness.Event{}, err
	}
	planning := time.Now()
	if _, err := placement.Plan(world, placement.Options{}); err != nil {
		return harness.Event{}, err
	}
	planned := time.Since(planning)
	before, err := placement.Measure(world)
	if err != nil {
		return harness.Event{}, err
	}
	share := 3 * len(s.Shards()) / (c.nodes + 1)
	s, err = n.Await(ctx, func(s *meta.State) bool { return settled(s) && held(s, n.ID()) >= share*9/10 })
	if err != nil {
		return harness.Event{}, err
	}
	took := time.Since(began)
	after, err := placement.Measure(cluster.PlacementOf(s))
	if err != nil {
		return harness.Event{}, err
	}
	moved := float64(held(s, n.ID()))
	if err := c.leave(ctx); err != nil {
		return harness.Event{}, err
	}
	return harness.Event{Took: took, Values: map[string]float64{
		"plan-ns": float64(planned), "moves": moved, "excess": moved / float64(max(1, bound)), "uneven-before": before.Replicas, "uneven": after.Replicas,
	}}, nil
}
