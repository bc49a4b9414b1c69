package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

// A Replica is this node's replica of a shard, for the floors above: they read its
// store where they hold the lease, and change it by commands. It is safe for
// concurrent use.
type Replica struct {
	n  *Node
	id meta.ShardID
	m  *shard.Machine
	// counted says that what is proposed is a part of a request, which counts.
	counted bool
}

// Replica returns this node's replica of a shard, whether it leads or not. It returns
// an error that wraps consensus.ErrNoReplica if there is none.
func (n *Node) Replica(id meta.ShardID) (*Replica, error) {
	sm, err := n.host.Machine(consensus.GroupID(id))
	if err != nil {
		return nil, fmt.Errorf("cluster: node %d: shard %d: %w", n.id.Node, id, err)
	}
	m, ok := sm.(*shard.Machine)
	if !ok {
		return nil, fmt.Errorf("cluster: node %d: shard %d holds the cluster's own state", n.id.Node, id)
	}
	return &Replica{n: n, id: id, m: m}, nil
}

// Shard is the shard's id.
func (r *Replica) Shard() meta.ShardID { return r.id }

// Node is the node that holds the replica.
func (r *Replica) Node() *Node { return r.n }

// Store is what the replica holds. What is read of it is the shard's only if Header
// is the same before and after, and takes the keys.
func (r *Replica) Store() shard.Store { return r.m.Store() }

// Header is the shard's span and generation, as of what this replica has applied.
func (r *Replica) Header() *shard.Header { return r.m.Header() }

// Leads says whether the replica leads its shard, as far as it knows.
func (r *Replica) Leads() bool {
	return r.n.host.Leader(consensus.GroupID(r.id)).Node == r.n.id.Node
}

// Lease is consensus.Host.Lease for the shard.
func (r *Replica) Lease() (consensus.Lease, bool) { return r.n.host.Lease(consensus.GroupID(r.id)) }

// Holds is consensus.Host.Holds for the shard.
func (r *Replica) Holds() (consensus.Lease, bool) { return r.n.host.Holds(consensus.GroupID(r.id)) }

// ReadIndex is consensus.Host.ReadIndex for the shard.
func (r *Replica) ReadIndex(ctx context.Context) error {
	return r.n.host.ReadIndex(ctx, consensus.GroupID(r.id))
}

var commandBuffers = sync.Pool{New: func() any { return new([]byte) }}

// Propose replicates a command of the store that was made for a generation of the
// shard, and returns what the store answered. It ends like consensus.Host.Propose,
// or, if the shard's span is another by then, in a *shard.StaleError: the command
// certainly did nothing.
func (r *Replica) Propose(ctx context.Context, generation uint64, c consensus.Command) ([]byte, error) {
	buf := commandBuffers.Get().(*[]byte)
	b := append(shard.AppendCommand((*buf)[:0], generation), c.Data...)
	c.Data = b
	result, err := r.n.host.Propose(ctx, consensus.GroupID(r.id), c) // which copies the data
	*buf = b
	commandBuffers.Put(buf)
	if errors.Is(err, consensus.ErrUnknown) && errors.Is(err, consensus.ErrClosed) && r.m.Closed(generation) {
		// The replica of a merged shard ends when others have ended theirs, and with it
		// what it could commit no more.
		return nil, &shard.StaleError{Header: r.m.Header()}
	}
	if err != nil {
		return nil, err
	}
	if !r.counted {
		r.worked()
	}
	return shard.Answer(result.Data)
}

// worked counts an operation that the replica did for somebody, as leader.
func (r *Replica) worked() {
	r.m.Worked()
	r.n.ops.Add(1)
}

// control proposes a change of the shard's header and returns what it is then.
func (n *Node) control(ctx context.Context, g consensus.GroupID, c *shard.Control) (*shard.Header, error) {
	r, err := n.Replica(meta.ShardID(g))
	if err != nil {
		return nil, err
	}
	undo := func() {}
	if c.Kind == shard.Split {
		// The new shard may answer before this one hears that it was made.
		if undo, err = r.m.Bar(c.Generation, c.Key); err != nil {
			return nil, err
		}
	}
	result, err := n.host.Propose(ctx, g, consensus.Command{Data: c.Encode(), Alone: true})
	if err != nil {
		if errors.Is(err, consensus.ErrRejected) {
			undo()
		}
		return nil, err
	}
	h, err := shard.Controlled(result.Data)
	if err != nil {
		undo()
	}
	return h, err
}
