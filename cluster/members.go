package cluster

import (
	"context"
	"errors"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// Decommission has a node give up all its replicas, so that it can be removed. It
// returns when the cluster has taken that in; [meta.State] shows the progress. It is
// refused where the other nodes are too few for what shards are to have.
func (n *Node) Decommission(ctx context.Context, id consensus.NodeID) error {
	return n.drain(ctx, id, false)
}

// Recommission takes a Decommission back. What has moved away does not come back by
// itself, but the node gets its share.
func (n *Node) Recommission(ctx context.Context, id consensus.NodeID) error {
	return n.drain(ctx, id, true)
}

func (n *Node) drain(ctx context.Context, id consensus.NodeID, off bool) error {
	for {
		s, err := n.Latest(ctx)
		if err != nil {
			return err
		}
		c := &meta.Drain{Node: id, Off: off}
		if node, ok := s.Node(id); ok {
			c.Turn = node.Turns
		}
		if _, err = n.Propose(ctx, c); !errors.Is(err, meta.ErrChanged) || ctx.Err() != nil {
			return err
		}
	}
}

// Remove removes a node for good: one that was decommissioned and holds nothing any
// more, dead or alive. It never acts again, and its id is never given out again.
func (n *Node) Remove(ctx context.Context, id consensus.NodeID) error {
	_, err := n.Propose(ctx, &meta.Remove{Node: id})
	return err
}
