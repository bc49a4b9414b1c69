package transport

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// NetworkOptions configures a Network. A zero field selects its default.
type NetworkOptions struct {
	// Seed decides every draw: each link has its own stream of draws, so that
	// the same messages on a link meet the same fate.
	Seed uint64
	// Default is the link between nodes for which SetLink was not called.
	Default Link
	// Marshal encodes and decodes every message as TCP does, to show that
	// nothing is shared between nodes.
	Marshal bool
	// Manual holds every message of Send until Deliver, one at a time, in the
	// order sent; delays and bandwidth are ignored, loss, duplication and
	// reordering are drawn when a message is sent. Calls and streams are not
	// held.
	Manual bool
	// Precise has deliveries arrive on time also where the process is idle and
	// its timers are up to a millisecond late, at the price of up to 1.5 ms of
	// processor time per delivery. Bandwidth of streams is not affected.
	Precise bool
	// QueueBytes bounds what is under way on one link in one class; beyond it
	// messages are dropped. Default: 64 MiB.
	QueueBytes int64
	_          struct{}
}

func (o NetworkOptions) withDefaults() (NetworkOptions, error) {
	if o.QueueBytes == 0 {
		o.QueueBytes = 64 << 20
	}
	if o.QueueBytes < 0 {
		return o, fmt.Errorf("transport: QueueBytes %d must not be negative", o.QueueBytes)
	}
	return o, o.Default.validate()
}

// A Network joins simulated nodes in one process. Its methods may be called
// at any time, from any goroutine.
//
// It runs at most one goroutine of its own, while messages are under way on
// links with a delay.
type Network struct {
	o    NetworkOptions
	base time.Time
	wire wire
	held holding

	closed atomic.Bool
	mu     sync.Mutex
	nodes  map[NodeID]*Sim
	flows  map[direction]*flow
	links  map[direction]Link
	cuts   map[direction]bool
	pipes  map[*pipe]struct{} // open streams, for cuts to break
}

type direction struct{ from, to NodeID }

// NewNetwork returns a network without nodes. It panics if the options are
// out of range.
func NewNetwork(o NetworkOptions) *Network {
	o, err := o.withDefaults()
	if err != nil {
		panic(err)
	}
	return &Network{
		o:     o,
		base:  time.Now(),
		wire:  wire{wake: make(chan struct{}, 1), precise: o.Precise},
		nodes: make(map[NodeID]*Sim),
		flows: make(map[direction]*flow),
		links: make(map[direction]Link),
		cuts:  make(map[direction]bool),
		pipes: make(map[*pipe]struct{}),
	}
}

// Node brings a node up. After its Close the same id can be brought up again,
// as a restart: what was under way to the old one is lost. It panics if id is
// zero or up, or if the network is closed.
func (n *Network) Node(id NodeID) *Sim {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id == 0 || n.nodes[id] != nil || n.closed.Load() {
		panic(fmt.Sprintf("transport: node %d cannot be brought up: zero, up already, or network closed (%v)", id, n.closed.Load()))
	}
	s := newSim(n, id)
	n.nodes[id] = s
	for d, f := range n.flows {
		if d.to == id {
			f.dest.Store(s)
		}
	}
	return s
}

// SetLink changes one direction between two nodes, also while they are down.
// Messages under way keep the arrival they were given. It panics if l is out
// of range.
func (n *Network) SetLink(from, to NodeID, l Link) {
	if err := l.validate(); err != nil {
		panic(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	d := direction{from, to}
	n.links[d] = l
	n.refresh(d)
}

// Cut drops everything from one node to another, what is under way included.
// The other direction goes on. Streams between the two break.
func (n *Network) Cut(from, to NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut(direction{from, to})
}

// Partition cuts all directions between nodes of different groups, in
// addition to what is cut already. Nodes in no group are not touched.
func (n *Network) Partition(groups ...[]NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i, group := range groups {
		for j, other := range groups {
			if i == j {
				continue
			}
			for _, from := range group {
				for _, to := range other {
					n.cut(direction{from, to})
				}
			}
		}
	}
}

// Heal ends all cuts. Links keep what SetLink gave them. Calls that waited
// for a cut link go on.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for d := range n.cuts {
		delete(n.cuts, d)
		n.refresh(d)
	}
}

// Close closes all nodes and waits for the network's goroutine.
func (n *Network) Close() error {
	n.mu.Lock()
	n.closed.Store(true)
	nodes := make([]*Sim, 0, len(n.nodes))
	for _, s := range n.nodes {
		nodes = append(nodes, s)
	}
	n.mu.Unlock()
	for _, s := range nodes {
		s.Close()
	}
	n.wire.close()
	return nil
}

// cut and refresh are called with n.mu held.
func (n *Network) cut(d direction) {
	if d.from == d.to || n.cuts[d] {
		return
	}
	n.cuts[d] = true
	n.refresh(d)
	for p := range n.pipes {
		if p.crosses(d) {
			p.breakOff(fmt.Errorf("%w: link %d to %d cut", ErrBroken, d.from, d.to))
		}
	}
}

func (n *Network) refresh(d direction) {
	if f := n.flows[d]; f != nil {
		l, ok := n.links[d]
		if !ok {
			l = n.o.Default
		}
		f.set(l, n.cuts[d])
	}
}

// flow returns the direction from one node to another, made at first use.
func (n *Network) flow(from, to NodeID) *flow {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := direction{from, to}
	f := n.flows[d]
	if f == nil {
		f = newFlow(n, from, to)
		n.flows[d] = f
		n.refresh(d)
		f.dest.Store(n.nodes[to])
	}
	return f
}

// down takes a closed node off the network.
func (n *Network) down(s *Sim) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes[s.id] != s {
		return
	}
	delete(n.nodes, s.id)
	for d, f := range n.flows {
		if d.to == s.id {
			f.dest.Store(nil)
		}
	}
	for p := range n.pipes {
		if p.a == s.id || p.b == s.id {
			p.breakOff(fmt.Errorf("%w: node %d closed", ErrBroken, s.id))
		}
	}
}

func (n *Network) elapsed() time.Duration { return time.Since(n.base) }

// copyOf makes messages independent of the sender's slice and, with Marshal,
// of everything they point to.
func (n *Network) copyOf(m []Message) []Message {
	if !n.o.Marshal {
		return slices.Clone(m)
	}
	items := make([]item, len(m))
	for i := range m {
		items[i] = item{m: m[i], shape: shapeOf(&m[i])}
	}
	copied := make([]Message, 0, len(m))
	for len(m) > 0 {
		n, sum := frameful(items, math.MaxInt)
		var err error
		if copied, _, err = decodeBody(copied, appendBody(nil, m[:n], sum)); err != nil {
			panic(fmt.Sprintf("transport: cannot read back what was encoded: %v", err))
		}
		m, items = m[n:], items[n:]
	}
	return copied
}
