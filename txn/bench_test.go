package txn_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
)

// A bench is a world in a benchmark.
type bench struct {
	*world
	disk    *raftlog.Disk // what all nodes share, nil if each has its own
	clients []*txn.Client // one on each node
}

// bootBench boots a cluster with a shard for each node, led by all nodes alike.
func bootBench(b *testing.B, nodes int, disk, net string) *bench {
	b.Helper()
	harness.Begin(b)
	w := &bench{}
	o := worldOptions{nodes: nodes, shards: nodes}
	o.local.Network.Seed = harness.Seed()
	o.local.TCP = net == "tcp"
	switch disk {
	case "shared":
		dir := harness.DurableDir(b)
		var err error
		w.disk, err = raftlog.OpenDisk(vfs.Default, filepath.Join(dir, "log"), raftlog.Options{})
		require.NoError(b, err)
		b.Cleanup(func() { require.NoError(b, w.disk.Close()) })
		o.local.Node = func(_ int, o *cluster.Options) { o.Disk = w.disk }
		o.local.FS = func(node int) (vfs.FS, string) { return vfs.Default, filepath.Join(dir, fmt.Sprint("node", node)) }
	case "sync":
		dir := harness.DurableDir(b)
		o.local.FS = func(node int) (vfs.FS, string) { return vfs.Default, filepath.Join(dir, fmt.Sprint("node", node)) }
	}
	o.participant = func(_ int, o *txn.Options) { o.Store.MemTableBytes = 4 << 20 }
	w.world = boot(b, o)
	for i := range nodes {
		w.clients = append(w.clients, w.client(i+1, txn.ClientOptions{}))
	}
	require.Eventually(b, func() bool {
		count := map[consensus.NodeID]int{}
		for _, n := range w.Nodes() {
			for _, id := range w.ids {
				if n.Host().Leader(consensus.GroupID(id)).Node == n.ID() {
					count[n.ID()]++
				}
			}
		}
		for _, n := range w.Nodes() {
			if count[n.ID()] > 2 {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond)
	return w
}

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

// BenchmarkCommit asks what a commit costs that writes a row of 128 bytes in each of so
// many shards, which nobody else writes at the same time as a rule.
//
//	go test -run='^$' -bench=Commit -count=10 ./txn
func BenchmarkCommit(b *testing.B) {
	type point struct {
		protocol string
		shards   int
		disk     string
		clients  int
	}
	points := []point{
		{"1pc", 1, "none", 256}, {"oneround", 2, "none", 1}, {"oneround", 2, "none", 256}, {"oneround", 2, "none", 64}, {"2pc", 2, "none", 64},
		{"1pc", 1, "shared", 64}, {"oneround", 2, "shared", 64},
	}
	for _, p := range points {
		b.Run(harness.Name("protocol", p.protocol, "shards", p.shards, "disk", harness.DiskLabel(p.disk), "net", "sim", "nodes", 20, "clients", p.clients), func(b *testing.B) {
			w := bootBench(b, 20, p.disk, "sim")
			value := make([]byte, 128)
			o := txn.TxOptions{Set: true}
			if p.protocol == "2pc" {
				o.Protocol = txn.TwoPhase
			}
			harness.Run(b, harness.Spec{Clients: p.clients, Counters: w.counters}, func(cl *harness.Client) error {
				return w.clients[cl.ID%20].Run(cl.Context, o, func(tx *txn.Tx) error {
					first := cl.Rand.IntN(20)
					for i := range p.shards {
						if err := tx.Put(fmt.Sprintf("%02d/%06d", (first+i*7)%20*5, cl.Rand.IntN(100_000)), value); err != nil {
							return err
						}
					}
					return nil
				})
			})
		})
	}
}
