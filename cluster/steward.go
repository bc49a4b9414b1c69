package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/consensus"
)

// The pace of the steward: how often it plans where nothing has changed, and how
// often it looks at what a move waits for.
const (
	planEvery = time.Second
	lookEvery = 10 * time.Millisecond
	// lookFirst is how soon it looks after a step, and twice as long each time after.
	lookFirst = time.Millisecond
	// errandFor bounds one errand. A change under way goes on without it.
	errandFor = 5 * time.Second
	// makeFor is how long a node may take to make a replica, before its move is given up.
	makeFor = 10 * time.Second
)

// A steward sees to it that shards are what they are to be, on the node that leads
// the meta group: it plans moves and carries out those that are under way, whoever
// began them.
type steward struct {
	n    *Node
	mu   sync.Mutex
	at   map[uint64]context.CancelFunc // guarded by mu; moves that are carried out here
	lead map[meta.ShardID]transfer     // guarded by mu; leaders on their way
	// Since when the loads of all nodes are known, and when they were weighed last.
	known, weighed time.Time
	over           chan struct{} // holds a token when a move has ended
	work           sync.WaitGroup
}

// steward runs the node's steward while the node leads the meta group.
func (n *Node) steward() {
	s := &steward{n: n, at: map[uint64]context.CancelFunc{}, lead: map[meta.ShardID]transfer{}, over: make(chan struct{}, 1)}
	defer s.work.Wait()
	defer s.rest()
	for n.life.Err() == nil {
		changed := n.views.next()
		// Its belief is enough: whatever it does is safe for anybody to do.
		if n.host.Leader(metaGroup).Node != n.id.Node {
			s.rest()
			pause(n.life, lookEvery)
			continue
		}
		s.turn()
		select {
		case <-changed:
		case <-s.over:
		case <-time.After(planEvery):
		case <-n.life.Done():
		}
		pause(n.life, gather)
	}
}

// rest stops carrying out moves.
func (s *steward) rest() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stop := range s.at {
		stop()
	}
}

// turn plans, begins what was planned, and goes on with all that is under way.
func (s *steward) turn() {
	m, ok := s.n.metaMachine()
	if !ok {
		return
	}
	state := m.State()
	if state.Cluster == 0 {
		return
	}
	s.size(state)
	s.plan(state)
	for _, move := range m.State().Moves() {
		s.carryOn(move)
	}
}

// metaReplicas is how many replicas the meta group is to have, in a cluster of so
// many nodes.
func metaReplicas(nodes int) int {
	switch {
	case nodes < 3:
		return 1
	case nodes < 5:
		return 3
	}
	return 5
}

// size gives the meta group as many replicas as the cluster's size asks for.
func (s *steward) size(state *meta.State) {
	nodes := 0
	for _, node := range state.Nodes() {
		if node.Condition != meta.Joining && !node.Draining { // the dead may come back
			nodes++
		}
	}
	sh, ok := state.Shard(meta.MetaShard)
	want := metaReplicas(nodes)
	if !ok || sh.Want == want || sh.Want > want && nodes >= sh.Want {
		return // it shrinks only when it must
	}
	s.propose(&meta.Want{Shard: meta.MetaShard, Want: want})
}

func (s *steward) propose(c meta.Command) {
	ctx, cancel := context.WithTimeout(s.n.life, errandFor)
	defer cancel()
	if _, err := s.n.Propose(ctx, c); err != nil {
		s.n.logger.Info("cluster: steward", "err", err)
	}
}

// plan begins the moves that the state asks for.
func (s *steward) plan(state *meta.State) {
	p := placementOf(state)
	p.Shards = slices.DeleteFunc(p.Shards, func(at placement.Shard) bool {
		sh, _ := state.Shard(meta.ShardID(at.ID))
		return sh.Version == 0 || changesSpan(state, sh) // its first leader is not there yet
	})
	s.weigh(state, &p)
	result, err := placement.Plan(p, placement.Options{})
	if err != nil {
		s.n.logger.Error("cluster: plan", "err", err)
		return
	}
	var work sync.WaitGroup
	for _, m := range s.stopped(state) {
		work.Go(func() { s.propose(m) })
	}
	for _, m := range result.Moves {
		if m.Kind == placement.Lead {
			s.transfer(m)
			continue
		}
		kind := moveKinds[m.Kind]
		work.Go(func() {
			s.propose(&meta.Begin{
				Shard: meta.ShardID(m.Shard), Kind: kind, From: consensus.NodeID(m.From), To: consensus.NodeID(m.To), Why: m.Why,
			})
		})
	}
	work.Wait()
}

// stopped are the moves that remove replicas which stopped after an error. They are made
// anew as any other that is missing, on the same node perhaps.
func (s *steward) stopped(state *meta.State) (list []*meta.Begin) {
	for _, sh := range state.Shards() {
		if _, moving := state.Move(sh.ID); moving || len(sh.Members) < 2 || changesSpan(state, sh) {
			continue
		}
		for _, m := range sh.Members {
			if s.n.sentinel.loads.stopped(sh.ID, m.Member) {
				list = append(list, &meta.Begin{Shard: sh.ID, Kind: meta.MoveRemove, From: m.Node, Why: "its replica has stopped"})
				break
			}
		}
	}
	return list
}

// carryOn carries a move out, unless that is being done.
func (s *steward) carryOn(m *meta.Move) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[m.ID] != nil {
		return
	}
	ctx, stop := context.WithCancel(s.n.life)
	s.at[m.ID] = stop
	s.work.Go(func() {
		s.carryOut(ctx, m)
		stop()
		s.mu.Lock()
		delete(s.at, m.ID)
		s.mu.Unlock()
		select { // for one that was stopped, or waits for this one's nodes
		case s.over <- struct{}{}:
		default:
		}
	})
}

// carryOut makes the steps of a move until it is at its end, or this node leads the
// meta group no more.
func (s *steward) carryOut(ctx context.Context, m *meta.Move) {
	var seen uint64
	var missed time.Time // since when the new replica was waited for
	waits := 0
	for rest := lookFirst; ctx.Err() == nil; pause(ctx, rest) {
		if s.ended(m) {
			return
		}
		f, err := s.ask(ctx, errand{Shard: m.Shard})
		if err != nil {
			s.n.logger.Debug("cluster: move", "move", m.String(), "err", err)
			rest = min(2*max(rest, lookEvery), time.Second)
			continue
		}
		rest = min(2*rest, lookEvery)
		var to step
		switch m.Kind {
		case meta.MoveSplit:
			to = s.nextOfSplit(ctx, m, f)
		case meta.MoveMerge:
			to = s.nextOfMerge(ctx, m, f)
		default:
			to = next(m, s.look(m, *f.Status, seen))
			seen = f.Status.Commit
			if to.adds() && !s.there(ctx, m) {
				to = waitFor("the node makes its replica")
				if missed.IsZero() {
					missed = time.Now()
				}
				if time.Since(missed) > makeFor {
					to = step{done: true} // nothing was changed, and another node may be able to
				}
			}
		}
		switch {
		case to.done:
			if s.finish(ctx, m, f) {
				return
			}
		case to.errand.Shard != 0:
			if _, err := s.ask(ctx, to.errand); err != nil {
				s.n.logger.Debug("cluster: move", "move", m.String(), "err", err)
			} else {
				rest = lookFirst
			}
		default:
			if waits++; waits > 100 { // it is not a matter of moments
				rest = 10 * lookEvery
			}
			s.n.logger.Debug("cluster: move waits", "move", m.String(), "for", to.why)
		}
	}
}

// ended says whether a move is no more, as far as this node's replica of the meta group
// knows: another steward ended it, or its shard is gone.
func (s *steward) ended(m *meta.Move) bool {
	machine, ok := s.n.metaMachine()
	if !ok {
		return true
	}
	now, ok := machine.State().Move(m.Shard)
	return !ok || now.ID != m.ID
}

// there says whether the new replica of a move is there: what its leader sends before
// that is lost, and is not sent again before a tick.
func (s *steward) there(ctx context.Context, m *meta.Move) bool {
	ctx, cancel := context.WithTimeout(ctx, errandFor)
	defer cancel()
	f, err := s.n.askAt(ctx, m.To, errand{Shard: m.Shard, Look: true})
	return err == nil && f.Status != nil && f.Status.Replica == m.Replica
}

func (s *steward) ask(ctx context.Context, e errand) (finding, error) {
	ctx, cancel := context.WithTimeout(ctx, errandFor)
	defer cancel()
	return s.n.ask(ctx, e)
}

// look is the scene of a move.
func (s *steward) look(m *meta.Move, st consensus.Status, seen uint64) scene {
	state := s.n.views.state.Load()
	at := scene{status: st, seen: seen, alive: func(voter consensus.Member) bool {
		n, ok := state.Node(voter.Node)
		return ok && n.Condition == meta.Live && !s.n.sentinel.loads.stopped(m.Shard, voter)
	}}
	if to, ok := state.Node(m.To); m.To != 0 && (!ok || to.Condition == meta.Dead || to.Draining) {
		at.givenUp = true
	}
	return at
}

// finish tells the meta group what the shard is now, and that the move is over.
func (s *steward) finish(ctx context.Context, m *meta.Move, f finding) bool {
	for _, c := range []meta.Command{reportOf(f), &meta.End{Shard: m.Shard, Move: m.ID}} {
		ctx, cancel := context.WithTimeout(ctx, errandFor)
		_, err := s.n.Propose(ctx, c)
		cancel()
		var refused *meta.RefusedError
		if err != nil && !errors.As(err, &refused) {
			return false
		}
		if err != nil {
			s.n.logger.Error("cluster: move", "move", m.String(), "err", err)
		}
	}
	return true
}
