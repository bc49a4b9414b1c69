package consensus_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// A pool that charges for its work makes virtual time pass: with one worker, a
// command takes at least what the passes that carry it are charged.
func TestPoolCharges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var price atomic.Int64
		var work atomic.Int64
		c := boot(t, setup{workers: 1, charge: func(w consensus.Work) time.Duration {
			work.Add(int64(w.Inputs))
			return time.Duration(price.Load())
		}})
		h := c.leader(1)
		took := func() time.Duration {
			start := time.Now()
			_, err := h.Propose(t.Context(), 1, put("k", "v"))
			require.NoError(t, err)
			return time.Since(start)
		}
		require.Zero(t, took(), "nothing is charged")
		price.Store(int64(time.Millisecond))
		before := work.Load()
		// Propose and append, answers, commit: two passes at the least.
		require.GreaterOrEqual(t, took(), 2*time.Millisecond)
		require.Greater(t, work.Load(), before)
		price.Store(0)
	})
}

func TestPoolRefusesAbsurdSizes(t *testing.T) {
	for _, n := range []int{-1, 1025} {
		_, err := consensus.NewPool(consensus.PoolOptions{Workers: n})
		require.ErrorContains(t, err, "Workers")
	}
}
