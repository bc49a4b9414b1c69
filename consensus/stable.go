package consensus

import (
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// appendDone is a write under way to the log and what waits for it.
type appendDone struct {
	r         *replica
	responses []*pb.Message
	term      uint64 // of the leader whose own batches the write holds
	own       int
	err       error
}

// Written is called by the log.
func (d *appendDone) Written(err error) {
	d.err = err
	d.r.w.post(input{kind: inputAppended, h: d.r.host, r: d.r, msg: d})
}

// append writes what Raft wants stable.
func (r *replica) append(m *pb.Message) {
	if m.Snapshot != nil && !raft.IsEmptySnap(m.Snapshot) {
		r.installSnapshot(m)
		return
	}
	if r.install != nil {
		r.install.behind = append(r.install.behind, m)
		return
	}
	var hs *pb.HardState
	if m.Term != nil {
		hs = &pb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	}
	r.shard.wrote()
	own := r.place(m.GetEntries())
	if len(m.GetResponses()) == 0 {
		r.log.Append(hs, m.GetEntries(), nil)
		return
	}
	r.log.Append(hs, m.GetEntries(), &appendDone{r: r, responses: m.GetResponses(), term: r.term, own: own})
}

// appended delivers the responses of a write that is stable.
func (r *replica) appended(d *appendDone) {
	if d.err != nil {
		r.host.fail(fmt.Errorf("consensus: group %d: log: %w", r.group, d.err))
		return
	}
	if r.role == raft.StateLeader && d.term == r.term {
		r.unstable -= d.own
	}
	r.respond(d.responses)
}

func (r *replica) respond(responses []*pb.Message) {
	for _, m := range responses {
		if m.GetTo() == uint64(r.id) {
			_ = r.rn.Step(m) // a local response that came too late is ignored
		} else {
			r.send(m)
		}
	}
}
