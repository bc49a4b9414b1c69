package consensus_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
)

// proposeCase is a point in the space of BenchmarkPropose.
type proposeCase struct {
	disk, net string
	groups    int
	clients   int
	size      int
}

func (p proposeCase) name() string {
	return harness.Name("disk", p.disk, "net", p.net, "groups", p.groups, "clients", p.clients, "size", p.size)
}

// proposeCases are the centre and one-axis variations, and the durable cases
// over TCP that are compared with other systems; or the full product.
func proposeCases() []proposeCase {
	if harness.Full() {
		var all []proposeCase
		for _, disk := range []string{"none", "sync"} {
			for _, net := range []string{"sim", "tcp"} {
				for _, groups := range []int{1, 48} {
					for _, clients := range []int{1, 64, 256} {
						for _, size := range []int{128, 1024, 65536} {
							all = append(all, proposeCase{disk, net, groups, clients, size})
						}
					}
				}
			}
		}
		return all
	}
	return []proposeCase{
		{"none", "sim", 1, 64, 128},
		{"none", "sim", 1, 1, 128},
		{"none", "sim", 1, 256, 128},
		{"none", "sim", 48, 256, 128},
		{"none", "sim", 1, 64, 1024},
		{"none", "sim", 1, 64, 65536},
		{"none", "tcp", 1, 64, 128},
		{"sync", "sim", 1, 64, 128},
		{"sync", "tcp", 1, 1, 128},
		{"sync", "tcp", 1, 64, 128},
		{"sync", "tcp", 1, 256, 128},
		{"sync", "tcp", 48, 256, 128},
		{"sync", "tcp", 1, 64, 1024},
		{"sync", "tcp", 1, 64, 65536},
	}
}

// BenchmarkPropose asks what a replicated command costs: submitted at the
// leader's node, durable on a quorum (disk=sync), applied, answered.
//
//	go test -run='^$' -bench=Propose -count=10 ./consensus
func BenchmarkPropose(b *testing.B) {
	for _, p := range proposeCases() {
		b.Run(p.name(), func(b *testing.B) {
			benchPropose(b, setup{groups: p.groups, disk: p.disk, net: p.net}, p.clients, p.size)
		})
	}
	for _, disk := range []string{"sync", "shared"} {
		name := harness.Name("nodes", 20, "groups", 60, "disk", disk, "net", "sim", "clients", 64, "size", 128)
		b.Run(name, func(b *testing.B) {
			benchPropose(b, setup{nodes: 20, groups: 60, disk: disk, net: "sim"}, 64, 128)
		})
	}
}

func benchPropose(b *testing.B, s setup, clients, size int) {
	c := bootBench(b, s)
	leaders := c.leaders()
	values := make([][]byte, clients)
	for i := range values {
		values[i] = kv.EncodePut(nil, fmt.Appendf(nil, "client%d", i), make([]byte, size))
	}
	harness.Run(b, harness.Spec{Clients: clients, Counters: c.counters, Loads: c.loads}, func(cl *harness.Client) error {
		g := cl.ID % len(leaders)
		_, err := leaders[g].Propose(cl.Context, consensus.GroupID(g+1), consensus.Command{Data: values[cl.ID]})
		return err
	})
}

// bootBench boots a cluster for a benchmark, with every leader known.
func bootBench(b *testing.B, s setup) *cluster {
	b.Helper()
	switch s.disk {
	case "sync", "shared":
		s.dir = harness.DurableDir(b)
	}
	return boot(b, s)
}

// leaders returns the leader's host of every group, in order.
func (c *cluster) leaders() []*consensus.Host {
	var list []*consensus.Host
	for g := range c.s.groups {
		list = append(list, c.leader(consensus.GroupID(g+1)))
	}
	return list
}

// counters are the totals of all nodes.
func (c *cluster) counters() harness.Counters {
	var t harness.Counters
	for _, d := range c.disks {
		if d == nil {
			continue
		}
		s := d.Stats()
		if c.s.disk == "sync" || c.s.disk == "shared" {
			t.Fsyncs += s.Syncs
			t.DiskBytes += s.Bytes
		}
	}
	for i, h := range c.hosts {
		if h == nil {
			continue
		}
		t.Elections += int64(h.Stats().Elections)
		for _, o := range c.nets[i].Stats().Out {
			t.WireBytes += int64(o.Bytes)
			t.Messages += int64(o.Messages)
		}
	}
	return t
}

// loads are the commands applied by each node.
func (c *cluster) loads() []int64 {
	var list []int64
	for _, h := range c.hosts {
		if h != nil {
			list = append(list, int64(h.Stats().Applied))
		}
	}
	return list
}

var _ = require.NoError
