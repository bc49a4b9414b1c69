package latch

import (
	"testing"

	"github.com/phantomdb/phantomdb/harness"
)

// BenchmarkLatch asks what it costs a write to take and give back a latch that nobody
// else wants, while a thousand others and a scan elsewhere are under way.
//
//	go test -run='^$' -bench=Latch ./txn/latch
func BenchmarkLatch(b *testing.B) {
	b.Run("op=write", func(b *testing.B) {
		m := newManager(b, Options{})
		for i := range 1000 {
			acquire(b, m, Point(string(rune('a'+i)), Write))
		}
		acquire(b, m, Span("A", "B", Read))
		want, ctx := []Want{Point("key", Write)}, b.Context()
		harness.Micro(b, func() error {
			g, err := m.Acquire(ctx, want)
			g.Release()
			return err
		})
	})
}
