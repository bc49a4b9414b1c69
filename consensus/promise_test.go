package consensus_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A hookedClock lets a test do something between the moment at which a clock is
// read and the moment at which its reader goes on.
type hookedClock struct {
	consensus.Clock
	hook atomic.Pointer[func()] // runs once
}

func (c *hookedClock) Mono() time.Duration {
	now := c.Clock.Mono()
	if f := c.hook.Swap(nil); f != nil {
		(*f)()
	}
	return now
}

// A frame that came just before a promise ended takes long to be handled, and a
// vote falls between. Then either the vote is not given, or the promise is not
// renewed.
func TestVoteDuringAFrameEndsThePromise(t *testing.T) {
	clock := &hookedClock{}
	slow := func(o *consensus.Options) {
		o.ElectionTicks, o.QuiesceTicks = 100, -1
		if o.Node == 2 {
			clock.Clock, o.Clock = o.Clock, clock
		}
	}
	stepwise(t, manualOptions{host: slow}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		m.puppet(3)
		m.settle()
		term := m.status(2).Term
		vote := ask(m, 2, pb.MsgVote, term+1, "")
		m.lose = func(p transport.Pending) bool { return p.From == 1 && p.To == 2 }
		for m.host(2).Bound(1) { // the last instant of the promise
			m.now += time.Millisecond
		}
		m.now -= time.Millisecond
		require.True(t, m.host(2).Bound(1))
		ran := make(chan struct{})
		hook := func() {
			m.now += manualTick
			m.host(2).Receive(3, []transport.Message{vote})
			go func() { m.pool.Run(); close(ran) }()
			for range 200_000 { // a vote that waits for the frame goes on behind it
				select {
				case <-ran:
					return
				default:
					runtime.Gosched()
				}
			}
		}
		clock.hook.Store(&hook)
		m.host(2).Receive(1, []transport.Message{consensus.Frame(1, uint64(m.now)+1, 1, uint64(m.now)+1, 1)})
		require.Nil(t, clock.hook.Load())
		<-ran
		m.settle()
		require.False(t, m.status(2).Term > term && m.host(2).Bound(1), "a vote was cast, and the promise against it goes on")
	})
}

// bump raises the term of replica 2, which is bound to the leader on node 1,
// through a puppet in the place of 3: the late answer to a request for votes of
// its own.
func bump(t *testing.T, m *manual) (p *puppet, term uint64) {
	m.elect(1)
	m.crash(3)
	p = m.puppet(3)
	m.settle()
	term = m.status(2).Term
	m.lose = dropping([]consensus.NodeID{1}, "MsgHeartbeatResp", "MsgAppResp") // so that 1 does not hear of the term
	p.say(2, consensus.Raft(1, &pb.Message{
		Type: pb.MsgPreVoteResp.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(term + 1), Reject: new(true),
	}))
	require.Equal(t, term+1, m.status(2).Term)
	return p, term
}

// A rise of its own term does not free a bound follower: the leader still reads
// under its lease. A leader that was elected since does, and so does the
// leader's own word.
func TestHigherTermFreesNobody(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	for name, free := range map[string]func(t *testing.T, m *manual, p *puppet, term uint64){
		"leader elected since": func(_ *testing.T, _ *manual, p *puppet, term uint64) {
			p.say(2, consensus.Raft(1, &pb.Message{
				Type: pb.MsgHeartbeat.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(term + 2), Commit: new(uint64(0)),
			}))
		},
		"release": func(_ *testing.T, m *manual, p *puppet, term uint64) {
			m.host(2).Receive(1, []transport.Message{consensus.Tell(1, 1, 2, "Release", term)})
			m.settle()
		},
		"order to campaign": func(_ *testing.T, m *manual, _ *puppet, term uint64) {
			m.host(2).Receive(1, []transport.Message{consensus.Raft(1, &pb.Message{
				Type: pb.MsgTimeoutNow.Enum(), From: new(uint64(1)), To: new(uint64(2)), Term: new(term),
			})})
			m.settle()
		},
		"vote that the leader caused": func(t *testing.T, m *manual, p *puppet, term uint64) {
			require.Contains(t, p.say(2, ask(m, 2, pb.MsgVote, term+2, "CampaignTransfer")), "MsgVoteResp")
		},
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{host: awake}, func(t *testing.T, m *manual) {
				p, term := bump(t, m)
				require.True(t, m.host(2).Bound(1))
				require.Empty(t, p.say(2, ask(m, 2, pb.MsgVote, term+2, "")))
				require.Empty(t, p.say(2, ask(m, 2, pb.MsgPreVote, term+2, "")))
				require.Equal(t, term+1, m.status(2).Term)
				free(t, m, p, term)
				require.False(t, m.host(2).Bound(1))
			})
		})
	}
}

// Whoever was told to campaign is free at once, or its lost votes would make it
// wait for a promise that means nothing any more.
func TestOrderToCampaignFrees(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.lose = dropping(nil, "MsgVote")
		m.transfer(1, 2)
		m.settle()
		require.Equal(t, "candidate", m.status(2).Role)
		require.False(t, m.host(2).Bound(1))
		require.True(t, m.host(3).Bound(1))
	})
}

// The replicas of a node that started again are suspected at its first frame,
// asleep or not: its new life has promised nothing and heard of nothing.
func TestSleepersSuspectARestartedNode(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.until("sleep", func() bool { return m.status(1).Asleep && m.status(2).Asleep && m.status(3).Asleep })
		m.crash(1)
		m.restart(1)
		require.Zero(t, m.happened("2 suspects"))
		m.tick(1, 1) // its frame, and no tick of the others
		require.Equal(t, 1, m.happened("2 suspects"))
		require.Equal(t, 1, m.happened("3 suspects"))
		require.False(t, m.status(2).Asleep)
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
	})
}

// A sleeping follower may not know that its group has another leader or none. A
// proposal that it refuses wakes it, and it wakes the leader.
func TestProposalWakesASleepingFollower(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.until("sleep", func() bool { return m.status(1).Asleep && m.status(2).Asleep && m.status(3).Asleep })
		c := m.propose(2, "k", "v")
		m.settle()
		require.True(t, c.ended)
		require.ErrorIs(t, c.err, consensus.ErrRejected)
		require.False(t, m.status(2).Asleep)
		require.False(t, m.status(1).Asleep)
	})
}
