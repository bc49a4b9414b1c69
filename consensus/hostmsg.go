package consensus

import (
	"encoding/binary"
	"slices"

	"go.etcd.io/raft/v3"

	"github.com/phantomdb/phantomdb/consensus/transport"
)

// The kinds of message between replicas. All but Raft's own carry a few
// uvarints.
const (
	kindRaft      = iota
	kindFortify   // leader: be bound to me in [term]
	kindFortified // follower: bound in [term] by a promise of [epoch, gen] to your [epoch]
	kindRelease   // replica: I do not lead in [term], and never shall again
	kindAsk       // bound follower: do you still lead in [term]?
	kindQuiesce   // leader: sleep at [term, index]
	kindWake      // follower: I am awake, leader, wake the group
	kindRemoved   // member: [replica] has been removed, and these are the voters
	kindFrame     // node to node, in no group: see peerTable
)

// A hostMessage is a message to a replica other than Raft's own.
type hostMessage struct {
	from                   NodeID
	group                  GroupID
	fromReplica, toReplica ReplicaID
	kind                   uint8
	payload                []byte
}

// bytes is what m is charged while it waits for its worker.
func (m *hostMessage) bytes() int64 { return int64(len(m.payload)) }

// uvarint returns the n-th number, 0 if there is none.
func (m *hostMessage) uvarint(n int) uint64 {
	d := decoder{buf: m.payload}
	for range n {
		d.uvarint()
	}
	return d.uvarint()
}

// tell sends a message of numbers to another replica.
func (r *replica) tell(to ReplicaID, kind uint8, values ...uint64) {
	r.tellAt(r.node(to), to, kind, values...)
}

func (r *replica) tellAt(node NodeID, to ReplicaID, kind uint8, values ...uint64) {
	r.shard.send(node, transport.Control, transport.Message{
		Group: r.group, From: r.id, To: to, Kind: kind, Payload: appendUvarints(nil, values...),
	})
}

// hostMessage dispatches a message. r is nil if the replica it is for does
// not exist here: no message creates one.
func (s *hostShard) hostMessage(r *replica, m *hostMessage) {
	if r == nil || r.gone {
		if m.kind == kindAsk {
			s.send(m.from, transport.Control, transport.Message{
				Group: m.group, From: m.toReplica, To: m.fromReplica, Kind: kindRelease,
				Payload: appendUvarints(nil, m.uvarint(0)),
			})
		}
		return
	}
	r.hint(m.fromReplica, m.from)
	r.ready() // the replica's idea of its term must be Raft's
	switch m.kind {
	case kindFortify:
		r.onFortify(m)
	case kindFortified:
		r.onFortified(m)
	case kindRelease:
		r.onRelease(m)
	case kindAsk:
		switch {
		case r.expelled(m.fromReplica, m.from):
		case r.role == raft.StateLeader && r.term == m.uvarint(0):
			r.wake()
		default:
			r.tell(m.fromReplica, kindRelease, m.uvarint(0))
		}
	case kindQuiesce:
		r.onQuiesce(m)
	case kindWake:
		r.wake()
	case kindRemoved:
		r.onRemoved(m)
	default:
		s.host.stats.refused.Add(1)
	}
	r.touch()
}

// expelled tells a replica that speaks up though it was removed that it was. Ids
// are never reused, so an id that was once used and is not in an applied
// configuration is gone for good.
func (r *replica) expelled(id ReplicaID, node NodeID) bool {
	if len(r.conf.members) == 0 || id > r.conf.highest || r.conf.contains(id) {
		return false
	}
	r.hint(id, node)
	r.tellRemoved(id, r.conf)
	return true
}

// tellRemoved tells a replica that it is not in c, which has been applied here,
// and which voters are.
func (r *replica) tellRemoved(id ReplicaID, c *config) {
	var voters []Member
	for _, m := range c.members {
		if slices.Contains(c.conf.GetVoters(), uint64(m.Replica)) {
			voters = append(voters, m)
		}
	}
	r.shard.send(r.node(id), transport.Control, transport.Message{
		Group: r.group, From: r.id, To: id, Kind: kindRemoved,
		Payload: appendMembers(appendUvarints(nil, uint64(id)), voters),
	})
}

func appendUvarints(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}
