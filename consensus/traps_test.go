package consensus_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// What others built on Raft stumbled over, one test each.

// A log bounded in entries is not bounded in memory when entries are large.
func TestLogIsBoundedInBytes(t *testing.T) {
	const tail, entry = 64 << 10, 16 << 10
	o := func(o *consensus.Options) { o.LogTailBytes = tail }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		for i := range 40 {
			m.mustPut(1, fmt.Sprint("k", i), strings.Repeat("v", entry))
			for id := consensus.NodeID(1); id <= 3; id++ {
				st := m.status(id)
				require.LessOrEqual(t, st.LogBytes, int64(tail+2*entry), "node %d after %d entries", id, i)
				require.Less(t, st.Last-st.First, uint64(7))
			}
		}
		require.NotZero(t, m.host(2).Stats().Truncations)
		// Small entries take more of them, not more bytes.
		for i := range 40 {
			m.mustPut(1, fmt.Sprint("s", i), "v")
		}
		require.Greater(t, m.status(1).Last-m.status(1).First, uint64(40))
	})
}

// What a leader was refused for, or lost with its term, is not charged to it
// for ever.
func TestQuotaReturnsWithTheTerm(t *testing.T) {
	o := func(o *consensus.Options) { o.MaxGroupBytes = 4096; o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		for round := range 3 {
			m.lose = dropping(nil, "MsgAppResp")
			var stuck []*asyncCall
			for i := range 10 {
				c := m.propose(1, fmt.Sprint("k", i), strings.Repeat("v", 1000))
				m.settle()
				stuck = append(stuck, c)
			}
			refused := 0
			for _, c := range stuck {
				if c.ended {
					var over *consensus.OverloadError
					require.ErrorAs(t, c.err, &over)
					refused++
				}
			}
			require.Equal(t, 7, refused, "of 10 times 1,000 bytes, round %d", round)
			// Another leads, and overwrites or commits what was left.
			m.lose = func(p transport.Pending) bool { return p.From == 1 || p.To == 1 }
			m.until("another leader", func() bool { return len(m.holders()) == 1 && m.holders()[0] != 1 })
			m.lose = nil
			m.tick(3)
			require.Zero(t, m.host(1).Stats().PendingBytes, "round %d", round)
			m.transfer(m.holders()[0], 1)
			m.settle()
			m.until("the lease", func() bool { return len(m.holders()) == 1 && m.holders()[0] == 1 })
			for i := range 10 {
				m.mustPut(1, fmt.Sprint("k", i), strings.Repeat("w", 1000))
			}
		}
	})
}

// A snapshot is what the machine held when it was frozen, however much is
// applied before it is written.
func TestSnapshotIsOfOneIndex(t *testing.T) {
	stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
		open := shut(&m.node(1).freeze)
		lag(m)
		m.until("a frozen view", func() bool { return m.host(1).Stats().SnapshotsSent > 0 })
		at := m.status(1).Applied
		for i := range 20 {
			m.mustPut(1, "k", fmt.Sprint("later", i))
		}
		m.mustPut(1, "x", "y")
		m.lose = dropping([]consensus.NodeID{3}, "MsgApp")
		open()
		m.settle()
		require.Equal(t, at, m.status(3).Applied)
		require.Equal(t, "new", m.get(3, "k"))
		require.Equal(t, "-", m.get(3, "x"))
		m.lose = nil
		m.until("the rest", func() bool { return m.status(3).Applied == m.status(1).Applied })
		require.Equal(t, "later19", m.get(3, "k"))
	})
}

// Nor is it frozen in the middle of a batch: a follower that needs one waits.
func TestNoSnapshotWhileABatchIsApplied(t *testing.T) {
	o := func(o *consensus.Options) { shortLog(o); o.AsyncApply = true }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		lag(m)
		m.lose = dropping([]consensus.NodeID{3}, "MsgApp", "MsgHeartbeat")
		open := shut(&m.node(1).apply)
		c := m.propose(1, "k", "newer")
		m.settle()
		require.True(t, m.node(1).applying.Load())
		m.lose = nil
		m.tick(5)
		require.False(t, c.ended)
		require.Zero(t, m.host(1).Stats().SnapshotsSent)
		require.Zero(t, m.node(1).early.Load(), "views in the middle of a batch")
		open()
		m.until("replica 3", func() bool { return m.get(3, "k") == "newer" })
		require.NotZero(t, m.host(1).Stats().SnapshotsSent)
	})
}

// When the leader hears that a snapshot was taken, machine and log of the
// receiver survive a loss of power.
func TestSnapshotIsDurableBeforeItIsAcknowledged(t *testing.T) {
	for _, stage := range []string{"before", "after"} {
		t.Run(stage+" the answer", func(t *testing.T) {
			crashable := func() vfs.FS { return vfs.NewCrashableMem() }
			stepwise(t, manualOptions{host: shortLog, fs: crashable}, func(t *testing.T, m *manual) {
				lag(m)
				at := m.status(1).Applied
				open := shut(&m.node(3).stall)
				m.hold = func(p transport.Pending) bool {
					return p.From == 3 && kindOf(p) == "MsgAppResp" && p.Message.Raft.GetIndex() >= at
				}
				m.tick(3)
				if stage == "after" {
					open()
					m.settle()
					require.NotEmpty(t, m.wire.Pending())
				}
				// The power goes, and with it everything that was not synced.
				clone := m.node(3).fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
				m.crash(3)
				m.hold = nil
				m.node(3).fs = clone
				m.restart(3)
				st := m.status(3)
				require.Equal(t, at, st.Applied)
				require.Equal(t, at+1, st.First)
				require.Equal(t, "new", m.get(3, "k"))
				m.mustPut(1, "after", "v")
				m.until("replica 3", func() bool { return m.get(3, "after") == "v" })
			})
		})
	}
}

// An id that comes back with an empty disk breaks what it once acknowledged.
func TestIdsAreNeverReused(t *testing.T) {
	stepwise(t, manualOptions{nodes: 4, replicas: 3}, func(t *testing.T, m *manual) {
		m.elect(1)
		c := m.reconfigure(1, consensus.ChangeStep{Kind: consensus.Remove, Member: consensus.Member{Replica: 3}})
		m.tick(2)
		require.NoError(t, c.err)
		require.Empty(t, m.host(3).Groups())
		for range 2 {
			for id := consensus.ReplicaID(1); id <= 3; id++ {
				require.Error(t, m.host(3).Create(1, id, consensus.Initial{}), "replica %d is spent here", id)
			}
			m.crash(3)
			m.restart(3)
			require.Empty(t, m.host(3).Groups())
		}
		for _, kind := range []consensus.ChangeKind{consensus.AddLearner, consensus.AddVoter} {
			c := m.reconfigure(1, consensus.ChangeStep{Kind: kind, Member: consensus.Member{Replica: 3, Node: 4}})
			m.settle()
			require.ErrorIs(t, c.err, consensus.ErrInvalidChange)
		}
		// A new id is welcome, though the node held another before.
		member := consensus.Member{Replica: 4, Node: 3}
		require.NoError(t, m.host(3).Create(1, 4, consensus.Initial{}))
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddVoter, Member: member})
		m.until("replica 4", func() bool { return m.status(3).Applied == m.status(1).Applied })
		require.Contains(t, m.status(3).Voters, member)
	})
}

// No message makes a replica: only Create does.
func TestMessagesCreateNoReplica(t *testing.T) {
	stepwise(t, manualOptions{nodes: 4, replicas: 3}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		p := m.puppet(3)
		for _, kind := range []pb.MessageType{pb.MsgApp, pb.MsgHeartbeat, pb.MsgVote, pb.MsgPreVote, pb.MsgTimeoutNow} {
			got := p.say(4, consensus.Raft(1, &pb.Message{Type: kind.Enum(), From: new(uint64(3)), To: new(uint64(4)), Term: new(uint64(9))}))
			require.Empty(t, got)
		}
		for _, kind := range consensus.KindNames {
			if kind != "Ask" && kind != "Frame" {
				require.Empty(t, p.say(4, consensus.Tell(1, 3, 4, kind, 9, 4)))
			}
		}
		require.Empty(t, m.host(4).Groups())
		// Nor does one for another id reach the replica that is there.
		term := m.status(2).Term
		p.say(2, consensus.Raft(1, &pb.Message{Type: pb.MsgApp.Enum(), From: new(uint64(3)), To: new(uint64(7)), Term: new(uint64(9))}))
		p.say(2, consensus.Tell(1, 3, 7, "Removed", 7), consensus.Tell(1, 3, 2, "Removed", 7))
		require.Equal(t, term, m.status(2).Term)
	})
}

// A member that was away comes back and disturbs nobody: its term did not
// grow, for it asked before it campaigned.
func TestReturningMemberDisturbsNobody(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		term := m.status(1).Term
		m.isolate(3)
		m.tick(100)
		require.NotZero(t, m.happened("3 campaigns"))
		m.wire.Heal()
		m.tick(10)
		for id := consensus.NodeID(1); id <= 3; id++ {
			require.Equal(t, term, m.status(id).Term)
			require.Equal(t, consensus.ReplicaID(1), m.status(id).Leader)
		}
		require.Equal(t, 1, m.happened("1 leads"))
	})
}

// A configuration stays joint, its leader dies, and a member of each half is
// down: the others elect a leader that ends the change.
func TestJointChangeSurvivesItsLeader(t *testing.T) {
	awake := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	stepwise(t, manualOptions{nodes: 6, replicas: 5, host: awake}, func(t *testing.T, m *manual) {
		m.elect(1)
		member := consensus.Member{Replica: 6, Node: 6}
		require.NoError(t, m.host(6).Create(1, 6, consensus.Initial{}))
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.AddLearner, Member: member})
		m.until("the learner", func() bool { return m.status(6).Applied == m.status(1).Applied })
		m.crash(5)
		// The entry that leaves the joint configuration reaches nobody.
		joint := func() bool { return m.status(1).Joint }
		m.lose = func(p transport.Pending) bool {
			return kindOf(p) == "MsgApp" && joint() && p.Message.Raft.GetIndex() >= m.status(1).Commit
		}
		m.reconfigure(1, consensus.ChangeStep{Kind: consensus.Promote, Member: member},
			consensus.ChangeStep{Kind: consensus.Remove, Member: consensus.Member{Replica: 5}})
		m.tick(1)
		require.True(t, joint())
		m.crash(1)
		m.lose = nil
		m.until("a leader", func() bool { return len(m.holders()) == 1 })
		m.until("the end of the change", func() bool { return !m.status(m.holders()[0]).Joint })
		st := m.status(m.holders()[0])
		require.Len(t, st.Voters, 5)
		require.Contains(t, st.Voters, member)
		m.mustPut(m.holders()[0], "k", "v")
	})
}

// Full batches need not wait for the log: they would not grow. A few of them
// share a write, and the rest waits as ever.
func TestFullBatchesShareAWrite(t *testing.T) {
	o := func(o *consensus.Options) { o.QuiesceTicks, o.MaxBatchCommands = -1, 2 }
	const delay = time.Hour
	stepwise(t, manualOptions{nodes: 1, host: o, delay: delay}, func(t *testing.T, m *manual) {
		write := func() {
			for range 6 {
				time.Sleep(delay)
				m.settle()
			}
		}
		m.tick(2)
		require.NoError(t, m.host(1).Campaign(1))
		write()
		m.tick(2)
		before := m.status(1).Last
		var calls []*asyncCall
		for i, want := range []int{1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 4, 4} { // the first travels alone
			calls = append(calls, m.propose(1, fmt.Sprint("k", i), "v"))
			m.settle()
			own, unstable := m.host(1).Gate(1)
			require.Equal(t, [2]int{0, want}, [2]int{own, unstable}, "after %d commands", i+1)
		}
		require.Equal(t, before+4, m.status(1).Last)
		write()
		for _, c := range calls {
			require.True(t, c.ended, c.name)
			require.NoError(t, c.err, c.name)
		}
		require.Equal(t, before+7, m.status(1).Last, "of 12 commands the first travelled alone")
	})
}

// More appends under way make a fast network slower: one batch at a time waits
// for the own log, and what comes meanwhile shares the next. A leader that
// steps down in between is not held back by it later.
func TestOneBatchWaitsForTheLog(t *testing.T) {
	o := func(o *consensus.Options) { o.QuiesceTicks = -1 }
	const delay = time.Hour
	stepwise(t, manualOptions{host: o, delay: delay}, func(t *testing.T, m *manual) {
		write := func() { // as long as anything waits for a log
			for range 6 {
				time.Sleep(delay)
				m.settle()
			}
		}
		m.tick(2)
		require.NoError(t, m.host(1).Campaign(1))
		write()
		m.tick(2)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		first := m.propose(1, "k", "first")
		m.settle()
		last := m.status(1).Last
		var rest []*asyncCall
		for i := range 20 {
			rest = append(rest, m.propose(1, fmt.Sprint("k", i), "v"))
			m.settle()
			own, unstable := m.host(1).Gate(1)
			require.Equal(t, [2]int{0, 1}, [2]int{own, unstable})
		}
		require.Equal(t, last, m.status(1).Last)
		write()
		require.Equal(t, last+1, m.status(1).Last, "20 commands are one entry")
		require.True(t, first.ended)
		for _, c := range rest {
			require.True(t, c.ended)
			require.NoError(t, c.err)
		}
		// Deposed with a batch that is not stable.
		m.crash(3)
		p := m.puppet(3)
		write()
		stuck := m.propose(1, "k", "stuck")
		m.settle()
		_, unstable := m.host(1).Gate(1)
		require.Equal(t, 1, unstable)
		term := m.status(1).Term
		p.say(1, consensus.Raft(1, &pb.Message{
			Type: pb.MsgHeartbeat.Enum(), From: new(uint64(3)), To: new(uint64(1)), Term: new(term + 1), Commit: new(uint64(0)),
		}))
		require.Equal(t, "follower", m.status(1).Role)
		_, unstable = m.host(1).Gate(1)
		require.Zero(t, unstable)
		write()
		require.False(t, stuck.ended, "nothing tells yet")
		m.until("the lead", func() bool {
			_ = m.host(1).Campaign(1)
			write()
			return m.status(1).Role == "leader" || m.status(2).Role == "leader"
		})
		if m.status(2).Role == "leader" {
			m.transfer(2, 1)
			write()
		}
		c := m.propose(1, "k", "again")
		m.settle()
		write()
		require.True(t, c.ended)
		require.NoError(t, c.err)
		require.True(t, stuck.ended)
	})
}
