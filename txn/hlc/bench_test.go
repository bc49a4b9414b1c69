package hlc_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// BenchmarkClock asks what it costs to tell the time, and to hear of one that is past.
//
//	go test -run='^$' -bench=Clock ./txn/hlc
func BenchmarkClock(b *testing.B) {
	c, err := hlc.NewClock(nil, 0)
	require.NoError(b, err)
	b.Run("op=now", func(b *testing.B) {
		harness.Micro(b, func() error { c.Now(); return nil })
	})
	b.Run("op=observe", func(b *testing.B) {
		past := c.Now()
		harness.Micro(b, func() error { return c.Observe(past) })
	})
}

// BenchmarkOracle asks what a timestamp costs that clients take in batches from an
// oracle of the same process, whose reservations cost nothing.
//
//	go test -run='^$' -bench=Oracle ./txn/hlc
func BenchmarkOracle(b *testing.B) {
	for _, clients := range harness.Axis("clients", 1, 64) {
		b.Run(harness.Name("clients", clients), func(b *testing.B) {
			o, err := hlc.NewOracle(hlc.OracleOptions{Reserve: func(context.Context, hlc.Timestamp) error { return nil }})
			require.NoError(b, err)
			c := hlc.NewOracleClient(o.Take)
			harness.Run(b, harness.Spec{Clients: clients}, func(cl *harness.Client) error {
				_, err := c.Timestamp(cl.Context)
				return err
			})
		})
	}
}
