package consensus_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// A stuck machine waits in Apply, Close or Destroy for as long as the test
// likes.
type stuck struct {
	consensus.StateMachine
	apply, close, destroy gateway
}

// A gateway is where a goroutine waits once the gateway is shut.
type gateway struct {
	shut    atomic.Pointer[chan struct{}]
	arrived atomic.Int64
}

func (g *gateway) pass() {
	if c := g.shut.Load(); c != nil {
		g.arrived.Add(1)
		<-*c
	}
}

// await waits until somebody stands at the gateway.
func (g *gateway) await(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return g.arrived.Load() > 0 }, recovery, time.Millisecond)
}

func (s *stuck) Apply(b *consensus.Batch, results []consensus.Result) error {
	s.apply.pass()
	return s.StateMachine.Apply(b, results)
}

func (s *stuck) Close() error {
	s.close.pass()
	return s.StateMachine.Close()
}

func (s *stuck) Destroy() error {
	s.destroy.pass()
	return s.StateMachine.Destroy()
}

// bootStuck boots a cluster with one worker for all, where the machine of
// group 1 on the last node can be stuck.
func bootStuck(t *testing.T, async bool) (*cluster, *stuck) {
	machine := &stuck{}
	c := boot(t, setup{workers: 1, applyWorkers: 4, options: func(o *consensus.Options) {
		o.AsyncApply = async
		inner := o.Machine
		node := o.Node
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			sm, err := inner(g)
			if g == 1 && node == 3 {
				machine.StateMachine = sm
				return machine, err
			}
			return sm, err
		}
	}})
	return c, machine
}

// goesOn tells that the groups given still take commands.
func goesOn(t *testing.T, c *cluster, groups ...consensus.GroupID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recovery)
	defer cancel()
	for _, g := range groups {
		_, err := c.leader(g).Propose(ctx, g, put("k", "v"))
		require.NoError(t, err, "group %d", g)
	}
}

// A machine that does not end holds up the stop of its own host, and nobody
// else: the worker serves the other hosts of the pool.
func TestMachineThatDoesNotCloseHoldsUpItsHostAlone(t *testing.T) {
	c, machine := bootStuck(t, false)
	goesOn(t, c, 1)
	open := shut(&machine.close.shut)
	closed := c.closeThird(t)
	t.Cleanup(open)
	machine.close.await(t)
	goesOn(t, c, 1)
	require.Empty(t, closed, "the host did not wait for its machine")
}

// closeThird closes the third host and leaves its end to a channel.
func (c *cluster) closeThird(t *testing.T) chan error {
	h := c.hosts[2]
	c.hosts[2] = nil
	closed, result := make(chan error, 1), make(chan error, 1)
	go func() {
		err := h.Close()
		closed <- err
		result <- err
	}()
	t.Cleanup(func() {
		require.NoError(t, <-result)
		require.NoError(t, c.disks[2].Close())
		c.disks[2] = nil
	})
	return closed
}

// A replica that was destroyed is busy while its host stops: whoever stops the
// host removes the machine, and the worker does not wait for that.
func TestMachineThatIsDestroyedLateHoldsUpItsHostAlone(t *testing.T) {
	c, machine := bootStuck(t, true)
	goesOn(t, c, 1)
	apply := sync.OnceFunc(shut(&machine.apply.shut))
	t.Cleanup(apply)
	goesOn(t, c, 1)
	machine.apply.await(t)
	require.NoError(t, c.hosts[2].Destroy(1))
	destroy := shut(&machine.destroy.shut)
	h := c.hosts[2]
	closed := c.closeThird(t)
	t.Cleanup(destroy)
	require.Eventually(t, h.Stopping, recovery, time.Millisecond)
	apply()
	machine.destroy.await(t)
	goesOn(t, c, 1)
	require.Empty(t, closed, "the host did not wait for its machine")
}

// A snapshot that Raft does not want, because the log was repaired meanwhile, is
// forgotten beside the worker, and no other is staged until it is.
func TestDiscardHoldsUpNobody(t *testing.T) {
	o := func(o *consensus.Options) {
		o.QuiesceTicks = -1
		if o.Node == 1 {
			o.LogTailBytes = 500
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		open := shut(&m.node(1).freeze)
		lag(m)
		m.until("a frozen view", func() bool { return m.host(1).Stats().SnapshotsSent > 0 })
		m.transfer(1, 2)
		m.until("another leader", func() bool { return m.status(2).Role == "leader" })
		m.until("the repair", func() bool { return m.status(3).Applied == m.status(2).Applied })
		discard := sync.OnceFunc(shut(&m.node(3).discard))
		t.Cleanup(discard)
		open()
		m.settle()
		require.Equal(t, int64(1), m.node(3).discards.Load())
		m.mustPut(2, "k", "v")
		require.Equal(t, "v", m.get(3, "k"))
		discard()
		m.settle()
		require.Zero(t, m.node(3).installs.Load())
	})
}
