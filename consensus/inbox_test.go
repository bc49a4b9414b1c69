package consensus_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// flood hands node 2 the same message of node 3 n times, before its worker gets
// to see any, and returns how many of them it dropped.
func (m *manual) flood(n int, msg transport.Message) uint64 {
	all := make([]transport.Message, n)
	for i := range all {
		all[i] = msg
	}
	before := m.host(2).Stats().Dropped
	m.host(2).Receive(3, all)
	return m.host(2).Stats().Dropped - before
}

// stale is a message of an earlier term, to which Raft has little to say.
func stale(t pb.MessageType, entries ...*pb.Entry) transport.Message {
	return consensus.Raft(1, &pb.Message{
		Type: t.Enum(), From: new(uint64(3)), To: new(uint64(2)), Term: new(uint64(1)),
		Index: new(uint64(1)), LogTerm: new(uint64(1)), Entries: entries,
	})
}

// A worker that does not get to its messages holds so many and no more. What is
// dropped is counted and gives its bytes back; what the node itself asks for
// still finds room.
func TestInboxIsBounded(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(2)
		m.transfer(2, 1) // so that term 1 has passed
		m.settle()
		m.until("the lease", func() bool { return len(m.holders()) == 1 && m.holders()[0] == 1 })
		m.crash(3)
		m.puppet(3)
		small := stale(pb.MsgHeartbeatResp)
		own := consensus.Tell(1, 3, 2, "Fortified", 1, 1, 1)
		entry := stale(pb.MsgApp, &pb.Entry{Term: new(uint64(1)), Index: new(uint64(2)), Data: make([]byte, 100)})
		for range 2 {
			require.Zero(t, m.flood(consensus.MaxInbox/2, small))
			require.Zero(t, m.flood(consensus.MaxInbox/2, own))
			require.Equal(t, uint64(5), m.flood(5, small))
			require.Equal(t, uint64(5), m.flood(5, own), "the Host's own messages")
			require.Equal(t, uint64(5), m.flood(5, entry))
			waits := int64(consensus.MaxInbox / 2 * len(own.Payload))
			require.Equal(t, waits, m.host(2).InboxBytes(1), "what was dropped gave its bytes back")
			put := m.propose(1, "k", "v") // of a worker whose inbox is full
			m.settle()
			require.True(t, put.ended)
			require.NoError(t, put.err)
			m.tick(1)
			require.Equal(t, "v", m.get(2, "k"))
		}
	})
}

// Messages are few and entries large: what waits is bounded in bytes as well,
// and there is room again when the worker has seen them.
func TestInboxIsBoundedInBytes(t *testing.T) {
	const size = 1 << 20
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		m.puppet(3)
		// All messages share one entry's memory.
		entry := stale(pb.MsgApp, &pb.Entry{Term: new(uint64(1)), Index: new(uint64(2)), Data: make([]byte, size)})
		const fit = consensus.MaxInboxBytes / (size + 32)
		for range 3 {
			require.Equal(t, uint64(10), m.flood(fit+10, entry))
			require.Positive(t, m.host(2).InboxBytes(1))
			require.LessOrEqual(t, m.host(2).InboxBytes(1), int64(consensus.MaxInboxBytes))
			require.Zero(t, m.flood(10, stale(pb.MsgHeartbeatResp)), "messages without entries")
			m.settle()
			require.Zero(t, m.host(2).InboxBytes(1))
		}
		m.mustPut(1, "k", "v")
	})
}

// What is not an entry has as much room again, and no more: a payload or a
// context may be as large as a frame.
func TestInboxIsBoundedInBytesOfControl(t *testing.T) {
	const size = 4 << 20
	large := stale(pb.MsgVote)
	large.Raft.Context = make([]byte, size)
	own := consensus.Tell(1, 3, 2, "Fortified", 1, 1, 1)
	own.Payload = append(own.Payload, make([]byte, size-len(own.Payload))...)
	entry := stale(pb.MsgApp, &pb.Entry{Term: new(uint64(1)), Index: new(uint64(2)), Data: make([]byte, size-32)})
	for name, msg := range map[string]transport.Message{"context": large, "payload": own} {
		t.Run(name, func(t *testing.T) {
			stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
				m.elect(1)
				m.crash(3)
				m.puppet(3)
				const fit = consensus.MaxInboxBytes / size
				require.Zero(t, m.flood(fit, entry))
				require.Equal(t, uint64(1), m.flood(1, entry))
				require.Equal(t, uint64(10), m.flood(fit+10, msg))
				require.LessOrEqual(t, m.host(2).InboxBytes(1), int64(2*consensus.MaxInboxBytes))
				m.settle()
				require.Zero(t, m.host(2).InboxBytes(1))
				m.mustPut(1, "k", "v")
			})
		})
	}
}

// buffer has another user of a node's disk leave entries of 1 MiB in the log's
// buffer until it holds more than bytes.
func (m *manual) buffer(id consensus.NodeID, bytes int64) {
	m.tb.Helper()
	disk := m.node(id).disk
	log, err := disk.Log(99)
	require.NoError(m.tb, err)
	g, err := log.Create(1, 1, 0, 0, nil, nil)
	require.NoError(m.tb, err)
	data := make([]byte, 1<<20)
	for i := uint64(1); disk.Buffered() <= bytes; i++ {
		g.Append(nil, []*pb.Entry{{Term: new(uint64(1)), Index: new(i), Data: data}}, nil)
	}
}

// While a log's buffer is full, entries from other nodes are dropped as if
// their worker did not get to them: it would only move them from one queue to
// the next.
func TestInboxHeedsTheLogsBuffer(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		m.puppet(3)
		entry := stale(pb.MsgApp, &pb.Entry{Term: new(uint64(1)), Index: new(uint64(2)), Data: make([]byte, 100)})
		require.Zero(t, m.flood(3, entry))
		m.buffer(2, consensus.MaxInboxBytes)
		waits := m.host(2).InboxBytes(1)
		require.Equal(t, uint64(3), m.flood(3, entry))
		require.Equal(t, waits, m.host(2).InboxBytes(1))
		require.Zero(t, m.flood(3, stale(pb.MsgHeartbeatResp)), "messages without entries")
		require.NoError(t, m.node(2).disk.Flush())
		require.Zero(t, m.flood(3, entry))
	})
}

// A leader whose log's buffer is full refuses commands instead of growing it.
func TestProposalsHeedTheLogsBuffer(t *testing.T) {
	o := func(o *consensus.Options) { o.MaxStoreBytes = 2 << 20 }
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.mustPut(1, "k", "before")
		m.buffer(1, 2<<20)
		overloads := m.host(1).Stats().Overloads
		c := m.propose(1, "k", "refused")
		m.finished()
		require.True(t, c.ended)
		var over *consensus.OverloadError
		require.ErrorAs(t, c.err, &over)
		require.Equal(t, "log buffer", over.What)
		require.Equal(t, int64(2<<20), over.Limit)
		require.Greater(t, over.Bytes, over.Limit)
		require.Equal(t, overloads+1, m.host(1).Stats().Overloads)
		require.Zero(t, m.host(1).Stats().PendingBytes, "what was refused is not charged")
		require.NoError(t, m.node(1).disk.Flush())
		m.mustPut(1, "k", "after")
	})
}
