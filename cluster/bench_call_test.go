package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/load"
)

// BenchmarkCall asks what it costs to reach a key from any node: half of the
// operations write 128 bytes, which are replicated and applied, half read under the
// leader's lease, of shards that are spread over all nodes. load-cv says how evenly the
// nodes answer.
//
//	go test -run='^$' -bench=Call -count=10 ./cluster
func BenchmarkCall(b *testing.B) {
	nodes, clients := harness.Nodes(), harness.Clients()
	b.Run(harness.Name("nodes", nodes, "clients", clients), func(b *testing.B) {
		c := bootBench(b, nodes, "none", func(o *cluster.LocalOptions) {
			o.Node = func(_ int, o *cluster.Options) { o.LoadWindow = 300 * time.Millisecond }
		})
		ids := c.fill(b)
		c.spread(b, ids)
		shards := len(ids)
		mix, err := load.NewMix(load.Kind{Name: "put", Weight: 1}, load.Kind{Name: "get", Weight: 1})
		require.NoError(b, err)
		up := c.Nodes()
		value := make([]byte, 128)
		spec := harness.Spec{Clients: clients, Mix: mix, Counters: c.counters, Loads: func() []int64 { return answered(up) }}
		harness.Run(b, spec, func(cl *harness.Client) error {
			key := fmt.Sprintf("%06d", cl.Rand.IntN(shards))
			service, body := "get", []byte(key)
			if cl.Kind == 0 {
				service, body = "do", kv.EncodePut(nil, body, value)
			}
			_, err := up[cl.ID%nodes].Call(cl.Context, service, key, body)
			return err
		})
	})
}

// spread waits until no node leads three shards more than another.
func (c *bench) spread(b *testing.B, ids []meta.ShardID) {
	b.Helper()
	require.Eventually(b, func() bool {
		most, least, count := 0, len(ids), leads(c.Local, ids)
		for _, n := range c.Nodes() {
			most, least = max(most, count[n.ID()]), min(least, count[n.ID()])
		}
		return most-least < 3
	}, time.Minute, 10*time.Millisecond, "the nodes lead %v", leads(c.Local, ids))
}

// answered is how many operations each node has answered.
func answered(nodes []*cluster.Node) []int64 {
	list := make([]int64, len(nodes))
	for i, n := range nodes {
		list[i] = int64(n.Ops())
	}
	return list
}
