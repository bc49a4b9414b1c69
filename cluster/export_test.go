package cluster

import (
	"context"

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

// KeepReplicas brings the replicas here in line with what the node knows.
func (n *Node) KeepReplicas() bool { return n.makeReplicas(n.views.state.Load()) }
