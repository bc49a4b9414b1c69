package cluster

import (
	"context"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

// Beat sends a heartbeat and returns when it was taken.
func (n *Node) Beat(ctx context.Context, to consensus.NodeID) error {
	b, err := n.net.Call(ctx, to, serviceBeat, beat{epoch: n.host.Epoch()}.encode())
	if err == nil {
		_, err = decodePulse(b)
	}
	return err
}

// PlacementOf is a state as the planner sees it.
func PlacementOf(s *meta.State) placement.State { return placementOf(s) }

// KeepReplicas brings the replicas here in line with what the node knows.
func (n *Node) KeepReplicas() {
	k := keeper{n: n, due: map[meta.ShardID]bool{}}
	k.turn(n.views.state.Load())
}

// Control changes a shard that this node leads.
func (n *Node) Control(ctx context.Context, id meta.ShardID, c *shard.Control) (*shard.Header, error) {
	return n.control(ctx, consensus.GroupID(id), c)
}
