package harness

import (
	"math"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// Counters are the running totals of a system since it booted. Run reads them
// before and after the measured part and prints the difference per operation.
//
// A total that is still zero at the end counts as absent: the system has no
// such meter, or never did such a thing, and its unit stays off the line. One
// that moved before the measured part and not during it prints as zero.
type Counters struct {
	// Fsyncs is the number of calls that made files or directories durable, and
	// DiskBytes what was written to files: all of both, with what a log prepares
	// ahead of use, with headers and padding, and with checkpoints and received
	// snapshots. What the file system writes for itself is in neither.
	Fsyncs, DiskBytes int64
	WireBytes         int64 // bytes sent between nodes
	Messages          int64 // messages sent between nodes
	// Elections is the number of leaders elected. During the measured part
	// nobody plans one, so it is printed as a count for the run and not per
	// operation: anything but 0 means the line measured something else.
	Elections int64
	// Classes divide WireBytes and Messages by the class of message, where the
	// system tells. The names and their order stay the same within a run. They
	// stand in artifacts and live metrics, not on the line.
	Classes []ClassCounters
	_       struct{}
}

// ClassCounters are the totals of one class of messages.
type ClassCounters struct {
	Class     string // a word, such as "control"
	WireBytes int64
	Messages  int64
}

// A counted is one total of a system: how it is called and where it stands.
type counted struct {
	name, unit string
	of         func(c *Counters) int64
}

// everyCounted lists the totals of a system, with those of the classes that c
// has.
func everyCounted(c *Counters) []counted {
	list := []counted{
		{"fsyncs", "1", func(c *Counters) int64 { return c.Fsyncs }},
		{"disk-bytes", "B", func(c *Counters) int64 { return c.DiskBytes }},
		{"wire-bytes", "B", func(c *Counters) int64 { return c.WireBytes }},
		{"messages", "1", func(c *Counters) int64 { return c.Messages }},
		{"elections", "1", func(c *Counters) int64 { return c.Elections }},
	}
	for i, class := range c.Classes {
		// A reading before the class was known counts as zero.
		at := func(c *Counters) ClassCounters {
			if i >= len(c.Classes) {
				return ClassCounters{}
			}
			return c.Classes[i]
		}
		list = append(list,
			counted{"wire-bytes-" + class.Class, "B", func(c *Counters) int64 { return at(c).WireBytes }},
			counted{"messages-" + class.Class, "1", func(c *Counters) int64 { return at(c).Messages }})
	}
	return list
}

// reading is the state of all meters at one moment.
type reading struct {
	counters Counters
	loads    []int64
	cpu      time.Duration
	hasCPU   bool
}

// totals asks the system.
func (r *reading) totals(s *Spec) {
	if s.Counters != nil {
		r.counters = s.Counters()
	}
	if s.Loads != nil {
		r.loads = s.Loads()
	}
}

// processor asks the platform.
func (r *reading) processor() {
	user, system, ok := measure.CPU()
	r.cpu, r.hasCPU = user+system, ok
}

// reportCosts prints what n operations between two readings cost.
func reportCosts(b *testing.B, n int, from, to reading) {
	per := func(unit string, before, after int64) {
		if after != 0 {
			b.ReportMetric(float64(after-before)/float64(n), unit)
		}
	}
	per("fsyncs/op", from.counters.Fsyncs, to.counters.Fsyncs)
	per("disk-B/op", from.counters.DiskBytes, to.counters.DiskBytes)
	per("wire-B/op", from.counters.WireBytes, to.counters.WireBytes)
	per("msgs/op", from.counters.Messages, to.counters.Messages)
	if to.counters.Elections != 0 {
		b.ReportMetric(float64(to.counters.Elections-from.counters.Elections), "elections")
	}
	if from.hasCPU && to.hasCPU {
		b.ReportMetric(float64(to.cpu-from.cpu)/float64(n), "cpu-ns/op")
	}
	if cv, ok := variation(from.loads, to.loads); ok {
		b.ReportMetric(cv, "load-cv")
	}
}

// variation returns the standard deviation over the mean of what each node did
// between two readings: 0 is an even load, 1 very uneven. It has no answer for
// fewer than two nodes or when nothing was done.
func variation(from, to []int64) (float64, bool) {
	if len(from) != len(to) || len(to) < 2 {
		return 0, false
	}
	var sum, squares float64
	for i := range to {
		sum += float64(to[i] - from[i])
	}
	mean := sum / float64(len(to))
	if mean <= 0 {
		return 0, false
	}
	for i := range to {
		d := float64(to[i]-from[i]) - mean
		squares += d * d
	}
	return math.Sqrt(squares/float64(len(to))) / mean, true
}
