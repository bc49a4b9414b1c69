package fault

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds of fault, and the interface a target needs for each.
const (
	Partition Kind = "partition" // Nodes are cut from all others, both ways (Partitioner)
	OneWay    Kind = "one-way"   // nothing from Nodes[0] reaches Nodes[1] (Partitioner)
	Crash     Kind = "crash"     // Nodes[0] stops without warning, and starts again (Crasher)
	Pause     Kind = "pause"     // Nodes[0] stands still, and goes on (Pauser)
	SlowDisk  Kind = "slow-disk" // each flush of Nodes[0] takes Amount longer (DiskSlower)
	Skew      Kind = "skew"      // the wall clock of Nodes[0] is off by Amount (ClockSkewer)
)

// Kinds returns all kinds of fault.
func Kinds() []Kind { return []Kind{Partition, OneWay, Crash, Pause, SlowDisk, Skew} }

// An Event is one fault.
type Event struct {
	Kind   Kind
	At     time.Duration // from the start of the plan
	For    time.Duration // until it is healed
	Nodes  []uint64      // whom it befalls; see Kind
	Amount time.Duration // of SlowDisk and Skew
}

// End returns when e is healed, from the start of the plan.
func (e Event) End() time.Duration { return e.At + e.For }

// down reports whether e takes its nodes out of a quorum while it lasts. A link
// cut one way, a slow disk or a skewed clock makes trouble, but the node is
// still there.
func (e Event) down() bool { return e.Kind == Partition || e.Kind == Crash || e.Kind == Pause }

// String returns e as one line: "+1.2s crash nodes=2 for=800ms".
func (e Event) String() string {
	s := fmt.Sprintf("+%v %s nodes=%s for=%v", e.At, e.Kind, joined(e.Nodes), e.For)
	if e.Amount != 0 {
		s += fmt.Sprintf(" amount=%v", e.Amount)
	}
	return s
}

// A Plan is a list of faults in two phases.
type Plan struct {
	Seed     uint64
	Nodes    []uint64
	Core     []uint64      // nodes without faults in the liveness phase
	Safety   time.Duration // length of the first phase
	Liveness time.Duration // length of the second phase
	// Events is ordered by At. An event lies in one phase.
	Events []Event
}

// String returns the plan, a line for each event, so that a failed test can
// print what it went through.
func (p Plan) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "seed=%d nodes=%s core=%s safety=%v liveness=%v\n",
		p.Seed, joined(p.Nodes), joined(p.Core), p.Safety, p.Liveness)
	for _, e := range p.Events {
		s.WriteString("  " + e.String() + "\n")
	}
	return s.String()
}

func joined(nodes []uint64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(nodes), " ", ","), "[]")
}

// Validate returns an error if p cannot be run: an event outside its phase or
// out of order, an unknown node, the wrong number of nodes, a fault of the core
// in the liveness phase, or two faults of one kind at once on a node. Crash
// and Pause count as one kind there, since the dead cannot be paused.
func (p Plan) Validate() error {
	busy := map[string]time.Duration{}
	var last time.Duration
	for i, e := range p.Events {
		if err := p.validateEvent(e); err != nil {
			return fmt.Errorf("fault: event %d (%v): %w", i, e, err)
		}
		if e.At < last {
			return fmt.Errorf("fault: event %d (%v): begins before event %d at %v", i, e, i-1, last)
		}
		last = e.At
		// Cuts may overlap: links are counted.
		if e.Kind == Partition || e.Kind == OneWay {
			continue
		}
		if until, taken := busy[e.slot()]; taken && e.At < until {
			return fmt.Errorf("fault: event %d (%v): node %d has such a fault until %v", i, e, e.Nodes[0], until)
		}
		busy[e.slot()] = e.End()
	}
	return nil
}

// slot names what an event occupies on its node while it lasts.
func (e Event) slot() string {
	kind := e.Kind
	if kind == Pause {
		kind = Crash
	}
	return fmt.Sprintf("%s %d", kind, e.Nodes[0])
}

func (p Plan) validateEvent(e Event) error {
	want := 1
	switch e.Kind {
	case OneWay:
		want = 2
	case Partition:
		want = len(e.Nodes)
		if want == 0 || want >= len(p.Nodes) {
			return fmt.Errorf("%d of %d nodes: want some and not all", want, len(p.Nodes))
		}
	case Crash, Pause, SlowDisk, Skew:
	default:
		return fmt.Errorf("unknown kind %q", e.Kind)
	}
	if len(e.Nodes) != want {
		return fmt.Errorf("%d nodes: want %d", len(e.Nodes), want)
	}
	for i, n := range e.Nodes {
		if !slices.Contains(p.Nodes, n) {
			return fmt.Errorf("node %d: want one of %s", n, joined(p.Nodes))
		}
		if slices.Contains(e.Nodes[:i], n) {
			return fmt.Errorf("node %d: named twice", n)
		}
	}
	if e.At < 0 || e.For <= 0 {
		return fmt.Errorf("want a start of at least 0 and a positive length")
	}
	if e.At < p.Safety {
		if e.End() > p.Safety {
			return fmt.Errorf("ends after the safety phase (%v)", p.Safety)
		}
		return nil
	}
	return p.validateLate(e)
}

// validateLate checks an event of the liveness phase.
func (p Plan) validateLate(e Event) error {
	if e.End() > p.Safety+p.Liveness {
		return fmt.Errorf("ends after the plan (%v)", p.Safety+p.Liveness)
	}
	for _, n := range e.Nodes {
		if slices.Contains(p.Core, n) {
			return fmt.Errorf("node %d of the core has a fault in the liveness phase", n)
		}
	}
	return nil
}

// MostDown returns the largest number of nodes that faults take out of a
// quorum at the same time.
func (p Plan) MostDown() int {
	most := 0
	for _, e := range p.Events {
		// The number can only grow where an event begins.
		most = max(most, len(downAt(p.Events, e.At)))
	}
	return most
}

// downAt returns the nodes that are down at a moment, each once, ordered.
func downAt(events []Event, at time.Duration) []uint64 {
	var nodes []uint64
	for _, e := range events {
		if e.down() && e.At <= at && at < e.End() {
			nodes = append(nodes, e.Nodes...)
		}
	}
	slices.SortFunc(nodes, cmp.Compare)
	return slices.Compact(nodes)
}
