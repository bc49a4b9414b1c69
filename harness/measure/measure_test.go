package measure

import (
	"bytes"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchfmt"
)

// near fails unless got is within the three digits a Histogram keeps.
func near(t *testing.T, want, got time.Duration) {
	t.Helper()
	require.InEpsilon(t, float64(want), float64(got), 0.001)
}

func TestQuantilesOfKnownValues(t *testing.T) {
	var h Histogram
	for i := 1; i <= 10_000; i++ {
		h.Record(time.Duration(i) * time.Microsecond)
	}
	near(t, 5000*time.Microsecond, h.Quantile(0.5))
	near(t, 9000*time.Microsecond, h.Quantile(0.9))
	near(t, 9900*time.Microsecond, h.Quantile(0.99))
	near(t, 9990*time.Microsecond, h.Quantile(0.999))
	require.Equal(t, time.Microsecond, h.Quantile(0))
	require.Equal(t, 10_000*time.Microsecond, h.Quantile(1))
	require.Equal(t, time.Microsecond, h.Min())
	require.Equal(t, 10_000*time.Microsecond, h.Max())
	require.InDelta(t, 5_000_500, h.Mean(), 1e-6)
	require.EqualValues(t, 10_000, h.Count())
}

// All at once are what they are one by one, whatever their order.
func TestQuantilesTogether(t *testing.T) {
	var h Histogram
	qs := []float64{0.5, 0, 0.9, 0.9, -1, 0.999, 1, 2}
	require.Equal(t, make([]time.Duration, len(qs)), h.Quantiles(qs), "empty")
	for i := 1; i <= 1000; i++ {
		h.Record(time.Duration(i*i*i) * time.Nanosecond)
	}
	h.Record(2 * MaxLatency)
	for i, got := range h.Quantiles(qs) {
		require.Equal(t, h.Quantile(qs[i]), got, qs[i])
	}
}

// The sum and the extremes come from the values, not from their buckets.
func TestExtremesAreExact(t *testing.T) {
	var h Histogram
	for _, d := range []time.Duration{1_234_567_891, 987_654_321} {
		h.Record(d)
	}
	require.EqualValues(t, 987_654_321, h.Min())
	require.EqualValues(t, 1_234_567_891, h.Max())
	require.InDelta(t, 1_111_111_106, h.Mean(), 1e-3)
	require.LessOrEqual(t, h.Quantile(1), h.Max())
	require.GreaterOrEqual(t, h.Quantile(0), h.Min())
}

func TestValuesOutOfRange(t *testing.T) {
	var h Histogram
	h.Record(-time.Second)
	h.Record(3 * time.Hour)
	require.EqualValues(t, 2, h.Count())
	require.Zero(t, h.Min())
	require.Equal(t, 3*time.Hour, h.Max())
	near(t, MaxLatency, h.Quantile(1))
}

func TestEmptyHistogram(t *testing.T) {
	var h, other Histogram
	require.Zero(t, h.Quantile(0.5))
	require.Zero(t, h.Mean())
	h.Merge(&other)
	require.Zero(t, h.Count())
	h.Reset()
	h.Record(time.Second)
	other.Merge(&h)
	require.Equal(t, time.Second, other.Min())
}

func TestMergeAndReset(t *testing.T) {
	var a, b, whole Histogram
	for i := range 1000 {
		d := time.Duration(i*i) * time.Nanosecond
		whole.Record(d)
		if i%3 == 0 {
			a.Record(d)
		} else {
			b.Record(d)
		}
	}
	a.Merge(&b)
	require.Equal(t, whole.Count(), a.Count())
	require.InEpsilon(t, whole.Mean(), a.Mean(), 1e-9)
	for _, q := range []float64{0, 0.1, 0.5, 0.99, 1} {
		require.Equal(t, whole.Quantile(q), a.Quantile(q), "quantile %v", q)
	}
	a.Reset()
	require.Zero(t, a.Count())
	require.Zero(t, a.Max())
	a.Record(7)
	require.EqualValues(t, 7, a.Quantile(1))
}

// A percentile needs ten values beyond it.
func TestPercentilesNeedEnoughValues(t *testing.T) {
	for _, c := range []struct {
		n    int64
		want string
	}{
		{0, ""}, {19, ""}, {20, "p50-ns"}, {99, "p50-ns"}, {100, "p50-ns p90-ns"},
		{999, "p50-ns p90-ns"}, {1000, "p50-ns p90-ns p99-ns"},
		{9999, "p50-ns p90-ns p99-ns"}, {10_000, "p50-ns p90-ns p99-ns p99.9-ns"},
	} {
		var units []string
		for _, p := range Percentiles(c.n) {
			units = append(units, p.Unit)
			beyond := math.Round(float64(c.n) * (1 - p.Q))
			require.GreaterOrEqual(t, beyond, 10.0, "%s of %d values", p.Unit, c.n)
		}
		require.Equal(t, c.want, strings.Join(units, " "), "%d values", c.n)
	}
}

func TestRecordersShareAPool(t *testing.T) {
	var pool Pool
	var clients sync.WaitGroup
	flushes := make([]int, 4)
	for id := range flushes {
		r := pool.Recorder()
		clients.Go(func() {
			for i := range 1000 {
				if r.Record(time.Duration(i)) {
					flushes[id]++
				}
			}
			r.Flush()
			r.Flush() // nothing twice
		})
	}
	clients.Wait()
	require.EqualValues(t, 4000, pool.Histogram().Count())
	require.InDelta(t, 499.5, pool.Histogram().Mean(), 1e-9)
	require.Equal(t, []int{7, 7, 7, 7}, flushes, "1000 values fill a buffer of 128 seven times")

	r := pool.Recorder()
	r.Record(time.Hour)
	r.Discard()
	r.Flush()
	require.EqualValues(t, 4000, pool.Histogram().Count())
}

func TestRecordingAllocatesNothing(t *testing.T) {
	var pool Pool
	r := pool.Recorder()
	for range pending {
		r.Record(time.Second)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { r.Record(3 * time.Millisecond) }))
}

// The meter must see work of this process. How much is the machine's business.
func TestCPUCountsWork(t *testing.T) {
	user, system, ok := CPU()
	if !ok {
		t.Skip("this platform has no meter of processor time")
	}
	before := user + system
	sum := uint64(1)
	for after := before; after == before; {
		for range 1_000_000 {
			sum = sum*31 + 7
		}
		user, system, _ = CPU()
		after = user + system
		require.GreaterOrEqual(t, after, before)
	}
	require.NotZero(t, sum)
}

// Every declaration is read back by the parser of benchstat, and none
// contradicts what the tools know by themselves.
func TestUnitsAreReadable(t *testing.T) {
	var text bytes.Buffer
	require.NoError(t, WriteUnits(&text))
	r := benchfmt.NewReader(&text, "units")
	read, exact := 0, 0
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.UnitMetadata:
			if rec.Key == "assume" {
				require.Equal(t, "exact", rec.Value)
				require.True(t, strings.HasPrefix(rec.OrigUnit, "exact-"), "%s is not exact by its name", rec.OrigUnit)
				exact++
				continue
			}
			require.Equal(t, "better", rec.Key)
			require.Contains(t, []string{"higher", "lower"}, rec.Value)
			read++
		case *benchfmt.SyntaxError:
			require.NoError(t, rec)
		}
	}
	require.NoError(t, r.Err())
	require.Equal(t, len(Units()), read)
	require.Equal(t, 4, exact)
	for _, u := range Units() {
		require.True(t, Known(u.Name))
		require.NotContains(t, builtin, u.Name)
	}
	require.True(t, Known("ns/op"))
	require.False(t, Known("furlongs"))
	for _, p := range percentiles {
		require.True(t, Known(p.Unit), p.Unit)
	}
}
