package consensus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// Each test here is about one guard of the lease and fails without it. The
// fixture adds one claim to all of them: never do two nodes hold the lease.

// ask makes a request for a vote of replica 3 at a follower.
func ask(m *manual, to consensus.NodeID, kind pb.MessageType, term uint64, context string) transport.Message {
	st := m.status(to)
	return consensus.Raft(1, &pb.Message{
		Type: kind.Enum(), From: new(uint64(3)), To: new(uint64(to)), Term: new(term),
		LogTerm: new(uint64(100)), Index: new(st.Last + 10), Context: []byte(context),
	})
}

// deaf makes replica 2 bound to the leader on node 1 though it has not heard
// of it for an election timeout: Raft's own reason to refuse a vote is gone,
// and only the promise is left.
func deaf(t *testing.T, m *manual) {
	m.tick(2)
	m.lose = dropping([]consensus.NodeID{2}, "Fortify")
	require.NoError(t, m.host(1).Campaign(1))
	m.settle()
	m.lose = dropping([]consensus.NodeID{2}, "Fortify", "MsgHeartbeat", "MsgApp")
	m.tick(11)
	require.False(t, m.host(2).Bound(1))
	m.lose = dropping([]consensus.NodeID{2}, "MsgHeartbeat", "MsgApp")
	m.tick(1)
	require.True(t, m.host(2).Bound(1))
	require.Zero(t, m.happened("2 campaigns"))
}

func TestBoundFollowerDoesNotVote(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		deaf(t, m)
		m.crash(3)
		p := m.puppet(3)
		term := m.status(2).Term
		require.Empty(t, p.say(2, ask(m, 2, pb.MsgPreVote, term+1, "")))
		require.Empty(t, p.say(2, ask(m, 2, pb.MsgVote, term+1, "")))
		require.Equal(t, term, m.status(2).Term)
		// Not even when the request claims the leader's leave: only a real
		// vote can carry it.
		require.Empty(t, p.say(2, ask(m, 2, pb.MsgPreVote, term+1, "CampaignTransfer")))
		// The promise ends with the leader's frames, and the vote is given.
		m.crash(1)
		m.tick(9)
		require.False(t, m.host(2).Bound(1))
		require.Contains(t, p.say(2, ask(m, 2, pb.MsgVote, term+1, "")), "MsgVoteResp")
	})
}

// Heartbeats are lost, frames are not: the follower waits, for its leader
// reads under a lease.
func TestBoundFollowerDoesNotCampaign(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		deaf(t, m)
		m.tick(60)
		require.Zero(t, m.happened("2 campaigns"))
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		m.crash(1)
		m.lose = nil
		m.until("another leader", func() bool { return len(m.holders()) == 1 })
	})
}

// Word that an earlier promise ended may come late, when the replica is bound
// again.
func TestBoundFollowerKeepsItsLeader(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		require.True(t, m.host(2).Bound(1))
		m.host(2).Lost(1)
		m.settle()
		require.Equal(t, consensus.ReplicaID(1), m.status(2).Leader)
		require.True(t, m.host(2).Bound(1))
		require.Zero(t, m.happened("2 suspects"))
	})
}

// A node that restarted does not know what it promised.
func TestRestartedNodeWaits(t *testing.T) {
	eager := func(o *consensus.Options) { o.ElectionTicks = 2; o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: eager}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		p := m.puppet(3)
		m.crash(2)
		m.restart(2)
		m.crash(1)
		from := m.host(2).VotesFrom()
		require.Equal(t, m.now+8*manualTick, from)
		term := m.status(2).Term
		for m.now < from-manualTick {
			m.tick(1)
			require.Empty(t, p.say(2, ask(m, 2, pb.MsgPreVote, term+1, "")), "at %v", m.now)
			require.Empty(t, p.say(2, ask(m, 2, pb.MsgVote, term+1, "")), "at %v", m.now)
			require.NoError(t, m.host(2).Campaign(1))
			m.settle()
			require.Zero(t, m.happened("2 campaigns"), "at %v", m.now)
		}
		m.tick(1)
		require.Contains(t, p.say(2, ask(m, 2, pb.MsgVote, term+1, "")), "MsgVoteResp")
		m.until("a campaign", func() bool { return m.happened("2 campaigns") > 0 })
	})
}

// The lease is gone when the message leaves that lets another campaign, and
// stays away for the term: the message may be under way for ever.
func TestLeaseEndsWithTransfer(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		h := m.elect(1)
		term := m.status(1).Term
		m.hold = dropping(nil, "MsgTimeoutNow")
		c := m.transfer(1, 2)
		_, ok := h.Lease(1)
		require.True(t, ok, "nothing left yet")
		m.settle()
		require.Len(t, m.wire.Pending(), 1)
		require.Empty(t, m.holders())
		for range 60 {
			m.tick(1)
			require.Empty(t, m.holders())
		}
		require.True(t, c.ended)
		require.ErrorIs(t, c.err, consensus.ErrUnknown)
		require.Equal(t, term, m.status(1).Term)
		m.mustPut(1, "k", "v")
		require.Empty(t, m.holders())
		m.hold = nil // the message arrives after all
		m.until("another leader", func() bool { return len(m.holders()) == 1 && m.holders()[0] == 2 })
	})
}

// Votes that the leader itself caused are given in spite of every promise.
func TestTransferPassesPromises(t *testing.T) {
	// Of five, so that the leader's own vote is not enough.
	stepwise(t, manualOptions{nodes: 5, replicas: 5}, func(t *testing.T, m *manual) {
		m.elect(1)
		for id := consensus.NodeID(2); id <= 5; id++ {
			require.True(t, m.host(id).Bound(1))
		}
		c := m.transfer(1, 2)
		m.settle() // not one tick
		require.True(t, c.ended)
		require.NoError(t, c.err)
		require.Equal(t, []consensus.NodeID{2}, m.holders())
	})
}

// A vote cast between two promises is not forgotten by the second one: it has
// another generation, and the leader must bind its followers anew.
func TestPromiseThatEndedIsNotRenewed(t *testing.T) {
	slow := func(o *consensus.Options) { o.ElectionTicks = 100; o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: slow}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		p := m.puppet(3)
		m.wire.Partition([]consensus.NodeID{1}, []consensus.NodeID{2})
		m.tick(9)
		require.Empty(t, m.holders())
		term := m.status(2).Term
		require.Contains(t, p.say(2, ask(m, 2, pb.MsgVote, term+1, "")), "MsgVoteResp")
		// Frames flow again, and nothing else does.
		m.wire.Heal()
		m.lose = func(p transport.Pending) bool { return kindOf(p) != "Frame" }
		for range 20 {
			m.tick(1)
			require.Empty(t, m.holders(), "at %v", m.now)
		}
		require.Equal(t, "leader", m.status(1).Role)
		require.Equal(t, term+1, m.status(2).Term)
	})
}

// A restarted supporter has forgotten who was bound: its new epoch voids what
// the old one promised.
func TestSupportersRestartVoidsItsSupport(t *testing.T) {
	slow := func(o *consensus.Options) { o.ElectionTicks = 100; o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: slow}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		m.tick(1)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		m.lose = dropping(nil, "Fortify", "Fortified")
		m.crash(2)
		m.restart(2)
		m.tick(9) // until then its wait after the restart stands for the promise
		for range 20 {
			m.tick(1)
			require.Empty(t, m.holders(), "at %v", m.now)
		}
		require.False(t, m.host(2).Bound(1))
		m.lose = nil
		m.until("the lease", func() bool { return len(m.holders()) == 1 })
		require.True(t, m.host(2).Bound(1))
	})
}

// An acknowledgement of an earlier life counts for nothing: it speaks of
// another clock.
func TestAcknowledgementOfAnEarlierEpoch(t *testing.T) {
	slow := func(o *consensus.Options) { o.ElectionTicks = 100; o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: slow}, func(t *testing.T, m *manual) {
		m.elect(1)
		for id := range consensus.NodeID(3) {
			m.crash(id + 1)
		}
		m.lose = dropping([]consensus.NodeID{1}, "Frame")
		m.restart(1)
		m.restart(2)
		m.tick(9)
		require.NoError(t, m.host(1).Campaign(1))
		m.settle()
		require.Equal(t, "leader", m.status(1).Role)
		m.crash(2)
		p := m.puppet(2)
		m.lose = nil
		term := m.status(1).Term
		bound := func(to uint64) transport.Message { return consensus.Tell(1, 2, 1, "Fortified", term, 9, 1, to) }
		p.say(1, consensus.Frame(9, 1, 2, uint64(m.now), 1), bound(1))
		require.Empty(t, m.holders(), "was bound to epoch 1 of node 1")
		m.tick(9)
		p.say(1, consensus.Frame(9, 2, 1, uint64(m.now+time.Hour), 1), bound(2))
		require.Empty(t, m.holders(), "acknowledges epoch 1 of node 1")
		p.say(1, consensus.Frame(9, 3, 2, uint64(m.now), 1))
		require.Equal(t, []consensus.NodeID{1}, m.holders(), "both of epoch 2")
	})
}

// A leader whose node restarted has no lease; those bound to it need not wait.
func TestLeadersRestartFreesItsFollowers(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(1)
		require.True(t, m.host(2).Bound(1))
		m.restart(1)
		require.True(t, m.host(2).Bound(1))
		m.tick(1)
		require.False(t, m.host(2).Bound(1))
		require.False(t, m.host(3).Bound(1))
	})
}

// The leader's clock is slow by the drift that is allowed, and yet its lease
// ends before the promises do.
func TestDriftShortensTheLease(t *testing.T) {
	drift := func(o *consensus.Options) { o.MaxDrift = 0.2 }
	stepwise(t, manualOptions{host: drift}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.node(1).clock.drift(0.81)
		m.tick(20)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		m.isolate(1)
		held := 0
		for len(m.holders()) > 0 {
			require.True(t, m.host(2).Bound(1) || m.host(3).Bound(1), "a lease that nobody supports, %v", m.now)
			m.now += time.Millisecond
			held++
		}
		require.Greater(t, held, 200, "milliseconds")
	})
}

// A new leader may lack the effects of acknowledged commands until it has
// applied an entry of its own term.
func TestNoLeaseBeforeTheOwnTermIsApplied(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.tick(2)
		m.lose = dropping([]consensus.NodeID{1}, "MsgAppResp")
		require.NoError(t, m.host(1).Campaign(1))
		for range 9 {
			m.tick(1)
			require.Empty(t, m.holders())
		}
		require.Equal(t, "leader", m.status(1).Role)
		m.lose = nil
		m.until("the lease", func() bool { return len(m.holders()) == 1 })
		require.Equal(t, 1, m.happened("1 leads"))
	})
}

// beginSwap adds learners 4 and 5 and returns the change that puts them in the
// place of 2 and 3.
func beginSwap(t *testing.T, m *manual) (swap []consensus.ChangeStep) {
	m.elect(1)
	var add []consensus.ChangeStep
	for _, id := range []consensus.ReplicaID{4, 5} {
		member := consensus.Member{Replica: id, Node: consensus.NodeID(id)}
		require.NoError(t, m.host(member.Node).Create(1, id, consensus.Initial{}))
		add = append(add, consensus.ChangeStep{Kind: consensus.AddLearner, Member: member})
		swap = append(swap, consensus.ChangeStep{Kind: consensus.Promote, Member: member},
			consensus.ChangeStep{Kind: consensus.Remove, Member: consensus.Member{Replica: id - 2}})
	}
	m.reconfigure(1, add...)
	m.until("learners", func() bool {
		return m.status(4).Applied == m.status(1).Applied && m.status(5).Applied == m.status(1).Applied
	})
	m.tick(3)
	return swap
}

// While a configuration is joint, either half could elect another leader.
func TestJointLeaseNeedsBothHalves(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 5, replicas: 3, host: awake}, func(t *testing.T, m *manual) {
		swap := beginSwap(t, m)
		// The joint configuration is entered, and not left.
		stay := func(p transport.Pending) bool { return kindOf(p) == "MsgAppResp" && p.From >= 4 }
		m.lose = stay
		m.reconfigure(1, swap...)
		m.tick(3)
		require.True(t, m.status(1).Joint)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		for _, half := range [][2]consensus.NodeID{{4, 5}, {2, 3}} {
			m.lose = func(p transport.Pending) bool {
				return stay(p) || kindOf(p) == "Frame" && (p.From == half[0] || p.From == half[1])
			}
			m.tick(9)
			require.Empty(t, m.holders(), "without %v", half)
			m.lose = stay
			m.tick(3)
			require.Equal(t, []consensus.NodeID{1}, m.holders())
		}
		require.True(t, m.status(1).Joint)
	})
}

// The new half counts as soon as the configuration is joint: the entry that
// leaves it may commit before the leader's next tick.
func TestJointLeaseNeedsBothHalvesAtOnce(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 5, replicas: 3, host: awake}, func(t *testing.T, m *manual) {
		swap := beginSwap(t, m)
		silent := func(p transport.Pending) bool {
			return p.From >= 4 && (kindOf(p) == "Frame" || kindOf(p) == "MsgAppResp" && m.status(1).Joint)
		}
		m.lose = silent
		m.tick(9)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		m.reconfigure(1, swap...)
		m.settle() // not one tick
		require.True(t, m.status(1).Joint)
		require.Empty(t, m.holders())
		m.lose = nil
		m.until("the lease", func() bool { return len(m.holders()) == 1 && !m.status(1).Joint })
	})
}

// A leader applies the change of its predecessor that removes it, and is gone
// without a word. Its follower asks where it lived.
func TestRemovedLeaderIsAskedWhereItLived(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.lose = func(p transport.Pending) bool { return kindOf(p) == "MsgAppResp" || kindOf(p) == "MsgApp" && p.To == 3 }
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.Remove, Member: consensus.Member{Replica: 2}})
		m.settle()
		m.crash(1)
		m.lose = nil
		m.tick(9)
		m.lose = dropping([]consensus.NodeID{3}, "Removed", "Release")
		require.NoError(t, m.host(2).Campaign(1))
		m.settle()
		m.tick(9) // it stays: voter 1 has not said that it may go
		require.Equal(t, []consensus.GroupID{1}, m.host(2).Groups())
		require.Equal(t, 1, m.happened("2 leads"))
		require.Len(t, m.status(3).Voters, 2)
		require.True(t, m.host(3).Bound(1))
		m.lose = nil
		m.restart(1)
		m.until("another leader", func() bool { return len(m.holders()) == 1 })
		m.until("the end of replica 2", func() bool { return len(m.host(2).Groups()) == 0 })
	})
}

// stepDown makes the leader on node 1 give up while its node lives on: no
// follower answers it.
func stepDown(t *testing.T, m *manual, lost ...string) {
	m.elect(1)
	m.lose = dropping(nil, append(lost, "MsgHeartbeatResp", "MsgAppResp")...)
	m.until("stepping down", func() bool { return m.happened("1 steps down") > 0 })
}

// Followers would wait for the end of a promise that a living node renews.
func TestStepDownReleasesFollowers(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: awake}, func(t *testing.T, m *manual) {
		stepDown(t, m, "Ask")
		require.False(t, m.host(2).Bound(1))
		require.False(t, m.host(3).Bound(1))
		m.lose = dropping(nil, "Ask")
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
	})
}

// A release binds to its sender and term: no other replica's word counts.
func TestReleaseOfAnotherIsIgnored(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		term := m.status(2).Term
		m.crash(3)
		p := m.puppet(3)
		p.say(2, consensus.Tell(1, 3, 2, "Release", term), consensus.Tell(1, 1, 2, "Release", term-1))
		require.True(t, m.host(2).Bound(1))
		require.NotContains(t, p.say(2, consensus.Tell(1, 3, 2, "Fortify", term)), "Fortified")
		p.say(2, consensus.Tell(1, 1, 2, "Fortify", term-1))
		require.True(t, m.host(2).Bound(1), "a late request took the place of the binding")
		p.say(2, consensus.Tell(1, 1, 2, "Release", term))
		require.False(t, m.host(2).Bound(1))
	})
}

// The release was lost: a follower that hears nothing asks.
func TestHeldFollowerAsks(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: awake}, func(t *testing.T, m *manual) {
		stepDown(t, m, "Release", "Ask")
		m.tick(10)
		require.True(t, m.host(2).Bound(1))
		m.lose = nil
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
	})
}

// The leader woke, found nobody and gave up, unheard by followers that sleep.
// What wakes them is the request for a vote that they must not answer.
func TestSleepingFollowerAsksWhenOthersCampaign(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.until("sleep", func() bool { return m.status(1).Asleep && m.status(2).Asleep && m.status(3).Asleep })
		m.lose = func(p transport.Pending) bool { return p.From == 1 && kindOf(p) != "Frame" }
		m.propose(1, "k", "v")
		m.until("stepping down", func() bool { return m.happened("1 steps down") > 0 })
		require.True(t, m.status(2).Asleep)
		require.True(t, m.host(2).Bound(1))
		m.lose = nil
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
	})
}

// A leader that goes lets its followers go, asleep or not. If the word is lost,
// its node answers for it when they ask.
func TestDestroyedLeaderFreesItsFollowers(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.until("sleep", func() bool { return m.status(1).Asleep && m.status(2).Asleep && m.status(3).Asleep })
		require.NoError(t, m.host(1).Destroy(1))
		m.settle()
		require.False(t, m.host(2).Bound(1))
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
	})
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.lose = dropping(nil, "Release")
		require.NoError(t, m.host(1).Destroy(1))
		m.settle()
		require.True(t, m.host(2).Bound(1))
		m.lose = nil
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
		require.Empty(t, m.host(1).Groups())
	})
}

// A replica that was removed without hearing of it is bound like any other;
// when it asks it is told.
func TestRemovedReplicaThatAsksIsTold(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.lose = dropping([]consensus.NodeID{3}, "Removed", "MsgApp", "MsgHeartbeat")
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.Remove, Member: consensus.Member{Replica: 3}})
		m.tick(5)
		require.Len(t, m.status(1).Voters, 2)
		require.True(t, m.host(3).Bound(1))
		m.lose = nil
		m.until("the end of replica 3", func() bool { return len(m.host(3).Groups()) == 0 })
		require.Zero(t, m.happened("3 campaigns"), "it asked, and did not ask for votes")
		require.Error(t, m.host(3).Create(1, 3, consensus.Initial{}), "its id is spent")
	})
}

// When the promises to a lost node end, one replica of those left campaigns
// and the others wait for it: they would only split the votes.
func TestChosenReplicaCampaignsFirst(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(1)
		m.tick(11)
		require.Equal(t, 1, m.happened("2 suspects"))
		require.Equal(t, 1, m.happened("3 suspects"))
		require.Equal(t, []consensus.NodeID{3}, m.holders())
		require.Zero(t, m.happened("2 campaigns"))
	})
}
