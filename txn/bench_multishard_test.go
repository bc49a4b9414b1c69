package txn_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/measure"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
)

// BenchmarkMultiShard asks what a transaction is made of that writes a row of 128 bytes
// in each of so many of 20 shards: messages, bytes and syncs of one log for all nodes as
// everywhere; proposals/op, the commands that shards apply for it, and entries/op, the
// log entries that these come in, both counted once and not for each replica; and
// rounds/op, the round trips that a lone client waits for, one after the other: the
// median of 20 transactions over links with 5 ms there and back. What goes on behind the
// answer, to end intents, is in all but the last.
//
//	go test -run='^$' -bench=MultiShard -count=10 ./txn
func BenchmarkMultiShard(b *testing.B) {
	for _, shards := range []int{2, 5, 20} {
		b.Run(harness.Name("nodes", 20, "shards", shards), func(b *testing.B) {
			w := bootBench(b, benchSetup{disk: "shared", local: precise})
			var before, after effort
			l := workload{
				spec:  harness.Spec{Clients: 20, Start: func() { before = w.effort(b) }},
				level: isolation.Serializable,
				op:    func(k *worker) error { return w.writeRows(k, shards) },
				after: func() { after = w.effort(b) },
			}
			workers := w.hire(&l)
			r := w.measure(b, l, workers)
			if r.Invalid != "" {
				return
			}
			ops := float64(r.Ops)
			b.ReportMetric(float64(after.proposals-before.proposals)/ops, "proposals/op")
			b.ReportMetric(float64(after.entries-before.entries)/ops, "entries/op")
			b.ReportMetric(w.rounds(b, workers[0], l.op), "rounds/op")
		})
	}
}

// An effort is what shards have done since they began.
type effort struct {
	proposals uint64 // commands applied, by one replica
	entries   uint64 // committed
}

// effort returns what all shards have done.
func (w *bench) effort(b *testing.B) (sum effort) {
	b.Helper()
	for i := range w.ids {
		entries := uint64(0)
		for _, n := range w.voters(i) {
			st, err := w.Node(n).Host().Status(consensus.GroupID(w.ids[i]))
			require.NoError(b, err)
			entries = max(entries, st.Commit)
		}
		sum.entries += entries
	}
	for _, n := range w.Nodes() {
		sum.proposals += n.Host().Stats().Applied
	}
	sum.proposals /= 3 // replicas
	return sum
}

// rounds is how many round trips an operation takes that nobody else is in the way of.
func (w *bench) rounds(b *testing.B, k *worker, op func(*worker) error) float64 {
	b.Helper()
	k.audit = nil
	w.slow(wideTrip)
	var took measure.Histogram
	clock := measure.StartClock()
	for range 20 {
		began := clock.Now()
		require.NoError(b, op(k))
		took.Record(clock.Now() - began)
	}
	return float64(took.Quantile(0.5)) / float64(wideTrip)
}
