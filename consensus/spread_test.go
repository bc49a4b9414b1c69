package consensus_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// The time to every replica is that of the measured commands, all of them.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpread(1)
		s.replicas = 2
		time.Sleep(time.Second)
		stamp := func(iter uint64) *consensus.Batch {
			data := make([]byte, spreadHeader)
			s.stamp(data, 0, iter)
			return &consensus.Batch{Commands: [][]byte{data}}
		}
		warm, late := stamp(0), stamp(1)
		s.arrive(warm)
		s.arrive(warm)
		s.arrive(late)
		time.Sleep(time.Second)
		s.begin()
		s.arrive(late) // of the warm-up, on the slower replica
		measured := stamp(2)
		s.arrive(measured)
		go func() {
			time.Sleep(5 * time.Millisecond)
			s.arrive(measured)
		}()
		h, err := s.wait(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, int64(1), h.Count(), "the warm-up is left out")
		s.h.Record(time.Hour)
		require.Equal(t, 1.0, share(h, 10*time.Millisecond), "what arrives later is not in it")
		s.h.Reset()
		s.h.Merge(h)
		require.InDelta(t, 5*time.Millisecond, h.Max(), float64(200*time.Microsecond))

		stamp(3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.wait(ctx, 2)
		require.ErrorContains(t, err, "1 of 2 commands are on every replica")
		stamp(3 + spreadWindow)
		_, err = s.wait(t.Context(), 1)
		require.ErrorContains(t, err, "1 commands were not on every replica")
		time.Sleep(time.Millisecond)
		s.begin()
		_, err = s.wait(t.Context(), 0)
		require.NoError(t, err)
		stamp(3 + 2*spreadWindow)
		_, err = s.wait(t.Context(), 0)
		require.NoError(t, err, "a command before the measured ones is not missed")
	})
}

// share returns the part of the values that are at most d.
func share(h *measure.Histogram, d time.Duration) float64 {
	var below, all float64
	for b := range h.Buckets() {
		all += float64(b.Count)
		if b.High <= d {
			below += float64(b.Count)
		}
	}
	return below / all
}

func TestAppliedUnitsNeedEnoughValues(t *testing.T) {
	var h measure.Histogram
	for range 999 {
		h.Record(time.Millisecond)
	}
	require.NotContains(t, appliedUnits(&h), "applied-p99-ns")
	require.Contains(t, appliedUnits(&h), "applied-ns")
	h.Record(time.Millisecond)
	require.InDelta(t, float64(time.Millisecond), appliedUnits(&h)["applied-p99-ns"], float64(20*time.Microsecond))
}
