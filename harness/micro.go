package harness

import "testing"

// Micro measures an operation of less than 5 us by b.Loop alone. There is no
// clock reading per operation, which would cost more than the operation, and
// therefore no latency distribution: ns/op, ops/s, B/op, allocs/op,
// mallocs/op and cpu-ns/op. The first error fails b.
func Micro(b *testing.B, op func() error) {
	b.Helper()
	Begin(b)
	m := startMeter(b, &Spec{Seed: Seed()})
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatalf("harness: operation: %v", err)
		}
	}
	m.stop()
	b.ReportMetric(float64(b.N)/max(m.elapsed.Seconds(), 1e-9), "ops/s")
	reportCosts(b, b.N, m.from, m.to)
	m.reportAllocations(b, b.N)
}
