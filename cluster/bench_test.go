package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// bench is a cluster in a benchmark.
type bench struct {
	*cluster.Local
	nodes int
	mu    sync.Mutex
	gone  totals // guarded by mu; of nodes that are not up any more
}

// totals are what nodes count.
type totals struct {
	elections uint64
	out       [transport.Classes]transport.Traffic
}

func (t *totals) add(n *cluster.Node) {
	t.elections += n.Host().Stats().Elections
	for class, out := range n.Traffic().Out {
		t.out[class].Messages += out.Messages
		t.out[class].Bytes += out.Bytes
	}
}

// end ends a node's life and keeps what it counted.
func (c *bench) end(i int, how func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.Node(i); n != nil {
		c.gone.add(n)
	}
	return how()
}

func (c *bench) crash(i int) {
	_ = c.end(i, func() error { c.Crash(i); return nil })
}

// profileLAN has nodes in one building: heartbeats and ticks 50 ms apart, promises of
// 200 ms, links of 0.2 ms there and back.
func profileLAN(o *cluster.LocalOptions) {
	o.Network.Default = transport.Link{Delay: 100 * time.Microsecond}
	o.Node = func(_ int, o *cluster.Options) {
		o.Consensus = func(c *consensus.Options) {
			c.TickInterval, c.HeartbeatTicks, c.LeaseDuration = 50*time.Millisecond, 1, 200*time.Millisecond
			c.ElectionTicks = 4
		}
	}
}

// bootBench boots a cluster of so many nodes for a benchmark and waits until the
// meta group has its size.
func bootBench(b *testing.B, nodes int, disk string, change func(*cluster.LocalOptions)) *bench {
	b.Helper()
	harness.Begin(b)
	o := cluster.LocalOptions{Network: transport.NetworkOptions{Seed: harness.Seed()}}
	if disk == "sync" {
		dir := harness.DurableDir(b)
		o.FS = func(node int) (vfs.FS, string) { return vfs.Default, filepath.Join(dir, fmt.Sprint("node", node)) }
	}
	if change != nil {
		change(&o)
	}
	return &bench{Local: boot(b, nodes, func(to *cluster.LocalOptions) { *to = o }), nodes: nodes}
}

// ready waits until nothing is under way.
func (c *bench) ready(ctx context.Context) error {
	for _, n := range c.Nodes() {
		if _, err := n.Await(ctx, func(s *meta.State) bool { return live(c.nodes)(s) && settled(s) }); err != nil {
			return err
		}
	}
	return nil
}

// leader returns the node that leads the meta group under a lease.
func (c *bench) leader(ctx context.Context) (*cluster.Node, int, error) {
	for {
		for i := range c.nodes {
			if n := c.Node(i + 1); n != nil {
				if _, ok := n.Leased(); ok {
					return n, i + 1, nil
				}
			}
		}
		if ctx.Err() != nil {
			return nil, 0, fmt.Errorf("no node leads the meta group: %w", ctx.Err())
		}
		time.Sleep(time.Millisecond)
	}
}

// counters are the totals of all nodes.
func (c *bench) counters() harness.Counters {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.gone
	for _, n := range c.Nodes() {
		sum.add(n)
	}
	t := harness.Counters{Elections: int64(sum.elections)}
	for class, out := range sum.out {
		t.Classes = append(t.Classes, harness.ClassCounters{
			Class: transport.Class(class).String(), WireBytes: int64(out.Bytes), Messages: int64(out.Messages),
		})
		t.WireBytes += int64(out.Bytes)
		t.Messages += int64(out.Messages)
	}
	return t
}

// BenchmarkRegistry asks what a change of the cluster costs: nodes are let in and
// removed in turn, at the node that leads a meta group of three replicas; the others
// follow it.
//
//	go test -run='^$' -bench=Registry -count=10 ./cluster
func BenchmarkRegistry(b *testing.B) {
	type point struct {
		disk    string
		clients int
	}
	points := []point{{"none", 1}, {"none", 64}, {"sync", 64}}
	if harness.Full() {
		points = nil
		for _, disk := range []string{"none", "sync"} {
			for _, clients := range []int{1, 20, 64} {
				points = append(points, point{disk, clients})
			}
		}
	}
	for _, p := range points {
		b.Run(harness.Name("disk", harness.DiskLabel(p.disk), "nodes", 3, "clients", p.clients), func(b *testing.B) {
			c := bootBench(b, 3, p.disk, nil)
			require.NoError(b, c.ready(b.Context()))
			n, _, err := c.leader(b.Context())
			require.NoError(b, err)
			guests := make([]guest, p.clients)
			harness.Run(b, harness.Spec{Clients: p.clients, Counters: c.counters}, func(cl *harness.Client) error {
				return guests[cl.ID].turn(cl.Context, n, uint64(cl.ID+1)<<32)
			})
		})
	}
}

// A guest is let in and removed in turn.
type guest struct {
	turns uint64
	in    consensus.NodeID
}

func (g *guest) turn(ctx context.Context, n *cluster.Node, first uint64) error {
	g.turns++
	if g.in != 0 {
		_, err := n.Propose(ctx, &meta.Remove{Node: g.in})
		g.in = 0
		return err
	}
	a, err := n.Propose(ctx, &meta.Join{Request: first + g.turns, Profile: meta.Profile{Formats: meta.Range{Min: 1, Max: 1}}})
	g.in = consensus.NodeID(a.ID)
	return err
}

// BenchmarkStatus asks what it costs to know the cluster: as this node does, with its
// age (local); under the lease, at the node that leads the meta group; or confirmed
// by a round of messages (index).
//
//	go test -run='^$' -bench=Status -count=10 ./cluster
func BenchmarkStatus(b *testing.B) {
	for _, mode := range []string{"local", "lease", "index"} {
		b.Run(harness.Name("mode", mode, "nodes", harness.Nodes(), "clients", harness.Clients()), func(b *testing.B) {
			c := bootBench(b, harness.Nodes(), "none", nil)
			require.NoError(b, c.ready(b.Context()))
			n, _, err := c.leader(b.Context())
			require.NoError(b, err)
			managers := make([]manager, harness.Clients())
			for i := range managers {
				managers[i] = manager{c: c, leader: n}
			}
			harness.Run(b, harness.Spec{Clients: harness.Clients(), Counters: c.counters}, func(cl *harness.Client) error {
				var s *meta.State
				var err error
				switch mode {
				case "local":
					s, _ = n.View()
				case "lease":
					s, err = managers[cl.ID].leased(cl.Context)
				case "index":
					s, err = n.Latest(cl.Context)
				}
				if err != nil {
					return err
				}
				if _, ok := s.Node(consensus.NodeID(1 + cl.Rand.IntN(c.nodes))); !ok {
					return errors.New("no such node")
				}
				return nil
			})
		})
	}
}

// BenchmarkHeartbeat asks how many heartbeats the leader of the meta group takes a
// second, each sent, watched over and answered, when every other node sends the next
// as soon as one is answered. Before that there is nothing but the heartbeats of the
// usual interval, and three shards a node, asleep: cpu-ns/node-s is the processor time
// of the whole process for each node and second, beats/node-s how many requests the
// leader gets from each, and frames/pair-beat what two nodes send each other outside of
// calls in an interval, in one direction.
//
//	go test -run='^$' -bench=Heartbeat -count=10 ./cluster
func BenchmarkHeartbeat(b *testing.B) {
	sizes := []int{20}
	if harness.Full() {
		sizes = []int{3, 20, 50}
	}
	for _, nodes := range sizes {
		b.Run(harness.Name("nodes", nodes), func(b *testing.B) {
			c := bootBench(b, nodes, "none", nil)
			c.fill(b)
			to, at, err := c.leader(b.Context())
			require.NoError(b, err)
			idle := c.idle(b, to)
			var others []*cluster.Node
			for i := range nodes {
				if i+1 != at {
					others = append(others, c.Node(i+1))
				}
			}
			r := harness.Run(b, harness.Spec{Clients: len(others), Counters: c.counters}, func(cl *harness.Client) error {
				return others[cl.ID].Beat(cl.Context, to.ID())
			})
			for unit, v := range idle {
				if r.Invalid == "" {
					b.ReportMetric(v, unit)
				}
			}
		})
	}
}

// asleep says whether no shard has anything to do, beside the meta group.
func (c *bench) asleep() bool {
	for _, n := range c.Nodes() {
		for _, g := range n.Host().Groups() {
			st, err := n.Host().Status(g)
			if meta.ShardID(g) != meta.MetaShard && (err != nil || !st.Asleep) {
				return false
			}
		}
	}
	return true
}

// idle is what each node costs when nobody asks anything.
func (c *bench) idle(b *testing.B, leader *cluster.Node) map[string]float64 {
	b.Helper()
	require.Eventually(b, c.asleep, time.Minute, 10*time.Millisecond)
	const calls = transport.Calls
	u0, s0, before := measure.CPU()
	began, in, out := time.Now(), leader.Traffic().In[calls].Messages, oneWay(c.counters())
	time.Sleep(time.Second)
	u1, s1, after := measure.CPU()
	took, nodes := time.Since(began), float64(c.nodes)
	values := map[string]float64{
		"beats/node-s":     float64(leader.Traffic().In[calls].Messages-in) / (nodes - 1) / took.Seconds(),
		"frames/pair-beat": float64(oneWay(c.counters())-out) / (nodes * (nodes - 1)) / (took.Seconds() / usualInterval.Seconds()),
	}
	if before && after {
		values["cpu-ns/node-s"] = float64(u1+s1-u0-s0) / nodes / took.Seconds()
	}
	return values
}

// usualInterval is that of heartbeats, by default.
const usualInterval = 50 * time.Millisecond

// oneWay is how many messages were not of calls.
func oneWay(t harness.Counters) (sum int64) {
	for _, class := range t.Classes {
		if class.Class != transport.Calls.String() {
			sum += class.Messages
		}
	}
	return sum
}
