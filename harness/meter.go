package harness

import (
	"runtime"
	"testing"
	"time"
)

// A meter holds the state of everything counted at the start and the end of
// the measured part.
type meter struct {
	spec     *Spec
	watcher  *watcher // nil unless somebody wants more than the line
	from, to reading
	heap     [2]runtime.MemStats // package testing stops counting before the drain
	start    time.Time
	elapsed  time.Duration
}

// startMeter begins the measured part of b, whose latencies go to tracks.
func startMeter(b *testing.B, s *Spec, tracks ...track) *meter {
	m := &meter{spec: s, watcher: watch(b, s, false, tracks...)}
	m.begin()
	return m
}

// startLoopMeter is startMeter for operations that may replace the system under
// measurement: between them, the loop must let the watcher breathe.
func startLoopMeter(b *testing.B, s *Spec, tracks ...track) *meter {
	m := &meter{spec: s, watcher: watch(b, s, true, tracks...)}
	m.begin()
	return m
}

// begin reads everything, what disturbs most first.
func (m *meter) begin() {
	m.watcher.start()
	runtime.ReadMemStats(&m.heap[0])
	m.from = read(m.spec)
	m.start = time.Now()
}

func (m *meter) stop() {
	m.elapsed = time.Since(m.start)
	m.to = read(m.spec)
	runtime.ReadMemStats(&m.heap[1])
	m.watcher.stop()
	if m.watcher != nil {
		m.watcher.elapsed = m.elapsed
	}
}
