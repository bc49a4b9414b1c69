package consensus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

func removing(id consensus.ReplicaID) consensus.ChangeStep {
	return consensus.ChangeStep{Kind: consensus.Remove, Member: consensus.Member{Replica: id}}
}

// A replica that was removed stays, and votes, until a majority of the voters
// that are left have said that they know: until then its vote may be what elects
// a leader at all.
func TestRemovedReplicaStaysUntilAMajorityKnows(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 4, replicas: 4, host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		// 3 and 4 do not hear that the change was committed.
		m.lose = func(p transport.Pending) bool {
			r := p.Message.Raft
			return p.To >= 3 && (kindOf(p) == "MsgHeartbeat" || kindOf(p) == "Ask" || r != nil && kindOf(p) == "MsgApp" && len(r.GetEntries()) == 0)
		}
		m.reconfigure(1, removing(2))
		m.tick(20)
		require.Len(t, m.status(1).Voters, 3)
		require.Len(t, m.status(3).Voters, 4, "it knows already")
		require.Equal(t, []consensus.GroupID{1}, m.host(2).Groups(), "it went on the word of one of three")
		// 1 is lost. Those who do not know need three votes of four.
		m.crash(1)
		m.lose = nil
		m.until("another leader", func() bool { return len(m.holders()) == 1 })
		m.until("the end of replica 2", func() bool { return len(m.host(2).Groups()) == 0 })
		m.mustPut(m.holders()[0], "k", "v")
	})
}

// Voters of which one lags name different ones to a replica that was removed. Each
// word makes it ask, and each question brings another word: it asks once a tick, or
// the two would go on for as long as the voter lags, and grow where there are more.
func TestRemovedReplicaAsksOncePerTick(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 5, replicas: 5, host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.isolate(5)
		m.reconfigure(1, removing(5))
		m.tick(2)
		require.Len(t, m.status(3).Voters, 4)
		// 3 does not hear that 4 left too, and 2 is not there to settle it.
		asked := 0
		behind := func(p transport.Pending) bool {
			if p.From == 5 && kindOf(p) == "Ask" {
				asked++
			}
			r := p.Message.Raft
			return p.To == 3 && (kindOf(p) == "MsgHeartbeat" || r != nil && kindOf(p) == "MsgApp" && len(r.GetEntries()) == 0)
		}
		m.lose = behind
		m.reconfigure(1, removing(4))
		m.tick(2)
		require.Len(t, m.status(1).Voters, 3)
		require.Len(t, m.status(3).Voters, 4, "it knows already")
		m.crash(2)
		m.wire.Heal()
		for range 30 {
			before := asked
			m.tick(1)
			require.LessOrEqual(t, asked-before, 8, "four members are asked, twice at most")
		}
		require.NotZero(t, asked)
		require.Equal(t, []consensus.GroupID{1}, m.host(5).Groups(), "it went though no majority agreed")
		m.lose = nil
		m.until("the end of replica 5", func() bool { return len(m.host(5).Groups()) == 0 })
	})
}

// A replica that sleeps when it hears of its removal, and whose questions are lost,
// asks again: nobody else would speak to it.
func TestRemovedSleeperAsksAgain(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.untilAsleep(1, 2, 3)
		m.lose = func(p transport.Pending) bool {
			k := kindOf(p)
			return k != "Frame" && (p.From == 3 || p.To == 3 && k != "Removed")
		}
		c := m.reconfigure(1, removing(3))
		m.tick(1)
		require.True(t, c.ended)
		require.NoError(t, c.err)
		require.Equal(t, []consensus.GroupID{1}, m.host(3).Groups())
		m.lose = nil
		m.until("its end", func() bool { return len(m.host(3).Groups()) == 0 })
	})
}

// A replica that applied its own removal asks at once, and not only when it has
// heard of nobody for an election timeout.
func TestRemovedReplicaAsksAtOnce(t *testing.T) {
	slow := func(o *consensus.Options) { o.QuiesceTicks, o.ElectionTicks = -1, 40 }
	stepwise(t, manualOptions{host: slow}, func(t *testing.T, m *manual) {
		unbound := dropping([]consensus.NodeID{3}, "Fortify") // or it asks for its promise's sake
		m.lose = unbound
		m.elect(1)
		require.False(t, m.host(3).Bound(1))
		told := 0
		m.lose = func(p transport.Pending) bool {
			if kindOf(p) == "Removed" {
				told++
			}
			return told == 1 && kindOf(p) == "Removed" || unbound(p) // the leader's, unasked
		}
		m.reconfigure(1, removing(3))
		m.settle()
		require.NotZero(t, told)
		m.tick(25) // it asks twice per election timeout
		require.Empty(t, m.host(3).Groups())
	})
}

// No two voters share a node, and a replica is made where its voter lives.
func TestCreateRefusesVotersThatShareANode(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		err := m.host(1).Create(2, 1, consensus.Initial{Voters: []consensus.Member{{Replica: 1, Node: 1}, {Replica: 2, Node: 1}}})
		require.ErrorContains(t, err, "voters 1 and 2 share node 1")
		require.Equal(t, []consensus.GroupID{1}, m.host(1).Groups())
	})
}

// A learner that was removed, and did not hear of it, asks when it hears of
// nobody, and goes.
func TestRemovedLearnerAsks(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 4, replicas: 3, host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		require.NoError(t, m.host(4).Create(1, 4, consensus.Initial{}))
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddLearner, Member: consensus.Member{Replica: 4, Node: 4}})
		m.until("the learner", func() bool { return m.status(4).Applied == m.status(1).Applied })
		m.isolate(4)
		c := m.reconfigure(1, removing(4))
		m.tick(2)
		require.True(t, c.ended)
		require.NoError(t, c.err)
		m.wire.Heal()
		m.until("its end", func() bool { return len(m.host(4).Groups()) == 0 })
	})
}

// A configuration that is joint when a transfer begins is left when the transfer
// has failed: Raft forgets to.
func TestJointIsLeftAfterATransferRacedIt(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 5, replicas: 3, host: awake}, func(t *testing.T, m *manual) {
		swap := beginSwap(t, m)
		// The word to transfer comes from another node, as Raft allows, when the
		// joint configuration is about to be applied.
		m.hold = dropping([]consensus.NodeID{1}, "MsgAppResp")
		c := m.reconfigure(1, swap...)
		m.settle()
		require.False(t, m.status(1).Joint)
		refused := m.transfer(1, 2)
		m.settle()
		require.True(t, refused.ended, "a transfer while a change is under way")
		require.ErrorIs(t, refused.err, consensus.ErrReconfiguring)
		m.lose = dropping(nil, "MsgTimeoutNow")
		m.host(1).TransferInRaft(1, 2)
		m.hold = nil
		m.settle()
		require.True(t, m.status(1).Joint)
		m.lose = nil
		m.until("the end of the change", func() bool { return !m.status(1).Joint })
		m.settle()
		require.True(t, c.ended)
		require.NoError(t, c.err)
	})
}

// The index of a configuration grows with each change, and is the same on every
// replica that has it: after a snapshot and a restart too.
func TestConfigIndex(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 4, replicas: 3, host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		first := m.status(1).ConfigIndex
		require.NotZero(t, first)
		require.Equal(t, first, m.status(2).ConfigIndex)
		require.NoError(t, m.host(4).Create(1, 4, consensus.Initial{}))
		require.Zero(t, m.status(4).ConfigIndex)
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddLearner, Member: consensus.Member{Replica: 4, Node: 4}})
		m.until("the learner", func() bool { return m.status(4).ConfigIndex > first })
		second := m.status(1).ConfigIndex
		require.Greater(t, second, first)
		require.Equal(t, second, m.status(4).ConfigIndex)
		m.crash(4)
		m.restart(4)
		m.until("its log", func() bool { return m.status(4).ConfigIndex == second })
		m.reconfigure(1, removing(4))
		m.settle()
		require.Greater(t, m.status(1).ConfigIndex, second)
	})
}

// A replica whose members have all left while its node was away finds nobody to tell
// it that it was removed, until somebody says where the group is now; and then it goes
// on the group's word, not on that.
func TestRemovedReplicaIsToldWhomToAsk(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 5, replicas: 3, host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.isolate(3)
		for id := consensus.ReplicaID(4); id <= 5; id++ {
			node := consensus.NodeID(id)
			require.NoError(t, m.host(node).Create(1, id, consensus.Initial{}))
			m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddVoter, Member: consensus.Member{Replica: id, Node: node}})
			m.until("the new replica", func() bool { return m.status(node).Applied == m.status(1).Applied })
		}
		m.reconfigure(1, removing(3), removing(2))
		m.until("the end of replica 2", func() bool { return len(m.host(2).Groups()) == 0 })
		m.transfer(1, 4)
		m.until("another leader", func() bool { h := m.holders(); return len(h) == 1 && h[0] == 4 })
		m.reconfigure(4, removing(1))
		m.until("the end of replica 1", func() bool { return len(m.host(1).Groups()) == 0 })
		m.wire.Heal()
		m.tick(60)
		require.Equal(t, []consensus.GroupID{1}, m.host(3).Groups(), "somebody told it after all")
		// Somebody who is wrong does no harm: a member stays.
		require.NoError(t, m.host(5).AskRemoved(1, []consensus.Member{{Replica: 4, Node: 4}, {Replica: 9, Node: 2}}))
		require.NoError(t, m.host(3).AskRemoved(1, []consensus.Member{{Replica: 4, Node: 4}, {Replica: 5, Node: 5}}))
		m.tick(2)
		require.Empty(t, m.host(3).Groups())
		require.Equal(t, []consensus.GroupID{1}, m.host(5).Groups())
		require.ErrorIs(t, m.host(3).AskRemoved(1, nil), consensus.ErrNoReplica)
	})
}
