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

// readContext returns the context that a request for a read carries, or "".
func readContext(p transport.Pending) string {
	if kindOf(p) != "MsgReadIndex" {
		return ""
	}
	return string(p.Message.Raft.GetEntries()[0].GetData())
}

// Reads that the wire loses are asked again, each time under a context of its
// own: one that is used again could be confirmed by an answer to its first use.
func TestReadContextIsNeverReused(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		seen := map[string]int{}
		m.lose = func(p transport.Pending) bool {
			c := readContext(p)
			if c != "" {
				seen[c]++
			}
			return c != ""
		}
		first := m.read(2)
		m.tick(30)
		require.False(t, first.ended)
		require.Greater(t, len(seen), 3)
		m.lose = func(p transport.Pending) bool {
			if c := readContext(p); c != "" {
				seen[c]++
			}
			return false
		}
		m.until("the read", func() bool { return first.ended })
		require.NoError(t, first.err)
		// Nor is one of an earlier life, whose answers may still be under way.
		m.crash(2)
		m.restart(2)
		m.tick(3)
		again := m.read(2)
		m.until("the read", func() bool { return again.ended })
		require.NoError(t, again.err)
		for c, n := range seen {
			require.Equal(t, 1, n, "context %x", c)
		}
	})
}

// A follower's round was asked twice. The answer to the first time comes when
// the next round is under way, and is older than the reads of that one.
func TestLateAnswerConfirmsNothing(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.mustPut(1, "k", "old")
		var late uint64
		m.hold = func(p transport.Pending) bool {
			if kindOf(p) == "MsgReadIndexResp" && late == 0 {
				late = p.Seq
			}
			return p.Seq == late
		}
		first := m.read(2)
		m.until("the second answer", func() bool { return first.ended })
		require.NotZero(t, late)
		// A write that replica 2 does not hear of, and a read after it.
		m.lose = dropping([]consensus.NodeID{2}, "MsgApp")
		m.mustPut(1, "k", "new")
		require.Equal(t, "old", m.get(2, "k"))
		m.hold = func(p transport.Pending) bool { return p.Seq == late || kindOf(p) == "MsgReadIndexResp" }
		second := m.read(2)
		m.settle()
		m.hold = func(p transport.Pending) bool { return p.Seq != late && kindOf(p) == "MsgReadIndexResp" }
		m.settle()
		require.False(t, second.ended, "a stale read")
		m.lose, m.hold = nil, nil
		m.until("the read", func() bool { return second.ended })
		require.Equal(t, "new", m.get(2, "k"))
	})
}

// A leader pauses with a read under way. Another one is elected and writes;
// then the answers to the old leader's round arrive. They are older than a
// read that begins now.
func TestPausedLeaderReadsNothingStale(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.mustPut(1, "k", "old")
		m.hold = dropping([]consensus.NodeID{1}, "MsgHeartbeatResp")
		before := m.read(1)
		m.settle()
		require.False(t, before.ended)
		require.NotEmpty(t, m.wire.Pending())
		// Node 1 stands still, and hears and says nothing.
		m.lose = func(p transport.Pending) bool {
			return p.From == 1 || p.To == 1 && kindOf(p) != "MsgHeartbeatResp"
		}
		for range 40 {
			m.tick(1, 2, 3)
		}
		require.Len(t, m.holders(), 1)
		next := m.holders()[0]
		require.NotEqual(t, consensus.NodeID(1), next)
		m.mustPut(next, "k", "new")
		require.Equal(t, "leader", m.status(1).Role)
		after := m.read(1)
		m.settle()
		m.hold = nil
		m.settle()
		require.True(t, before.ended, "it began before the write")
		require.NoError(t, before.err)
		m.tick(8, 1)
		require.False(t, after.ended, "a stale read")
		require.Equal(t, "old", m.get(1, "k"))
		m.lose = nil
		m.until("the read", func() bool { return after.ended })
		require.NoError(t, after.err)
		require.Equal(t, "new", m.get(1, "k"))
	})
}

// A read on a follower waits until what was committed before it is applied
// there.
func TestReadOnFollowerWaitsForItsIndex(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.hold = dropping([]consensus.NodeID{2}, "MsgApp")
		m.mustPut(1, "k", "v")
		read := m.read(2)
		m.settle()
		require.False(t, read.ended)
		require.Equal(t, "-", m.get(2, "k"))
		m.hold = nil
		m.settle()
		require.True(t, read.ended)
		require.NoError(t, read.err)
		require.Equal(t, "v", m.get(2, "k"))
	})
}

// Reads that wait for a leader ask the one that comes at once, and the next one
// when they asked one that is none any more.
func TestReadAsksTheNewLeaderAtOnce(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		reads := []*asyncCall{m.read(2), m.read(3)}
		m.settle()
		require.False(t, reads[0].ended)
		require.NoError(t, m.host(1).Campaign(1))
		m.settle() // and no tick
		for _, r := range reads {
			require.True(t, r.ended)
			require.NoError(t, r.err)
		}
	})
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.hold = dropping([]consensus.NodeID{3}, "MsgVote", "MsgApp", "MsgHeartbeat") // 3 does not hear of 2
		transfer := m.transfer(1, 2)
		m.until("another leader", func() bool { return m.status(2).Role == "leader" && transfer.ended })
		require.EqualValues(t, 1, m.status(3).Leader)
		read := m.read(3)
		m.settle()
		require.False(t, read.ended, "1 must not ask 2 in the name of 3")
		m.hold = nil
		m.settle()
		require.True(t, read.ended)
		require.NoError(t, read.err)
	})
}

// A leader that cannot commit keeps few reads of others, however often they ask,
// and answers those that ask when it can.
func TestEarlyReadsAreBounded(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.crash(3)
		m.hold = dropping([]consensus.NodeID{1}, "MsgAppResp")
		require.NoError(t, m.host(1).Campaign(1))
		m.settle()
		require.Equal(t, "leader", m.status(1).Role)
		p := m.puppet(3)
		for n := range uint64(10 * consensus.MaxEarlyReads) {
			data := make([]byte, 16)
			data[0] = byte(n)
			m.host(1).Receive(3, []transport.Message{consensus.Raft(1, &pb.Message{
				Type: pb.MsgReadIndex.Enum(), From: new(uint64(3)), To: new(uint64(1)), Entries: []*pb.Entry{{Data: data}},
			})})
		}
		m.settle()
		require.Empty(t, p.answers("MsgReadIndexResp"))
		m.hold = nil
		m.settle()
		require.Len(t, p.answers("MsgReadIndexResp"), consensus.MaxEarlyReads)
		read := m.read(2)
		m.settle()
		require.True(t, read.ended)
		require.NoError(t, read.err)
	})
}

// However many reads there are, one round is under way and one waits.
func TestReadsShareRounds(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		for _, id := range []consensus.NodeID{1, 2} {
			const many = 200
			start := m.trace.Len()
			var reads []*asyncCall
			for range many {
				reads = append(reads, m.read(id))
			}
			m.pool.Run() // the first round is on its way
			for range many {
				reads = append(reads, m.read(id))
			}
			m.settle()
			for _, r := range reads {
				require.True(t, r.ended)
				require.NoError(t, r.err)
			}
			sent := m.trace.String()[start:]
			require.LessOrEqual(t, strings.Count(sent, " MsgHeartbeat "), 2*2, "node %d", id)
			if id != 1 {
				require.Equal(t, 2, strings.Count(sent, " MsgReadIndex "))
			}
		}
	})
}

// lag leaves replica 3 behind the log of the others, and heals the wire.
func lag(m *manual) {
	m.elect(1)
	m.mustPut(1, "k", "old")
	m.isolate(3)
	for i := range 8 {
		m.mustPut(1, fmt.Sprint("k", i), strings.Repeat("v", 200))
	}
	m.mustPut(1, "k", "new")
	require.Greater(m.tb, m.status(1).First, m.status(3).Last+1, "the log was never cut")
	m.wire.Heal()
}

func shortLog(o *consensus.Options) { o.LogTailBytes = 500; o.QuiesceTicks = -1 }

// A snapshot brings what a read waits for.
func TestReadIsReleasedByASnapshot(t *testing.T) {
	stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
		lag(m)
		open := shut(&m.node(3).stall)
		m.tick(3)
		require.NotZero(t, m.host(3).Stats().SnapshotsReceived)
		read := m.read(3)
		m.settle()
		require.False(t, read.ended)
		open()
		m.settle()
		require.True(t, read.ended)
		require.NoError(t, read.err)
		require.Equal(t, "new", m.get(3, "k"))
	})
}

// A host that closes leaves nobody waiting: not the round under way, nor the
// next, nor one that waits for its index.
func TestReadsEndWithTheHost(t *testing.T) {
	for name, end := range map[string]func(*consensus.Host){
		"close": func(h *consensus.Host) { _ = h.Close() },
		"crash": func(h *consensus.Host) { h.Crash() },
	} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
				m.elect(1)
				m.lose = dropping([]consensus.NodeID{2}, "MsgApp")
				m.mustPut(1, "k", "v")
				reads := []*asyncCall{m.read(2)}
				m.settle() // waits for its index
				m.lose = dropping(nil, "MsgApp", "MsgReadIndex")
				for range 2 {
					reads = append(reads, m.read(2)) // under way, and next
					m.pool.Run()
				}
				m.settle()
				for _, r := range reads {
					require.False(t, r.ended)
				}
				end(m.host(2))
				m.finished()
				for _, r := range reads {
					require.True(t, r.ended)
					require.ErrorIs(t, r.err, consensus.ErrRejected)
					require.ErrorIs(t, r.err, consensus.ErrClosed)
				}
				late := m.read(2)
				m.finished()
				require.ErrorIs(t, late.err, consensus.ErrRejected)
			})
		})
	}
}

// A caller that gives up does not disturb those who share its round.
func TestCancelledReadLeavesItsRound(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.hold = dropping(nil, "MsgReadIndex")
		one, other := m.read(2), m.read(2)
		m.settle()
		one.cancel()
		m.finished()
		require.True(t, one.ended)
		require.ErrorIs(t, one.err, consensus.ErrRejected)
		require.False(t, other.ended)
		m.hold = nil
		m.settle()
		require.True(t, other.ended)
		require.NoError(t, other.err)
	})
}
