package consensus

import (
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/transport"
)

// Receive takes messages from the wire. It implements transport.Receiver.
func (h *Host) Receive(from NodeID, msgs []transport.Message) {
	if h.dead.Load() {
		return
	}
	for i := range msgs {
		m := &msgs[i]
		if m.Group == 0 {
			h.peers.frame(from, m.Payload)
			continue
		}
		var r *replica
		if v, ok := h.replicas.Load(m.Group); ok {
			if rep := v.(*replica); rep.id == m.To {
				r = rep
			}
		}
		if m.Kind == kindRaft {
			if r != nil {
				h.receiveRaft(from, r, m)
			}
			continue
		}
		hm := &hostMessage{
			from: from, group: m.Group, fromReplica: m.From, toReplica: m.To,
			kind: m.Kind, payload: m.Payload,
		}
		w := h.pool.of(m.Group)
		s := h.shards[w.id]
		if !s.admitControl(hm.bytes()) {
			continue
		}
		if !w.postMessage(input{kind: inputHostMessage, h: h, r: r, msg: hm}) {
			s.inbox.Add(-hm.bytes())
			h.stats.dropped.Add(1)
		}
	}
}

// fromWire are Raft's messages that may come from another node. The others are
// local, or come another way, and would do harm: a snapshot that nobody staged,
// or word from a disk that is not this node's.
var fromWire = func() (ok [64]bool) {
	for _, t := range []pb.MessageType{
		pb.MsgApp, pb.MsgAppResp, pb.MsgHeartbeat, pb.MsgHeartbeatResp, pb.MsgVote, pb.MsgVoteResp,
		pb.MsgPreVote, pb.MsgPreVoteResp, pb.MsgTimeoutNow, pb.MsgReadIndex, pb.MsgReadIndexResp,
	} {
		ok[t] = true
	}
	return ok
}()

func (h *Host) receiveRaft(from NodeID, r *replica, m *transport.Message) {
	t := int(m.Raft.GetType())
	if t < 0 || t >= len(fromWire) || !fromWire[t] || m.Raft.GetFrom() != uint64(m.From) || m.Raft.GetTo() != uint64(r.id) || !wellFormed(m.Raft, r.id) {
		h.stats.refused.Add(1)
		return
	}
	size := dataBytes(m.Raft)
	switch {
	case size == 0:
	case m.Raft.GetType() == pb.MsgApp:
		if !r.shard.admit(size) {
			return
		}
	case !r.shard.admitControl(size):
		return
	}
	if !r.w.postMessage(input{kind: inputMessage, n: int(from), h: h, r: r, msg: m.Raft}) {
		r.shard.inbox.Add(-size)
		h.stats.dropped.Add(1)
	}
}

// Unreachable hears from the wire that messages to a node were dropped. It
// implements transport.Receiver.
func (h *Host) Unreachable(to NodeID) {
	if h.dead.Load() || !h.peers.noteUnreachable(to) {
		return
	}
	for _, w := range h.pool.workers {
		w.post(input{kind: inputUnreachable, h: h, n: int(to)})
	}
}

// dataBytes is the size of what a message carries.
func dataBytes(m *pb.Message) int64 {
	n := int64(len(m.GetContext()))
	for _, e := range m.GetEntries() {
		n += int64(len(e.GetData())) + 32
	}
	return n
}
