package measure

import (
	"math/bits"
	"time"
)

// A Capture is the latencies of one interval, in a form that costs little to
// take within a measured run: only the buckets that are not empty. The buckets
// are those of a Histogram.
type Capture struct {
	count    int64
	sum      float64
	min, max time.Duration
	bins     []bin // by increasing bucket
}

// bin is a bucket and the values in it.
type bin struct {
	bucket int32
	count  int64
}

// Count returns the number of latencies.
func (c *Capture) Count() int64 { return c.count }

// Max returns the largest latency, exactly; zero when empty.
func (c *Capture) Max() time.Duration { return c.max }

// Mean returns the arithmetic mean in nanoseconds; zero when empty.
func (c *Capture) Mean() float64 {
	if c.count == 0 {
		return 0
	}
	return c.sum / float64(c.count)
}

// Quantile returns the smallest latency that a share q of the values did not
// exceed, as Histogram.Quantile does.
func (c *Capture) Quantile(q float64) time.Duration {
	if q <= 0 {
		return c.min
	}
	// The rank is rounded as the library does, so that a series and the line of
	// its run never disagree.
	rank := max(int64(min(q, 1)*float64(c.count)+0.5), 1)
	seen := int64(0)
	for _, b := range c.bins {
		if seen += b.count; seen >= rank {
			return min(max(lowest(b.bucket+1)-1, c.min), c.max)
		}
	}
	return c.max
}

// Add merges o into c. It keeps no reference to o.
func (c *Capture) Add(o Capture) {
	if o.count == 0 {
		return
	}
	if c.count == 0 || o.min < c.min {
		c.min = o.min
	}
	c.max = max(c.max, o.max)
	c.count += o.count
	c.sum += o.sum
	merged := make([]bin, 0, len(c.bins)+len(o.bins))
	mine, theirs := c.bins, o.bins
	for len(mine) > 0 && len(theirs) > 0 {
		switch a, b := mine[0], theirs[0]; {
		case a.bucket < b.bucket:
			merged, mine = append(merged, a), mine[1:]
		case a.bucket > b.bucket:
			merged, theirs = append(merged, b), theirs[1:]
		default:
			merged = append(merged, bin{a.bucket, a.count + b.count})
			mine, theirs = mine[1:], theirs[1:]
		}
	}
	c.bins = append(append(merged, mine...), theirs...)
}

// Histogram returns the values as a Histogram, which costs a quarter of a
// megabyte.
func (c *Capture) Histogram() *Histogram {
	h := &Histogram{}
	if c.count == 0 {
		return h
	}
	h.hdr = newHDR()
	for _, b := range c.bins {
		// Every bucket stands for values in the tracked range.
		_ = h.hdr.RecordValues(int64(lowest(b.bucket)), b.count)
	}
	h.count, h.sum, h.min, h.max = c.count, c.sum, c.min, c.max
	return h
}

// subBuckets is how many buckets a power of two of values is divided into: the
// least power of two that keeps three digits, as HdrHistogram lays them out.
const subBuckets = 1 << 10

// buckets is the number of buckets up to MaxLatency.
var buckets = int(bucketOf(MaxLatency)) + 1

// bucketOf returns the bucket of a latency: itself up to 2 * subBuckets, then
// subBuckets of them for each power of two.
func bucketOf(d time.Duration) int32 {
	shift := max(bits.Len64(uint64(d))-11, 0)
	return int32(shift*subBuckets) + int32(d>>shift)
}

// lowest returns the smallest latency of a bucket.
func lowest(bucket int32) time.Duration {
	if bucket < 2*subBuckets {
		return time.Duration(bucket)
	}
	shift := bucket/subBuckets - 1
	return time.Duration(bucket-shift*subBuckets) << shift
}

// A tally counts the latencies of the interval under way.
type tally struct {
	counts []int64
	// Only buckets from low to high have counts.
	low, high int32
	Capture   // without bins
	// arena is where captures put their bins, in blocks, so that taking one
	// within a run rarely allocates.
	arena []bin
}

// arenaBlock is 128 KiB of bins: some ten intervals of a usual distribution.
const arenaBlock = 8 << 10

func newTally() *tally {
	t := &tally{counts: make([]int64, buckets), arena: make([]bin, 0, arenaBlock)}
	t.clear()
	return t
}

func (t *tally) clear() {
	t.low, t.high = int32(buckets), -1
	t.Capture = Capture{}
}

func (t *tally) add(d time.Duration) {
	d = max(d, 0)
	if t.count == 0 || d < t.min {
		t.min = d
	}
	t.max = max(t.max, d)
	t.count++
	t.sum += float64(d)
	b := bucketOf(min(d, MaxLatency))
	t.low, t.high = min(t.low, b), max(t.high, b)
	t.counts[b]++
}

// capture returns what was counted and begins anew.
func (t *tally) capture() Capture {
	c := t.Capture
	used := 0
	for b := t.low; b <= t.high; b++ {
		if t.counts[b] > 0 {
			used++
		}
	}
	if cap(t.arena)-len(t.arena) < used {
		t.arena = make([]bin, 0, max(arenaBlock, used))
	}
	from := len(t.arena)
	for b := t.low; b <= t.high; b++ {
		if t.counts[b] > 0 {
			t.arena = append(t.arena, bin{b, t.counts[b]})
			t.counts[b] = 0
		}
	}
	c.bins = t.arena[from:len(t.arena):len(t.arena)]
	t.clear()
	return c
}
