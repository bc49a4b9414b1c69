package isolation_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
)

// BenchmarkCheck asks what it takes to decide whether a history is strictly
// serializable: txns transactions of up to four operations on lists.
//
//	go test -run='^$' -bench=Check ./harness/verify/isolation
func BenchmarkCheck(b *testing.B) {
	const txns = 10_000
	b.Run(harness.Name("txns", txns), func(b *testing.B) {
		h := long(txns, false)
		harness.Run(b, harness.Spec{}, func(*harness.Client) error {
			r, err := isolation.Check(h, isolation.StrictSerializable)
			require.NoError(b, err)
			return r.Err()
		})
	})
}
