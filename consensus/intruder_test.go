package consensus_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
)

// Messages that no other node may send are refused and counted, and change
// nothing: leader and follower go on.
func TestMessagesThatAreNotForTheWire(t *testing.T) {
	snapshot := &pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index: new(uint64(1000)), Term: new(uint64(1)), ConfState: &pb.ConfState{Voters: []uint64{1, 2, 3}},
	}}
	for name, fill := range map[string]func(*pb.Message){
		"snapshot that nobody staged": func(m *pb.Message) { m.Type, m.Snapshot = pb.MsgSnap.Enum(), snapshot },
		"word from a disk": func(m *pb.Message) {
			m.Type, m.From, m.Index, m.LogTerm = pb.MsgStorageAppendResp.Enum(), new(raft.LocalAppendThread), new(uint64(1000)), m.Term
		},
		"word from a machine": func(m *pb.Message) {
			m.Type, m.From = pb.MsgStorageApplyResp.Enum(), new(raft.LocalApplyThread)
			m.Entries = []*pb.Entry{{Index: new(uint64(1000)), Term: m.Term}}
		},
		"order to forget the leader": func(m *pb.Message) { m.Type = pb.MsgForgetLeader.Enum() },
		"order to campaign":          func(m *pb.Message) { m.Type, m.Term = pb.MsgHup.Enum(), nil },
		"proposal": func(m *pb.Message) {
			m.Type, m.Term, m.Entries = pb.MsgProp.Enum(), nil, []*pb.Entry{{Data: []byte("x")}}
		},
		"order to transfer": func(m *pb.Message) { m.Type, m.Term = pb.MsgTransferLeader.Enum(), nil },
		"unreachable":       func(m *pb.Message) { m.Type, m.Term = pb.MsgUnreachable.Enum(), nil },
		"unknown type":      func(m *pb.Message) { m.Type = new(pb.MessageType(63)) },
		"beyond all types":  func(m *pb.Message) { m.Type = new(pb.MessageType(1 << 20)) },
		"negative type":     func(m *pb.Message) { m.Type = new(pb.MessageType(-1)) },
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, func(m *pb.Message, _ consensus.Status) { fill(m) })
		})
	}
}

// Sender and receiver of the envelope are those of the letter.
func TestMessagesWhoseEnvelopeLies(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		p := m.puppet(3)
		before := m.status(2)
		for _, lie := range []func(*pb.Message){
			func(m *pb.Message) { m.From = new(uint64(1)) },
			func(m *pb.Message) { m.To = new(uint64(1)) },
		} {
			refused := m.host(2).Stats().Refused
			msg := &pb.Message{
				Type: pb.MsgHeartbeat.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(before.Term + 1), Commit: new(uint64(0)),
			}
			lie(msg)
			envelope := consensus.Raft(1, msg)
			envelope.From, envelope.To = 3, 2
			require.Empty(t, p.say(2, envelope))
			require.Equal(t, refused+1, m.host(2).Stats().Refused)
			require.Equal(t, before, m.status(2))
		}
		m.mustPut(1, "k", "v")
	})
}
