package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/consensus"
)

// A ShardSpec says what a new shard is to be like.
type ShardSpec struct {
	Span meta.Span
	// Want is how many replicas it is to have, Require the domains that the nodes of
	// all of them must be in. Where there are fewer nodes, it has fewer until more
	// join. Default of Want: 3.
	Want    int
	Require []string
	// Request names the shard until it has an id: the same one never makes two.
	// Default: drawn.
	Request uint64
}

// CreateShard makes a shard and returns when it has a leader.
func (n *Node) CreateShard(ctx context.Context, spec ShardSpec) (meta.ShardID, error) {
	s := n.views.state.Load()
	p := placementOf(s)
	if spec.Want == 0 {
		spec.Want = 3
	}
	if spec.Request == 0 {
		spec.Request = rand.Uint64() | 1
	}
	takers := 0
	for _, node := range p.Nodes {
		if node.Condition == placement.Live {
			takers++
		}
	}
	at := placement.Shard{ID: maxShard, Want: max(1, min(spec.Want, takers)), Require: spec.Require}
	on, err := placement.Place(p, at, rand.New(rand.NewPCG(spec.Request, s.Index)))
	if err != nil {
		return 0, fmt.Errorf("cluster: create shard %v: %w", spec.Span, err)
	}
	c := &meta.Create{Request: spec.Request, Span: spec.Span, Want: spec.Want, Require: spec.Require}
	for _, id := range on {
		c.Nodes = append(c.Nodes, consensus.NodeID(id))
	}
	a, err := n.Propose(ctx, c)
	if err != nil {
		return 0, err
	}
	id := meta.ShardID(a.ID)
	_, err = n.Await(ctx, func(s *meta.State) bool {
		sh, ok := s.Shard(id)
		return ok && sh.Version > 0
	})
	return id, err
}

// maxShard stands for a shard that has no id yet.
const maxShard = placement.ShardID(1) << 63

var conditions = map[meta.Condition]placement.Condition{
	meta.Live: placement.Live, meta.Suspect: placement.Suspect, meta.Dead: placement.Dead,
}

// placementOf is a state as the planner sees it, without loads. Nodes that never
// started are left out.
func placementOf(s *meta.State) placement.State {
	var p placement.State
	for _, n := range s.Nodes() {
		if n.Condition == meta.Joining {
			continue
		}
		node := placement.Node{ID: placement.NodeID(n.ID), Condition: conditions[n.Condition], Locality: n.Locality, Capacity: float64(n.Weight) / 100}
		if n.Draining && n.Condition != meta.Dead {
			node.Condition = placement.Draining
		}
		p.Nodes = append(p.Nodes, node)
	}
	for _, sh := range s.Shards() {
		at := placement.Shard{ID: placement.ShardID(sh.ID), Want: sh.Want, Require: sh.Require}
		for _, m := range sh.Members {
			at.Replicas = append(at.Replicas, placement.NodeID(m.Node))
		}
		if m, moving := s.Move(sh.ID); moving && !changesSpan(s, sh) {
			at.Replicas = before(m, at.Replicas)
		}
		p.Shards = append(p.Shards, at)
	}
	for _, m := range s.Moves() {
		if sh, ok := s.Shard(m.Shard); !ok || changesSpan(s, sh) {
			continue
		}
		p.Pending = append(p.Pending, placement.Move{
			Kind: pendingKinds[m.Kind], Shard: placement.ShardID(m.Shard), From: placement.NodeID(m.From), To: placement.NodeID(m.To), Why: m.Why,
		})
	}
	return p
}

// changesSpan says whether a shard is being split or merged, so that its members stay
// as they are.
func changesSpan(s *meta.State, sh *meta.Shard) bool {
	m, moving := s.Move(sh.ID)
	return sh.Into != 0 || moving && (m.Kind == meta.MoveSplit || m.Kind == meta.MoveMerge)
}

// before returns a shard's nodes as they were before a move, however far it is: the
// planner takes moves under way for done.
func before(m *meta.Move, nodes []placement.NodeID) []placement.NodeID {
	from, to := placement.NodeID(m.From), placement.NodeID(m.To)
	nodes = slices.DeleteFunc(nodes, func(id placement.NodeID) bool { return id == to })
	if from != 0 && !slices.Contains(nodes, from) {
		nodes = append(nodes, from)
	}
	return nodes
}

// The kinds of move that the meta group knows of; leaders are moved without it.
var moveKinds = map[placement.Kind]meta.MoveKind{
	placement.Add: meta.MoveAdd, placement.Remove: meta.MoveRemove, placement.Swap: meta.MoveSwap,
}

var pendingKinds = map[meta.MoveKind]placement.Kind{
	meta.MoveAdd: placement.Add, meta.MoveRemove: placement.Remove, meta.MoveSwap: placement.Swap,
}
