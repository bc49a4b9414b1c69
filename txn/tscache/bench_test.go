package tscache

import (
	"strconv"
	"testing"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// BenchmarkTSCache asks what it costs to note a read of a key and to ask for another
// one, among ten thousand keys and a hundred spans.
//
//	go test -run='^$' -bench=TSCache ./txn/tscache
func BenchmarkTSCache(b *testing.B) {
	b.Run("op=readmax", func(b *testing.B) {
		c := newCache(b, Options{}, 1)
		keys := make([]string, 10_000)
		for i := range keys {
			keys[i] = strconv.Itoa(i)
		}
		for i := range 100 {
			c.ReadSpan(keys[i], keys[i]+"\x00", 1000, txn(1))
		}
		n := 0
		harness.Micro(b, func() error {
			n++
			c.Read(keys[n%len(keys)], hlc.Timestamp(n), txn(n%7+1))
			c.Max(keys[n*7%len(keys)], txn(1))
			return nil
		})
	})
}
