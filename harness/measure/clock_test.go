package measure

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestClockMovesInSmallSteps(t *testing.T) {
	c := StartClock()
	require.False(t, virtual(time.Now()))
	least := time.Hour
	last := c.Now()
	for distinct := 0; distinct < 1000; {
		if now := c.Now(); now != last {
			require.Greater(t, now, last, "a clock goes forward")
			least = min(least, now-last)
			last = now
			distinct++
		}
	}
	require.Less(t, least, 20*time.Microsecond, "the smallest of a thousand steps")
	require.Zero(t, testing.AllocsPerRun(100, func() { c.Now() }))
}

func TestClockFollowsABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		require.True(t, virtual(time.Now()))
		c := StartClock()
		require.Zero(t, c.Now())
		time.Sleep(300 * 24 * time.Hour)
		require.Equal(t, 300*24*time.Hour, c.Now())
		require.True(t, virtual(time.Now()))
	})
}

func TestClockScalesTicks(t *testing.T) {
	for _, c := range []struct {
		ticks, frequency int64
		want             time.Duration
	}{
		{0, 10_000_000, 0},
		{1, 10_000_000, 100},
		{10_000_001, 10_000_000, time.Second + 100},
		{3_579_545, 3_579_545, time.Second},
		{1, 3_579_545, 279},
		{10_000_000 * 86400 * 365, 10_000_000, 365 * 24 * time.Hour}, // the product would overflow
		{999_999_999, 1_000_000_000, 999_999_999},
		{math.MaxInt64 / 1_000_000_000, 1, math.MaxInt64 / 1_000_000_000 * time.Second},
	} {
		require.Equal(t, c.want, scale(c.ticks, c.frequency), "%+v", c)
	}
}
