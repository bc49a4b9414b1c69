package harness

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// An Event is one large operation that timed itself: an election, a recovery,
// a catch-up. What prepares it stays out of its time.
type Event struct {
	// Took is the time the event took.
	Took time.Duration
	// Bytes and Entries are what it worked through. When not zero, the line
	// carries MB/s and entries/s: all of them over all of the time.
	Bytes, Entries int64
	// Values are further figures by unit, such as detect-ns. The line carries
	// the mean over the events that state the unit. A unit that package measure
	// does not declare fails the benchmark.
	Values map[string]float64
	_      struct{}
}

// Events measures op, once per iteration and one after the other. The length
// asked for by -benchtime includes the preparation of the events: otherwise a
// case that prepares for a second what takes a millisecond would never end.
//
// ns/op is the mean of the times the events took, beside the distribution and
// the units of Values. Costs (fsyncs/op, msgs/op, B/op and so on) are those of
// the whole iteration. Of s, Clients, Schedule and Mix have no meaning here.
//
// Before the measured events come s.Warmup others that leave no trace on the
// line, by default one: the first election or recovery of a process pays for what
// later ones find, and where a quick run has time for one event its figure would
// be that. Their numbers i come first, from 0. An error counts as a failed event,
// which a warm-up may have; when all measured ones fail, or s.Ready does, b fails.
func Events(b *testing.B, s Spec, op func(i int) (Event, error)) {
	b.Helper()
	Begin(b)
	if s.Ready != nil {
		if err := s.Ready(b.Context()); err != nil {
			b.Fatalf("harness: ready: %v", err)
		}
	}
	warm := warmUpEvents(s.Warmup, op)
	var t tally
	if evidence.Load() != nil {
		t.pool.Watch()
	}
	t.recorder = t.pool.Recorder()
	m := startLoopMeter(b, &s, track{pool: &t.pool})
	for i := warm; b.Loop(); i++ {
		t.add(op(i))
		progress()
		m.watcher.breathe()
	}
	t.recorder.Flush()
	m.stop()
	t.latency = t.pool.Histogram()
	if t.latency.Count() == 0 {
		b.Fatalf("harness: all %d events failed: %v", t.errors, t.first)
	}
	t.report(b)
	reportCosts(b, b.N, m.from, m.to)
	m.reportAllocations(b, b.N)
}

// warmUpEvents has the events that do not count, and returns their number.
func warmUpEvents(asked int, op func(i int) (Event, error)) int {
	if asked == 0 {
		asked = 1
	}
	for i := range asked {
		_, _ = op(i) // what is broken fails the measured ones too, which tell of it
		progress()
	}
	return max(asked, 0)
}

// A tally adds up events.
type tally struct {
	pool           measure.Pool
	recorder       *measure.Recorder
	latency        *measure.Histogram // of pool, after the last event
	bytes, entries int64
	took           time.Duration // of all events that succeeded
	values         map[string]*mean
	errors         int64
	first          error
}

type mean struct {
	sum float64
	n   int
}

func (t *tally) add(e Event, err error) {
	if err != nil {
		t.errors++
		t.recorder.Fail()
		if t.first == nil {
			t.first = err
		}
		return
	}
	t.recorder.Record(e.Took)
	t.took += e.Took
	t.bytes += e.Bytes
	t.entries += e.Entries
	for unit, v := range e.Values {
		if t.values == nil {
			t.values = map[string]*mean{}
		}
		if t.values[unit] == nil {
			t.values[unit] = &mean{}
		}
		t.values[unit].sum += v
		t.values[unit].n++
	}
}

func (t *tally) report(b *testing.B) {
	b.ReportMetric(t.latency.Mean(), "ns/op")
	reportLatency(b, t.latency)
	seconds := max(t.took.Seconds(), 1e-9)
	if t.bytes > 0 {
		b.ReportMetric(float64(t.bytes)/1e6/seconds, "MB/s")
	}
	if t.entries > 0 {
		b.ReportMetric(float64(t.entries)/seconds, "entries/s")
	}
	b.ReportMetric(float64(t.errors)/float64(b.N), "errors/op")
	for _, unit := range slices.Sorted(maps.Keys(t.values)) {
		if !measure.Known(unit) {
			b.Fatalf("harness: event: unit %q is not declared in package measure", unit)
		}
		b.ReportMetric(t.values[unit].sum/float64(t.values[unit].n), unit)
	}
}
