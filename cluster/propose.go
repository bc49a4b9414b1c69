package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

const servicePropose = "cluster.propose"

// tryFor bounds one attempt to have a command carried out.
const tryFor = time.Second

// What came of a command at a node, the first byte of the answer.
const (
	heard     = iota // an answer of the machine follows
	elsewhere        // the node that leads follows, 0 if nobody is known to
	again            // certainly not carried out
	perhaps          // nobody knows
)

// Propose has the meta group carry out a command, whoever leads it. All commands of
// package meta can be repeated, so an attempt that may have worked is made again. It
// returns a *meta.RefusedError if the command was refused; if ctx ended first, an
// error that wraps consensus.ErrUnknown if an attempt may have worked, and
// consensus.ErrRejected if none did.
func (n *Node) Propose(ctx context.Context, c meta.Command) (meta.Answer, error) {
	data := meta.Encode(nil, c)
	outcome := consensus.ErrRejected
	var last error
	for i, rest := 0, time.Millisecond; ; i++ {
		var verdict byte
		var answer []byte
		to, ok := n.metaNode(i)
		switch {
		case !ok:
			verdict, last = again, errors.New("no member of the meta group is known")
		case to == n.id.Node:
			verdict, answer = n.proposeHere(ctx, data)
		default:
			verdict, answer, last = n.proposeAt(ctx, to, data)
		}
		switch verdict {
		case heard:
			n.leader.Store(uint64(to))
			a, err := meta.ParseAnswer(answer)
			if err != nil {
				return a, err
			}
			return a, a.Err()
		case elsewhere:
			leader, _ := binary.Uvarint(answer)
			n.leader.Store(leader)
			if leader != 0 && i < 3 {
				continue
			}
		case perhaps:
			outcome = consensus.ErrUnknown
			fallthrough
		default:
			n.leader.CompareAndSwap(uint64(to), 0)
		}
		pause(ctx, rest)
		if rest = min(2*rest, 50*time.Millisecond); ctx.Err() != nil || n.life.Err() != nil {
			return meta.Answer{}, fmt.Errorf("cluster: node %d: %T: %w: %w", n.id.Node, c, outcome, errors.Join(context.Cause(ctx), n.life.Err(), last))
		}
	}
}

// metaNode returns the node that is believed to lead the meta group, or one of its
// members, another one with each i.
func (n *Node) metaNode(i int) (consensus.NodeID, bool) {
	if m := n.host.Leader(metaGroup); m.Node != 0 {
		return m.Node, true
	}
	// Of itself a node knows: a hint that it leads is from another time.
	if hint := consensus.NodeID(n.leader.Load()); hint != 0 && hint != n.id.Node {
		return hint, true
	}
	var list []consensus.NodeID
	if sh, ok := n.views.state.Load().Shard(meta.MetaShard); ok {
		for _, m := range sh.Members {
			list = append(list, m.Node)
		}
	}
	if len(list) == 0 {
		n.views.mu.Lock()
		defer n.views.mu.Unlock()
		for id := range n.views.contacts {
			list = append(list, id)
		}
	}
	if len(list) == 0 {
		return 0, false
	}
	return list[i%len(list)], true
}

func (n *Node) proposeHere(ctx context.Context, data []byte) (byte, []byte) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	r, err := n.host.Propose(ctx, metaGroup, consensus.Command{Data: data})
	var other *consensus.NotLeaderError
	switch {
	case err == nil:
		return heard, r.Data
	case errors.As(err, &other):
		return elsewhere, binary.AppendUvarint(nil, uint64(other.Node))
	case errors.Is(err, consensus.ErrRejected):
		return again, nil
	}
	return perhaps, nil
}

func (n *Node) proposeAt(ctx context.Context, to consensus.NodeID, data []byte) (byte, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	b, err := n.net.Call(ctx, to, servicePropose, data)
	switch {
	case err == nil && len(b) > 0:
		return b[0], b[1:], nil
	case unsent(err):
		return again, nil, err
	}
	return perhaps, nil, err
}

// unsent says whether a call certainly did nothing.
func unsent(err error) bool {
	for _, e := range []error{transport.ErrUnreachable, transport.ErrNoService, transport.ErrBusy, transport.ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (n *Node) servePropose(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	verdict, answer := n.proposeHere(ctx, req)
	return append([]byte{verdict}, answer...), nil
}
