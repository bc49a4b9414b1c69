package txn_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
)

// bankCustomers is how many customers the bank of BenchmarkTransactions has.
const bankCustomers = 10_000

// BenchmarkTransactions is the standard case of this floor, which its service level is
// bound to: 5,000 transactions of 20 clients, serializable, over 20 shards of three
// replicas on 20 nodes that share a log which is synced, on links without delay, warm.
// Half are those of a bank (SmallBank), half those of an order entry after TPC-C:
//
//	amalgamate 15  balance 15  deposit 15  send 25  savings 15  check 15
//	neworder   47  payment 45  orderstatus 4  stocklevel 4
//
// Of 200, 130 write in two shards or more: amalgamate, send, new orders and payments; 47
// in one, and 23 only read. Each kind has a line of its own. The history of the
// recorded part is held against serializability; in the end the bank must have the money
// that it was given, and the order entry be consistent.
//
//	PHANTOM_MODE=standard go test -run='^$' -bench='^BenchmarkTransactions$' -count=10 ./txn
func BenchmarkTransactions(b *testing.B) {
	nodes, clients := harness.Nodes(), harness.Clients()
	b.Run(harness.Name("nodes", nodes, "clients", clients), func(b *testing.B) {
		w := bootBench(b, benchSetup{nodes: nodes, disk: "shared"})
		bank, err := newSmallBank(w, bankCustomers)
		require.NoError(b, err)
		orders := &orderEntry{w, nodes}
		mix, err := load.NewMix(slices.Concat(bankKinds, orderKinds)...)
		require.NoError(b, err)
		l := workload{
			spec: harness.Spec{Clients: clients, Mix: mix}, level: isolation.Serializable,
			op: func(k *worker) error {
				kind := mix.Kind(k.kind).Name
				if k.kind < len(bankKinds) {
					return bank.one(k, kind)
				}
				return orders.one(k, kind)
			},
		}
		workers := w.hire(&l)
		fill(b, workers, nodes, bank.fill)
		fill(b, workers, nodes, orders.fill)
		var m strife
		l.after = func() { m = strifeOf(workers) }
		r := w.measure(b, l, workers)
		money := int64(2 * bankOpening * bankCustomers)
		for _, k := range workers {
			money += k.money
		}
		c := w.client(1, txn.ClientOptions{})
		has, err := bank.sum(b.Context(), c)
		require.NoError(b, err)
		require.Equal(b, money, has, "what the bank has, beside what it was given")
		require.NoError(b, orders.consistent(b.Context(), c))
		if r.Invalid == "" {
			b.ReportMetric((float64(m.tries)-float64(r.Ops))/float64(r.Ops), "retries/op")
		}
	})
}

// fill has workers write the rows that there are in the beginning, in parts. It returns
// when all clocks are past that: a node that hears of them later would read what was
// before.
func fill(b *testing.B, workers []*worker, parts int, one func(s *session, part int) error) {
	b.Helper()
	errs := make([]error, parts)
	var work sync.WaitGroup
	for i := range parts {
		work.Go(func() {
			errs[i] = workers[i%len(workers)].run(txn.TxOptions{Set: true, Level: txn.Strict}, func(s *session) error { return one(s, i) })
		})
	}
	work.Wait()
	for _, err := range errs {
		require.NoError(b, err)
	}
}
