package consensus_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/harness"
)

// proposeCase is a point in the space of BenchmarkPropose.
type proposeCase struct {
	nodes     int // 0: three, and not in the name
	disk, net string
	groups    int
	clients   int
	size      int
}

func (p proposeCase) name() string {
	pairs := []any{"disk", harness.DiskLabel(p.disk), "net", p.net, "groups", p.groups, "clients", p.clients, "size", p.size}
	if p.nodes != 0 {
		pairs = append([]any{"nodes", p.nodes}, pairs...)
	}
	return harness.Name(pairs...)
}

// proposeQuick are the centre and one-axis variations, and the durable cases
// over TCP that other systems are compared by.
var proposeQuick = []proposeCase{
	{0, "none", "sim", 1, 64, 128},
	{0, "none", "sim", 1, 1, 128},
	{0, "none", "sim", 1, 256, 128},
	{0, "none", "sim", 48, 256, 128},
	{0, "none", "sim", 1, 64, 1024},
	{0, "none", "sim", 1, 64, 65536},
	{0, "none", "tcp", 1, 64, 128},
	{0, "sync", "sim", 1, 64, 128},
	{0, "sync", "tcp", 1, 1, 128},
	{0, "sync", "tcp", 1, 64, 128},
	{0, "sync", "tcp", 1, 256, 128},
	{0, "sync", "tcp", 48, 256, 128},
	{0, "sync", "tcp", 1, 64, 1024},
	{0, "sync", "tcp", 1, 64, 65536},
}

// proposeWide are many nodes on the disk of one machine: a log each, or all in
// one.
var proposeWide = []proposeCase{
	{20, "sync", "sim", 60, 64, 128},
	{20, "shared", "sim", 60, 64, 128},
}

// proposeStandard is the standard case, which the service level of this floor
// is bound to: twenty nodes, and as many clients.
func proposeStandard() proposeCase {
	nodes := harness.Nodes()
	return proposeCase{nodes, "shared", "sim", 3 * nodes, harness.Clients(), 128}
}

// proposeCases are the quick cases or the full product, with the axes that the
// user pinned.
func proposeCases() []proposeCase {
	all := slices.Clone(proposeQuick)
	if harness.Full() {
		all = nil
		for _, disk := range []string{"none", "sync"} {
			for _, net := range []string{"sim", "tcp"} {
				for _, groups := range []int{1, 48} {
					for _, clients := range []int{1, 64, 256} {
						all = append(all, proposeCase{0, disk, net, groups, clients, 128})
					}
					all = append(all, proposeCase{0, disk, net, groups, 64, 1024}, proposeCase{0, disk, net, groups, 64, 65536})
				}
			}
		}
	}
	all = append(append(all, proposeWide...), proposeStandard())
	var pinned []proposeCase
	for _, p := range all {
		p.disk = harness.Axis("disk", p.disk)[0]
		p.net = harness.Axis("net", p.net)[0]
		p.groups = harness.Axis("groups", p.groups)[0]
		p.clients = harness.Axis("clients", p.clients)[0]
		p.size = harness.Axis("size", p.size)[0]
		if n := harness.Axis("nodes", p.nodes)[0]; p.nodes != 0 || n != 0 && n != 3 {
			p.nodes = n
		}
		if !slices.Contains(pinned, p) {
			pinned = append(pinned, p)
		}
	}
	return pinned
}

// memoryTail is the length of all groups' logs on a disk in memory.
const memoryTail = 2 << 20

// memoryLog and memorySegments have a disk in memory use its files again soon:
// the file system in memory takes longer to let a file grow than to write it,
// and a disk has no such cost to compare with.
func memoryLog(groups int) func(*consensus.Options) {
	return func(o *consensus.Options) { o.LogTailBytes = max(memoryTail/int64(groups), 128<<10) }
}

func memorySegments(o *raftlog.Options) { o.MaxSegmentBytes = 1 << 20 }

// BenchmarkPropose asks what a replicated command costs: submitted at the
// leader's node, durable on a quorum (disk=sync), applied, answered.
//
//	go test -run='^$' -bench=Propose -count=10 ./consensus
func BenchmarkPropose(b *testing.B) {
	for _, p := range proposeCases() {
		b.Run(p.name(), func(b *testing.B) {
			if p.nodes == 1 || p.nodes == 2 {
				harness.Skip(b, fmt.Sprintf("nodes=%d: want 3 or more, one for each replica", p.nodes))
			}
			s := setup{nodes: p.nodes, groups: p.groups, disk: p.disk, net: p.net}
			if p.disk == "none" && p.clients*p.size <= memoryTail/4 {
				s.options, s.raftlog = memoryLog(p.groups), memorySegments
			}
			c := bootGrown(b, s)
			leaders := c.leaders()
			values := make([][]byte, p.clients)
			for i := range values {
				values[i] = putOf(fmt.Sprint("client", i), p.size)
			}
			work := c.served()
			spec := harness.Spec{Clients: p.clients, Counters: c.counters, Loads: work.loads(p.groups)}
			harness.Run(b, spec, func(cl *harness.Client) error {
				g := cl.ID % len(leaders)
				_, err := leaders[g].Propose(cl.Context, consensus.GroupID(g+1), consensus.Command{Data: values[cl.ID]})
				if err == nil {
					work.by(leaders[g])
				}
				return err
			})
		})
	}
}
