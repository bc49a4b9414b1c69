package harness

import (
	"fmt"
	"math"
	"slices"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// A leakRule says from when on the growth of a level is a leak: when its trend
// is above zero beyond doubt and has added at least a share of the level and an
// amount that cannot be a coincidence of the moment.
type leakRule struct {
	column string
	share  float64
	amount float64 // in the column's unit
	ours   bool    // what the harness itself keeps of the run is in it
}

var leakRules = []leakRule{
	{"rss", 0.05, 16 << 20, true},
	{"heap-live", 0.05, 4 << 20, true},
	{"goroutines", 0.05, 10, false},
	{"disk-used", 0.05, 64 << 20, false},
	{"disk-entries", 0.05, 1000, false},
}

// heldColumn is the memory that the record of the run takes. It grows with
// every interval, by some 40 kB where latencies spread widely.
const heldColumn = "harness-heap"

// driftRules name what gets worse while nothing leaks, and in which direction
// that is.
var driftRules = []struct {
	column string
	worse  float64 // +1: a rise, -1: a fall
	share  float64
}{
	{"ops", -1, 0.1},
	{"latency-p99", +1, 0.25},
}

// confidence of a trend, for intervals that resemble their neighbours too. A false
// alarm costs a person an hour.
const driftConfidence = 0.999

// settling is the share of a run that is left out of trends: caches fill, the
// log reaches the size at which it is compacted, the heap its pace.
const settling = 1.0 / 3

// minTrend is the fewest intervals behind a verdict.
const minTrend = 30

// findDrift looks for levels that grow and for performance that fades.
func findDrift(s *artifact.Series) []artifact.Finding {
	from := int(float64(len(s.Ends)) * settling)
	ends := s.Ends[from:]
	if len(ends) < minTrend {
		return nil
	}
	length := ends[len(ends)-1] - ends[0]
	var found []artifact.Finding
	for _, r := range leakRules {
		c, ok := s.Column(r.column)
		if !ok {
			continue
		}
		ys := c.Values[from:]
		if held, ok := s.Column(heldColumn); ok && r.ours {
			ys = less(ys, held.Values[from:])
		}
		t, ok := measure.TheilSen(ends, ys, driftConfidence)
		level := median(ys)
		if ok && t.Low > 0 && t.Low*length >= max(r.amount, r.share*level) {
			found = append(found, artifact.Finding{Reason: "leak", Text: trendText(c, t, level, length)})
		}
	}
	for _, r := range driftRules {
		c, ok := s.Column(r.column)
		if !ok {
			continue
		}
		ys := perSecond(c, s.Ends)[from:]
		t, ok := measure.TheilSen(ends, ys, driftConfidence)
		level := median(ys)
		sure := min(t.Low*r.worse, t.High*r.worse) // the least of it, in the bad direction
		if ok && sure > 0 && sure*length >= r.share*level {
			found = append(found, artifact.Finding{Reason: "drift", Text: trendText(c, t, level, length)})
		}
	}
	return found
}

// less returns a less b, place by place.
func less(a, b []float64) []float64 {
	rest := make([]float64, len(a))
	for i := range a {
		rest[i] = a[i] - b[i]
	}
	return rest
}

// perSecond returns a counter as a rate, since the last interval is shorter,
// and anything else as it is.
func perSecond(c artifact.Column, ends []float64) []float64 {
	if c.Kind != artifact.Counter {
		return c.Values
	}
	rates, before := make([]float64, len(c.Values)), 0.0
	for i, v := range c.Values {
		rates[i] = v / (ends[i] - before)
		before = ends[i]
	}
	return rates
}

func trendText(c artifact.Column, t measure.Trend, level, length float64) string {
	unit := c.Unit
	if unit == "1" {
		unit = "count"
	}
	if c.Kind == artifact.Counter {
		unit += "/s"
	}
	return fmt.Sprintf("%s changes by %.4g %s an hour (%.4g to %.4g, %.4g %% sure, %d intervals, %.4g s) at a level of %.4g",
		c.Name, t.Slope*3600, unit, t.Low*3600, t.High*3600, 100*driftConfidence, t.Points, length, level)
}

// median returns the middle of the known values, 0 without any.
func median(values []float64) float64 {
	known := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(known) == 0 {
		return 0
	}
	slices.Sort(known)
	return known[len(known)/2]
}
