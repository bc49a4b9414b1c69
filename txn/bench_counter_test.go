package txn_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// BenchmarkHotCounter asks how often a second 64 clients can add 1 to the same counter:
// by a lock that each has from its read to its commit; optimistically, where who read
// what another has written since begins again; and by an escrow, which adds within
// bounds and waits for nobody. In the end the counter must be what was answered.
//
//	go test -run='^$' -bench=HotCounter -count=10 ./txn
func BenchmarkHotCounter(b *testing.B) {
	const key = "50/counter"
	for _, by := range []string{"lock", "occ", "escrow"} {
		b.Run(harness.Name("by", by), func(b *testing.B) {
			w := bootBench(b, benchSetup{})
			add := map[string]func(s *session) error{
				"lock":   func(s *session) error { return addRead(s, key, s.GetForUpdate) },
				"occ":    func(s *session) error { return addRead(s, key, s.Get) },
				"escrow": func(s *session) error { return s.AddBounded(key, 1, 0, math.MaxInt64) },
			}[by]
			l := workload{
				spec: harness.Spec{Clients: contenders}, options: txn.ClientOptions{MaxTries: 100_000},
				op: func(k *worker) error {
					err := k.run(txn.TxOptions{}, add)
					if err == nil {
						k.money++
					}
					return err
				},
			}
			workers := w.hire(&l)
			var m strife
			l.after = func() { m = strifeOf(workers) }
			l.check = func() int {
				sum := int64(0)
				for _, k := range workers {
					sum += k.money
				}
				require.Equal(b, sum, w.count(b, key), "what is there, beside what was answered")
				return int(sum)
			}
			r := w.measure(b, l, workers)
			if r.Invalid == "" {
				b.ReportMetric((float64(m.tries)-float64(r.Ops))/float64(r.Ops), "retries/op")
				b.ReportMetric(m.fairness, "fairness")
			}
		})
	}
}

// addRead adds 1 to a counter that it reads.
func addRead(s *session, key string, get func(context.Context, string) ([]byte, bool, error)) error {
	b, there, err := get(s.k.ctx, key)
	if err != nil {
		return err
	}
	n, _ := mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !there, Value: b})
	return s.Put(key, mvcc.AppendCounter(nil, n+1))
}

// count returns what a counter shows.
func (w *bench) count(b *testing.B, key string) (n int64) {
	b.Helper()
	require.NoError(b, w.client(1, txn.ClientOptions{}).Run(b.Context(), latest, func(tx *txn.Tx) error {
		v, there, err := tx.Get(b.Context(), key)
		n, _ = mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !there, Value: v})
		return err
	}))
	return n
}
