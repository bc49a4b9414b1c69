package measure

import (
	"iter"
	"time"
)

// A Bucket is how many latencies lie from Low to High, both included. The width
// is what the histogram's three digits leave.
type Bucket struct {
	Low, High time.Duration
	Count     int64
}

// Buckets yields the buckets that hold something, from the smallest latency up.
// Their counts add up to Count.
func (h *Histogram) Buckets() iter.Seq[Bucket] {
	return func(yield func(Bucket) bool) {
		if h.hdr == nil {
			return
		}
		for _, bar := range h.hdr.Distribution() {
			if bar.Count > 0 && !yield(Bucket{time.Duration(bar.From), time.Duration(bar.To), bar.Count}) {
				return
			}
		}
	}
}
