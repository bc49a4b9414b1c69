package consensus

import (
	"fmt"
	"math"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Raft trusts its peers: on messages that no sound replica sends it panics, and
// with it the process and all its nodes. What can be told from the message alone
// is refused where it arrives. What contradicts the replica's own log or state,
// such as a commit index above its last, may come from a peer that lies as well
// as from a disk that has lost what was synced: then the replica stops, and
// neither votes nor answers, but its node and all other groups go on.

// maxTermStep bounds how far one message can raise a term. Terms grow by one
// with an election, so that no replica is ever this far behind; and a term that
// could be raised at will would soon be the last one, behind which Raft counts
// from 0 and panics when it campaigns.
const maxTermStep = 1 << 32

// readContextBytes is the size of the context of a read, see askRead.
const readContextBytes = 16

// wellFormed says whether a replica could have sent m to self. A message
// without a term passes as the replica's own word in Raft, which a read that is
// forwarded is and nothing else that comes from the wire.
func wellFormed(m *pb.Message, self ReplicaID) bool {
	switch from := m.GetFrom(); from {
	case raft.None, uint64(self), raft.LocalAppendThread, raft.LocalApplyThread:
		return false
	}
	if (m.GetTerm() == 0) != (m.GetType() == pb.MsgReadIndex) {
		return false
	}
	switch m.GetType() {
	case pb.MsgApp:
		return inARow(m)
	case pb.MsgReadIndex, pb.MsgReadIndexResp:
		return len(m.GetEntries()) == 1 && len(m.GetEntries()[0].GetData()) == readContextBytes
	case pb.MsgHeartbeatResp:
		if n := len(m.GetContext()); n != 0 && n != 8 { // Raft reads it as a number
			return false
		}
	}
	return len(m.GetEntries()) == 0
}

// withinReach says whether m's term is one that this replica can come to.
func (r *replica) withinReach(m *pb.Message) bool {
	return m.GetTerm() <= r.term || m.GetTerm()-r.term <= maxTermStep
}

// claimsTooMuch says whether m acknowledges entries that this leader never sent,
// since it has none there. Raft would look for what is to follow them.
func (r *replica) claimsTooMuch(m *pb.Message) bool {
	if r.role != raft.StateLeader || m.GetTerm() != r.term || m.GetReject() {
		return false
	}
	last, err := r.log.LastIndex()
	return err == nil && m.GetIndex() > last
}

// inARow says whether the entries of a MsgApp follow each other and the entry
// that they are to follow, in index and in term.
func inARow(m *pb.Message) bool {
	index, term := m.GetIndex(), m.GetLogTerm()
	if index > math.MaxUint64-uint64(len(m.GetEntries()))-1 || term > m.GetTerm() {
		return false
	}
	for _, e := range m.GetEntries() {
		index++
		if e.GetIndex() != index || e.GetTerm() == 0 || e.GetTerm() < term || e.GetTerm() > m.GetTerm() {
			return false
		}
		term = e.GetTerm()
	}
	return true
}

// stepRaft hands Raft a message from the wire. If Raft panics on it, the replica
// stops.
func (r *replica) stepRaft(m *pb.Message, from NodeID) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = nil
			r.fail(fmt.Errorf("%v of term %d from replica %d on node %d contradicts what this replica holds: %v",
				m.GetType(), m.GetTerm(), m.GetFrom(), from, p))
		}
	}()
	return r.rn.Step(m)
}

// changeRaft applies a change of the configuration to Raft, which panics on one
// that does not fit the configuration in force and leaves that as it was.
func (r *replica) changeRaft(cc *pb.ConfChangeV2) (conf *pb.ConfState, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("configuration change %v: %v", cc, p)
		}
	}()
	return r.rn.ApplyConfChange(cc), nil
}
