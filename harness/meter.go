package harness

import (
	"runtime"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// A meter holds the state of everything counted at the start and the end of
// the measured part.
type meter struct {
	spec     *Spec
	watcher  *watcher // nil unless somebody wants more than the line
	from, to reading
	heap     [2]runtime.MemStats // package testing stops counting before the drain
	clock    measure.Clock       // from the begin of the measured part
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

// begin reads everything, and stop once more in the opposite order: what a
// reading costs then lies outside those that begin later. Telling totals may
// allocate, and looking at the heap takes processor time.
func (m *meter) begin() {
	m.watcher.start()
	m.from.totals(m.spec)
	runtime.ReadMemStats(&m.heap[0])
	m.from.processor()
	m.clock = measure.StartClock()
}

func (m *meter) stop() {
	m.elapsed = m.clock.Now()
	m.to.processor()
	runtime.ReadMemStats(&m.heap[1])
	m.to.totals(m.spec)
	m.watcher.stop()
	if m.watcher != nil {
		m.watcher.elapsed = m.elapsed
	}
}

// reportAllocations prints what n operations allocated. Package testing cuts
// allocs/op and B/op to an integer, and 0 would do for an operation that
// allocates in nine of ten calls, so the number stands under a unit of our own
// as well. Nothing takes bytes without an allocation, so these need none.
func (m *meter) reportAllocations(b *testing.B, n int) {
	b.ReportAllocs()
	mallocs := float64(m.heap[1].Mallocs-m.heap[0].Mallocs) / float64(n)
	b.ReportMetric(float64(m.heap[1].TotalAlloc-m.heap[0].TotalAlloc)/float64(n), "B/op")
	b.ReportMetric(mallocs, "allocs/op")
	b.ReportMetric(mallocs, "mallocs/op")
}
