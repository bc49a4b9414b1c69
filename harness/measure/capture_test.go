package measure

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The buckets are those of the library: the same values are equivalent.
func TestBucketsAreThoseOfTheLibrary(t *testing.T) {
	hdr := newHDR()
	check := func(d time.Duration) {
		b := bucketOf(d)
		require.Equal(t, b, bucketOf(lowest(b)), "%d", d)
		require.LessOrEqual(t, lowest(b), d)
		require.Less(t, d, lowest(b+1), "%d", d)
		require.True(t, hdr.ValuesAreEquivalent(int64(d), int64(lowest(b))), "%d and %d", d, lowest(b))
		require.False(t, hdr.ValuesAreEquivalent(int64(d), int64(lowest(b+1))), "%d and %d", d, lowest(b+1))
	}
	for d := range time.Duration(10_000) {
		check(d)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		check(time.Duration(rnd.Int64N(int64(MaxLatency))))
	}
	for d := time.Duration(1); d < MaxLatency; d *= 2 {
		check(d - 1)
		check(d)
		check(d + 1)
	}
	require.Less(t, int(bucketOf(MaxLatency)), buckets)
}

// A capture answers as a histogram of the same values does, and turns into it.
func TestCaptureEqualsHistogram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	tally := newTally()
	var whole Capture
	var every Histogram
	for range 20 {
		var h Histogram
		for range rnd.IntN(2000) {
			d := time.Duration(rnd.ExpFloat64() * float64(rnd.IntN(1e9)))
			h.Record(d)
			every.Record(d)
			tally.add(d)
		}
		c := tally.capture()
		same(t, &h, &c)
		whole.Add(c)
	}
	same(t, &every, &whole)
	c := tally.capture()
	require.Zero(t, c.Count())
	require.Zero(t, c.Quantile(0.5))
	require.Zero(t, c.Histogram().Count())
}

// An hour's run keeps hundreds of captures: they must be small, also of many
// values, and those that lie across two blocks of the arena whole.
func TestCapturesAreSmall(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	tally := newTally()
	blocks := 0
	for range 20 {
		var h Histogram
		for range 100_000 {
			d := 1000 + time.Duration(rnd.ExpFloat64()*1e6)
			h.Record(d)
			tally.add(d)
		}
		before := cap(tally.arena) - len(tally.arena)
		c := tally.capture()
		if c.Size() > before {
			blocks++
		}
		same(t, &h, &c)
		used := 0
		for bins, b := c.bins, int32(0); len(bins) > 0; used++ {
			b, _, _ = bins.next(b)
		}
		require.Greater(t, used, 5000)
		require.Less(t, c.Size(), 3*used, "bytes for %d buckets", used)
	}
	require.Positive(t, blocks, "no capture came to a new block")
}

func same(t *testing.T, h *Histogram, c *Capture) {
	t.Helper()
	require.Equal(t, h.Count(), c.Count())
	require.Equal(t, h.Max(), c.Max())
	require.InDelta(t, h.Mean(), c.Mean(), h.Mean()*1e-9)
	back := c.Histogram()
	require.Equal(t, h.Min(), back.Min())
	for _, q := range []float64{0, 0.001, 0.5, 0.9, 0.99, 0.999, 1} {
		require.Equal(t, h.Quantile(q), c.Quantile(q), "quantile %v of %d", q, h.Count())
		require.Equal(t, h.Quantile(q), back.Quantile(q), "quantile %v of %d", q, h.Count())
	}
}

func TestValuesBeyondTheRange(t *testing.T) {
	tally := newTally()
	tally.add(-time.Second)
	tally.add(3 * time.Hour)
	c := tally.capture()
	require.Equal(t, 3*time.Hour, c.Max())
	require.Equal(t, time.Duration(0), c.Quantile(0))
	near(t, MaxLatency, c.Quantile(1))
}

// Nothing is lost and nothing counted twice, whoever reads while clients record;
// run with -race. What was noted before a call is in it: a client need not have
// filled its buffer.
func TestPoolIsReadWhileItIsWritten(t *testing.T) {
	var pool Pool
	pool.Watch()
	const clients, each = 4, 5000
	var working sync.WaitGroup
	for range clients {
		r := pool.Recorder()
		working.Go(func() {
			for i := range each {
				r.Record(time.Duration(i))
				if i%10 == 0 {
					r.Fail()
				}
			}
			r.Flush()
		})
	}
	done := make(chan struct{})
	go func() { working.Wait(); close(done) }()
	var sum Capture
	var failures int64
	take := func() {
		c, failed := pool.Interval()
		sum.Add(c)
		failures += failed
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		take()
		count, _, qs := pool.Quantiles([]float64{0.5, 1})
		require.GreaterOrEqual(t, count, sum.Count())
		require.LessOrEqual(t, qs[0], qs[1])
	}
	take()
	require.EqualValues(t, clients*each, sum.Count())
	require.EqualValues(t, clients*each/10, failures)
	same(t, pool.Histogram(), &sum)
}

func TestIntervalSeesWhatIsHeldBack(t *testing.T) {
	var pool Pool
	pool.Watch()
	r := pool.Recorder()
	r.Record(5)
	c, failed := pool.Interval()
	require.EqualValues(t, 1, c.Count())
	require.Zero(t, failed)
	r.Record(7)
	r.Fail()
	c, failed = pool.Interval()
	require.EqualValues(t, 1, c.Count())
	require.EqualValues(t, 7, c.Max())
	require.EqualValues(t, 1, failed)
	r.Flush()
	c, failed = pool.Interval()
	require.Zero(t, c.Count(), "nothing twice")
	require.Zero(t, failed)
	require.EqualValues(t, 2, pool.Histogram().Count())

	// A warm-up is forgotten as a whole: what was handed over, what was not, and
	// what failed.
	require.EqualValues(t, 1, pool.Failed())
	r.Record(8)
	r.Flush()
	r.Record(9)
	r.Fail()
	r.Discard()
	pool.Reset()
	require.Zero(t, pool.Failed())
	c, failed = pool.Interval()
	require.Zero(t, c.Count())
	require.Zero(t, failed)
	require.Zero(t, pool.Histogram().Count())
}

func TestRecordingIntoAWatchedPoolAllocatesNothing(t *testing.T) {
	var pool Pool
	pool.Watch()
	r := pool.Recorder()
	for range pending {
		r.Record(time.Second)
	}
	require.Zero(t, testing.AllocsPerRun(1000, func() { r.Record(3 * time.Millisecond) }))
	require.Zero(t, testing.AllocsPerRun(5, func() { r.Record(3 * time.Millisecond); pool.Interval() }))
}
