package txn_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
)

// BenchmarkDeadlock asks how long a cycle of transactions lasts that wait for each
// other, each with a lock in a shard of its own: from the call that closes it until
// one of them has the lock that it waited for. All but the oldest wait for the next
// older one, and the oldest closes the cycle, under lock.WoundWait: the wound is what
// opens it.
//
//	go test -run='^$' -bench=Deadlock -count=10 ./txn
func BenchmarkDeadlock(b *testing.B) {
	for _, n := range []int{2, 3, 5} {
		b.Run(harness.Name("cycle", n), func(b *testing.B) {
			w := bootBench(b, benchSetup{})
			clients := make([]*txn.Client, n)
			for i := range clients {
				clients[i] = w.client(1+3*i, txn.ClientOptions{})
			}
			verified := 0
			harness.Events(b, harness.Spec{Counters: w.counters}, func(i int) (harness.Event, error) {
				ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
				defer cancel()
				took, err := w.cycle(ctx, clients, i)
				if err == nil {
					verified++
				}
				return harness.Event{Took: took}, err
			})
			b.ReportMetric(float64(verified), "verified-ops")
		})
	}
}

// cycle has transactions of all clients wait for each other. It returns when all have
// ended, which is what there is to verify.
func (w *bench) cycle(ctx context.Context, clients []*txn.Client, event int) (time.Duration, error) {
	txs := make([]*txn.Tx, len(clients))
	for i, c := range clients {
		var err error
		if txs[i], err = c.Begin(ctx, txn.TxOptions{}); err != nil {
			return 0, err
		}
	}
	slices.SortFunc(txs, func(a, b *txn.Tx) int { return a.ID().Key.Compare(b.ID().Key) }) // the oldest first
	key := func(i int) string { return w.key(i*3, event) }
	for i, tx := range txs {
		if _, _, err := tx.GetForUpdate(ctx, key(i)); err != nil {
			return 0, err
		}
	}
	got := make(chan time.Time, len(txs))
	ended := make(chan struct{}, len(txs))
	want := func(tx *txn.Tx, key string) {
		if _, _, err := tx.GetForUpdate(ctx, key); err == nil {
			got <- time.Now()
		}
		tx.Rollback(ctx) // which is what the next one waits for
		ended <- struct{}{}
	}
	for i := 1; i < len(txs); i++ {
		go want(txs[i], key(i-1))
	}
	for w.waiting() < len(txs)-1 {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%d transactions wait, expected %d: %w", w.waiting(), len(txs)-1, ctx.Err())
		}
		time.Sleep(20 * time.Microsecond)
	}
	closed := time.Now()
	go want(txs[0], key(len(txs)-1))
	for range txs {
		<-ended
	}
	select {
	case at := <-got:
		return at.Sub(closed), nil
	default:
		return 0, fmt.Errorf("none of %d transactions got its lock", len(txs))
	}
}

// waiting is how many requests wait for locks in all shards.
func (w *bench) waiting() (sum int) {
	for i := range w.Dirs() {
		if w.Node(i+1) != nil {
			sum += w.parts[i].Waiting()
		}
	}
	return sum
}
