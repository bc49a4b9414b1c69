package harness

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// filled returns a level of 20 slices of a second, each with a thousand operations
// of which late(i) were late and failed(i) failed.
func filled(slo SLO, begun int, late, failed func(slice int) int) *level {
	const begin = 7 * time.Second
	l := newLevel(slo, begin, 20*time.Second, 1000)
	for i := range begun {
		for n := range 1000 {
			latency, err := slo.Latency, error(nil)
			if n < late(i) {
				latency++
			} else if n < late(i)+failed(i) {
				err = errors.New("no")
			}
			l.count(begin+time.Duration(i)*time.Second+time.Duration(n)*time.Millisecond, latency, err)
		}
	}
	return l
}

func never(int) int { return 0 }

func only(slice, n int) func(int) int {
	return func(i int) int {
		if i == slice {
			return n
		}
		return 0
	}
}

func each(n int) func(int) int { return func(int) int { return n } }

func TestLevelIsJudgedBySlices(t *testing.T) {
	slo := SLO{Latency: time.Millisecond, Quantile: 0.99}
	lax := SLO{Latency: time.Millisecond, Quantile: 0.99, Errors: 0.01}
	whole := time.Duration(math.MaxInt64)
	for name, c := range map[string]struct {
		l    *level
		sure certainty
		now  time.Duration
		want opinion
		why  string
	}{
		"none late":     {filled(slo, 20, never, never), certain, whole, met, ""},
		"evenly below":  {filled(slo, 20, each(7), never), certain, whole, met, ""},
		"evenly above":  {filled(slo, 20, each(14), never), certain, whole, broken, "1.4 % of 20000 operations took longer than 1ms"},
		"on the limit":  {filled(slo, 20, each(10), never), certain, whole, undecided, "1 % of 20000 operations took longer than 1ms, and by"},
		"one burst":     {filled(slo, 20, only(4, 140), never), certain, whole, undecided, "0.7 % of 20000 operations took longer than 1ms, and by how they came it may be up to 2.4"},
		"small burst":   {filled(slo, 20, only(4, 50), never), certain, whole, met, ""},
		"likely":        {filled(slo, 20, only(4, 90), never), likely, whole, met, ""},
		"not certain":   {filled(slo, 20, only(4, 90), never), certain, whole, undecided, ""},
		"early, none":   {filled(slo, 2, never, never), certain, 9 * time.Second, met, ""},
		"early, all":    {filled(slo, 2, each(1000), never), certain, 9 * time.Second, undecided, ""},
		"all, too long": {filled(slo, 8, each(1000), never), certain, 15 * time.Second, broken, "40 % of 20000 operations"},
		"few":           {filled(slo, 0, never, never), certain, whole, undecided, ""},
		"one failed":    {filled(slo, 20, never, only(3, 1)), certain, whole, broken, "1 of 20000 operations failed"},
		"some fail":     {filled(lax, 20, never, each(5)), certain, whole, met, ""},
		"many fail":     {filled(lax, 20, never, each(15)), certain, whole, broken, "300 of 20000 operations failed"},
		"fail at once":  {filled(lax, 20, never, only(3, 140)), certain, whole, undecided, "140 of 20000 operations failed, and by how they came"},
	} {
		o, why := c.l.judge(c.now, c.sure)
		require.Equal(t, c.want, o, "%s: %s", name, why)
		require.Contains(t, why, c.why, name)
	}
}

// An operation belongs to the slice in which it was meant to start, and what lies
// outside of all to the nearest.
func TestOperationsBelongToTheSliceOfTheirStart(t *testing.T) {
	l := newLevel(SLO{Latency: time.Second}, time.Minute, 20*time.Second, 1)
	for _, start := range []time.Duration{0, time.Minute, time.Minute + 999*time.Millisecond, time.Minute + time.Second, time.Hour} {
		l.count(start, 2*time.Second, nil)
	}
	require.EqualValues(t, 3, l.counts[0].late.Load())
	require.EqualValues(t, 1, l.counts[1].late.Load())
	require.EqualValues(t, 1, l.counts[levelSlices-1].late.Load())
	require.EqualValues(t, 5, l.done())
	require.Positive(t, newLevel(SLO{}, 0, 0, 1).slice, "a window of nothing divides by nothing")
}

func TestWilson(t *testing.T) {
	// Newcombe, 1998, table I: 81 of 263, 95 %.
	low, high := wilson(81, 263, 1.959964)
	require.InDelta(t, 0.2553, low, 5e-5)
	require.InDelta(t, 0.3662, high, 5e-5)
	low, high = wilson(0, 20, 1.959964)
	require.Zero(t, low)
	require.InDelta(t, 0.1611, high, 5e-5)
	low, high = wilson(0, 0, 2)
	require.Equal(t, []float64{0, 1}, []float64{low, high})
	// The fewest operations that show a level met are so indeed.
	slo := SLO{Quantile: 0.99}
	n := slo.fewest()
	_, high = wilson(0, n, certain.z)
	require.LessOrEqual(t, high, 0.01)
	_, high = wilson(0, n-2, certain.z)
	require.Greater(t, high, 0.01)
}
