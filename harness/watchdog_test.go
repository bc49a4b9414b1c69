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

func TestBarkShowsGoroutines(t *testing.T) {
	var out bytes.Buffer
	bark(&out, time.Minute)
	require.Contains(t, out.String(), "no progress for 1m0s")
	require.Contains(t, out.String(), "TestBarkShowsGoroutines")
}
