package cluster

import (
	"context"
	"errors"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

// Split has what is not below key become a shard of its own, and returns that when it
// has a leader. If a shard begins at key already, it is that one.
func (n *Node) Split(ctx context.Context, key string) (meta.ShardID, error) {
	var refused error
	for {
		s, err := n.Latest(ctx)
		if err != nil {
			return 0, fmt.Errorf("cluster: split at %q: %w", key, err)
		}
		sh, ok := s.Locate(key)
		if !ok {
			return 0, fmt.Errorf("cluster: split at %q: %w: none has that key", key, meta.ErrNoShard)
		}
		at := sh.ID
		if sh.Span.Start == key {
			if _, under := s.Move(sh.Parent); !under {
				return sh.ID, nil
			}
			at = sh.Parent
		} else if refused != nil {
			return 0, refused // and nobody else has done it
		}
		if _, err := n.Await(ctx, func(s *meta.State) bool {
			sh, ok := s.Shard(at)
			_, moving := s.Move(at)
			return !ok || !moving && sh.Into == 0 && sh.Generation > 0
		}); err != nil {
			return 0, fmt.Errorf("cluster: split at %q: %w", key, err)
		}
		if sh.Span.Start == key {
			continue
		}
		_, refused = n.Propose(ctx, &meta.Begin{Shard: at, Kind: meta.MoveSplit, Key: key, Why: "asked for"})
		if errors.Is(refused, meta.ErrMoving) {
			refused = nil
		}
	}
}

// Merge has the shard behind left, by span, go into left, and returns when it has.
// Its replicas move to the nodes of left's first. Sessions with it end.
func (n *Node) Merge(ctx context.Context, left meta.ShardID) error {
	var right meta.ShardID
	for {
		s, err := n.Latest(ctx)
		if err != nil {
			return fmt.Errorf("cluster: merge into shard %d: %w", left, err)
		}
		if right != 0 && s.Merged(right) {
			return nil
		}
		l, r, err := neighbours(s, left)
		if err != nil {
			return err
		}
		right = r.ID
		if _, err := n.Await(ctx, func(s *meta.State) bool {
			_, moves := s.Move(left)
			_, other := s.Move(right)
			return s.Merged(right) || !moves && !other && l.Generation > 0 && r.Generation > 0
		}); err != nil {
			return fmt.Errorf("cluster: merge shard %d into shard %d: %w", right, left, err)
		}
		_, err = n.Propose(ctx, &meta.Begin{Shard: left, Kind: meta.MoveMerge, Other: right, Why: "asked for"})
		if err != nil && !errors.Is(err, meta.ErrMoving) && !errors.Is(err, meta.ErrInvalid) && !errors.Is(err, meta.ErrNoShard) {
			return fmt.Errorf("cluster: merge shard %d into shard %d: %w", right, left, err)
		}
		pause(ctx, lookEvery)
	}
}

// neighbours returns a shard and the one behind it.
func neighbours(s *meta.State, left meta.ShardID) (l, r *meta.Shard, err error) {
	l, ok := s.Shard(left)
	if !ok || left == meta.MetaShard {
		return nil, nil, fmt.Errorf("cluster: merge into shard %d: %w", left, meta.ErrNoShard)
	}
	r, ok = s.Locate(l.Span.End)
	if l.Span.End == "" || !ok {
		return nil, nil, fmt.Errorf("cluster: merge into shard %d, %v: no shard begins where it ends", left, l.Span)
	}
	return l, r, nil
}

// towards is the next move of r's members to where l's are. It returns false if they
// are there.
func towards(l, r *meta.Shard) (*meta.Begin, bool) {
	var from, to []consensus.NodeID
	for _, m := range r.Members {
		if _, ok := l.On(m.Node); !ok {
			from = append(from, m.Node)
		}
	}
	for _, m := range l.Members {
		if _, ok := r.On(m.Node); !ok {
			to = append(to, m.Node)
		}
	}
	b := &meta.Begin{Shard: r.ID, Why: "merge"}
	switch {
	case len(from) > 0 && len(to) > 0:
		b.Kind, b.From, b.To = meta.MoveSwap, from[0], to[0]
	case len(to) > 0:
		b.Kind, b.To = meta.MoveAdd, to[0]
	case len(from) > 0:
		b.Kind, b.From = meta.MoveRemove, from[0]
	default:
		return nil, false
	}
	return b, true
}

// nextOfSplit says what a split needs next, from what the shard is: it is done when
// the shard's log has it and the new shard has a leader.
func (s *steward) nextOfSplit(ctx context.Context, m *meta.Move, f finding) step {
	h := f.Header
	switch {
	case f.Status.Joint:
		return waitFor("joint configuration")
	case h.Generation == 0:
		return waitFor("the shard begins")
	case h.Span.End != m.Key:
		return step{errand: errand{Shard: m.Shard, Control: &shard.Control{
			Kind: shard.Split, Generation: h.Generation, Move: m.ID, Key: m.Key, Other: m.Other,
		}}}
	}
	if _, ok := s.n.views.state.Load().Shard(m.Other); !ok {
		s.propose(reportOf(f))
		return waitFor("the cluster hears of it")
	}
	if _, err := s.ask(ctx, errand{Shard: m.Other}); err != nil {
		return waitFor("the new shard has a leader")
	}
	return step{done: true}
}

// nextOfMerge says what a merge needs next, from what the two shards are. The right
// one is frozen; when all its replicas have that for good, the left one takes it in.
// Where one of the nodes is lost meanwhile the merge is given up: behind a fence in
// the left one's log the right one goes on.
func (s *steward) nextOfMerge(ctx context.Context, m *meta.Move, f finding) step {
	left := f.Header
	state := s.n.views.state.Load()
	right, ok := state.Shard(m.Other)
	switch {
	case !ok: // the cluster knows that it is done
		return step{done: true}
	case f.Status.Joint:
		return waitFor("joint configuration")
	case left.Span.End != right.Span.Start && left.Takes(right.Span.Start):
		return step{done: true} // the report of it is next
	}
	r, err := s.ask(ctx, errand{Shard: m.Other})
	if err != nil {
		return waitFor("the right shard has a leader")
	}
	same := sameNodes(f.Status.Voters, r.Status.Voters) && len(f.Status.Learners)+len(r.Status.Learners) == 0
	switch h := r.Header; {
	case h.Over >= m.ID: // it was given up
		return step{done: true}
	case left.Over >= m.ID || lost(state, f) || same && lost(state, r) || !same && h.Frozen != 0:
		return s.giveUp(ctx, m, left, h)
	case !same:
		return s.align(state, m)
	case h.Frozen == 0:
		return step{errand: errand{Shard: m.Other, Control: &shard.Control{
			Kind: shard.Freeze, Generation: h.Generation, Move: m.ID, Other: m.Shard,
		}}}
	case !s.allFrozen(ctx, right, h.Generation):
		return waitFor("all replicas of the right shard are frozen")
	default:
		return step{errand: errand{Shard: m.Shard, Control: &shard.Control{
			Kind: shard.Subsume, Generation: left.Generation, Move: m.ID, Other: m.Other, Span: h.Span, Right: h.Right,
			OtherGeneration: h.Generation, Members: f.Status.ConfigIndex,
		}}}
	}
}

// lost says whether a member of a shard is not there to take part.
func lost(state *meta.State, f finding) bool {
	for _, m := range f.Status.Voters {
		if node, ok := state.Node(m.Node); !ok || node.Condition == meta.Dead || node.Draining {
			return true
		}
	}
	return false
}

// align moves a replica of the right shard to where the left one has one.
func (s *steward) align(state *meta.State, m *meta.Move) step {
	if _, moving := state.Move(m.Other); moving {
		return waitFor("a replica of the right shard moves")
	}
	left, ok := state.Shard(m.Shard)
	right, known := state.Shard(m.Other)
	if !ok || !known {
		return waitFor("the cluster knows both")
	}
	if b, ok := towards(left, right); ok {
		s.propose(b)
	}
	return waitFor("the replicas of both are on the same nodes")
}

func sameNodes(a, b []consensus.Member) bool {
	for _, m := range a {
		if _, ok := on(b, m.Node); !ok {
			return false
		}
	}
	return len(a) == len(b)
}

// giveUp has the right shard go on, when nothing can merge it any more: not even who
// carries out this move elsewhere, and has not heard that it is given up.
func (s *steward) giveUp(ctx context.Context, m *meta.Move, left, right *shard.Header) step {
	if left.Over < m.ID {
		fence := &shard.Control{Kind: shard.Fence, Generation: left.Generation, Move: m.ID}
		if _, err := s.ask(ctx, errand{Shard: m.Shard, Control: fence}); err != nil {
			return waitFor("the left shard is fenced")
		}
	}
	return step{errand: errand{Shard: m.Other, Control: &shard.Control{Kind: shard.Thaw, Generation: right.Generation, Move: m.ID}}}
}

// allFrozen says whether every replica of a shard is frozen, under a generation, and
// will be after a crash.
func (s *steward) allFrozen(ctx context.Context, sh *meta.Shard, generation uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, errandFor)
	defer cancel()
	for _, m := range sh.Members {
		f, err := s.n.askAt(ctx, m.Node, errand{Shard: sh.ID, Settled: true})
		if err != nil || f.Header == nil || f.Header.Frozen == 0 || f.Header.Generation != generation {
			return false
		}
	}
	return true
}
