package consensus_test

import (
	"sync"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A gate stops a node: its workers, what it sends and what it hears. The node
// knows nothing of it; only its clock goes on.
type gate struct {
	mu      sync.Mutex
	shutCh  chan struct{} // guarded by mu; closed when the gate opens, nil while it is open
	arrived []func()      // guarded by mu; what was heard meanwhile
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shutCh == nil {
		g.shutCh = make(chan struct{})
	}
}

// open lets the node go on, first with what arrived meanwhile.
func (g *gate) open() {
	for {
		g.mu.Lock()
		arrived := g.arrived
		g.arrived = nil
		if len(arrived) == 0 {
			if g.shutCh != nil {
				close(g.shutCh)
				g.shutCh = nil
			}
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		for _, deliver := range arrived {
			deliver()
		}
	}
}

// wait returns when the gate is open.
func (g *gate) wait() {
	g.mu.Lock()
	shut := g.shutCh
	g.mu.Unlock()
	if shut != nil {
		<-shut
	}
}

// arrive delivers now, or when the gate opens.
func (g *gate) arrive(deliver func()) {
	g.mu.Lock()
	if g.shutCh != nil {
		g.arrived = append(g.arrived, deliver)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	deliver()
}

// A gatedWire is a wire behind a gate.
type gatedWire struct {
	transport.Transport
	gate *gate
}

func (w *gatedWire) Send(to consensus.NodeID, c transport.Class, m []transport.Message) {
	w.gate.wait()
	w.Transport.Send(to, c, m)
}

func (w *gatedWire) Receive(r transport.Receiver) {
	w.Transport.Receive(&gatedReceiver{Receiver: r, gate: w.gate})
}

type gatedReceiver struct {
	transport.Receiver
	gate *gate
}

func (r *gatedReceiver) Receive(from consensus.NodeID, m []transport.Message) {
	m = append([]transport.Message(nil), m...) // the slice is only lent
	r.gate.arrive(func() { r.Receiver.Receive(from, m) })
}
