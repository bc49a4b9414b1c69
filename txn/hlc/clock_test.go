package hlc_test

import (
	"bytes"
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A dial is a wall clock that a test sets.
type dial struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func newDial() *dial { return &dial{now: time.Unix(1_700_000_000, 0)} }

func (d *dial) wall() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *dial) turn(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

func newClock(t testing.TB, d *dial) *hlc.Clock {
	c, err := hlc.NewClock(d.wall, 100*time.Millisecond)
	require.NoError(t, err)
	return c
}

func TestTimestamp(t *testing.T) {
	at := time.Date(2026, 11, 23, 1, 2, 3, 456789123, time.UTC)
	ts := hlc.At(at)
	require.True(t, at.Truncate(time.Microsecond).Equal(ts.Time()))
	require.Equal(t, ts, hlc.At(ts.Time()))
	require.Greater(t, ts.Next(), ts)
	require.Equal(t, ts, ts.Next().Prev())
	require.Equal(t, 3*time.Second, ts.Add(3*time.Second).Sub(ts))
	require.Equal(t, -3*time.Second, ts.Add(-3*time.Second).Sub(ts))
	require.Equal(t, ts.Next(), ts.Next().Add(time.Hour).Add(-time.Hour), "the count stays")
	require.Equal(t, "1700000000.000001+2", hlc.At(time.Unix(1_700_000_000, 1000)).Next().Next().String())

	require.Zero(t, hlc.At(time.Unix(-1, 0)))
	require.Zero(t, hlc.Timestamp(5).Add(-time.Hour))
	require.Zero(t, hlc.Timestamp(0).Prev())
	require.Equal(t, hlc.Max, hlc.Max.Next())
	require.Equal(t, hlc.Max, hlc.Max.Add(time.Hour))
	for _, ever := range []time.Duration{math.MaxInt64, 1 << 52 * time.Microsecond} {
		require.Equal(t, hlc.Max, ts.Add(ever))
		require.Zero(t, ts.Add(-ever))
	}
	require.Zero(t, ts.Add(math.MinInt64))
	require.Equal(t, hlc.Max, hlc.At(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)))
}

// Encoded timestamps sort from the latest to the earliest.
func TestEncodedOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(harness.Seed(), 1))
	for range 1000 {
		a, b := hlc.Timestamp(r.Uint64()), hlc.Timestamp(r.Uint64())
		x, y := a.AppendDescending([]byte("k"))[1:], b.AppendDescending(nil)
		require.Equal(t, cmp.Compare(b, a), bytes.Compare(x, y))
		back, err := hlc.Descending(x)
		require.NoError(t, err)
		require.Equal(t, a, back)
	}
	_, err := hlc.Descending(make([]byte, 7))
	require.ErrorContains(t, err, "7 bytes, expected 8")
}

// Time goes on while the wall clock stands still or goes back.
func TestClockNeverGoesBack(t *testing.T) {
	d := newDial()
	c := newClock(t, d)
	require.Zero(t, c.Last())
	last := c.Now()
	require.Equal(t, hlc.At(d.wall()), last)
	for i := range 10_000 { // more than there are counts in a microsecond
		if i == 100 {
			d.turn(-time.Hour)
		}
		now := c.Now()
		require.Greater(t, now, last)
		last = now
	}
	require.Equal(t, last, c.Last())
	d.turn(2 * time.Hour)
	require.Equal(t, hlc.At(d.wall()), c.Now())
}

// Nobody gets a timestamp that somebody else got.
func TestClockTellsEachTimeOnce(t *testing.T) {
	c, err := hlc.NewClock(nil, 0)
	require.NoError(t, err)
	require.Equal(t, hlc.DefaultBound, c.Bound())
	require.WithinDuration(t, time.Now(), c.Wall(), time.Minute)
	told := make([][]hlc.Timestamp, 4)
	var work sync.WaitGroup
	for i := range told {
		work.Go(func() {
			for range 5000 {
				ts, err := c.Timestamp(t.Context())
				if err != nil {
					t.Error(err)
				}
				told[i] = append(told[i], ts)
			}
		})
	}
	work.Wait()
	for _, list := range told {
		require.True(t, slices.IsSorted(list))
	}
	all := slices.Concat(told...)
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 4*5000)
}

// What a node hears of is in its past; what no right clock can show is refused, and
// changes nothing.
func TestObserve(t *testing.T) {
	d := newDial()
	c := newClock(t, d)
	heard := hlc.At(d.wall()).Add(c.Bound())
	require.NoError(t, c.Observe(heard))
	require.Equal(t, heard, c.Last())
	require.Equal(t, heard.Next(), c.Now())
	require.NoError(t, c.Observe(heard.Add(-time.Hour)))
	require.Equal(t, heard.Next(), c.Last())

	late := heard.Add(time.Millisecond)
	var ahead *hlc.AheadError
	require.ErrorAs(t, c.Observe(late), &ahead)
	require.Equal(t, hlc.AheadError{Timestamp: late, Wall: hlc.At(d.wall()), Bound: c.Bound()}, *ahead)
	require.ErrorContains(t, ahead, "is 101ms ahead of this node's clock, expected at most 100ms")
	require.Equal(t, heard.Next(), c.Last())
	require.Equal(t, uint64(1), c.Ahead())
	d.turn(time.Millisecond)
	require.NoError(t, c.Observe(late))
}

func TestClockRefusesBadBounds(t *testing.T) {
	for _, bound := range []time.Duration{-1, time.Microsecond, 2 * time.Hour} {
		_, err := hlc.NewClock(nil, bound)
		require.ErrorContains(t, err, "expected 1ms to 1h", "%v", bound)
	}
}
