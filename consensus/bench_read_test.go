package consensus_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

// errNoLease and errNoRow end a read that would not have been a read.
var (
	errNoLease = errors.New("the leader has no lease")
	errNoRow   = errors.New("no such row")
)

// BenchmarkRead asks what a point read at the leader's node costs: confirmed by
// a round of messages that concurrent reads share (index), covered by the
// lease (lease), or with no claim to be recent (local). Run reads the clock
// once per operation, about 50 ns, which is a good part of the last two.
//
//	go test -run='^$' -bench=Read -count=10 ./consensus
func BenchmarkRead(b *testing.B) {
	nets := []string{"sim"}
	if harness.Full() {
		nets = []string{"sim", "tcp"}
	}
	for _, net := range harness.Axis("net", nets...) {
		for _, mode := range []string{"index", "lease", "local"} {
			clients := []int{1, 64, 256}
			if mode != "index" { // the others share no rounds
				clients = harness.Points([]int{1}, clients)
			}
			for _, clients := range harness.Axis("clients", clients...) {
				b.Run(harness.Name("mode", mode, "net", net, "clients", clients), func(b *testing.B) {
					benchRead(b, mode, net, clients)
				})
			}
		}
	}
}

func benchRead(b *testing.B, mode, net string, clients int) {
	const rows = 1024
	c := bootBench(b, setup{disk: "none", net: net})
	keys := make([][]byte, rows)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "row%d", i)
		c.put(b.Context(), 1, string(keys[i]), "128 bytes would read no slower: a value is returned and not copied")
	}
	l := c.leader(1)
	m := c.machine(int(l.Node()-1), 1)
	harness.Run(b, harness.Spec{Clients: clients, Counters: c.counters}, func(cl *harness.Client) error {
		switch mode {
		case "index":
			if err := l.ReadIndex(cl.Context, 1); err != nil {
				return err
			}
		case "lease":
			if _, ok := l.Lease(1); !ok {
				return errNoLease
			}
		}
		if _, ok := m.Get(keys[cl.Rand.IntN(rows)]); !ok {
			return errNoRow
		}
		return nil
	})
}
