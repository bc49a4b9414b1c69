package transport

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// A Link describes one direction between two simulated nodes. The zero Link is
// perfect: what is sent is delivered at once, on the sender's goroutine.
type Link struct {
	// Delay is how long a message travels; Jitter adds a uniform draw from
	// [0, Jitter]. Messages of one class stay in order all the same. With a
	// link each way, the round trip is the sum of both delays. Timers of an
	// idle process are up to a millisecond late: see NetworkOptions.Precise.
	Delay, Jitter time.Duration
	// Loss, Duplicate and Reorder are probabilities per message, in [0, 1]. A
	// call breaks if its request or answer is lost; streams only if Loss is 1.
	// A duplicate takes its own jitter. A reordered message is held back
	// another Delay + Jitter, at least a millisecond, and others overtake it.
	Loss, Duplicate, Reorder float64
	// BytesPerSecond is the bandwidth, shared by everything on the link; what
	// is Control goes first. Zero: no bound.
	BytesPerSecond int64
}

func (l Link) validate() error {
	if l.Delay < 0 || l.Jitter < 0 {
		return fmt.Errorf("transport: link: delay %v and jitter %v must not be negative", l.Delay, l.Jitter)
	}
	for _, p := range [...]struct {
		name  string
		value float64
	}{{"loss", l.Loss}, {"duplicate", l.Duplicate}, {"reorder", l.Reorder}} {
		if !(p.value >= 0 && p.value <= 1) {
			return fmt.Errorf("transport: link: %s %v must be in [0, 1]", p.name, p.value)
		}
	}
	if l.BytesPerSecond < 0 {
		return fmt.Errorf("transport: link: bandwidth of %d bytes per second must not be negative", l.BytesPerSecond)
	}
	return nil
}

// instant tells whether a message that is not held back arrives at once.
func (l Link) instant() bool { return l.Delay == 0 && l.Jitter == 0 && l.BytesPerSecond == 0 }

// chancy tells whether messages need draws.
func (l Link) chancy() bool { return l.Loss > 0 || l.Duplicate > 0 || l.Reorder > 0 }

// A condition is the state of a link between two changes by the caller. It is
// immutable; changed is closed when another one takes its place.
type condition struct {
	Link
	cut     bool
	plain   bool // instant, not chancy, not cut
	changed chan struct{}
}

// A flow is one direction between two nodes. It outlives restarts of both, so
// that its draws go on and a seed decides a whole run.
type flow struct {
	net      *Network
	from, to NodeID

	now  atomic.Pointer[condition]
	dest atomic.Pointer[Sim] // nil while the node is down

	// underway counts deliveries pushed and not yet done. While it is not
	// zero nothing may go directly, or it would overtake.
	underway atomic.Int64
	queued   [Classes]atomic.Int64 // bytes under way
	lost     atomic.Bool           // Unreachable was told and nothing got through since
	full     [Classes]atomic.Bool  // Unreachable was told of a full queue, not yet half empty

	mu        sync.Mutex
	rng       *rand.Rand
	busyUntil time.Duration          // when the bandwidth is free again
	last      [Classes]time.Duration // latest arrival of what keeps its order
}

func newFlow(n *Network, from, to NodeID) *flow {
	f := &flow{net: n, from: from, to: to}
	// Mixed by odd constants so that neighbouring links do not share streams.
	f.rng = rand.New(rand.NewPCG(n.o.Seed, uint64(from)*0x9e3779b97f4a7c15^uint64(to)*0xc2b2ae3d27d4eb4f))
	return f
}

// set puts a link or a cut in force. The caller holds net.mu.
func (f *flow) set(l Link, cut bool) {
	c := &condition{Link: l, cut: cut, changed: make(chan struct{})}
	c.plain = l.instant() && !l.chancy() && !cut
	if old := f.now.Swap(c); old != nil {
		close(old.changed)
	}
}

// arrival reserves bandwidth for bytes and returns when they arrive if sent
// now. With ordered it does not fall before the class's latest. The caller
// holds f.mu.
func (f *flow) arrival(c *condition, class Class, bytes int, ordered bool) time.Duration {
	at := f.net.elapsed()
	if c.BytesPerSecond > 0 {
		takes := time.Duration(float64(bytes) / float64(c.BytesPerSecond) * float64(time.Second))
		f.busyUntil = max(at, f.busyUntil) + takes
		if class == Control {
			at += takes
		} else {
			at = f.busyUntil
		}
	}
	at += c.Delay
	if c.Jitter > 0 {
		at += time.Duration(f.rng.Int64N(int64(c.Jitter) + 1))
	}
	if !ordered {
		return at + max(c.Delay+c.Jitter, time.Millisecond)
	}
	at = max(at, f.last[class])
	f.last[class] = at
	return at
}

// draw reports whether an event of probability p happens. The caller holds
// f.mu.
func (f *flow) draw(p float64) bool { return p > 0 && f.rng.Float64() < p }
