package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/liveness"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// A sentinel watches over all nodes while its own leads the meta group.
type sentinel struct {
	n    *Node
	base time.Time

	loads loadTable

	mu       sync.Mutex
	detector *liveness.Detector // guarded by mu; nil while this node does not lead
	term     uint64             // guarded by mu; of the detector's leader
	due      []liveness.Action  // guarded by mu; to be declared, the first being so
	watched  uint64             // guarded by mu; index of the state whose nodes it watches
}

func (s *sentinel) now() time.Duration { return time.Since(s.base) }

// run ticks once an interval.
func (s *sentinel) run() {
	t := time.NewTicker(s.n.o.Interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.tick()
		case <-s.n.life.Done():
			return
		}
	}
}

// tick goes on for as long as the node leads in one term. A lease that lapses changes
// nothing: what a leader has heard it has heard, and what it declares is nothing until
// the group commits it. On a machine out of breath leases lapse all the time.
func (s *sentinel) tick() {
	st, err := s.n.host.Status(metaGroup)
	m, ok := s.n.metaMachine()
	s.mu.Lock()
	defer s.mu.Unlock()
	leads := ok && err == nil && st.Role == "leader"
	if !leads || st.Term != s.term {
		s.detector, s.term = nil, st.Term
		s.loads.forget()
	}
	if !leads {
		return
	}
	state := m.State()
	if s.detector == nil {
		d, err := liveness.New(s.now(), liveness.Options{Interval: s.n.o.Interval, Seed: state.Index})
		if err != nil {
			s.n.logger.Error("cluster: nobody watches over the nodes", "err", err)
			return
		}
		s.detector, s.watched = d, 0
	}
	if state.Changed != s.watched {
		s.watch(state)
	}
	for _, a := range s.detector.Tick(s.now()) {
		if a.Kind == liveness.Probe {
			s.n.work.Go(func() { s.probe(a) })
			continue
		}
		if s.due = append(s.due, a); len(s.due) == 1 {
			s.n.work.Go(s.declareAll)
		}
	}
}

// watch has the detector watch the nodes that the cluster knows.
func (s *sentinel) watch(state *meta.State) {
	s.watched = state.Changed
	for _, id := range s.detector.Watched() {
		if _, ok := state.Node(id); !ok {
			s.detector.Forget(id)
		}
	}
	for _, node := range state.Nodes() {
		if node.ID != s.n.id.Node && node.Condition != meta.Joining {
			s.detector.Watch(node.ID, node.Epoch, seenAs[node.Condition], s.now())
		}
	}
}

var seenAs = map[meta.Condition]liveness.Condition{
	meta.Live: liveness.Alive, meta.Suspect: liveness.Suspect, meta.Dead: liveness.Dead,
}

// hear takes a heartbeat.
func (s *sentinel) hear(from consensus.NodeID, b beat) pulse {
	_, sure := s.n.host.Lease(metaGroup) // before the state is read
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.n.metaMachine()
	if s.detector == nil || !ok {
		return pulse{leader: s.n.host.Leader(metaGroup).Node, verdict: pulseStrange}
	}
	state := m.State()
	p := pulse{changed: state.Changed}
	if !sure {
		p.verdict = pulseUnsure
	}
	if from == s.n.id.Node || s.detector.Heard(from, b.epoch, b.lag, s.now()) {
		if b.loads != nil {
			p.loads = s.loads.take(from, b.epoch, b.loads)
		}
		return p
	}
	p.verdict = pulseStrange
	if node, ok := state.Node(from); ok && (node.Epoch > b.epoch || node.Epoch == b.epoch && node.Condition == meta.Dead) {
		p.verdict = pulseDead
	}
	return p
}

var declared = map[liveness.ActionKind]meta.Condition{
	liveness.DeclareAlive: meta.Live, liveness.DeclareSuspect: meta.Suspect, liveness.DeclareDead: meta.Dead,
}

// declareAll has the cluster take in what the detector declares, in its order.
func (s *sentinel) declareAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.due) > 0 {
		a := s.due[0]
		s.mu.Unlock()
		s.declare(a)
		s.mu.Lock()
		s.due = s.due[1:]
	}
	s.due = nil
}

func (s *sentinel) declare(a liveness.Action) {
	c := declared[a.Kind]
	m, ok := s.n.metaMachine()
	if !ok {
		return
	}
	node, ok := m.State().Node(a.Node)
	if !ok {
		return
	}
	s.n.logger.Warn("cluster: node declared", "about", uint64(a.Node), "epoch", a.Epoch, "condition", c.String())
	ctx, cancel := context.WithTimeout(s.n.life, errandFor)
	defer cancel()
	_, err := s.n.Propose(ctx, &meta.Declare{Node: a.Node, Epoch: a.Epoch, Condition: c, Turn: node.Told})
	if err == nil {
		return
	}
	s.n.logger.Warn("cluster: node not declared", "about", uint64(a.Node), "condition", c.String(), "err", err)
	var refused *meta.RefusedError
	if !errors.As(err, &refused) || errors.Is(err, meta.ErrChanged) {
		s.mu.Lock()
		s.detector = nil // what it thinks is not what the cluster knows: it starts over
		s.mu.Unlock()
	}
}

const (
	servicePing  = "cluster.ping"
	serviceProbe = "cluster.probe"
)

// probe reaches a node, by itself and by way of others.
func (s *sentinel) probe(a liveness.Action) {
	ctx, cancel := context.WithTimeout(s.n.life, tryFor)
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() { s.answered(a.Node, 0, s.n.ping(ctx, a.Node, a.Epoch)) })
	for _, via := range a.Via {
		work.Go(func() {
			req := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(a.Node)), a.Epoch)
			if b, err := s.n.net.Call(ctx, via, serviceProbe, req); err == nil && len(b) == 1 {
				s.answered(a.Node, via, b[0] == 1)
			}
		})
	}
	work.Wait()
}

func (s *sentinel) answered(id, via consensus.NodeID, reached bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.detector != nil {
		s.detector.Answered(id, via, reached, s.now())
	}
}

// ping says whether a node answers, under an epoch.
func (n *Node) ping(ctx context.Context, id consensus.NodeID, epoch uint64) bool {
	b, err := n.net.Call(ctx, id, servicePing, nil)
	if err != nil {
		return false
	}
	at, k := binary.Uvarint(b)
	return k == len(b) && at == epoch
}

func (n *Node) servePing(context.Context, consensus.NodeID, []byte) ([]byte, error) {
	if n.host.Stats().Stalled {
		return nil, fmt.Errorf("cluster: node %d stands still", n.id.Node)
	}
	return binary.AppendUvarint(nil, n.host.Epoch()), nil
}

func (n *Node) serveProbe(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	id, k := binary.Uvarint(req)
	epoch, j := binary.Uvarint(req[max(k, 0):])
	if k <= 0 || j <= 0 || k+j != len(req) {
		return nil, fmt.Errorf("cluster: %s: request %x is malformed", serviceProbe, req)
	}
	// The answer must be there before whoever asks takes the silence for its own fault,
	// after two intervals.
	ctx, cancel := context.WithTimeout(ctx, n.o.Interval)
	defer cancel()
	if n.ping(ctx, consensus.NodeID(id), epoch) {
		return []byte{1}, nil
	}
	return []byte{0}, nil
}
