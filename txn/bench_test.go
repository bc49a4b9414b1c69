package txn_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
)

// A bench is a world in a benchmark.
type bench struct {
	*world
	disk *raftlog.Disk // what all nodes share, nil if each has its own
}

// A benchSetup is what benchmarks change of a bench. A zero field selects its default.
type benchSetup struct {
	nodes       int    // and shards; default: 20
	disk        string // default: none
	net         string // default: sim
	participant func(o *txn.Options)
	local       func(o *cluster.LocalOptions)
}

// bootBench boots a cluster with a shard for each node, led by all nodes alike.
func bootBench(b *testing.B, s benchSetup) *bench {
	b.Helper()
	harness.Begin(b)
	w := &bench{}
	if s.nodes == 0 {
		s.nodes = 20
	}
	o := worldOptions{nodes: s.nodes, shards: s.nodes}
	o.local.Network.Seed = harness.Seed()
	o.local.TCP = s.net == "tcp"
	if s.disk == "shared" || s.disk == "sync" {
		dir := harness.DurableDir(b)
		o.local.FS = func(node int) (vfs.FS, string) { return vfs.Default, filepath.Join(dir, fmt.Sprint("node", node)) }
		if s.disk == "shared" {
			var err error
			w.disk, err = raftlog.OpenDisk(vfs.Default, filepath.Join(dir, "log"), raftlog.Options{})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, w.disk.Close()) })
		}
	}
	o.local.Node = func(_ int, c *cluster.Options) {
		c.Disk = w.disk
		// Leaders stay where spread puts them: who leads what is part of the case.
		c.LoadWindow = time.Hour
	}
	if s.local != nil {
		s.local(&o.local)
	}
	o.participant = func(_ int, p *txn.Options) {
		p.Store.MemTableBytes = 4 << 20
		if s.participant != nil {
			s.participant(p)
		}
	}
	w.world = boot(b, o)
	w.spread(b)
	return w
}

// leader returns the number of the node that leads a shard, counted from 1, and 0 if
// none does. Shards are counted from 0.
func (w *bench) leader(shard int) int {
	g := consensus.GroupID(w.ids[shard])
	for i := range w.Dirs() {
		if n := w.Node(i + 1); n != nil && n.Host().Leader(g).Node == n.ID() {
			return i + 1
		}
	}
	return 0
}

// voters returns the numbers of the nodes that have a replica of a shard.
func (w *bench) voters(shard int) (list []int) {
	s, _ := w.Node(1).View()
	sh, _ := s.Shard(w.ids[shard])
	for i := range w.Dirs() {
		if n := w.Node(i + 1); n != nil {
			if _, ok := sh.On(n.ID()); ok {
				list = append(list, i+1)
			}
		}
	}
	return list
}

// hand has another node lead a shard.
func (w *bench) hand(b *testing.B, shard, to int) {
	b.Helper()
	s, _ := w.Node(1).View()
	sh, _ := s.Shard(w.ids[shard])
	at := slices.IndexFunc(sh.Members, func(m meta.Member) bool { return m.Node == w.Node(to).ID() })
	require.GreaterOrEqual(b, at, 0, "node %d has no replica of shard %d", to, shard)
	require.Eventually(b, func() bool {
		from := w.leader(shard)
		if from != 0 && from != to {
			ctx, cancel := context.WithTimeout(b.Context(), time.Second)
			defer cancel()
			_ = w.Node(from).Host().Transfer(ctx, consensus.GroupID(w.ids[shard]), sh.Members[at].Replica)
		}
		return from == to
	}, 20*time.Second, time.Millisecond)
}

// spread hands shards on until no node leads more than two.
func (w *bench) spread(b *testing.B) {
	b.Helper()
	require.Eventually(b, func() bool {
		leads := map[int]int{}
		for i := range w.ids {
			leads[w.leader(i)]++
		}
		if leads[0] > 0 {
			return false // some have no leader yet
		}
		for i := range w.ids {
			from := w.leader(i)
			if leads[from] <= 2 {
				continue
			}
			to := slices.MinFunc(w.voters(i), func(a, b int) int { return leads[a] - leads[b] })
			w.hand(b, i, to)
			leads[from]--
			leads[to]++
		}
		return true
	}, time.Minute, time.Millisecond)
}

// slow gives every link half of a round trip. The nodes boot without, to boot soon.
func (w *bench) slow(rtt time.Duration) {
	for _, from := range w.Nodes() {
		for _, to := range w.Nodes() {
			if from != to {
				w.Network().SetLink(from.ID(), to.ID(), transport.Link{Delay: rtt / 2})
			}
		}
	}
}

// precise has deliveries over links with a delay arrive on time.
func precise(o *cluster.LocalOptions) { o.Network.Precise = true }

// counters are the totals of all nodes.
func (w *bench) counters() harness.Counters {
	var t harness.Counters
	for _, n := range w.Nodes() {
		t.Elections += int64(n.Host().Stats().Elections)
		for _, out := range n.Traffic().Out {
			t.WireBytes += int64(out.Bytes)
			t.Messages += int64(out.Messages)
		}
	}
	if w.disk != nil {
		s := w.disk.Stats()
		t.Fsyncs, t.DiskBytes = s.Syncs, s.Bytes
	}
	return t
}

// key is the n-th key of a shard.
func (w *bench) key(shard, n int) string {
	return fmt.Sprintf("%02d/%06d", 100*shard/len(w.ids), n)
}
