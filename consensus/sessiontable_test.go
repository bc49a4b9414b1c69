package consensus_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// openSession opens a session on host 1 of a manual cluster.
func openSession(m *manual) (id uint64) {
	h := m.host(1)
	c := m.call("session", func(ctx context.Context) (err error) {
		id, err = h.OpenSession(ctx, 1)
		return err
	})
	m.settle()
	require.True(m.tb, c.ended)
	require.NoError(m.tb, c.err)
	return id
}

// once proposes a command of a session on host 1.
func once(m *manual, c consensus.Command, session, sequence uint64) (res consensus.Result, err error) {
	c.Session, c.Sequence = session, sequence
	h := m.host(1)
	call := m.call("once", func(ctx context.Context) (err error) {
		res, err = h.Propose(ctx, 1, c)
		return err
	})
	m.settle()
	require.True(m.tb, call.ended)
	return res, call.err
}

// All rows of a machine are never read to send a snapshot, and once to receive
// it, where it is staged: with a full table of sessions that takes longer than a
// worker has. What was read counts after the installation.
func TestRowsAreReadOffTheWorker(t *testing.T) {
	stepwise(t, manualOptions{host: shortLog}, func(t *testing.T, m *manual) {
		m.elect(1)
		id := openSession(m)
		_, err := once(m, put("k", "once"), id, 1)
		require.NoError(t, err)
		m.isolate(3)
		for range 8 {
			m.mustPut(1, "k", strings.Repeat("v", 200))
		}
		require.Greater(t, m.status(1).First, m.status(3).Last+1, "the log was never cut")
		m.wire.Heal()
		m.until("a snapshot", func() bool { return m.node(3).installs.Load() > 0 })
		m.until("the end", func() bool { return m.status(3).Applied == m.status(1).Applied })
		require.Zero(t, m.node(1).viewStates.Load())
		require.Equal(t, int64(m.host(3).Stats().SnapshotsReceived), m.node(3).stagedStates.Load())
		m.transfer(1, 3)
		m.until("the lease", func() bool { return len(m.holders()) == 1 && m.holders()[0] == 3 })
		h := m.host(3)
		c := m.call("again", func(ctx context.Context) error {
			again := put("k", "twice")
			again.Session, again.Sequence = id, 1
			_, err := h.Propose(ctx, 1, again)
			return err
		})
		m.settle()
		require.True(t, c.ended)
		require.NoError(t, c.err)
		require.NotEqual(t, "twice", m.get(3, "k"), "the session is known to the node that installed it")
	})
}
