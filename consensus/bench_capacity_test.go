package consensus_test

import (
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// capacityLevel is the service level that BenchmarkCapacity holds proposals to.
// The floor's own level is a mean of 5 ms; users see the slowest of many.
var capacityLevel = harness.SLO{Latency: 10 * time.Millisecond, Quantile: 0.99}

// capacityClients bounds the proposals under way: more than the level allows at
// any rate that one machine reaches, 10 ms of 50,000 a second.
const capacityClients = 512

// BenchmarkCapacity asks how many commands a second three replicas can commit
// while 99 % of them take at most 10 ms, when they arrive whether or not others
// have been answered. A case needs about ten seconds to say: the stress mode
// gives them, and a quick run may end without an answer.
//
//	PHANTOM_MODE=stress go test -run='^$' -bench=Capacity ./consensus
func BenchmarkCapacity(b *testing.B) {
	for _, c := range []struct{ disk, net string }{{"none", "sim"}, {"sync", "tcp"}} {
		disk, net := harness.Axis("disk", c.disk)[0], harness.Axis("net", c.net)[0]
		clients := harness.Axis("clients", capacityClients)[0]
		b.Run(harness.Name("disk", harness.DiskLabel(disk), "net", net, "clients", clients), func(b *testing.B) {
			s := setup{nodes: 3, groups: 1, disk: disk, net: net}
			if disk == "none" {
				s.options, s.raftlog = memoryLog(1), memorySegments
			}
			k := bootGrown(b, s)
			leader := k.leaders()[0]
			value := putOf("capacity", 128)
			spec := harness.Spec{Clients: clients, Counters: k.counters}
			harness.Capacity(b, spec, capacityLevel, func(cl *harness.Client) error {
				_, err := leader.Propose(cl.Context, 1, consensus.Command{Data: value})
				return err
			})
		})
	}
}
