package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

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
	_, ok := state.Shard(m.Other)
	switch {
	case !ok, left.Carried >= m.ID: // the cluster knows that it is done, or hears of it next
		return step{done: true}
	case f.Status.Joint:
		return waitFor("joint configuration")
	}
	over := left.Over >= m.ID || lost(state, f)
	r, err := s.ask(ctx, errand{Shard: m.Other})
	switch {
	case err != nil && over && s.fence(ctx, m, left):
		return step{done: true} // whoever comes to lead the right shard thaws it
	case err != nil:
		return waitFor("the right shard has a leader")
	}
	_, moving := state.Move(m.Other)
	same := sameNodes(f.Status.Voters, r.Status.Voters) && len(f.Status.Learners)+len(r.Status.Learners) == 0
	switch h := r.Header; {
	case h.Over >= m.ID: // it was given up
		return step{done: true}
	case h.Frozen != 0 && h.By != m.ID:
		return waitFor("the right shard goes on after a merge that was given up")
	case over || same && lost(state, r) || !same && h.Frozen != 0:
		if !s.fence(ctx, m, left) {
			return waitFor("the left shard is fenced")
		}
		return step{errand: errand{Shard: m.Other, Control: thawOf(h, m.ID)}}
	case !same:
		return s.align(state, m)
	case moving:
		return waitFor("the move of the right shard's replica ends")
	case h.Frozen == 0 && !s.all(ctx, tryFor, r, errand{Look: true}, func(f finding) bool { return f.Status != nil }):
		return waitFor("all replicas of the right shard are reached")
	case h.Frozen == 0 && !s.all(ctx, settleFor, r, errand{Settled: true}, func(f finding) bool { return f.Header != nil }):
		// What is durable before need not be while nobody can write.
		return waitFor("all replicas of the right shard are durable")
	case h.Frozen == 0:
		return step{errand: errand{Shard: m.Other, Control: &shard.Control{
			Kind: shard.Freeze, Generation: h.Generation, Move: m.ID, Other: m.Shard,
		}}}
	case !s.all(ctx, errandFor, r, errand{Settled: true}, func(f finding) bool {
		return f.Header != nil && f.Header.Frozen != 0 && f.Header.Generation == h.Generation
	}):
		return waitFor("all replicas of the right shard are frozen")
	}
	// Nothing may have changed while they were asked.
	if again, err := s.ask(ctx, errand{Shard: m.Other}); err != nil || again.Status.ConfigIndex != r.Status.ConfigIndex {
		return waitFor("the right shard stays as it is")
	}
	return step{errand: errand{Shard: m.Shard, Control: &shard.Control{
		Kind: shard.Subsume, Generation: left.Generation, Move: m.ID, Other: m.Other, Span: r.Header.Span, Right: r.Header.Right,
		OtherGeneration: r.Header.Generation, Members: f.Status.ConfigIndex,
	}}}
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

// fence sees to it that nothing merges into the left shard by a move any more: not even
// who carries it out elsewhere, and has not heard that it is given up. It fails where
// the merge was carried out.
func (s *steward) fence(ctx context.Context, m *meta.Move, left *shard.Header) bool {
	if left.Over >= m.ID {
		return left.Carried < m.ID
	}
	_, err := s.ask(ctx, errand{Shard: m.Shard, Control: fenceOf(left, m.ID)})
	return err == nil
}

func fenceOf(left *shard.Header, move uint64) *shard.Control {
	return &shard.Control{Kind: shard.Fence, Generation: left.Generation, Move: move}
}

func thawOf(h *shard.Header, move uint64) *shard.Control {
	return &shard.Control{Kind: shard.Thaw, Generation: h.Generation, Move: move}
}

// all says whether every voter of a shard, as its leader has them, answers an errand
// well in time.
func (s *steward) all(ctx context.Context, within time.Duration, f finding, e errand, well func(finding) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	e.Shard = meta.ShardID(f.Status.Group)
	for _, m := range f.Status.Voters {
		answer, err := s.n.askAt(ctx, m.Node, e)
		if err != nil || !well(answer) {
			return false
		}
	}
	return true
}

// settleFor is how long the replicas of a shard may take to be durable before it is
// frozen.
const settleFor = 20 * time.Second

// frozenFor is how long a shard waits to be taken in, before its leader has it go on.
const frozenFor = 5 * time.Second

// thawLate gives up merges that take too long.
func (n *Node) thawLate() {
	t := time.NewTicker(frozenFor / 5)
	defer t.Stop()
	for since := map[meta.ShardID]time.Time{}; ; {
		select {
		case <-t.C:
			n.thawSince(since)
		case <-n.life.Done():
			return
		}
	}
}

// thawSince has the shards go on that this node leads, and that were frozen for too long:
// a replica may be out of reach, or nobody carry the merge out, as long as the meta
// group is down. since is when each was first seen to be frozen.
func (n *Node) thawSince(since map[meta.ShardID]time.Time) {
	frozen := map[meta.ShardID]bool{}
	for _, g := range n.host.Groups() {
		r, err := n.Replica(meta.ShardID(g))
		if err != nil || r.Header().Frozen == 0 || !r.Leads() {
			continue
		}
		id := r.Shard()
		frozen[id] = true
		if since[id].IsZero() {
			since[id] = time.Now()
		}
		if time.Since(since[id]) < frozenFor {
			continue
		}
		if err := n.thawOne(r); err != nil && n.life.Err() == nil {
			n.logger.Warn("cluster: shard stays frozen", "shard", uint64(id), "header", r.Header().String(), "err", err)
		}
	}
	maps.DeleteFunc(since, func(id meta.ShardID, _ time.Time) bool { return !frozen[id] })
}

// thawOne gives up the merge of a shard that this node leads, unless it was carried out.
func (n *Node) thawOne(r *Replica) error {
	ctx, cancel := context.WithTimeout(n.life, errandFor)
	defer cancel()
	h := r.Header()
	f, err := n.ask(ctx, errand{Shard: h.Into})
	if err != nil {
		return err
	}
	if f.Header.Carried >= h.By {
		return nil // the cluster will hear of it
	}
	if f.Header.Over < h.By {
		if _, err := n.ask(ctx, errand{Shard: h.Into, Control: fenceOf(f.Header, h.By)}); err != nil {
			return err
		}
	}
	if _, err := n.control(ctx, consensus.GroupID(r.id), thawOf(h, h.By)); err != nil {
		return err
	}
	n.logger.Warn("cluster: merge given up", "shard", uint64(r.id), "into", uint64(h.Into), "move", h.By)
	return nil
}
