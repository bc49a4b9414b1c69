package report

import (
	"math"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// curve is latency by percentile, in twentieths of a nine, up to where ten
// values lie beyond.
func curve(h *measure.Histogram) *Curve {
	if h.Count() < 20 {
		return nil
	}
	c := &Curve{Count: h.Count()}
	last := math.Log10(float64(h.Count()) / 10)
	for i := 0; ; i++ {
		nines := math.Min(float64(i)/20, last)
		c.Nines = append(c.Nines, round3(nines))
		c.Nanos = append(c.Nanos, round3(float64(h.Quantile(1-math.Pow(10, -nines)))))
		if nines >= last {
			return c
		}
	}
}

// Bounds of a heat map: columns of time, and rows, of which a factor of ten has
// eight.
const (
	maxColumns = 100
	perDecade  = 8
)

// heat counts latencies by time and size. Rows are equally high on a log axis.
func heat(intervals []measure.Interval) *Heat {
	least, most := time.Duration(math.MaxInt64), time.Duration(0)
	for _, in := range intervals {
		if in.Latency.Count() > 0 {
			least, most = min(least, in.Latency.Min()), max(most, in.Latency.Max())
		}
	}
	if least > most || len(intervals) < 2 {
		return nil
	}
	row := func(d float64) int { return int(math.Floor(math.Log10(math.Max(d, 1)) * perDecade)) }
	low, high := row(float64(least)), row(float64(most))
	h := &Heat{}
	for i := low; i <= high+1; i++ {
		h.Edges = append(h.Edges, round3(math.Pow(10, float64(i)/perDecade)))
	}
	group := (len(intervals) + maxColumns - 1) / maxColumns
	for part := range slices.Chunk(intervals, group) {
		counts := make([]int64, high-low+1)
		for _, in := range part {
			for bucket := range in.Latency.Buckets() {
				// A bucket may begin below the minimum and end beyond the maximum.
				counts[min(max(row(float64(bucket.Low+bucket.High)/2)-low, 0), high-low)] += bucket.Count
			}
		}
		h.Ends = append(h.Ends, round3(part[len(part)-1].To.Seconds()))
		h.Counts = append(h.Counts, counts)
	}
	return h
}
