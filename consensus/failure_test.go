package consensus_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

var errMachine = errors.New("machine is broken")

// A breakable machine fails to apply once it is told to.
type breakable struct {
	consensus.StateMachine
	breaker *breaker
}

type breaker struct {
	broken atomic.Bool
	failed atomic.Int64 // batches
}

func (b *breakable) Apply(batch *consensus.Batch, results []consensus.Result) error {
	err := b.StateMachine.Apply(batch, results)
	if b.breaker.broken.Load() {
		b.breaker.failed.Add(1)
		err = errMachine
	}
	return err
}

// breaking makes the machines of a node breakable.
func breaking(node consensus.NodeID, async bool) (func(*consensus.Options), *breaker) {
	b := &breaker{}
	return func(o *consensus.Options) {
		o.AsyncApply, o.QuiesceTicks = async, -1
		if o.Node != node {
			return
		}
		machine := o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			sm, err := machine(g)
			return &breakable{sm, b}, err
		}
	}, b
}

// Whoever waits for a machine that failed is told that the outcome is unknown:
// those of the task that failed, and those behind it. Nobody is told that a
// command which the log may hold was refused.
func TestProposalsEndWithABrokenMachine(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			o, b := breaking(1, async)
			stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
				m.elect(1)
				open := func() { m.hold = nil } // what would commit
				if async {                      // the apply workers, with the second batch behind the first
					open = shut(&m.node(1).apply)
				} else {
					m.hold = dropping([]consensus.NodeID{1}, "MsgAppResp")
				}
				calls := []*asyncCall{m.propose(1, "k", "failed")}
				m.settle()
				calls = append(calls, m.propose(1, "k", "behind"))
				m.settle()
				b.broken.Store(true)
				open()
				m.tick(3)
				require.ErrorIs(t, m.host(1).Err(), errMachine)
				require.Equal(t, int64(1), b.failed.Load(), "batches given to a machine that failed one")
				for _, c := range calls {
					require.True(t, c.ended, c.name)
					require.ErrorIs(t, c.err, consensus.ErrUnknown, c.name)
				}
				late := m.propose(1, "k", "late")
				m.settle()
				require.True(t, late.ended)
				require.ErrorIs(t, late.err, consensus.ErrRejected)
			})
		})
	}
}

// What waits behind a batch that is being applied when the host stops is not
// applied any more, and its client is told.
func TestProposalsEndWithTheHostWhileABatchIsApplied(t *testing.T) {
	// Another Create holds up the stop, so that the worker sees what the apply
	// worker hands back.
	create := make(chan struct{})
	o := func(o *consensus.Options) {
		o.AsyncApply, o.QuiesceTicks = true, -1
		machine := o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			if g == 2 {
				<-create
				return nil, errMachine
			}
			return machine(g)
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		create = make(chan struct{})
		m.elect(1)
		open := shut(&m.node(1).apply)
		first := m.propose(1, "k", "first")
		m.settle()
		behind := m.propose(1, "k", "behind")
		m.settle()
		h := m.host(1)
		created := make(chan error, 1)
		go func() { created <- h.Create(2, 1, consensus.Initial{}) }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- h.Close() }()
		synctest.Wait()
		open()
		synctest.Wait()
		m.pool.Run()
		close(create)
		require.ErrorIs(t, <-created, errMachine)
		require.NoError(t, <-closed)
		m.finished()
		require.True(t, first.ended)
		require.True(t, behind.ended, "nobody ever tells it")
		require.ErrorIs(t, behind.err, consensus.ErrUnknown)
	})
}

// The replica goes while its machine is at a batch, which then fails: its client
// is told all the same.
func TestProposalsEndWithADestroyedReplica(t *testing.T) {
	o, b := breaking(1, true)
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		open := shut(&m.node(1).apply)
		c := m.propose(1, "k", "v")
		m.settle()
		require.NoError(t, m.host(1).Destroy(1))
		b.broken.Store(true)
		open()
		m.settle()
		require.True(t, c.ended, "nobody ever tells it")
		require.ErrorIs(t, c.err, consensus.ErrUnknown)
	})
}

// A node whose machine failed serves nobody, and must not hold its followers by
// frames that say it is alive.
func TestFailedNodeIsReplaced(t *testing.T) {
	o, b := breaking(1, false)
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		b.broken.Store(true)
		m.propose(1, "k", "v")
		m.settle()
		require.Error(t, m.host(1).Err())
		m.until("another leader", func() bool { return len(m.holders()) == 1 && m.holders()[0] != 1 })
		m.mustPut(m.holders()[0], "k", "w")
	})
}
