package harness

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWatchdogMeasuresSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := 0
		w := &watchdog{limit: time.Minute, fire: func() { fired++ }}
		guard.Store(w)
		defer guard.Store(nil)
		progress() // nobody is watched yet

		w.arm(0)
		for range 10 {
			time.Sleep(59 * time.Second)
			progress()
		}
		w.arm(0) // a child of the first one
		time.Sleep(59 * time.Second)
		w.disarm()
		time.Sleep(59 * time.Second)
		synctest.Wait()
		require.Zero(t, fired, "ten minutes with signs of life")
		w.disarm()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, fired, "nobody is watched any more")

		w.arm(0)
		time.Sleep(61 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, fired)
		w.disarm()
	})
}

// A plain loop of an hour is silent for an hour; one that gave a sign of life
// is measured by its silence since.
func TestWatchdogAllowsForTheLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := 0
		w := &watchdog{limit: time.Minute, fire: func() { fired++ }}
		guard.Store(w)
		defer guard.Store(nil)
		for range 2 { // the first has no timer yet
			w.arm(time.Hour)
			time.Sleep(time.Hour + 59*time.Second)
			synctest.Wait()
			require.Zero(t, fired)
			w.disarm()
		}
		w.arm(time.Hour)
		progress()
		time.Sleep(61 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, fired)
		w.disarm()
		w.arm(time.Hour)
		time.Sleep(time.Hour + 61*time.Second)
		synctest.Wait()
		require.Equal(t, 2, fired)
		w.disarm()
	})
}

// Operations that come back are signs of life, however many were asked for; one
// that does not is none.
func TestWatchdogOverMicro(t *testing.T) {
	for _, c := range []struct {
		name, benchtime string
		took            time.Duration
		hangs           int // the operation that takes an hour; 0: none
	}{
		{"few and slow", "100x", 20 * time.Second, 0},
		{"many", "10000x", 700 * time.Millisecond, 0},
		{"a hang", "3000x", time.Millisecond, 2500},
	} {
		t.Run(c.name, func(t *testing.T) {
			fired, n := 0, 0
			inBubble(t, c.benchtime, func(b *testing.B) {
				guard.Store(&watchdog{limit: 13 * time.Minute, fire: func() { fired++ }})
				defer guard.Store(nil)
				Micro(b, func() error {
					if n++; n == c.hangs {
						time.Sleep(time.Hour)
					}
					time.Sleep(c.took)
					return nil
				})
			})
			if c.hangs > 0 {
				require.Equal(t, 1, fired)
			} else {
				require.Zero(t, fired)
			}
		})
	}
}

func TestBarkShowsGoroutines(t *testing.T) {
	var out bytes.Buffer
	bark(&out, time.Minute)
	require.Contains(t, out.String(), "no progress for 1m0s")
	require.Contains(t, out.String(), "TestBarkShowsGoroutines")
}
