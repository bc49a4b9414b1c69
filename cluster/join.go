package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

const serviceJoin = "cluster.join"

// guest is the lowest id that a node uses on the wire while it has none.
const guest = consensus.NodeID(1) << 63

// join asks the members at Options.Join, one after the other, for an id, until one
// of them has an answer.
func (n *Node) join(ctx context.Context) (identity, error) {
	for rest := 10 * time.Millisecond; ; rest = min(2*rest, time.Second) {
		var tried []error
		for _, addr := range n.o.Join {
			id, err := n.joinAt(ctx, addr)
			var refused *meta.RefusedError
			var own *ownError
			if err == nil || errors.As(err, &refused) || errors.As(err, &own) {
				return id, err
			}
			tried = append(tried, fmt.Errorf("%s: %w", addr, err))
		}
		pause(ctx, rest)
		if ctx.Err() != nil {
			return identity{}, fmt.Errorf("cluster: no member was found that could let this node join: %w: %w", context.Cause(ctx), errors.Join(tried...))
		}
	}
}

// An ownError is one of this node's, which no member can help.
type ownError struct{ error }

func (e *ownError) Unwrap() error { return e.error }

func (n *Node) joinAt(ctx context.Context, addr string) (identity, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*tryFor)
	defer cancel()
	cluster, member, err := n.o.Wire.Who(ctx, addr)
	if err != nil {
		return identity{}, err
	}
	self := n.o.Node
	switch self {
	case member:
		return identity{}, &ownError{fmt.Errorf("cluster: node %d is at %s: a new node cannot have its id", member, addr)}
	case 0:
		self = guest | consensus.NodeID(rand.Uint64())
	}
	end, _, err := n.o.Wire.Open(cluster, self, func(id consensus.NodeID) (string, error) {
		if id != member {
			return "", fmt.Errorf("node %d is not known yet", id)
		}
		return addr, nil
	})
	if err != nil {
		return identity{}, &ownError{fmt.Errorf("cluster: open the wire: %w", err)}
	}
	answer, err := n.askToJoin(ctx, end, cluster, member)
	if err = errors.Join(err, end.Close()); err != nil {
		return identity{}, err
	}
	n.views.meet(member, contact{address: addr})
	return identity{Request: n.id.Request, Cluster: cluster, Node: consensus.NodeID(answer.ID)}, nil
}

func (n *Node) askToJoin(ctx context.Context, end transport.Transport, cluster uint64, member consensus.NodeID) (meta.Answer, error) {
	c := &meta.Join{Cluster: cluster, Request: n.id.Request, Node: n.o.Node, Profile: n.o.Profile}
	b, err := end.Call(ctx, member, serviceJoin, meta.Encode(nil, c))
	if err != nil {
		return meta.Answer{}, err
	}
	size, k := binary.Uvarint(b)
	if k <= 0 || uint64(len(b)-k) < size {
		return meta.Answer{}, fmt.Errorf("cluster: %s: malformed answer of %d bytes", serviceJoin, len(b))
	}
	a, err := meta.ParseAnswer(b[k : k+int(size)])
	if err == nil {
		err = a.Err()
	}
	if err != nil {
		return a, err
	}
	d, err := meta.ParseDelta(b[k+int(size):])
	if err != nil {
		return a, err
	}
	return a, n.views.follow(d)
}

// serveJoin has the cluster let a node join, and tells it what is known here.
func (n *Node) serveJoin(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	c, err := meta.Decode(req)
	if err != nil {
		return nil, err
	}
	j, ok := c.(*meta.Join)
	if !ok {
		return nil, fmt.Errorf("cluster: %s: %T is no request to join", serviceJoin, c)
	}
	a, err := n.Propose(ctx, j)
	var refused *meta.RefusedError
	if err != nil && !errors.As(err, &refused) {
		return nil, err
	}
	if err == nil { // the new node must find in what it is told whom to ask
		if _, err := n.Await(ctx, func(s *meta.State) bool { _, ok := s.Node(consensus.NodeID(a.ID)); return ok }); err != nil {
			return nil, err
		}
	}
	answer := a.Append(nil)
	b := append(binary.AppendUvarint(nil, uint64(len(answer))), answer...)
	d := n.views.state.Load().Whole()
	return d.Append(b), nil
}

// register makes the cluster know of this start of the node.
func (n *Node) register() {
	commands := []meta.Command{&meta.Start{
		Cluster: n.id.Cluster, Node: n.id.Node, Epoch: n.host.Epoch(), Nonce: rand.Uint64(), Address: n.address, Profile: n.o.Profile,
	}}
	if n.o.Init != 0 && !n.id.Joined {
		first := &meta.Init{Cluster: n.id.Cluster, Format: meta.Format, Request: n.id.Request, Profile: n.o.Profile}
		commands = append([]meta.Command{first}, commands...)
	}
	for _, c := range commands {
		if _, err := n.Propose(n.life, c); err != nil {
			if n.life.Err() == nil {
				n.fail(err)
				close(n.joined)
			}
			return
		}
	}
	if !n.id.Joined {
		id := n.id
		id.Joined = true
		if err := id.write(n.o.FS, n.o.Dir); err != nil {
			n.fail(err)
		}
	}
	close(n.joined)
}

const serviceHere = "cluster.here"

// sayWhere tells the nodes that this one knows where it is now, until the cluster
// knows: they could not answer it, and where its vote is needed never would.
func (n *Node) sayWhere() {
	here := append(binary.AppendUvarint(nil, n.host.Epoch()), n.address...)
	for rest := 10 * time.Millisecond; n.life.Err() == nil; rest = min(2*rest, time.Second) {
		for _, other := range n.views.state.Load().Nodes() {
			if other.ID == n.id.Node || other.Address == "" {
				continue
			}
			n.work.Go(func() {
				ctx, cancel := context.WithTimeout(n.life, tryFor)
				defer cancel()
				if _, err := n.net.Call(ctx, other.ID, serviceHere, here); err != nil {
					n.logger.Debug("cluster: not told where this node is", "to", uint64(other.ID), "err", err)
				}
			})
		}
		select {
		case <-n.joined:
			return
		case <-n.life.Done():
		case <-time.After(rest):
		}
	}
}

func (n *Node) serveHere(_ context.Context, from consensus.NodeID, req []byte) ([]byte, error) {
	epoch, k := binary.Uvarint(req)
	if k <= 0 || len(req) == k || len(req)-k > meta.MaxAddressBytes {
		return nil, fmt.Errorf("cluster: %s: malformed request of %d bytes", serviceHere, len(req))
	}
	s := n.views.state.Load()
	// One that was removed must hear that, so it is answered too.
	if _, ok := s.Node(from); !ok && !s.Removed(from) {
		return nil, fmt.Errorf("cluster: %s: node %d is not known", serviceHere, from)
	}
	n.views.meet(from, contact{address: string(req[k:]), epoch: epoch})
	return nil, nil
}

// serve answers other nodes.
func (n *Node) serve() {
	n.net.Handle(servicePropose, n.servePropose)
	n.net.Handle(serviceWatch, n.serveWatch)
	n.net.Handle(serviceJoin, n.serveJoin)
	n.net.Handle(serviceShard, n.serveShard)
	n.net.Handle(serviceHere, n.serveHere)
	n.net.Handle(serviceBeat, n.serveBeat)
	n.net.Handle(servicePing, n.servePing)
	n.net.Handle(serviceProbe, n.serveProbe)
	n.net.Handle(serviceLatest, n.serveLatest)
	n.net.Handle(serviceLoads, n.serveLoads)
	for name, h := range n.o.NodeServices {
		n.net.Handle(nodeService+name, transport.Handler(h))
	}
	for name, h := range n.o.Services {
		n.answers(name, h)
	}
}
