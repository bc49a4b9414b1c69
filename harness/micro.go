package harness

import "testing"

// microBeat is the most operations of Micro between two signs of life, each of
// which costs less than 200 ns: a fraction of a nanosecond per operation. At the
// watchdog's two minutes an operation may take a tenth of a second, which is
// far beyond those that Micro is for.
const microBeat = 1024

// Micro measures an operation of less than 5 us by b.Loop alone. There is no
// clock reading per operation, which would cost more than the operation, and
// therefore no latency distribution: ns/op, ops/s, B/op, allocs/op,
// mallocs/op and cpu-ns/op. The first error fails b.
func Micro(b *testing.B, op func() error) {
	b.Helper()
	Begin(b)
	m := startMeter(b, &Spec{Seed: Seed()})
	done, beat := 0, 1 // the beats begin close together: slow operations are few
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatalf("harness: operation: %v", err)
		}
		if done++; done == beat {
			beat += min(beat, microBeat)
			progress()
		}
	}
	m.stop()
	b.ReportMetric(float64(b.N)/max(m.elapsed.Seconds(), 1e-9), "ops/s")
	reportCosts(b, b.N, m.from, m.to)
	m.reportAllocations(b, b.N)
}
