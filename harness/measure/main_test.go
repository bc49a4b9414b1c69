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
// histogram included.
//
//	go test -run='^$' -bench=Record ./harness/measure
func BenchmarkRecord(b *testing.B) {
	var pool measure.Pool
	r := pool.Recorder()
	d := time.Duration(1)
	harness.Micro(b, func() error {
		d = (d * 5) & (1<<20 - 1)
		r.Record(d)
		return nil
	})
}
