package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/load"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// An Op is one operation of the workload. It is called by every client, at the
// same time. An error counts as a failed operation; it does not end the run
// unless every operation fails. An Op must not end the benchmark (b.Fatal).
type Op func(c *Client) error

// A Client does one operation at a time. In a closed loop it starts the next
// when its last one has come back; in an open loop, when the next is due. It
// belongs to one goroutine.
type Client struct {
	// ID counts from 0 to Spec.Clients-1.
	ID int
	// Iter counts this client's operations from 0, those of the warm-up too,
	// so that {ID, Iter} never repeats within a sample.
	Iter uint64
	// Kind is the index in Spec.Mix of the operation to do; 0 without a mix.
	Kind int
	// Rand is seeded from Spec.Seed and ID.
	Rand *rand.Rand
	// Context ends with the benchmark.
	Context context.Context
}

// Spec describes a run. A zero field selects its default.
type Spec struct {
	// Clients is the number of clients, at most 100,000. One client in a closed
	// loop runs on the benchmark's own goroutine. In an open loop it bounds the
	// operations under way; those that are due beyond it wait, and their wait
	// is part of their latency. Default: 1.
	Clients int
	// Schedule gives the moments at which operations are meant to start, and
	// latencies count from there (an open loop). Default: none, a closed loop.
	Schedule load.Schedule
	// Overload says that the schedule may ask for more than the system can do.
	// Otherwise a run that falls behind is invalid: its latencies tell how long
	// it was, and nothing else.
	Overload bool
	// Mix draws the kind of each operation. Beside the line for all operations
	// there is then one for each kind, with /kind=name behind the benchmark's
	// name and without ns/op, which is a time of the whole run. Default: one kind, and one line.
	Mix load.Mix
	// Seed feeds the clients' random sources. Default: Seed().
	Seed uint64
	// Ready runs once before the warm-up, untimed: wait for leaders here. An
	// error fails the benchmark. Default: nothing.
	Ready func(ctx context.Context) error
	// Warmup is the number of untimed operations before the measured ones; a
	// negative one selects none. It is a closed loop in any case. Default: 5 %
	// of the work, and at least one operation of each client; one event of Events.
	Warmup int
	// Start runs right before the measured operations, untimed, with none under
	// way: a benchmark that keeps books of its own begins them here. When Run
	// measures once more, Start runs once more. Default: nothing.
	Start func()
	// Counters reads the system's totals. It is called while operations run,
	// by several goroutines. Default: no such units on the line.
	Counters func() Counters
	// Loads reads how many operations each node has done so far, for load-cv:
	// as the one that answers them. What each replica of a node repeats is even
	// by construction and shows nothing. Default: no such unit on the line.
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
	if s.Schedule != nil {
		if err := s.Schedule.Check(); err != nil {
			return fmt.Errorf("harness: spec: schedule: %w", err)
		}
	}
	return nil
}

// Result is what a run measured, for a benchmark that derives more units.
type Result struct {
	Ops     int           // measured operations, failed ones included
	Errors  int64         // failed ones among them
	Elapsed time.Duration // wall time until the last operation came back
	Latency *measure.Histogram
	Kinds   []KindResult // in the order of Spec.Mix
	// Lag is how late the harness itself was with the operations of an open
	// loop; nil in a closed one.
	Lag *measure.Histogram
	// Invalid says why the figures must not be used, and is empty if they may.
	Invalid string
}

// Run measures op in a closed loop, or in an open one if s has a Schedule, and
// reports it on b's line. It warms up untimed, then measures. A closed loop runs
// for b.Loop: exactly N operations under -benchtime=Nx, and about the length
// asked for otherwise. An open loop offers exactly N, or what is due within the
// length.
//
// ns/op is wall time until the last operation came back, divided by the
// operations; ops/s and the latencies are those of operations that succeeded.
// B/op, allocs/op, mallocs/op (the same with its fraction, which package testing
// cuts off) and cpu-ns/op are those of the whole process, the clients included.
// An open loop's line also carries offered-ops/s, and lag-avg-ns and lag-p99-ns,
// how late the harness was, and no cpu-ns/op: most of it would be what waiting for
// the next start costs, and that by how often it is done.
//
// From 100 operations on Run checks its own figures: that the latencies recorded
// add up to the operations that were under way, by their number in an open loop
// (Little's law) and by the clients' time in a closed one of operations of 5 us
// and more; that the generator kept up; and that the system did, whose latency
// must not rise from slice to slice of a run at an even rate. If one of them does
// not hold it measures once more, and if it still does not, the line carries "1
// invalid" and no other figure, and Result.Invalid says why.
//
// Run fails b when the Spec is invalid, when Ready fails, and, with the first
// error, when every operation fails. It returns once, with b's timer stopped,
// and must be the only loop of its benchmark.
func Run(b *testing.B, s Spec, op Op) Result {
	b.Helper()
	if err := s.validate(); err != nil {
		b.Fatal(err)
	}
	t := newTrial(b, &s, op)
	defer t.end()
	t.warmUp()
	if s.Schedule == nil {
		t.closed()
	} else {
		t.open()
	}
	t.end()
	t.failures()
	r := t.result()
	if r.Invalid != "" {
		condemn(b, t.meter, r.Invalid)
		return r
	}
	r.report(b, t)
	return r
}

func (r Result) report(b *testing.B, t *trial) {
	n, m := float64(r.Ops), t.meter
	b.ReportMetric(float64(r.Elapsed)/n, "ns/op")
	b.ReportMetric(float64(int64(r.Ops)-r.Errors)/max(r.Elapsed.Seconds(), 1e-9), "ops/s")
	b.ReportMetric(float64(r.Errors)/n, "errors/op")
	reportLatency(b, r.Latency)
	if r.Lag != nil {
		b.ReportMetric(float64(t.run.offered)/max(t.run.window().Seconds(), 1e-9), "offered-ops/s")
		b.ReportMetric(r.Lag.Mean(), "lag-avg-ns")
		if enoughFor99(r.Lag.Count()) {
			b.ReportMetric(float64(r.Lag.Quantile(0.99)), "lag-p99-ns")
		}
		m.to.hasCPU = false // which cannot be told from the generator's: see waiter
	}
	reportCosts(b, r.Ops, m.from, m.to)
	m.reportAllocations(b, r.Ops)
	reportKinds(b, m, r)
}

// reportLatency prints the distribution, and only the percentiles that the
// number of values supports.
func reportLatency(b *testing.B, h *measure.Histogram) {
	for unit, value := range latencyUnits(h) {
		b.ReportMetric(value, unit)
	}
}

func latencyUnits(h *measure.Histogram) map[string]float64 {
	units := map[string]float64{}
	if h.Count() == 0 {
		return units
	}
	units["avg-ns"] = h.Mean()
	units["min-ns"] = float64(h.Min())
	units["max-ns"] = float64(h.Max())
	for _, p := range measure.Percentiles(h.Count()) {
		units[p.Unit] = float64(h.Quantile(p.Q))
	}
	return units
}

// enoughFor99 reports whether n values support a 99th percentile.
func enoughFor99(n int64) bool { return n >= 1000 }
