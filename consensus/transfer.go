package consensus

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/raft/v3"
)

// A transferWait is a transfer of leadership under way.
type transferWait struct {
	to   ReplicaID
	done chan struct{}
	err  error // set before done is closed
}

// Transfer hands the leadership of g to another voter and returns when that
// one leads. This node must lead the group. Its lease ends with the attempt,
// for the rest of its term. Proposals meanwhile are refused. An error wraps
// ErrRejected if leadership stays, and ErrUnknown if that cannot be told: once
// the other has been told to campaign it may still do so.
func (h *Host) Transfer(ctx context.Context, g GroupID, to ReplicaID) error {
	r, err := h.replica(g)
	if err != nil {
		return err
	}
	t := &transferWait{to: to, done: make(chan struct{})}
	if !h.run(r.w, func() { r.beginTransfer(t); r.touch() }) {
		return rejected(g, ErrClosed)
	}
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return unknown(g, context.Cause(ctx))
	}
}

func (t *transferWait) finish(err error) {
	t.err = err
	close(t.done)
}

func (r *replica) beginTransfer(t *transferWait) {
	r.ready()
	stopped := r.stopped()
	switch {
	case stopped != nil:
		t.finish(stopped)
	case r.role != raft.StateLeader:
		t.finish(r.notLeader())
	case t.to == r.id:
		t.finish(nil)
	case !r.conf.isVoter(t.to):
		t.finish(rejected(r.group, fmt.Errorf("transfer to replica %d: expected a voter", t.to)))
	case r.change != nil || r.conf.joint() || !r.leadReady:
		t.finish(rejected(r.group, ErrReconfiguring)) // Raft would not leave the joint configuration
	case r.transfer != nil:
		t.finish(rejected(r.group, errors.New("another transfer is under way")))
	default:
		r.wake()
		r.transfer = t
		r.rn.TransferLeader(uint64(t.to))
	}
}

// checkTransfer ends the wait for a transfer that came to an end.
func (r *replica) checkTransfer() {
	t := r.transfer
	if t == nil {
		return
	}
	switch {
	case r.role != raft.StateLeader && r.lead == t.to:
		t.finish(nil)
	case r.role != raft.StateLeader && r.lead != 0:
		t.finish(r.notLeader())
	case r.role == raft.StateLeader && r.rn.BasicStatus().LeadTransferee == 0 && r.fort.ended == r.term:
		// A word to campaign has left in this term and may still arrive.
		t.finish(unknown(r.group, fmt.Errorf("transfer to replica %d timed out", t.to)))
	case r.role == raft.StateLeader && r.rn.BasicStatus().LeadTransferee == 0:
		t.finish(rejected(r.group, fmt.Errorf("transfer to replica %d timed out", t.to)))
	default:
		return
	}
	r.transfer = nil
}

// Campaign makes this node's replica of g ask for votes now instead of after
// an election timeout: it spreads the first leaders of new groups. It does
// nothing where a leader is known or a promise forbids it, and a replica that
// still reads back what it is to apply begins when it has. It returns an error
// that wraps ErrRejected if there is no such replica.
func (h *Host) Campaign(g GroupID) error {
	r, err := h.replica(g)
	if err != nil {
		return err
	}
	if !h.run(r.w, func() {
		if err = r.stopped(); err != nil {
			return
		}
		r.ready()
		if r.lead == 0 && r.mayCampaign(r.now()) {
			r.wake()
			if r.replaying() {
				r.campaignIn = 1 // with the first tick behind that
			} else {
				_ = r.rn.Campaign() // a learner's or one with an unapplied change is ignored
			}
		}
		r.touch()
	}) {
		return rejected(g, ErrClosed)
	}
	return err
}
