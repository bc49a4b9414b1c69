package measure

import (
	"math"
	"runtime/metrics"
)

// A Spread is the distribution of something the Go runtime counts in buckets,
// such as how long goroutines wait for a processor.
type Spread struct {
	Meter
	// counts[i] values lay from edges[i] to edges[i+1], in seconds.
	edges  []float64
	counts []uint64
}

// CountSince returns how many values came after the earlier reading.
func (s Spread) CountSince(earlier Spread) (n uint64) {
	for i, c := range s.counts {
		n += c - earlier.counts[i]
	}
	return n
}

// QuantileSince returns a bound in nanoseconds that a share q of the values
// since the earlier reading did not exceed: the upper edge of their bucket,
// which is off by up to an eighth. ok is false when there were no values.
func (s Spread) QuantileSince(earlier Spread, q float64) (ns float64, ok bool) {
	total := s.CountSince(earlier)
	if total == 0 {
		return 0, false
	}
	rank := max(uint64(math.Ceil(min(max(q, 0), 1)*float64(total))), 1)
	seen := uint64(0)
	for i, c := range s.counts {
		if seen += c - earlier.counts[i]; seen >= rank {
			edge := s.edges[i+1]
			if math.IsInf(edge, 1) {
				edge = s.edges[i]
			}
			return max(edge, 0) * 1e9, true
		}
	}
	return 0, false
}

// runtimeMeters are the figures asked of runtime/metrics, with what one unit of
// theirs is in ours.
var runtimeMeters = []struct {
	Meter
	scale float64
}{
	{Meter{"heap-live", "B", Gauge, "/gc/heap/live:bytes"}, 1},
	{Meter{"heap-objects", "B", Gauge, "/memory/classes/heap/objects:bytes"}, 1},
	{Meter{"go-memory", "B", Gauge, "/memory/classes/total:bytes"}, 1},
	{Meter{"goroutines", "1", Gauge, "/sched/goroutines:goroutines"}, 1},
	{Meter{"allocated", "B", Counter, "/gc/heap/allocs:bytes"}, 1},
	{Meter{"allocated-objects", "1", Counter, "/gc/heap/allocs:objects"}, 1},
	{Meter{"gc-cycles", "1", Counter, "/gc/cycles/total:gc-cycles"}, 1},
	// Estimated by the runtime, and moved on at the end of a cycle only.
	{Meter{"gc-cpu", "ns", Counter, "/cpu/classes/gc/total:cpu-seconds"}, 1e9},
	{Meter{"mutex-wait", "ns", Counter, "/sync/mutex/wait/total:seconds"}, 1e9},
}

var runtimeSpreads = []Meter{
	{"gc-pause", "ns", Counter, "/sched/pauses/total/gc:seconds"},
	{"sched-latency", "ns", Counter, "/sched/latencies:seconds"},
}

// runtimeSource asks the Go runtime: one call for everything, which stops
// nothing. Only the call for runtime.MemStats would.
type runtimeSource struct {
	list    []Meter
	samples []metrics.Sample // runtimeMeters, then runtimeSpreads
}

func newRuntimeSource() *runtimeSource {
	r := &runtimeSource{}
	for _, m := range runtimeMeters {
		r.list = append(r.list, m.Meter)
		r.samples = append(r.samples, metrics.Sample{Name: m.Source})
	}
	for _, m := range runtimeSpreads {
		r.samples = append(r.samples, metrics.Sample{Name: m.Source})
	}
	return r
}

func (r *runtimeSource) meters() []Meter { return r.list }
func (r *runtimeSource) close() error    { return nil }

func (r *runtimeSource) read(into []float64) {
	metrics.Read(r.samples)
	for i, m := range runtimeMeters {
		switch v := r.samples[i].Value; v.Kind() {
		case metrics.KindUint64:
			into[i] = float64(v.Uint64()) * m.scale
		case metrics.KindFloat64:
			into[i] = v.Float64() * m.scale
		default:
			into[i] = math.NaN() // a later Go may drop a figure
		}
	}
}

// spreads returns the distributions this Go has, with empty counts.
func (r *runtimeSource) spreads() []Spread {
	metrics.Read(r.samples)
	var out []Spread
	for i, m := range runtimeSpreads {
		if v := r.samples[len(runtimeMeters)+i].Value; v.Kind() == metrics.KindFloat64Histogram {
			h := v.Float64Histogram()
			out = append(out, Spread{Meter: m, edges: h.Buckets, counts: make([]uint64, len(h.Counts))})
		}
	}
	return out
}

// copySpreads copies what the last read found. The runtime uses the memory of
// the samples again, so the counts must not be kept.
func (r *runtimeSource) copySpreads(into []Spread) {
	at := 0
	for i := range runtimeSpreads {
		if v := r.samples[len(runtimeMeters)+i].Value; v.Kind() == metrics.KindFloat64Histogram {
			copy(into[at].counts, v.Float64Histogram().Counts)
			at++
		}
	}
}
