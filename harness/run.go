package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// An Op is one operation of the workload. It is called by every client, at the
// same time. An error counts as a failed operation; it does not end the run
// unless every operation fails. An Op must not end the benchmark (b.Fatal).
type Op func(c *Client) error

// A Client is one closed-loop client: it starts an operation when its last one
// has come back. It belongs to one goroutine.
type Client struct {
	// ID counts from 0 to Spec.Clients-1.
	ID int
	// Iter counts this client's operations from 0, those of the warm-up too,
	// so that {ID, Iter} never repeats within a sample.
	Iter uint64
	// Rand is seeded from Spec.Seed and ID.
	Rand *rand.Rand
	// Context ends with the benchmark.
	Context context.Context
}

// Spec describes a run. A zero field selects its default.
type Spec struct {
	// Clients is the number of closed-loop clients, at most 100,000. One client
	// runs on the benchmark's own goroutine. Default: 1.
	Clients int
	// Seed feeds the clients' random sources. Default: Seed().
	Seed uint64
	// Ready runs once before the warm-up, untimed: wait for leaders here. An
	// error fails the benchmark. Default: nothing.
	Ready func(ctx context.Context) error
	// Warmup is the number of untimed operations before the measured ones; a
	// negative one selects none. Default: 5 % of the work, and at least one
	// operation of each client.
	Warmup int
	// Counters reads the system's totals. It is called while operations run,
	// by several goroutines. Default: no such units on the line.
	Counters func() Counters
	// Loads reads how many operations each node has done so far, for load-cv.
	// Default: no such unit on the line.
	Loads func() []int64
	_     struct{}
}

// maxClients bounds a typing error, not a machine.
const maxClients = 100_000

func (s *Spec) validate() error {
	if s.Clients == 0 {
		s.Clients = 1
	}
	if s.Clients < 0 || s.Clients > maxClients {
		return fmt.Errorf("harness: spec: %d clients: want 1 to %d", s.Clients, maxClients)
	}
	if s.Seed == 0 {
		s.Seed = Seed()
	}
	return nil
}

// Result is what a run measured, for a benchmark that derives more units.
type Result struct {
	Ops     int           // measured operations, failed ones included
	Errors  int64         // failed ones among them
	Elapsed time.Duration // wall time until the last operation came back
	Latency *measure.Histogram
}

// Run measures op in a closed loop and reports it on b's line. It warms up
// untimed, then runs for b.Loop: exactly N operations under -benchtime=Nx, and
// about the length asked for otherwise.
//
// ns/op is wall time until the last operation came back, divided by the
// operations; ops/s and the latencies are those of operations that succeeded.
// B/op, allocs/op and cpu-ns/op are those of the whole process, the clients
// included. Run fails b when the Spec is invalid, when Ready fails, and, with
// the first error, when every operation fails. It returns once, with b's timer
// stopped, and must be the only loop of its benchmark.
func Run(b *testing.B, s Spec, op Op) Result {
	b.Helper()
	if err := s.validate(); err != nil {
		b.Fatal(err)
	}
	Begin(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			b.Fatalf("harness: ready: %v", err)
		}
	}
	crew := newCrew(ctx, s, op)
	defer crew.dismiss()
	count, length := benchtime()
	crew.warmUp(s.Warmup, count, length)
	if crew.failed() {
		b.Fatalf("harness: warm-up: all %d operations failed: %v", crew.ops(), crew.firstError())
	}
	crew.reset()

	m := startMeter(b, &s, track{pool: &crew.pool})
	if len(crew.members) == 1 {
		crew.loopInline(b)
	} else {
		crew.loop(b, count, length)
	}
	m.stop()

	crew.dismiss()
	if crew.deserted() {
		b.Fatal("harness: a client's goroutine ended inside its operation: an Op must return")
	}
	if crew.failed() {
		b.Fatalf("harness: all %d operations failed: %v", crew.ops(), crew.firstError())
	}
	r := Result{Ops: b.N, Errors: crew.errors(), Elapsed: m.elapsed, Latency: crew.pool.Histogram()}
	r.report(b, m)
	return r
}

func (r Result) report(b *testing.B, m *meter) {
	n := float64(r.Ops)
	b.ReportMetric(float64(r.Elapsed)/n, "ns/op")
	b.ReportMetric(float64(int64(r.Ops)-r.Errors)/max(r.Elapsed.Seconds(), 1e-9), "ops/s")
	b.ReportMetric(float64(r.Errors)/n, "errors/op")
	reportLatency(b, r.Latency)
	reportCosts(b, r.Ops, m.from, m.to)
	b.ReportAllocs()
	b.ReportMetric(float64(m.heap[1].TotalAlloc-m.heap[0].TotalAlloc)/n, "B/op")
	b.ReportMetric(float64(m.heap[1].Mallocs-m.heap[0].Mallocs)/n, "allocs/op")
}

// reportLatency prints the distribution, and only the percentiles that the
// number of values supports.
func reportLatency(b *testing.B, h *measure.Histogram) {
	if h.Count() == 0 {
		return
	}
	b.ReportMetric(h.Mean(), "avg-ns")
	b.ReportMetric(float64(h.Min()), "min-ns")
	b.ReportMetric(float64(h.Max()), "max-ns")
	for _, p := range measure.Percentiles(h.Count()) {
		b.ReportMetric(float64(h.Quantile(p.Q)), p.Unit)
	}
}
