package consensus

import (
	"context"
	"io"
	"math"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/transport"
)

// KindNames names the kinds of message that are not Raft's.
var KindNames = map[uint8]string{
	kindFortify: "Fortify", kindFortified: "Fortified", kindRelease: "Release", kindAsk: "Ask",
	kindQuiesce: "Quiesce", kindWake: "Wake", kindRemoved: "Removed", kindFrame: "Frame",
}

// Tell makes a message of numbers.
func Tell(g GroupID, from, to ReplicaID, kind string, values ...uint64) transport.Message {
	m := transport.Message{Group: g, From: from, To: to, Payload: appendUvarints(nil, values...)}
	for k, name := range KindNames {
		if name == kind {
			m.Kind = k
		}
	}
	return m
}

// Frame makes a node's frame, see frame.
func Frame(epoch, sent, ackEpoch, ackSent, ackGen uint64, payload ...byte) transport.Message {
	f := frame{epoch: epoch, sent: sent, ackEpoch: ackEpoch, ackSent: ackSent, ackGen: ackGen, length: math.MaxInt64, names: true, payload: payload}
	return transport.Message{Kind: kindFrame, Payload: f.encode()}
}

// Numbers returns the numbers that a message of the Host's own carries.
func Numbers(m transport.Message) []uint64 {
	d := decoder{buf: m.Payload}
	if m.Kind == kindFrame {
		d.byte()
	}
	var list []uint64
	for len(d.buf) > 0 && !d.bad {
		list = append(list, d.uvarint())
	}
	return list
}

// MaxEarlyReads is how many reads of others a leader keeps that cannot commit.
const MaxEarlyReads = maxEarlyReads

// Raft makes a Raft message of group g.
func Raft(g GroupID, m *pb.Message) transport.Message {
	return transport.Message{Group: g, From: ReplicaID(m.GetFrom()), To: ReplicaID(m.GetTo()), Raft: m}
}

// ConfigRow is the row that holds a configuration.
func ConfigRow(conf *pb.ConfState) Row {
	return Row{Key: rowConfig, Value: (&config{conf: conf}).encode()}
}

// Bound says whether h's replica of g is bound to a leader now.
func (h *Host) Bound(g GroupID) bool {
	r, err := h.replica(g)
	return err == nil && r.bound(r.now())
}

// Lost tells h's replicas that the promise to a node has ended.
func (h *Host) Lost(node NodeID) { h.peers.tellWorkers(inputLost, node) }

// VotesFrom is when h may vote and campaign after a restart.
func (h *Host) VotesFrom() time.Duration { return h.votesFrom }

// Gate returns how many own batches of g are with Raft or not locally stable.
func (h *Host) Gate(g GroupID) (own, unstable int) {
	r, err := h.replica(g)
	if err != nil {
		return 0, 0
	}
	h.run(r.w, func() { own, unstable = len(r.own), r.unstable })
	return own, unstable
}

// TransferInRaft begins a transfer behind the Host's back.
func (h *Host) TransferInRaft(g GroupID, to ReplicaID) {
	if r, err := h.replica(g); err == nil {
		h.run(r.w, func() { r.rn.TransferLeader(uint64(to)); r.touch() })
	}
}

// FreezeView asks for a snapshot of g as Raft does before it sends one, while
// the configuration in force is one of the voters given, and returns the voters
// that Raft is told; nil if it is told nothing.
func (h *Host) FreezeView(g GroupID, inForce ...uint64) (voters []uint64) {
	r, err := h.replica(g)
	if err != nil {
		return nil
	}
	h.run(r.w, func() {
		conf := r.conf
		r.conf = &config{conf: &pb.ConfState{Voters: inForce}}
		if s, err := r.snapshotMetadata(); err == nil {
			voters = s.GetMetadata().GetConfState().GetVoters()
		}
		r.conf = conf
	})
	return voters
}

// SnapshotsUnderWay is how many snapshots h may send less than
// Options.MaxSnapshots.
func (h *Host) SnapshotsUnderWay() int { return len(h.snaps.send) }

// SeekInstall does what whoever is done with the machine of g does: it begins to
// install the snapshot that waits for that.
func (h *Host) SeekInstall(g GroupID) {
	if r, err := h.replica(g); err == nil {
		h.run(r.w, r.runInstall)
	}
}

// The bounds of what waits for a worker, in messages and in bytes.
const (
	MaxInbox      = maxInbox
	MaxInboxBytes = maxInboxBytes
)

// InboxBytes is what of g's messages waits for its worker.
func (h *Host) InboxBytes(g GroupID) int64 { return h.shards[h.pool.of(g).id].inbox.Load() }

// Pace returns a writer to w that keeps a rate, as a snapshot's does.
func Pace(ctx context.Context, w io.Writer, perSecond int64) io.Writer {
	s := &snapshotter{h: &Host{opts: Options{SnapshotBytesPerSecond: perSecond}}}
	return s.limit(ctx, w)
}

// Bucket is the part of a tick in which g ticks.
func Bucket(g GroupID) int { return bucketOf(g) }

// Moves says whether Raft has something of g to write or to send.
func (h *Host) Moves(g GroupID) (moves bool) {
	r, err := h.replica(g)
	if err == nil {
		h.run(r.w, func() { moves = r.rn.HasReady() })
	}
	return moves
}

// WakePace is how many groups wake at once for a node that is back.
const WakePace = wakePace

// MaxStrangers bounds the nodes that are heard though nobody here names them.
const MaxStrangers = maxStrangers

// Peers are the nodes that h exchanges frames with or remembers, in order.
func (h *Host) Peers() (nodes []NodeID) {
	for _, p := range h.peers.all() {
		nodes = append(nodes, p.node)
	}
	return nodes
}
