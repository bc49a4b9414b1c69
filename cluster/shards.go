package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/consensus"
)

// A ShardSpec says what a new shard is to be like.
type ShardSpec struct {
	Span meta.Span
	// Want is how many replicas it is to have, Require the domains that the nodes of
	// all of them must be in. Default of Want: 3, or as many as there are nodes.
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
		spec.Want = min(3, len(p.Nodes))
	}
	if spec.Request == 0 {
		spec.Request = rand.Uint64() | 1
	}
	on, err := placement.Place(p, placement.Shard{ID: maxShard, Want: spec.Want, Require: spec.Require}, rand.New(rand.NewPCG(spec.Request, s.Index)))
	if err != nil {
		return 0, fmt.Errorf("cluster: create shard %v: %w", spec.Span, err)
	}
	c := &meta.Create{Request: spec.Request, Span: spec.Span, Want: spec.Want, Require: spec.Require}
	for _, id := range on {
		c.Nodes = append(c.Nodes, consensus.NodeID(id))
	}
	a, err := n.propose(ctx, c)
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
		p.Shards = append(p.Shards, at)
	}
	return p
}
