package consensus_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
)

// What a leader proposed in term 4 is overwritten by entries of term 3 that
// another had left in the logs of a quorum: the client is told, and so is
// everybody behind it.
func TestBatchReplacedByAnEntryOfALowerTerm(t *testing.T) {
	o := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(2)
		m.crash(3)
		p := m.puppet(2)
		term, last := m.status(1).Term, m.status(1).Last
		say := func(kind pb.MessageType, term uint64, fill func(*pb.Message)) {
			msg := &pb.Message{Type: kind.Enum(), From: new(uint64(2)), To: new(uint64(1)), Term: new(term)}
			if fill != nil {
				fill(msg)
			}
			p.say(1, consensus.Raft(1, msg))
		}
		// lead makes 1 leader in the term after that of a leader on node 2.
		lead := func(after uint64) {
			say(pb.MsgHeartbeat, after, func(m *pb.Message) { m.Commit = new(uint64(0)) })
			say(pb.MsgTimeoutNow, after, nil)
			say(pb.MsgVoteResp, after+1, nil)
			require.Equal(t, "leader", m.status(1).Role)
			require.Equal(t, after+1, m.status(1).Term)
		}
		lead(term + 1)
		lost := m.propose(1, "k", "lost")
		m.settle()
		require.Equal(t, last+2, m.status(1).Last)
		entry := func(index, term uint64) *pb.Entry { return &pb.Entry{Index: new(index), Term: new(term)} }
		say(pb.MsgApp, term+3, func(m *pb.Message) {
			m.LogTerm, m.Index, m.Commit = new(term), new(last), new(last+3)
			m.Entries = []*pb.Entry{entry(last+1, term+1), entry(last+2, term+1), entry(last+3, term+3)}
		})
		require.Equal(t, last+3, m.status(1).Applied)
		require.True(t, lost.ended)
		require.ErrorIs(t, lost.err, consensus.ErrRejected)
		lead(term + 3)
		c := m.propose(1, "k", "v")
		m.settle()
		require.Equal(t, last+5, m.status(1).Last)
		say(pb.MsgAppResp, term+4, func(m *pb.Message) { m.Index = new(last + 5) })
		require.True(t, c.ended)
		require.NoError(t, c.err)
		require.Zero(t, m.host(1).Stats().PendingBytes)
	})
}
