package consensus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// slumbers are the sleeps that have begun and not ended.
type slumbers map[sleeper]consensus.Event

type sleeper struct {
	node  consensus.NodeID
	group consensus.GroupID
}

func (s slumbers) forget(node consensus.NodeID) {
	for k := range s {
		if k.node == node {
			delete(s, k)
		}
	}
}

// checkSleep holds every test to what the events of sleep promise: they come in
// pairs, and a leader has nothing in its log or on the way there but what it
// named when it fell asleep.
func (m *manual) checkSleep(e consensus.Event) {
	m.tb.Helper()
	h, key := m.node(e.Node).host, sleeper{e.Node, e.Group}
	began, sleeps := m.asleepAt[key]
	if e.Kind == consensus.EventSleep {
		require.False(m.tb, sleeps, "%+v falls asleep again", e)
		if m.asleepAt == nil {
			m.asleepAt = slumbers{}
		}
		m.asleepAt[key] = e
	} else {
		require.True(m.tb, sleeps, "%+v wakes and did not sleep", e)
		delete(m.asleepAt, key)
		began.Kind = e.Kind
		require.Equal(m.tb, began, e)
	}
	st, err := h.Status(e.Group)
	require.NoError(m.tb, err)
	require.Equal(m.tb, e.Replica, st.Replica)
	if e.Leading {
		require.Equal(m.tb, e.Index, st.Last, "%+v", e)
		require.Equal(m.tb, e.Index, st.Applied, "%+v", e)
		require.Equal(m.tb, e.Term, st.Term, "%+v", e)
		require.Equal(m.tb, "leader", st.Role, "%+v", e)
		require.False(m.tb, h.Moves(e.Group), "%+v: something was proposed", e)
	}
	if e.Kind == consensus.EventSleep {
		require.Equal(m.tb, e.Index, st.Last, "%+v", e)
		require.Equal(m.tb, e.Index, st.Commit, "%+v", e)
		require.Equal(m.tb, st.Role == "leader", e.Leading, "%+v", e)
	}
}

// The events of sleep tell leader and followers apart, and a replica that is
// destroyed asleep wakes. What else they promise every test checks.
func TestSleepIsTold(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.untilAsleep(1, 2, 3)
		require.Len(t, m.asleepAt, 3)
		for id := consensus.NodeID(1); id <= 3; id++ {
			e := m.asleepAt[sleeper{id, 1}]
			require.Equal(t, id == 1, e.Leading)
			require.Equal(t, m.status(1).Term, e.Term)
			require.Equal(t, m.status(1).Last, e.Index)
		}
		require.NoError(t, m.host(3).Destroy(1))
		require.Len(t, m.asleepAt, 2)
		c := m.reconfigure(1, removing(3)) // a change wakes it like any proposal
		m.settle()
		require.True(t, c.ended)
		require.Empty(t, m.asleepAt)
	})
}

// asleep says whether the replicas of group 1 on the nodes given all sleep.
func (m *manual) asleep(nodes ...consensus.NodeID) bool {
	for _, id := range nodes {
		if !m.status(id).Asleep {
			return false
		}
	}
	return true
}

func (m *manual) untilAsleep(nodes ...consensus.NodeID) {
	m.tb.Helper()
	m.until("sleep", func() bool { return m.asleep(nodes...) })
}

// A leader that gave up its lease asks for no bindings, and yet does not sleep
// without a quorum of voters: a learner elects nobody.
func TestNoSleepWithoutAQuorum(t *testing.T) {
	patient := func(o *consensus.Options) { o.ElectionTicks, o.QuiesceTicks = 40, 2 }
	for name, tc := range map[string]struct {
		replicas int
		down     []consensus.NodeID
	}{
		"two of three":               {3, []consensus.NodeID{2, 3}},
		"one of two, with a learner": {2, []consensus.NodeID{2}},
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{nodes: 3, replicas: tc.replicas, host: patient}, func(t *testing.T, m *manual) {
				m.elect(1)
				if tc.replicas == 2 {
					require.NoError(t, m.host(3).Create(1, 3, consensus.Initial{}))
					m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddLearner, Member: consensus.Member{Replica: 3, Node: 3}})
				}
				m.untilAsleep(1, 2, 3)
				m.lose = dropping(nil, "MsgTimeoutNow")
				lost := m.transfer(1, 2)
				m.until("the end of the transfer", func() bool { return lost.ended })
				require.Empty(t, m.holders())
				m.untilAsleep(1)
				m.mustPut(1, "k", "v") // wakes it
				for _, id := range tc.down {
					m.crash(id)
				}
				m.tick(20)
				require.Equal(t, "leader", m.status(1).Role)
				require.False(t, m.asleep(1))
			})
		})
	}
}

// Who is behind but heard, even one way only, is not left behind.
func TestNoSleepWithoutOneThatIsHeard(t *testing.T) {
	quick := func(o *consensus.Options) { o.QuiesceTicks = 2 }
	for name, cut := range map[string]func(transport.Pending) bool{
		"all but its frames":  func(p transport.Pending) bool { return p.From == 3 && kindOf(p) != "Frame" },
		"all to it":           func(p transport.Pending) bool { return p.To == 3 },
		"all but frames to 3": func(p transport.Pending) bool { return p.To == 3 && kindOf(p) != "Frame" },
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{host: quick}, func(t *testing.T, m *manual) {
				m.elect(1)
				m.lose = cut
				m.mustPut(1, "k", "v")
				m.tick(40)
				require.False(t, m.asleep(1))
				m.lose = nil
				m.untilAsleep(1, 2, 3)
				require.Equal(t, "v", m.get(3, "k"))
			})
		})
	}
}

// A follower that does not know that the last entry was committed refuses to
// sleep, and its leader does not sleep either.
func TestFollowerRefusesToSleep(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		said := false
		m.lose = func(p transport.Pending) bool {
			said = said || p.To == 3 && kindOf(p) == "Quiesce"
			r := p.Message.Raft
			// Nor may it ask whether its leader still leads: that wakes it too.
			return kindOf(p) == "Ask" || p.To == 3 && r != nil && r.GetCommit() > m.status(3).Commit && len(r.GetEntries()) == 0
		}
		m.mustPut(1, "k", "v")
		m.until("word to sleep", func() bool { return said })
		require.False(t, m.asleep(3))
		require.False(t, m.asleep(1))
		m.lose = nil
		m.untilAsleep(1, 2, 3)
		require.Equal(t, "v", m.get(3, "k"))
	})
}

// A learner is left behind like a voter, and waited for like one.
func TestSleepWithoutALearner(t *testing.T) {
	stepwise(t, manualOptions{nodes: 4, replicas: 3}, func(t *testing.T, m *manual) {
		m.elect(1)
		require.NoError(t, m.host(4).Create(1, 4, consensus.Initial{}))
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddLearner, Member: consensus.Member{Replica: 4, Node: 4}})
		m.untilAsleep(1, 2, 3, 4)
		m.crash(4)
		m.mustPut(1, "k", "v")
		m.untilAsleep(1, 2, 3)
		m.restart(4)
		m.untilAsleep(1, 2, 3, 4)
		require.Equal(t, "v", m.get(4, "k"))
	})
}

// A late answer of a node that the group sleeps without makes its leader read for
// it. What is read does not stay for as long as the group sleeps: other groups
// need the room.
func TestNothingReadAheadSleeps(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.isolate(3)
		for i := range 10 { // two appends of the largest size
			m.mustPut(1, fmt.Sprint("k", i), strings.Repeat("v", 200<<10))
		}
		m.host(1).Unreachable(3) // or Raft takes what it sent for received
		m.untilAsleep(1, 2)
		require.Zero(t, m.host(1).Stats().WarmBytes)
		term := m.status(1).Term
		m.host(1).Receive(3, []transport.Message{consensus.Raft(1, &pb.Message{
			Type: pb.MsgHeartbeatResp.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(term),
		})})
		m.settle()
		require.NotZero(t, m.host(1).Stats().WarmBytes)
		m.tick(15)
		require.Zero(t, m.host(1).Stats().WarmBytes)
		m.untilAsleep(1, 2)
	})
}

// Thousands of groups that slept without a node do not all wake with its first
// frame, and yet all of them do, though nothing else happens on the host.
func TestGroupsWakeAFewAtATime(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		groups := []consensus.GroupID{1}
		for g := consensus.GroupID(2); len(groups) < 3*consensus.WakePace+10; g++ {
			if consensus.Bucket(g) == 0 {
				continue // as on a worker that has none of its groups there
			}
			groups = append(groups, g)
			for _, v := range m.voters() {
				require.NoError(t, m.host(v.Node).Create(g, v.Replica, consensus.Initial{Voters: m.voters()}))
			}
		}
		m.tick(2)
		for _, g := range groups {
			require.NoError(t, m.host(1).Campaign(g))
			m.settle()
		}
		awake := func() (n int) {
			for _, g := range groups {
				if st, err := m.host(1).Status(g); err == nil && !st.Asleep {
					n++
				}
			}
			return n
		}
		m.isolate(3)
		m.until("sleep", func() bool { return awake() == 0 })
		require.Zero(t, m.happened("2 campaigns"))
		m.wire.Heal()
		// One frame of 3, and then 1 alone ticks: what else wakes them is lost.
		m.lose = func(p transport.Pending) bool { return p.From == 3 && kindOf(p) != "Frame" }
		m.tick(1, 3)
		require.Equal(t, consensus.WakePace, awake())
		for ticks := 1; awake() < len(groups); ticks++ {
			before := awake()
			m.tick(1, 1)
			require.LessOrEqual(t, awake(), before+consensus.WakePace)
			require.LessOrEqual(t, ticks, 4, fmt.Sprint(awake(), " of ", len(groups)))
		}
	})
}
