package consensus_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// The limit of sessions is what the leader that took the command says: replicas
// with another one agree with it.
func TestSessionLimitTravels(t *testing.T) {
	o := func(o *consensus.Options) {
		o.QuiesceTicks = -1
		if o.Node == 2 {
			o.MaxSessions = 1
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		var ids []uint64
		for range 3 {
			h := m.host(1)
			c := m.call("session", func(ctx context.Context) error {
				id, err := h.OpenSession(ctx, 1)
				ids = append(ids, id)
				return err
			})
			m.settle()
			require.True(t, c.ended)
			require.NoError(t, c.err)
		}
		m.transfer(1, 2)
		m.until("the lease", func() bool { return len(m.holders()) == 1 && m.holders()[0] == 2 })
		h := m.host(2)
		for _, id := range ids { // each is known there
			c := m.call("put", func(ctx context.Context) error {
				cmd := put("k", "v")
				cmd.Session, cmd.Sequence = id, 1
				_, err := h.Propose(ctx, 1, cmd)
				return err
			})
			m.settle()
			require.True(t, c.ended)
			require.NoError(t, c.err)
		}
		c := m.call("session", func(ctx context.Context) error {
			_, err := h.OpenSession(ctx, 1)
			return err
		})
		m.settle()
		require.ErrorIs(t, c.err, consensus.ErrTooManySessions)
	})
}

// A worker that lags gets one tick when it comes back, not all it missed: with
// no message between them they would end in a campaign.
func TestTicksDoNotPileUp(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.tick(2)
		for range 60 {
			m.host(2).Tick()
		}
		m.pool.Run()
		require.Zero(t, m.happened("2 campaigns"))
		m.until("a campaign", func() bool { return m.happened("2 campaigns")+m.happened("1 campaigns")+m.happened("3 campaigns") > 0 })
	})
}
