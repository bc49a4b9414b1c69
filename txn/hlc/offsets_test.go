package hlc_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// However a trip's time is divided between there and back, and whatever other trips
// there were, the truth is within the error.
func TestOffsetIsWithinItsError(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	now := time.Unix(1_700_000_000, 0)
	for range 500 {
		o := hlc.NewOffsets(time.Second)
		truth := time.Duration(r.Int64N(int64(2*time.Second))) - time.Second
		for range 1 + r.IntN(20) {
			there, back := time.Duration(r.Int64N(int64(50*time.Millisecond))), time.Duration(r.Int64N(int64(50*time.Millisecond)))
			trip := hlc.Trip{Sent: now, Shown: now.Add(there).Add(truth), Received: now.Add(there + back)}
			require.NoError(t, o.Add(7, trip))
			now = trip.Received
		}
		e, ok := o.Of(7, now)
		require.True(t, ok)
		require.LessOrEqual(t, (e.Ahead - truth).Abs(), e.Error)
		require.LessOrEqual(t, e.AtLeast(), truth.Abs())
	}
}

// The quickest of the latest trips counts, for as long as it is recent.
func TestWhichTripCounts(t *testing.T) {
	o := hlc.NewOffsets(time.Second)
	now := time.Unix(1_700_000_000, 0)
	trip := func(took, ahead time.Duration) {
		require.NoError(t, o.Add(7, hlc.Trip{Sent: now, Shown: now.Add(took / 2).Add(ahead), Received: now.Add(took)}))
	}
	at := func() hlc.Offset {
		e, ok := o.Of(7, now)
		require.True(t, ok)
		return e
	}
	_, ok := o.Of(7, now)
	require.False(t, ok)
	trip(10*time.Millisecond, 30*time.Millisecond)
	trip(2*time.Millisecond, 20*time.Millisecond)
	trip(4*time.Millisecond, 25*time.Millisecond)
	require.Equal(t, hlc.Offset{Ahead: 20 * time.Millisecond, Error: time.Millisecond}, at())
	require.Equal(t, 19*time.Millisecond, at().AtLeast())
	for range 8 { // forgets what was before
		trip(8*time.Millisecond, -40*time.Millisecond)
	}
	require.Equal(t, hlc.Offset{Ahead: -40 * time.Millisecond, Error: 4 * time.Millisecond}, at())
	require.Equal(t, 36*time.Millisecond, at().AtLeast())
	now = now.Add(time.Minute)
	_, ok = o.Of(7, now)
	require.False(t, ok)
	trip(time.Millisecond, 0)
	o.Forget(7)
	_, ok = o.Of(7, now)
	require.False(t, ok)
	require.ErrorContains(t, o.Add(7, hlc.Trip{Sent: now, Shown: now, Received: now.Add(-1)}), "ends before it begins")
}

// A node is fenced by a majority of all nodes that is too far away for certain, and by
// nothing less.
func TestFence(t *testing.T) {
	const ms = time.Millisecond
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		what  string
		ahead []time.Duration // of the peers; 0 is one that does not answer
		took  time.Duration
		fence bool
	}{
		{"near", []time.Duration{10 * ms, -20 * ms}, ms, false},
		{"two of three", []time.Duration{90 * ms, 95 * ms}, ms, true},
		{"the other way", []time.Duration{-90 * ms, -95 * ms}, ms, true},
		{"one of two", []time.Duration{90 * ms}, ms, false},
		{"one of three", []time.Duration{90 * ms, ms}, ms, false},
		{"two of five", []time.Duration{90 * ms, 90 * ms, ms, ms}, ms, false},
		{"three of five", []time.Duration{90 * ms, 90 * ms, 90 * ms, ms}, ms, true},
		{"two of four", []time.Duration{90 * ms, 90 * ms, ms}, ms, false},
		{"three of four", []time.Duration{90 * ms, 90 * ms, 90 * ms}, ms, true},
		{"silent ones say nothing", []time.Duration{90 * ms, 90 * ms, 0, 0}, ms, false},
		{"not for certain", []time.Duration{85 * ms, 85 * ms}, 20 * ms, false},
		{"four fifths are not more", []time.Duration{80 * ms, 80 * ms}, 0, false},
		{"a little more", []time.Duration{81 * ms, 81 * ms}, 0, true},
	} {
		o := hlc.NewOffsets(100 * ms)
		var peers []uint64
		known := 0
		for i, ahead := range c.ahead {
			peers = append(peers, uint64(i+2))
			if ahead == 0 {
				continue
			}
			known++
			require.NoError(t, o.Add(uint64(i+2), hlc.Trip{Sent: now, Shown: now.Add(c.took / 2).Add(ahead), Received: now.Add(c.took)}))
		}
		v := o.Judge(peers, now)
		require.Equal(t, c.fence, v.Fence(), "%s: %+v", c.what, v)
		require.Equal(t, len(peers), v.Peers, c.what)
		require.Equal(t, known, v.Known, c.what)
	}
	o := hlc.NewOffsets(100 * ms)
	for peer, ahead := range map[uint64]time.Duration{2: 10 * ms, 3: -30 * ms, 9: time.Hour} {
		require.NoError(t, o.Add(peer, hlc.Trip{Sent: now, Shown: now.Add(ahead), Received: now}))
	}
	require.Equal(t, hlc.Verdict{Peers: 2, Known: 2, Worst: 30 * ms, Node: 3}, o.Judge([]uint64{2, 3}, now), "others are nobody's peers")
}
