package measure

import (
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMetersOfThisProcess(t *testing.T) {
	m := OpenMeters()
	defer func() { require.NoError(t, m.Close()) }()
	names := map[string]bool{}
	for _, one := range m.List() {
		require.NotEmpty(t, one.Name)
		require.NotEmpty(t, one.Source, one.Name)
		require.Contains(t, []string{"ns", "B", "Hz", "1"}, one.Unit, one.Name)
		require.Contains(t, []Kind{Gauge, Counter}, one.Kind, one.Name)
		require.False(t, names[one.Name], "%s stands there twice", one.Name)
		names[one.Name] = true
	}
	require.True(t, names["goroutines"] && names["heap-live"] && names["gc-cycles"], "every Go has these")
	if runtime.GOOS == "linux" {
		require.True(t, names["rss"] && names["rss-peak"] && names["cpu-user"] && names["machine-cpu"] && names["context-switches-forced"])
	}

	from, to := m.NewSnapshot(), m.NewSnapshot()
	m.Read(from)
	garbage := make([][]byte, 1000)
	for i := range garbage {
		garbage[i] = make([]byte, 1<<10)
	}
	var parked sync.WaitGroup
	done := make(chan struct{})
	for range 50 {
		parked.Go(func() { <-done })
	}
	runtime.GC()
	m.Read(to)
	close(done)
	parked.Wait()
	runtime.KeepAlive(garbage)
	grew := func(name string) float64 {
		a, ok := m.Value(from, name)
		require.True(t, ok, name)
		b, ok := m.Value(to, name)
		require.True(t, ok, name)
		return b - a
	}
	require.GreaterOrEqual(t, grew("allocated"), float64(1000<<10))
	goroutines, _ := m.Value(to, "goroutines")
	require.GreaterOrEqual(t, goroutines, 50.0)
	require.GreaterOrEqual(t, grew("gc-cycles"), 1.0)
	require.False(t, to.At.Before(from.At))
	for i, one := range m.List() {
		if one.Kind == Counter {
			require.GreaterOrEqual(t, to.Values[i], from.Values[i], "%s only grows", one.Name)
		}
	}

	require.Len(t, to.Spreads, 2)
	for i, s := range to.Spreads {
		require.Positive(t, s.CountSince(from.Spreads[i]), "%s: a collection and 50 goroutines leave something", s.Name)
		p50, ok := s.QuantileSince(from.Spreads[i], 0.5)
		require.True(t, ok)
		p99, _ := s.QuantileSince(from.Spreads[i], 0.99)
		require.LessOrEqual(t, p50, p99)
		require.Less(t, p99, float64(time.Minute))
	}
}

func TestReadingMetersAllocatesNothing(t *testing.T) {
	m := OpenMeters()
	defer func() { require.NoError(t, m.Close()) }()
	s := m.NewSnapshot()
	m.Read(s)
	require.Zero(t, testing.AllocsPerRun(20, func() { m.Read(s) }))
}

func TestSpreadOfKnownValues(t *testing.T) {
	edges := []float64{math.Inf(-1), 0, 1e-6, 1e-3, math.Inf(1)}
	spread := func(counts ...uint64) Spread { return Spread{edges: edges, counts: counts} }
	from, to := spread(5, 10, 0, 7), spread(5, 20, 90, 7)
	require.EqualValues(t, 100, to.CountSince(from))
	for _, c := range []struct{ q, want float64 }{{0, 1e3}, {0.1, 1e3}, {0.11, 1e6}, {1, 1e6}, {7, 1e6}, {-7, 1e3}} {
		got, ok := to.QuantileSince(from, c.q)
		require.True(t, ok)
		require.InDelta(t, c.want, got, 1e-6, "quantile %v", c.q)
	}
	got, ok := spread(1, 0, 0, 0).QuantileSince(spread(0, 0, 0, 0), 0.5)
	require.True(t, ok)
	require.Zero(t, got, "below zero there is no latency")
	got, ok = spread(0, 0, 0, 1).QuantileSince(spread(0, 0, 0, 0), 0.5)
	require.True(t, ok)
	require.InDelta(t, 1e6, got, 1e-6, "the last bucket has a lower edge only")
	_, ok = to.QuantileSince(to, 0.5)
	require.False(t, ok)
}
