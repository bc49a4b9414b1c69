package consensus_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// A meter notes when what was written reached it.
type meter struct {
	times []time.Time
	sizes []int
}

func (m *meter) Write(b []byte) (int, error) {
	m.times = append(m.times, time.Now())
	m.sizes = append(m.sizes, len(b))
	return len(b), nil
}

// Whatever the sizes of the writes: at no moment more has been let through than
// the rate allows, but for the write that runs, and not less either.
func TestPaceKeepsTheRate(t *testing.T) {
	const rate, total = 64 << 10, 1 << 20
	synctest.Test(t, func(t *testing.T) {
		var m meter
		w := consensus.Pace(t.Context(), &m, rate)
		start := time.Now()
		r := rand.New(rand.NewPCG(1, 2))
		for sent := 0; sent < total; {
			n, err := w.Write(make([]byte, 1+r.IntN(40<<10)))
			require.NoError(t, err)
			sent += n
		}
		before := 0
		for i, at := range m.times {
			due := time.Duration(float64(before) / rate * float64(time.Second))
			require.InDelta(t, due, at.Sub(start), float64(time.Microsecond), "write %d, behind %d bytes", i, before)
			before += m.sizes[i]
		}
		require.Greater(t, len(m.times), 20)
	})
}

// A writer that waits for its turn ends with its context.
func TestPaceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m meter
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := consensus.Pace(ctx, &m, 1)
		_, err := w.Write(make([]byte, 3600))
		require.NoError(t, err)
		start := time.Now()
		_, err = w.Write([]byte{1})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, []int{3600}, m.sizes)
	})
}

func TestPaceWithoutARate(t *testing.T) {
	var m meter
	require.Equal(t, &m, consensus.Pace(t.Context(), &m, 0))
}
