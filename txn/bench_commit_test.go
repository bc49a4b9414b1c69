package txn_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
)

// A commitCase is a point in the space of BenchmarkCommit.
type commitCase struct {
	protocol string
	shards   int
	disk     string
	net      string
	clients  int
}

// commitQuick are a centre and what is next to it.
var commitQuick = []commitCase{
	{"1pc", 1, "none", "sim", 1},
	{"1pc", 1, "none", "sim", 256},
	{"oneround", 2, "none", "sim", 1},
	{"oneround", 2, "none", "sim", 64},
	{"oneround", 2, "none", "sim", 256},
	{"2pc", 2, "none", "sim", 64},
	{"oneround", 5, "none", "sim", 64},
	{"oneround", 10, "none", "sim", 64},
	{"oneround", 2, "none", "tcp", 64},
	{"1pc", 1, "shared", "sim", 64},
	{"oneround", 2, "shared", "sim", 20},
	{"oneround", 2, "shared", "sim", 64},
	{"2pc", 2, "shared", "sim", 64},
	{"oneround", 2, "sync", "sim", 20},
}

// commitCases are the quick ones, or the full product, with the axes that the user
// pinned.
func commitCases() (list []commitCase) {
	all := commitQuick
	if harness.Full() {
		all = nil
		for _, protocol := range []string{"1pc", "2pc", "oneround"} {
			for _, shards := range []int{1, 2, 5, 10} {
				if (protocol == "1pc") != (shards == 1) {
					continue // what is in one shard has no other protocol, and no other has this one
				}
				for _, disk := range []string{"none", "sync", "shared"} {
					for _, net := range []string{"sim", "tcp"} {
						for _, clients := range []int{1, 20, 64, 256} {
							all = append(all, commitCase{protocol, shards, disk, net, clients})
						}
					}
				}
			}
		}
	}
	for _, p := range all {
		p.disk, p.net = harness.Axis("disk", p.disk)[0], harness.Axis("net", p.net)[0]
		p.clients = harness.Axis("clients", p.clients)[0]
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// protocolOf has transactions commit by the protocol of a case.
func protocolOf(name string) txn.ClientOptions {
	if name == "2pc" {
		return txn.ClientOptions{Protocol: txn.TwoPhase}
	}
	return txn.ClientOptions{}
}

// BenchmarkCommit asks what a commit costs that writes a row of 128 bytes in each of so
// many of 20 shards on 20 nodes, which nobody else writes at the same time as a rule.
//
//	go test -run='^$' -bench=Commit -count=10 ./txn
func BenchmarkCommit(b *testing.B) {
	for _, p := range commitCases() {
		b.Run(harness.Name("protocol", p.protocol, "shards", p.shards, "disk", harness.DiskLabel(p.disk), "net", p.net, "clients", p.clients), func(b *testing.B) {
			w := bootBench(b, benchSetup{disk: p.disk, net: p.net})
			l := workload{
				spec: harness.Spec{Clients: p.clients}, options: protocolOf(p.protocol), level: isolation.Serializable,
				op: func(k *worker) error { return w.writeRows(k, p.shards) },
			}
			w.measure(b, l, w.hire(&l))
		})
	}
	benchWide(b)
}

// row is what a case writes.
var row = make([]byte, 128-numberBytes)

// writeRows writes a row in each of so many shards. Where it is recorded it draws from
// few of them.
func (w *bench) writeRows(k *worker, shards int) error {
	keys := 100_000
	if k.recorded() {
		keys = max(8, 2*shards*shards) // how many of the others one meets hangs on the square
	}
	return k.run(txn.TxOptions{}, func(s *session) error {
		first := k.rand.IntN(len(w.ids))
		for i := range shards {
			// 7 and the number of shards have no common divisor: no shard comes twice.
			if err := s.overwrite(w.key((first+i*7)%len(w.ids), k.rand.IntN(keys)), row); err != nil {
				return err
			}
		}
		return nil
	})
}

// wideTrip is the round trip of net=wan5.
const wideTrip = 5 * time.Millisecond

// benchWide asks how many round trips a commit takes, where they take 5 ms: two shards
// and one client, whose node has no replica of either (at=remote), or leads both
// (at=beside).
func benchWide(b *testing.B) {
	protocols := harness.Points([]string{"oneround"}, []string{"oneround", "2pc"})
	for _, protocol := range protocols {
		for _, at := range []string{"remote", "beside"} {
			b.Run(harness.Name("protocol", protocol, "shards", 2, "disk", "none", "net", "wan5", "at", at, "clients", 1), func(b *testing.B) {
				w := bootBench(b, benchSetup{local: precise})
				first, second, node := w.two(b, at == "beside")
				w.slow(wideTrip)
				l := workload{
					spec: harness.Spec{Clients: 1}, options: protocolOf(protocol), level: isolation.Serializable,
					op: func(k *worker) error {
						keys := 100_000
						if k.recorded() {
							keys = 8
						}
						return k.run(txn.TxOptions{}, func(s *session) error {
							if err := s.overwrite(w.key(first, k.rand.IntN(keys)), row); err != nil {
								return err
							}
							return s.overwrite(w.key(second, k.rand.IntN(keys)), row)
						})
					},
				}
				workers := w.hire(&l)
				workers[0].c = w.client(node, l.options)
				r := w.measure(b, l, workers)
				if r.Invalid == "" {
					b.ReportMetric(float64(r.Latency.Quantile(0.5))/float64(wideTrip), "rounds/op")
				}
			})
		}
	}
}

// two returns two shards and a node that leads both, or has no replica of either.
func (w *bench) two(b *testing.B, beside bool) (first, second, node int) {
	b.Helper()
	for first = range w.ids {
		for second = first + 1; second < len(w.ids); second++ {
			near := append(w.voters(first), w.voters(second)...)
			if lead := w.leader(first); beside && slices.Contains(w.voters(second), lead) {
				w.hand(b, second, lead)
				return first, second, lead
			}
			if beside {
				continue
			}
			for node = range w.Dirs() {
				if !slices.Contains(near, node+1) {
					return first, second, node + 1
				}
			}
		}
	}
	require.Fail(b, "no two shards have a replica on the same node")
	return 0, 0, 0
}
