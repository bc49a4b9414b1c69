package consensus_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A replica that stopped is destroyed once, whoever else asks for it meanwhile:
// the nodes of its configuration are counted by group.
func TestFailedReplicaIsDestroyedOnce(t *testing.T) {
	o, b := breaking(3, false)
	b.only = 1
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		for _, v := range m.voters() {
			require.NoError(t, m.host(v.Node).Create(2, v.Replica, consensus.Initial{Voters: m.voters()}))
		}
		m.elect(1)
		b.broken.Store(true)
		m.mustPut(1, "k", "v")
		m.until("stopped", func() bool { return m.status(3).Err != nil })
		first, second := m.host(3).DestroyTwice(1)
		require.NoError(t, first)
		require.ErrorIs(t, second, consensus.ErrNoReplica)
		m.settle()
		require.Equal(t, []consensus.GroupID{2}, m.host(3).Groups())
		m.isolate(3)
		m.tick(20)
		require.Equal(t, []consensus.NodeID{1, 2}, m.host(3).Peers(), "group 2 names them")
	})
}

// A replica that stops with a frozen view which has not left gives it back: the
// node's other groups need the place.
func TestFailedReplicaGivesItsViewBack(t *testing.T) {
	o, b := breaking(1, false)
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		b.broken.Store(true)
		require.NotEmpty(t, m.host(1).FreezeView(1, 1, 2, 3))
		require.Equal(t, 1, m.host(1).SnapshotsUnderWay())
		m.propose(1, "k", "v")
		m.settle()
		require.ErrorIs(t, m.status(1).Err, errMachine)
		require.Zero(t, m.host(1).SnapshotsUnderWay())
	})
}

// The log of a replica that stopped cannot be cut. The bound of the store's log
// is kept by the others.
func TestStoreBoundWithAFailedReplica(t *testing.T) {
	const bound = 240 << 10
	breaks, b := breaking(1, false)
	b.only = 1
	o := func(o *consensus.Options) { breaks(o); o.MaxStoreLogBytes = bound }
	stepwise(t, manualOptions{nodes: 1, host: o}, func(t *testing.T, m *manual) {
		h := m.host(1)
		require.NoError(t, h.Create(2, 1, consensus.Initial{Voters: m.voters()}))
		for g := consensus.GroupID(1); g <= 2; g++ {
			require.NoError(t, h.Campaign(g))
			m.settle()
			for i := range 40 - 2*int(g) { // the log of group 1 is the longer one
				c := m.call(fmt.Sprint("k", i), func(ctx context.Context) error {
					_, err := h.Propose(ctx, g, put(fmt.Sprint("k", i), strings.Repeat("v", 4<<10)))
					return err
				})
				m.settle()
				require.True(t, c.ended)
				require.NoError(t, c.err)
			}
		}
		b.broken.Store(true)
		m.propose(1, "k", "v")
		m.settle()
		require.ErrorIs(t, m.status(1).Err, errMachine)
		cost := func() int64 {
			st := m.node(1).disk.Stats()
			return st.LiveBytes + st.LiveEntries*raftlog.IndexBytes
		}
		require.Greater(t, cost(), int64(bound))
		m.tick(25)
		require.LessOrEqual(t, cost(), int64(bound))
	})
}

// An install that ends because its host is closed is no failure of the machine.
func TestCloseDuringAnInstallIsNoFailure(t *testing.T) {
	var create chan struct{}
	o := func(o *consensus.Options) {
		shortLog(o)
		machine := o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			if g == 2 { // holds up the stop, so that the worker hears of the install
				<-create
				return nil, errMachine
			}
			sm, err := machine(g)
			return &obedient{sm}, err
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		create = make(chan struct{})
		lag(m)
		open := shut(&m.node(3).stall)
		defer open()
		m.until("an install", func() bool { return m.node(3).installs.Load() > 0 })
		h := m.host(3)
		created := make(chan error, 1)
		go func() { created <- h.Create(2, 1, consensus.Initial{}) }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- h.Close() }()
		synctest.Wait()
		m.pool.Run()
		close(create)
		require.ErrorIs(t, <-created, errMachine)
		require.NoError(t, <-closed)
		require.Zero(t, h.Stats().Failures)
	})
}

// An obedient machine ends an install with its context.
type obedient struct{ consensus.StateMachine }

func (o *obedient) Stage(r io.Reader) (consensus.Staged, error) {
	s, err := o.StateMachine.Stage(r)
	return &obedientStaged{s}, err
}

type obedientStaged struct{ consensus.Staged }

func (s *obedientStaged) Install(ctx context.Context) error {
	if err := s.Staged.Install(ctx); err != nil {
		return err
	}
	return ctx.Err()
}
