package harness

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// guard is the watchdog of this process; Main sets it, nil means none.
//
// The -timeout of go test ends with the tests: a benchmark that hangs would
// hang for ever. The watchdog measures silence rather than length, so that it
// fits a case of 200 ms and one of an hour.
var guard atomic.Pointer[watchdog]

// A watchdog kills the process when no benchmark has made progress for limit.
type watchdog struct {
	limit time.Duration
	fire  func() // called once, on its own goroutine

	mu    sync.Mutex
	armed int         // benchmarks between their first sign of life and their end
	timer *time.Timer // nil until first armed
}

// touch notes progress of b, and watches it until it ends from the first touch
// on. It is safe to call from any goroutine of the benchmark. Until the next
// sign of life it allows for the length of the case as well: a plain loop of the
// benchmark's own gives none before its end, which may be an hour away.
func touch(b *testing.B) {
	w := guard.Load()
	if w == nil {
		return
	}
	_, length := benchtime()
	w.arm(2 * length)
	b.Cleanup(w.disarm)
}

// progress notes that operations come back.
func progress() {
	if w := guard.Load(); w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.armed > 0 {
			w.timer.Reset(w.limit)
		}
	}
}

// arm begins the watch over one benchmark, which may be silent for its limit
// and extra at first.
func (w *watchdog) arm(extra time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed++
	if w.timer == nil {
		w.timer = time.AfterFunc(w.limit+extra, w.fire)
		return
	}
	w.timer.Reset(w.limit + extra)
}

// disarm ends the watch over one benchmark. The others get a fresh limit: a
// parent that only waits for its children is not silent.
func (w *watchdog) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed--
	if w.armed == 0 {
		w.timer.Stop()
	} else {
		w.timer.Reset(w.limit)
	}
}

// bark writes why the process ends, and where every goroutine stands.
func bark(out io.Writer, limit time.Duration) {
	fmt.Fprintf(out, "\n# harness: watchdog: a benchmark made no progress for %v (PHANTOM_WATCHDOG); its goroutines:\n", limit)
	for size := 1 << 20; ; size *= 2 {
		buf := make([]byte, size)
		// Bounded: ten thousand groups of a hundred replicas still fit.
		if n := runtime.Stack(buf, true); n < size || size >= 64<<20 {
			_, _ = out.Write(buf[:n]) // the process ends in any case
			return
		}
	}
}

// biteAfter returns a watchdog that ends the process with status 3.
func biteAfter(limit time.Duration) *watchdog {
	return &watchdog{limit: limit, fire: func() {
		bark(os.Stderr, limit)
		os.Exit(3)
	}}
}
