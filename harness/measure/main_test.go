package measure_test

import (
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// TestMain stands in the external test package, because harness imports
// measure.
func TestMain(m *testing.M) { harness.Main(m) }

// BenchmarkRecord asks what it costs to note a latency, the lock and the
// histogram included, and what a pool that is read meanwhile adds.
//
//	go test -run='^$' -bench=Record ./harness/measure
func BenchmarkRecord(b *testing.B) {
	for _, watched := range []bool{false, true} {
		b.Run(harness.Name("watched", watched), func(b *testing.B) {
			var pool measure.Pool
			if watched {
				pool.Watch()
			}
			r := pool.Recorder()
			d := time.Duration(1)
			harness.Micro(b, func() error {
				d = (d * 5) & (1<<20 - 1)
				r.Record(d)
				return nil
			})
		})
	}
}

// BenchmarkMeters asks what one reading of all meters costs, which a sampled
// run pays at the end of every interval.
//
//	go test -run='^$' -bench=Meters ./harness/measure
func BenchmarkMeters(b *testing.B) {
	m := measure.OpenMeters()
	defer func() { _ = m.Close() }()
	s := m.NewSnapshot()
	harness.Micro(b, func() error { m.Read(s); return nil })
}
