package cluster

import (
	"context"
	"fmt"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A NodeHandler answers what other nodes ask of this one, whatever it leads. It may
// wait. What it returns as an error the caller gets as text.
type NodeHandler func(ctx context.Context, from consensus.NodeID, req []byte) ([]byte, error)

const nodeService = "node."

// Ask asks a node, this one or another. Where the call certainly was not carried out
// the error wraps one of the errors of package transport that say so.
func (n *Node) Ask(ctx context.Context, to consensus.NodeID, service string, req []byte) ([]byte, error) {
	if to != n.id.Node {
		return n.net.Call(ctx, to, nodeService+service, req)
	}
	h := n.o.NodeServices[service]
	if h == nil {
		return nil, fmt.Errorf("cluster: %w: %s", transport.ErrNoService, service)
	}
	return h(ctx, to, req)
}
