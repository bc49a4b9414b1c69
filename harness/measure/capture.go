package measure

import (
	"encoding/binary"
	"math/bits"
	"time"
)

// A Capture is the latencies of one interval, in a form that costs little to
// take within a measured run and little to keep: only the buckets that are not
// empty. The buckets are those of a Histogram.
type Capture struct {
	count    int64
	sum      float64
	min, max time.Duration
	bins     packed
}

// packed holds buckets and how many values each has, by increasing bucket: the
// distance to the bucket before, then the count, both of variable length. That
// is some three bytes a bucket instead of sixteen, and a run of an hour must not
// look like a leak of its own record.
type packed []byte

// maxPacked is the most bytes that a bucket takes.
const maxPacked = binary.MaxVarintLen32 + binary.MaxVarintLen64

// with returns p with a bucket behind the last one.
func (p packed) with(last, bucket int32, count int64) packed {
	return binary.AppendUvarint(binary.AppendUvarint(p, uint64(bucket-last)), uint64(count))
}

// next takes the first bucket behind last off p. ok is false at the end.
func (p *packed) next(last int32) (bucket int32, count int64, ok bool) {
	distance, n := binary.Uvarint(*p)
	if n <= 0 {
		return 0, 0, false
	}
	many, m := binary.Uvarint((*p)[n:])
	*p = (*p)[n+m:]
	return last + int32(distance), int64(many), true
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
	bins, seen := c.bins, int64(0)
	for bucket, count, ok := bins.next(0); ok; bucket, count, ok = bins.next(bucket) {
		if seen += count; seen >= rank {
			return min(max(lowest(bucket+1)-1, c.min), c.max)
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
	mine, theirs := c.bins, o.bins
	merged := make(packed, 0, len(mine)+len(theirs))
	a, ofA, moreA := mine.next(0)
	b, ofB, moreB := theirs.next(0)
	for last := int32(0); moreA || moreB; {
		bucket, count := a, ofA
		takeA, takeB := moreA && (!moreB || a <= b), moreB && (!moreA || b <= a)
		switch {
		case takeA && takeB:
			count += ofB
		case takeB:
			bucket, count = b, ofB
		}
		merged, last = merged.with(last, bucket, count), bucket
		if takeA {
			a, ofA, moreA = mine.next(a)
		}
		if takeB {
			b, ofB, moreB = theirs.next(b)
		}
	}
	c.bins = merged
}

// Size returns the bytes of memory that c keeps.
func (c *Capture) Size() int { return len(c.bins) }

// Histogram returns the values as a Histogram, which costs a quarter of a
// megabyte.
func (c *Capture) Histogram() *Histogram {
	h := &Histogram{}
	if c.count == 0 {
		return h
	}
	h.hdr = newHDR()
	bins := c.bins
	for bucket, count, ok := bins.next(0); ok; bucket, count, ok = bins.next(bucket) {
		// Every bucket stands for values in the tracked range.
		_ = h.hdr.RecordValues(int64(lowest(bucket)), count)
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
	arena packed
}

// arenaBlock is the bytes of some ten intervals of a usual distribution.
const arenaBlock = 64 << 10

func newTally() *tally {
	t := &tally{counts: make([]int64, buckets), arena: make(packed, 0, arenaBlock)}
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
	from, last := len(t.arena), int32(0)
	for b := t.low; b <= t.high; b++ {
		if t.counts[b] == 0 {
			continue
		}
		if cap(t.arena)-len(t.arena) < maxPacked {
			// A new block begins with what there is of this interval.
			block := make(packed, 0, max(arenaBlock, 2*(len(t.arena)-from)))
			t.arena, from = append(block, t.arena[from:]...), 0
		}
		t.arena = t.arena.with(last, b, t.counts[b])
		last, t.counts[b] = b, 0
	}
	c.bins = t.arena[from:len(t.arena):len(t.arena)]
	t.clear()
	return c
}
