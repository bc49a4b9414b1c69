package harness

import (
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

func writeZeros(path string, n int) error { return os.WriteFile(path, make([]byte, n), 0o600) }

// course is a series of an hour in 200 intervals with one column.
func course(name, kind string, of func(i int) float64) *artifact.Series {
	s := &artifact.Series{Columns: []artifact.Column{{Name: name, Unit: "1", Kind: kind}}}
	for i := range 200 {
		s.Ends = append(s.Ends, float64(i+1)*18)
		s.Columns[0].Values = append(s.Columns[0].Values, of(i))
	}
	return s
}

func TestLeaksAndDriftAreFound(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	noisy := func(level, spread, slope float64) func(int) float64 {
		return func(i int) float64 { return level + slope*float64(i) + spread*rnd.NormFloat64() }
	}
	for _, c := range []struct {
		why, column, kind string
		of                func(int) float64
		want              string // reason
	}{
		{"steady memory", "rss", artifact.Gauge, noisy(200<<20, 5<<20, 0), ""},
		{"a megabyte every 18 s", "rss", artifact.Gauge, noisy(200<<20, 5<<20, 1<<20), "leak"},
		{"growth of 2 MB in all", "rss", artifact.Gauge, noisy(200<<20, 100, 10_000), ""},
		{"shrinking memory", "rss", artifact.Gauge, noisy(2000<<20, 5<<20, -1<<20), ""},
		{"memory that fills and stays", "rss", artifact.Gauge, func(i int) float64 { return float64(min(i, 50) * 10 << 20) }, ""},
		{"heap", "heap-live", artifact.Gauge, noisy(50<<20, 10<<20, 1<<20), "leak"},
		{"one goroutine in a minute", "goroutines", artifact.Gauge, noisy(100, 3, 0.3), "leak"},
		{"goroutines that come and go", "goroutines", artifact.Gauge, noisy(100, 30, 0), ""},
		{"a log that is compacted", "disk-used", artifact.Gauge, func(i int) float64 { return float64(i%20) * (64 << 20) }, ""},
		{"a log that is not", "disk-used", artifact.Gauge, func(i int) float64 { return float64(i) * (64 << 20) }, "leak"},
		{"files that nobody removes", "disk-entries", artifact.Gauge, func(i int) float64 { return float64(i) * 100 }, "leak"},
		{"a few files more", "disk-entries", artifact.Gauge, func(i int) float64 { return 100 + float64(i) }, ""},
		{"steady rate", "ops", artifact.Counter, noisy(10_000, 500, 0), ""},
		{"fading rate", "ops", artifact.Counter, noisy(10_000, 500, -20), "drift"},
		{"fading by a hundredth", "ops", artifact.Counter, noisy(10_000, 1, -0.5), ""},
		{"rising rate", "ops", artifact.Counter, noisy(10_000, 500, 20), ""},
		{"rising latency", "latency-p99", artifact.Gauge, noisy(1e6, 1e5, 1e4), "drift"},
		{"falling latency", "latency-p99", artifact.Gauge, noisy(9e6, 1e5, -1e4), ""},
		{"another column", "threads", artifact.Gauge, noisy(10, 0, 10), ""},
		{"nothing known", "rss", artifact.Gauge, func(int) float64 { return math.NaN() }, ""},
	} {
		found := findDrift(course(c.column, c.kind, c.of))
		if c.want == "" {
			require.Empty(t, found, c.why)
			continue
		}
		require.Len(t, found, 1, c.why)
		require.Equal(t, c.want, found[0].Reason, c.why)
		require.True(t, strings.HasPrefix(found[0].Text, c.column+" changes by "), found[0].Text)
		require.Contains(t, found[0].Text, "an hour")
	}
}

// The record of a run grows with it, and is no leak of the system; what grows
// beside it is.
func TestRecordOfTheRunIsNoLeak(t *testing.T) {
	for _, name := range []string{"heap-live", "rss"} {
		s := course(name, artifact.Gauge, func(i int) float64 { return 10<<20 + float64(i)*(1<<20) })
		require.Len(t, findDrift(s), 1)
		s.Columns = append(s.Columns, course(heldColumn, artifact.Gauge, func(i int) float64 { return float64(i) * (1 << 20) }).Columns...)
		require.Empty(t, findDrift(s))
		s = course(name, artifact.Gauge, func(i int) float64 { return 10<<20 + float64(i)*(2<<20) })
		s.Columns = append(s.Columns, course(heldColumn, artifact.Gauge, func(i int) float64 { return float64(i) * (1 << 20) }).Columns...)
		require.Len(t, findDrift(s), 1)
	}
	// Where it is no part of the figure, it hides nothing.
	s := course("goroutines", artifact.Gauge, func(i int) float64 { return float64(i) })
	s.Columns = append(s.Columns, course(heldColumn, artifact.Gauge, func(i int) float64 { return float64(i) }).Columns...)
	require.Len(t, findDrift(s), 1)
}

// The last interval of a run is shorter: less was done in it at the same rate.
func TestRatesAreOfTheirIntervals(t *testing.T) {
	require.Equal(t, []float64{10, 10, 10}, perSecond(
		artifact.Column{Kind: artifact.Counter, Values: artifact.Floats{10, 20, 5}}, []float64{1, 3, 3.5}))
	require.Equal(t, []float64{1, 2}, perSecond(artifact.Column{Kind: artifact.Gauge, Values: artifact.Floats{1, 2}}, []float64{1, 3}))
}

func TestShortRunsHaveNoTrend(t *testing.T) {
	s := course("rss", artifact.Gauge, func(i int) float64 { return float64(i) * (1 << 30) })
	require.Len(t, findDrift(s), 1)
	s.Ends = s.Ends[:minTrend]
	s.Columns[0].Values = s.Columns[0].Values[:minTrend]
	require.Empty(t, findDrift(s))
}

// Intervals of a run resemble their neighbours: a slow collection or a busy
// machine lasts for several. A steady run must not be called a drift for it; of
// 300 each, 22 were at a share of 0.9 and 61 at 0.97, where all intervals together
// are worth two independent ones.
func TestSteadyRunsThatWanderAreNoDrift(t *testing.T) {
	runs := func(n int, share, spread, slope float64) (alarms int) {
		rnd := rand.New(rand.NewPCG(1, 2))
		for range n {
			x := rnd.NormFloat64()
			s := course("ops", artifact.Counter, func(i int) float64 {
				x = share*x + math.Sqrt(1-share*share)*rnd.NormFloat64()
				return 10_000 * (1 + spread*x + slope*float64(i)/200)
			})
			if len(findDrift(s)) > 0 {
				alarms++
			}
		}
		return alarms
	}
	for share, most := range map[float64]int{0: 0, 0.5: 0, 0.9: 0, 0.97: 3} {
		n := runs(300, share, 0.15, 0)
		require.LessOrEqual(t, n, most, "share %v", share)
	}
	require.GreaterOrEqual(t, runs(20, 0.5, 0.05, -0.5), 19, "half of the rate gone is a drift")
}
