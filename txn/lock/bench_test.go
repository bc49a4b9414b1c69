package lock

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

// BenchmarkLock asks what a lock costs a transaction that nobody is in the way of, and,
// outside the quick mode, what the table adds where one transaction hands it on to the
// next, without the goroutines that would wait.
//
//	go test -run='^$' -bench=Lock ./txn/lock
func BenchmarkLock(b *testing.B) {
	table, ctx := newTable(b, Options{}), b.Context()
	for i := range 1000 {
		if err := table.Acquire(ctx, txn(10+i), string(rune('a'+i)), Exclusive); err != nil {
			b.Fatal(err)
		}
	}
	n := 10_000
	b.Run("op=exclusive", func(b *testing.B) {
		harness.Micro(b, func() error {
			n++
			who := txn(n)
			err := table.Acquire(ctx, who, "key", Exclusive)
			table.ReleaseAll(who)
			return err
		})
	})
	if harness.Quick() {
		return
	}
	b.Run("op=handoff", func(b *testing.B) {
		if err := table.Acquire(ctx, txn(n), "key", Exclusive); err != nil {
			b.Fatal(err)
		}
		harness.Micro(b, func() error {
			n++
			table.mu.Lock()
			w, err := table.ask(txn(n), "key", Exclusive)
			table.unlock()
			if err != nil {
				return err
			}
			table.ReleaseAll(txn(n - 1))
			return table.await(ctx, w)
		})
		table.ReleaseAll(txn(n))
	})
}
