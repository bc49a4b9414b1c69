package consensus_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// from3 makes a message of replica 3 to a node.
func from3(to consensus.NodeID, term uint64, fill func(*pb.Message)) transport.Message {
	m := &pb.Message{From: new(uint64(3)), To: new(uint64(to)), Term: new(term)}
	fill(m)
	return consensus.Raft(1, m)
}

// refused shows that a message of replica 3 is refused and counted, by a leader as
// by a follower, and changes nothing: they go on.
func refused(t *testing.T, fill func(*pb.Message, consensus.Status)) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		m.puppet(3)
		for to := consensus.NodeID(1); to <= 2; to++ {
			before, refused := m.status(to), m.host(to).Stats().Refused
			msg := from3(to, before.Term, func(msg *pb.Message) { fill(msg, before) })
			m.host(to).Receive(3, []transport.Message{msg}) // the codec would refuse some
			m.settle()
			require.Equal(t, refused+1, m.host(to).Stats().Refused)
			require.Equal(t, before, m.status(to))
		}
		m.mustPut(1, "k", "v")
	})
}

// What no replica could have sent is refused where it arrives: it is counted and
// changes nothing.
func TestMalformedRaftMessages(t *testing.T) {
	num := func(n uint64) *uint64 { return &n }
	app := func(entries ...*pb.Entry) func(*pb.Message, consensus.Status) {
		return func(m *pb.Message, st consensus.Status) {
			m.Type, m.Index, m.LogTerm, m.Entries = pb.MsgApp.Enum(), num(st.Last), num(st.Term), entries
			for _, e := range entries { // given as a distance
				if e.Index != nil {
					e.Index = num(e.GetIndex() + st.Last)
				}
				if e.Term != nil {
					e.Term = num(e.GetTerm() + st.Term - 1)
				}
			}
		}
	}
	type fill = func(*pb.Message, consensus.Status)
	kind := func(t pb.MessageType, more func(*pb.Message)) fill {
		return func(m *pb.Message, _ consensus.Status) {
			m.Type = t.Enum()
			if more != nil {
				more(m)
			}
		}
	}
	context := func(n int) func(*pb.Message) { return func(m *pb.Message) { m.Context = make([]byte, n) } }
	entries := func(sizes ...int) func(*pb.Message) {
		return func(m *pb.Message) {
			for _, n := range sizes {
				m.Entries = append(m.Entries, &pb.Entry{Data: make([]byte, n)})
			}
		}
	}
	asked := func(sizes ...int) fill {
		return kind(pb.MsgReadIndex, func(m *pb.Message) { m.Term = nil; entries(sizes...)(m) })
	}
	for name, fill := range map[string]fill{
		"entry without index":              app(&pb.Entry{Term: num(1)}),
		"entry without term":               app(&pb.Entry{Index: num(1)}),
		"the first of all, without a term": kind(pb.MsgApp, func(m *pb.Message) { m.Entries = []*pb.Entry{{Index: num(1)}} }),
		"a gap before the first":           app(&pb.Entry{Index: num(2), Term: num(1)}),
		"a gap":                            app(&pb.Entry{Index: num(1), Term: num(1)}, &pb.Entry{Index: num(3), Term: num(1)}),
		"twice the same":                   app(&pb.Entry{Index: num(1), Term: num(1)}, &pb.Entry{Index: num(1), Term: num(1)}),
		"an entry of the future":           app(&pb.Entry{Index: num(1), Term: num(2)}),
		"an entry of before":               app(&pb.Entry{Index: num(1), Term: num(0)}),
		"predecessor of tomorrow":          kind(pb.MsgApp, func(m *pb.Message) { m.LogTerm = num(m.GetTerm() + 1) }),
		"behind the last index":            kind(pb.MsgApp, func(m *pb.Message) { m.Index, m.LogTerm = num(1<<64-1), m.Term }),
		"append without a term":            kind(pb.MsgApp, func(m *pb.Message) { m.Term = nil }),
		"vote without a term":              kind(pb.MsgVote, func(m *pb.Message) { m.Term = nil }),
		"read with a term":                 kind(pb.MsgReadIndex, entries(16)),
		"read of nothing":                  asked(),
		"read of two":                      asked(16, 16),
		"read of a wrong size":             asked(15),
		"answer of nothing":                kind(pb.MsgReadIndexResp, nil),
		"answer of a wrong size":           kind(pb.MsgReadIndexResp, entries(17)),
		"half a number":                    kind(pb.MsgHeartbeatResp, context(7)),
		"more than a number":               kind(pb.MsgHeartbeatResp, context(9)),
		"a vote with entries":              kind(pb.MsgVote, entries(1)),
		"a heartbeat with one":             kind(pb.MsgHeartbeat, entries(1)),
		"a term out of reach":              kind(pb.MsgVote, func(m *pb.Message) { m.Term = num(m.GetTerm() + 1<<33) }),
		"the last of all terms":            kind(pb.MsgPreVoteResp, func(m *pb.Message) { m.Term = num(1<<64 - 1) }),
		"from nobody":                      kind(pb.MsgHeartbeatResp, func(m *pb.Message) { m.From = num(0) }),
		"from itself":                      kind(pb.MsgHeartbeatResp, func(m *pb.Message) { m.From = m.To }),
		"from its disk":                    kind(pb.MsgAppResp, func(m *pb.Message) { m.From = num(raft.LocalAppendThread) }),
		"from its machine":                 kind(pb.MsgAppResp, func(m *pb.Message) { m.From = num(raft.LocalApplyThread) }),
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, fill)
		})
	}
}

// A follower acknowledges what its leader sent it, and not more: Raft would look
// for what is to follow that.
func TestAcknowledgementsOfWhatWasNeverSent(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		p := m.puppet(3)
		st := m.status(1)
		for _, c := range []struct{ ahead, refused uint64 }{{0, 0}, {1, 1}, {1 << 40, 1}} {
			before := m.host(1).Stats().Refused
			p.say(1, from3(1, st.Term, func(msg *pb.Message) {
				msg.Type, msg.Index = pb.MsgAppResp.Enum(), new(st.Last+c.ahead)
			}))
			require.Equal(t, before+c.refused, m.host(1).Stats().Refused, "%d ahead", c.ahead)
		}
		p.got = nil
		m.mustPut(1, "k", "v")
		require.NotEmpty(t, p.answers("MsgApp"), "it is sent what follows")
	})
}

// What contradicts the log of a replica stops that replica, and nobody else: a
// peer lies, or a disk has lost what was synced, and then it must not vote.
func TestRaftMessagesThatContradictTheLog(t *testing.T) {
	for name, fill := range map[string]func(*pb.Message, consensus.Status){
		"commit index above the last": func(m *pb.Message, _ consensus.Status) {
			m.Type, m.Commit = pb.MsgHeartbeat.Enum(), new(uint64(1<<50))
		},
		"another committed entry": func(m *pb.Message, st consensus.Status) {
			m.Type, m.Index, m.LogTerm = pb.MsgApp.Enum(), new(st.Commit), new(st.Term)
			m.Commit = new(st.Commit + 1)
			m.Entries = []*pb.Entry{{Index: new(st.Commit + 1), Term: m.Term, Data: []byte("no batch")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{nodes: 5, replicas: 5}, func(t *testing.T, m *manual) {
				for id := consensus.NodeID(1); id <= 3; id++ { // a group that has nothing to do with it
					require.NoError(t, m.host(id).Create(2, consensus.ReplicaID(id), consensus.Initial{Voters: m.voters()[:3]}))
				}
				m.elect(1)
				m.crash(3)
				m.puppet(3)
				st := m.status(2)
				m.host(2).Receive(3, []transport.Message{from3(2, st.Term+1, func(msg *pb.Message) { fill(msg, st) })})
				m.tick(3)
				require.NoError(t, m.host(2).Err())
				require.Equal(t, uint64(1), m.host(2).Stats().Failures)
				require.Error(t, m.status(2).Err)
				m.until("a leader of the others", func() bool { return len(m.holders()) == 1 })
				require.NotContains(t, m.holders(), consensus.NodeID(2))
				m.mustPut(m.holders()[0], "k", "v")
				require.NoError(t, m.host(2).Campaign(2))
				m.until("a leader of the other group", func() bool {
					s, err := m.host(2).Status(2)
					return err == nil && s.Role == "leader"
				})
			})
		})
	}
}

// A change that does not fit the configuration in force stops the replica that
// meets it, and not the process.
func TestCommittedChangeThatDoesNotFit(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		m.puppet(3)
		st := m.status(2)
		change, err := proto.Marshal(&pb.ConfChangeV2{}) // leaves a joint configuration that there is none of
		require.NoError(t, err)
		m.host(2).Receive(3, []transport.Message{from3(2, st.Term+1, func(msg *pb.Message) {
			msg.Type, msg.Index, msg.LogTerm, msg.Commit = pb.MsgApp.Enum(), new(st.Last), new(st.Term), new(st.Last+1)
			msg.Entries = []*pb.Entry{{Index: new(st.Last + 1), Term: msg.Term, Type: pb.EntryConfChangeV2.Enum(), Data: change}}
		})})
		m.settle()
		require.NoError(t, m.host(2).Err())
		require.ErrorContains(t, m.status(2).Err, "configuration change")
	})
}

// Nothing that arrives brings down the process or the node, whatever the
// replica's role: at worst the replica that it was meant for stops. Raft's own
// encoding says more than the wire's can, which has a fuzz test of its own.
func FuzzReceive(f *testing.F) {
	for kind := range pb.MessageType_name {
		b, err := proto.Marshal(&pb.Message{
			Type: pb.MessageType(kind).Enum(), Term: new(uint64(3)), Index: new(uint64(2)), LogTerm: new(uint64(2)), Commit: new(uint64(3)),
			Entries: []*pb.Entry{{Index: new(uint64(3)), Term: new(uint64(3)), Data: make([]byte, 16)}},
		})
		require.NoError(f, err)
		f.Add(b, uint8(kind%4))
	}
	f.Fuzz(func(t *testing.T, b []byte, role uint8) {
		var msg pb.Message
		if proto.Unmarshal(b, &msg) != nil {
			return
		}
		stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
			to := consensus.NodeID(1)
			switch role % 4 {
			case 0:
				m.elect(1) // a leader
			case 1:
				m.elect(2) // a follower
			case 2: // who asks whether it may campaign
				m.isolate(1)
				require.NoError(t, m.host(1).Campaign(1))
				m.settle()
			} // or who knows of nobody
			m.crash(3)
			m.puppet(3)
			msg.From, msg.To = new(uint64(3)), new(uint64(to))
			m.host(to).Receive(3, []transport.Message{consensus.Raft(1, &msg)})
			m.tick(2)
			require.NoError(t, m.host(to).Err())
		})
	})
}
