package txn_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// levelRows is how many rows the mix of BenchmarkIsolation goes to, and levelBound how
// far its clocks are apart at most.
const (
	levelRows  = 10_000
	levelBound = 2 * time.Millisecond
)

// BenchmarkIsolation asks what keeping transactions apart costs: the same mix of 20
// clients at each level, half of it reading four rows, half of it reading four and
// writing two of them, any of 10,000 in 20 shards. Clocks are taken to be 2 ms apart at
// most, instead of 250 ms: that is what a strict commit waits for.
//
//	go test -run='^$' -bench=Isolation -count=10 ./txn
func BenchmarkIsolation(b *testing.B) {
	for _, c := range []struct {
		level txn.Level
		want  isolation.Level
	}{
		{txn.Snapshot, isolation.Snapshot}, {txn.Serializable, isolation.Serializable}, {txn.Strict, isolation.StrictSerializable},
	} {
		b.Run(harness.Name("level", c.level), func(b *testing.B) {
			w := bootBench(b, benchSetup{participant: func(o *txn.Options) {
				clock, err := hlc.NewClock(nil, levelBound)
				require.NoError(b, err)
				o.Clock = clock
			}})
			l := workload{
				spec: harness.Spec{Clients: harness.Clients()}, options: txn.ClientOptions{Level: c.level}, level: c.want,
				op: w.mixed,
			}
			workers := w.hire(&l)
			var m strife
			l.after = func() { m = strifeOf(workers) }
			if r := w.measure(b, l, workers); r.Invalid == "" {
				b.ReportMetric((float64(m.tries)-float64(r.Ops))/float64(r.Ops), "retries/op")
			}
		})
	}
}

// mixed reads four rows, and every other time writes two of them. Where it is recorded
// it draws from few of them.
func (w *bench) mixed(k *worker) error {
	rows := levelRows
	if k.recorded() {
		rows = 200
	}
	list := k.rand.Perm(rows)[:4]
	writes := 2 * k.rand.IntN(2)
	return k.run(txn.TxOptions{}, func(s *session) error {
		for i, n := range list {
			key := w.key(n%len(w.ids), n)
			if _, _, err := s.get(key); err != nil {
				return err
			}
			if i < writes {
				if err := s.put(key, row); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// BenchmarkTimestamp asks what it costs to have all timestamps from one place: the mix
// of BenchmarkIsolation, serializable, by each node's own clock, and by an oracle on
// node 1, that has reserved them in a row before.
//
//	go test -run='^$' -bench=Timestamp -count=10 ./txn
func BenchmarkTimestamp(b *testing.B) {
	for _, source := range []string{"hlc", "oracle"} {
		b.Run(harness.Name("source", source), func(b *testing.B) {
			o := new(oracle)
			w := bootBench(b, benchSetup{local: o.serve})
			l := workload{
				spec: harness.Spec{Clients: harness.Clients()}, level: isolation.Serializable,
				op: w.mixed,
			}
			workers := w.hire(&l)
			if source == "oracle" {
				o.begin(b, w)
				for _, k := range workers {
					node := k.id%len(w.Nodes()) + 1
					k.c = w.client(node, txn.ClientOptions{Source: o.client(node)})
				}
			}
			w.measure(b, l, workers)
		})
	}
}

// An oracle gives out timestamps on node 1.
type oracle struct {
	w       *bench
	o       *hlc.Oracle
	clients map[int]*hlc.OracleClient // by node
}

// oracleService is what it answers by.
const oracleService = "oracle"

// serve has node 1 answer for it.
func (o *oracle) serve(l *cluster.LocalOptions) {
	inner := l.Node
	l.Node = func(i int, c *cluster.Options) {
		inner(i, c)
		if i != 1 {
			return
		}
		c.NodeServices = map[string]cluster.NodeHandler{
			oracleService: func(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
				ts, err := o.o.Take(ctx, int(binary.BigEndian.Uint32(req)))
				return binary.BigEndian.AppendUint64(nil, uint64(ts)), err
			},
		}
	}
}

// begin makes the oracle. What it reserves it writes into a row.
func (o *oracle) begin(b *testing.B, w *bench) {
	b.Helper()
	o.w, o.clients = w, map[int]*hlc.OracleClient{}
	c := w.client(1, txn.ClientOptions{})
	var err error
	o.o, err = hlc.NewOracle(hlc.OracleOptions{Reserve: func(ctx context.Context, upTo hlc.Timestamp) error {
		return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
			return tx.Put("00/reserved", binary.BigEndian.AppendUint64(nil, uint64(upTo)))
		})
	}})
	require.NoError(b, err)
}

// client returns the client of a node, that all its transactions share.
func (o *oracle) client(node int) *hlc.OracleClient {
	if o.clients[node] == nil {
		from, to := o.w.Node(node), o.w.Node(1).ID()
		o.clients[node] = hlc.NewOracleClient(func(ctx context.Context, count int) (hlc.Timestamp, error) {
			b, err := from.Ask(ctx, to, oracleService, binary.BigEndian.AppendUint32(nil, uint32(count)))
			if err != nil {
				return 0, err
			}
			return hlc.Timestamp(binary.BigEndian.Uint64(b)), nil
		})
	}
	return o.clients[node]
}
