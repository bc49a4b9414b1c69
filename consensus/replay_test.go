package consensus_test

import (
	"testing"
	"testing/cryptotest"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// Another seed makes another history: the source is what elections draw from.
func TestSeedDecidesElections(t *testing.T) {
	trace := func(seed uint64) (s string) {
		cryptotest.SetGlobalRandom(t, seed)
		synctest.Test(t, func(t *testing.T) {
			m := bootManual(t, manualOptions{})
			m.until("a lease", func() bool { return len(m.holders()) == 1 })
			s = m.trace.String()
		})
		return s
	}
	first := trace(1)
	require.Equal(t, first, trace(1))
	require.NotEqual(t, first, trace(2))
}

// Runs full of faults, snapshots and changes of members repeat themselves
// message by message.
func TestFaultsReplay(t *testing.T) {
	trace := func(seed uint64) (s string) {
		cryptotest.SetGlobalRandom(t, seed)
		synctest.Test(t, func(t *testing.T) {
			c := newChaos(t, seed)
			c.run(120)
			s = c.m.trace.String()
		})
		return s
	}
	for seed := range uint64(10) {
		require.Equal(t, trace(seed), trace(seed), "seed %d", seed)
	}
}
