package load_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/load"
)

// BenchmarkStarts asks what the next intended start costs: a generator of
// 100,000 operations a second has 10 us for each. The sine is the dearest, since
// it searches.
//
//	go test -run='^$' -bench=Starts ./harness/load
func BenchmarkStarts(b *testing.B) {
	for _, s := range []load.Schedule{load.Poisson(1e5), load.Sine(1e5, 1e4, 10)} {
		b.Run(harness.Name("arrival", s), func(b *testing.B) {
			next := s.Starts(time.Minute, 1)
			harness.Micro(b, func() error { next(); return nil })
		})
	}
}

// BenchmarkKeys asks what drawing a key costs beside the operation that uses it.
//
//	go test -run='^$' -bench=Keys ./harness/load
func BenchmarkKeys(b *testing.B) {
	const n = 1_000_000
	z, err := load.NewZipfian(n, load.Theta)
	require.NoError(b, err)
	s, err := load.Scramble(z, n)
	require.NoError(b, err)
	l, err := load.NewLatest(func() uint64 { return n }, load.Theta)
	require.NoError(b, err)
	for _, keys := range []load.Keys{s, l} {
		b.Run(harness.Name("keys", keys), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			harness.Micro(b, func() error { keys.Key(r); return nil })
		})
	}
}
