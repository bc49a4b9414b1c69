package measure

import (
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// MaxLatency is the largest latency a Histogram tells apart. Longer ones are
// counted as MaxLatency in the percentiles; Max and Mean still see the truth.
const MaxLatency = time.Hour

// digits is the number of significant decimal digits kept: an error of at most
// 0.1 %, well under the noise of any latency worth a percentile.
const digits = 3

// A Histogram collects latencies. The zero value is empty and ready for use.
// It must not be copied after the first Record.
type Histogram struct {
	hdr *hdrhistogram.Histogram // nil until the first value

	// The library answers minimum, maximum and mean from its buckets, so up to
	// 0.1 % off; they cost two comparisons and an addition to know exactly.
	// Invariant: count > 0 implies min <= sum/count <= max.
	count    int64
	sum      float64
	min, max time.Duration
}

func newHDR() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(MaxLatency), digits) }

// Record adds one latency. A negative one, which only a broken clock can give,
// counts as zero.
func (h *Histogram) Record(d time.Duration) {
	if h.hdr == nil {
		h.hdr = newHDR()
	}
	d = max(d, 0)
	if h.count == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.count++
	h.sum += float64(d)
	// The value was clamped into the tracked range, so no error can come back.
	_ = h.hdr.RecordValue(int64(min(d, MaxLatency)))
}

// Merge adds everything o holds. o stays as it is.
func (h *Histogram) Merge(o *Histogram) {
	if o.count == 0 {
		return
	}
	if h.hdr == nil {
		h.hdr = newHDR()
	}
	h.hdr.Merge(o.hdr)
	if h.count == 0 || o.min < h.min {
		h.min = o.min
	}
	h.max = max(h.max, o.max)
	h.count += o.count
	h.sum += o.sum
}

// Reset empties h and keeps its memory.
func (h *Histogram) Reset() {
	hdr := h.hdr
	if hdr != nil {
		hdr.Reset()
	}
	*h = Histogram{hdr: hdr}
}

// Count returns the number of latencies recorded.
func (h *Histogram) Count() int64 { return h.count }

// Min returns the smallest latency, exactly; zero when empty.
func (h *Histogram) Min() time.Duration { return h.min }

// Max returns the largest latency, exactly; zero when empty.
func (h *Histogram) Max() time.Duration { return h.max }

// Mean returns the arithmetic mean in nanoseconds, not from the buckets; zero
// when empty.
func (h *Histogram) Mean() float64 {
	if h.count == 0 {
		return 0
	}
	return h.sum / float64(h.count)
}

// Quantile returns the smallest latency that is not exceeded by a share q of
// the values, to three digits: q = 0.99 is the 99th percentile. q is in [0, 1];
// zero when empty. The answer lies between Min and Max: the upper edge of the
// bucket of the largest value would otherwise stand above the maximum printed
// beside it.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	q = math.Min(math.Max(q, 0), 1)
	v := time.Duration(h.hdr.ValueAtQuantile(q * 100))
	return min(max(v, h.min), h.max)
}

// Quantiles returns what Quantile returns for each of qs, in one pass over the
// buckets if they increase.
func (h *Histogram) Quantiles(qs []float64) []time.Duration {
	values := make([]time.Duration, len(qs))
	if h.count == 0 {
		return values
	}
	percents := make([]float64, len(qs))
	for i, q := range qs {
		percents[i] = 100 * math.Min(math.Max(q, 0), 1)
	}
	for i, v := range h.hdr.ValueAtPercentilesSlice(percents) {
		values[i] = min(max(time.Duration(v), h.min), h.max)
	}
	return values
}

// A Percentile is a quantile with the unit it is printed under.
type Percentile struct {
	Q    float64
	Unit string
}

// percentiles lists what a line may state, and the values each one needs: ten
// beyond it, that is 10/(1-q).
var percentiles = []struct {
	Percentile
	need int64
}{
	{Percentile{0.50, "p50-ns"}, 20},
	{Percentile{0.90, "p90-ns"}, 100},
	{Percentile{0.99, "p99-ns"}, 1000},
	{Percentile{0.999, "p99.9-ns"}, 10000},
}

// Percentiles returns the percentiles that n values support: q needs at least
// 10/(1-q) of them.
func Percentiles(n int64) []Percentile {
	var ps []Percentile
	for _, p := range percentiles {
		if n >= p.need {
			ps = append(ps, p.Percentile)
		}
	}
	return ps
}
