package lock

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

// BenchmarkLock asks what a lock costs a transaction that nobody is in the way of.
//
//	go test -run='^$' -bench=Lock ./txn/lock
func BenchmarkLock(b *testing.B) {
	b.Run("op=exclusive", func(b *testing.B) {
		table, ctx := newTable(b, Options{}), b.Context()
		for i := range 1000 {
			if err := table.Acquire(ctx, txn(10+i), string(rune('a'+i)), Exclusive); err != nil {
				b.Fatal(err)
			}
		}
		n := 10_000
		harness.Micro(b, func() error {
			n++
			who := txn(n)
			err := table.Acquire(ctx, who, "key", Exclusive)
			table.ReleaseAll(who)
			return err
		})
	})
}
