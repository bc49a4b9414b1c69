package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// What a node says of the cluster is one of three things: [Node.View], what it knows,
// with its age; [Node.Leased], what is, where it leads the meta group under a lease;
// and [Node.Latest], what is, after asking.

// Leased returns the cluster's state if this node leads the meta group and holds its
// lease: nothing was changed and acknowledged before the call that is not in it.
func (n *Node) Leased() (*meta.State, bool) {
	if _, ok := n.host.Lease(metaGroup); !ok {
		return nil, false
	}
	m, ok := n.metaMachine()
	if !ok {
		return nil, false
	}
	return m.State(), true
}

const serviceLatest = "cluster.latest"

// Latest returns the cluster's state with everything in it that was acknowledged
// before the call. A node with a replica of the meta group asks for a read index,
// another one whoever leads it, and waits until its view is as far. It tries until ctx
// ends.
func (n *Node) Latest(ctx context.Context) (*meta.State, error) {
	rest := lookFirst
	for i := 0; ; i++ {
		var err error
		if m, ok := n.metaMachine(); ok && i%2 == 0 && n.host.Leader(metaGroup).Node != 0 {
			if err = n.host.ReadIndex(ctx, metaGroup); err == nil {
				return m.State(), nil
			}
		} else {
			var index uint64
			if index, err = n.askLatest(ctx, i); err == nil {
				return n.Await(ctx, func(s *meta.State) bool { return s.Index >= index })
			}
		}
		pause(ctx, rest)
		rest = min(2*rest, lookEvery)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("cluster: node %d: latest state: %w: %w", n.id.Node, context.Cause(ctx), err)
		}
	}
}

func (n *Node) askLatest(ctx context.Context, i int) (uint64, error) {
	to, ok := n.metaNode(i)
	if !ok {
		return 0, errors.New("no member of the meta group is known")
	}
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	b, err := n.net.Call(ctx, to, serviceLatest, nil)
	if err != nil {
		n.leader.CompareAndSwap(uint64(to), 0)
		return 0, err
	}
	index, k := binary.Uvarint(b)
	if k <= 0 || k != len(b) {
		return 0, fmt.Errorf("cluster: %s: malformed answer of %d bytes", serviceLatest, len(b))
	}
	return index, nil
}

// serveLatest says which change a state must have to be the latest.
func (n *Node) serveLatest(ctx context.Context, _ consensus.NodeID, _ []byte) ([]byte, error) {
	s, ok := n.Leased()
	if !ok {
		m, here := n.metaMachine()
		if !here {
			return nil, fmt.Errorf("cluster: %s: node %d has no replica of the meta group", serviceLatest, n.id.Node)
		}
		if err := n.host.ReadIndex(ctx, metaGroup); err != nil {
			return nil, err
		}
		s = m.State()
	}
	return binary.AppendUvarint(nil, s.Changed), nil
}
