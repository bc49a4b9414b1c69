package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// forking is a machine that freezes itself before each command that stands alone.
type forking struct {
	*kv.Machine
	mu      sync.Mutex
	forks   []*consensus.Fork // guarded by mu
	crowded bool              // guarded by mu; a command that stands alone was not
}

// alone marks a command of these tests that stands alone.
var alone = []byte("fork")

func (m *forking) Apply(b *consensus.Batch, results []consensus.Result) error {
	for _, c := range b.Commands {
		if string(c) != string(alone) && b.Alone {
			return errors.New("a batch stands alone that was not to")
		}
		if string(c) == string(alone) {
			view, err := m.View()
			if err != nil {
				return err
			}
			part := view.(interface {
				WritePart(w io.Writer, start, end string, at consensus.State) error
			})
			m.mu.Lock()
			m.crowded = m.crowded || len(b.Commands) > 1 || !b.Alone
			m.forks = append(m.forks, &consensus.Fork{View: view, Index: b.Index, Term: b.Term, Write: func(w io.Writer, at consensus.State) error {
				return part.WritePart(w, "m", "", at)
			}})
			m.mu.Unlock()
		}
	}
	return m.Machine.Apply(b, results)
}

func (m *forking) fork(n int) *consensus.Fork {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.forks) <= n {
		return nil
	}
	return m.forks[n]
}

func forkingCluster(t *testing.T, apply int) (*cluster, func(i int) *forking) {
	c := boot(t, setup{applyWorkers: apply, options: func(o *consensus.Options) {
		o.AsyncApply = apply > 0
		inner := o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			m, err := inner(g)
			if err != nil || g != 1 {
				return m, err
			}
			return &forking{Machine: m.(*kv.Machine)}, nil
		}
	}})
	return c, func(i int) *forking {
		m, err := c.hosts[i].Machine(1)
		require.NoError(t, err)
		return m.(*forking)
	}
}

// A command that stands alone is applied by itself, in its place, whatever is
// proposed around it.
func TestAloneIsApplied(t *testing.T) {
	for _, apply := range []int{0, 2} {
		t.Run(fmt.Sprint("apply workers=", apply), func(t *testing.T) {
			c, machine := forkingCluster(t, apply)
			l := c.leader(1)
			var work sync.WaitGroup
			for client := range 16 {
				work.Go(func() {
					for i := range 40 {
						cmd := consensus.Command{Data: kv.EncodeAdd(nil, []byte("sum"), 1)}
						if client == 0 {
							cmd = consensus.Command{Data: alone, Alone: true}
						}
						_, err := l.Propose(t.Context(), 1, cmd)
						require.NoError(t, err, "client %d, command %d", client, i)
					}
				})
			}
			work.Wait()
			value, _ := c.stored(l, 1).Get([]byte("sum"))
			n, _ := kv.Counter(value)
			require.Equal(t, int64(15*40), n)
			require.NoError(t, l.ReadIndex(t.Context(), 1))
			last := uint64(0)
			for i := range 3 {
				require.Eventually(t, func() bool { return machine(i).fork(39) != nil }, 10*time.Second, time.Millisecond)
				require.False(t, machine(i).crowded, "node %d", i+1)
				last = max(last, machine(i).fork(39).Index)
			}
			for n := range 40 {
				a, b := machine(0).fork(n), machine(1).fork(n)
				require.Equal(t, a.Index, b.Index)
				before, _ := a.View.Position()
				require.Equal(t, a.Index-1, before, "the view is that of the entry before")
			}
			require.NotZero(t, last)
		})
	}
}

// stored is the machine below a host's forking one.
func (c *cluster) stored(h *consensus.Host, g consensus.GroupID) *kv.Machine {
	m, err := h.Machine(g)
	require.NoError(c.tb, err)
	if f, ok := m.(*forking); ok {
		return f.Machine
	}
	return m.(*kv.Machine)
}

// A group that comes out of another begins with its part, its members and its
// sessions, and goes on by itself, through restarts.
func TestFork(t *testing.T) {
	c, machine := forkingCluster(t, 0)
	ctx := t.Context()
	l := c.leader(1)
	for _, key := range []string{"a", "l", "m", "z"} {
		c.put(ctx, 1, key, "1")
	}
	session, err := l.OpenSession(ctx, 1)
	require.NoError(t, err)
	once := consensus.Command{Session: session, Sequence: 1, Data: kv.EncodeAdd(nil, []byte("sum"), 5)}
	first, err := l.Propose(ctx, 1, once)
	require.NoError(t, err)
	_, err = l.Propose(ctx, 1, consensus.Command{Data: alone, Alone: true})
	require.NoError(t, err)
	c.put(ctx, 1, "y", "too late")

	for i, h := range c.hosts {
		require.Eventually(t, func() bool { return machine(i).fork(0) != nil }, 10*time.Second, time.Millisecond)
		f := machine(i).fork(0)
		require.ErrorContains(t, h.Create(2, 9, consensus.Initial{Fork: f}), "not among the members")
		require.NoError(t, h.Create(2, consensus.ReplicaID(i+1), consensus.Initial{Fork: f}))
	}
	require.NoError(t, c.hosts[1].Campaign(2))
	at := c.leader(2)
	again, err := at.Propose(ctx, 2, once)
	require.NoError(t, err)
	require.Equal(t, first, again, "the session knows what the first group applied")
	_, ok := c.stored(at, 2).Get([]byte("sum"))
	require.True(t, ok, "sum is behind m")
	_, ok = c.stored(at, 2).Get([]byte("l"))
	require.False(t, ok)
	_, ok = c.stored(at, 2).Get([]byte("y"))
	require.False(t, ok)
	later, err := at.OpenSession(ctx, 2)
	require.NoError(t, err)
	require.Greater(t, later, session)
	st, err := at.Status(2)
	require.NoError(t, err)
	require.Equal(t, c.members(1), st.Voters)
	require.Equal(t, machine(0).fork(0).Index+1, st.First)

	c.put(ctx, 2, "n", "2")
	for i := range c.hosts {
		c.crash(i)
	}
	for i := range c.hosts {
		c.start(i)
	}
	at = c.leader(2)
	require.NoError(t, at.ReadIndex(ctx, 2))
	for _, key := range []string{"m", "z", "n"} {
		_, ok := c.stored(at, 2).Get([]byte(key))
		require.True(t, ok, key)
	}
}

// A fork whose machine was written and whose log was not is made again.
func TestForkInterrupted(t *testing.T) {
	c, machine := forkingCluster(t, 0)
	c.put(t.Context(), 1, "z", "1")
	_, err := c.leader(1).Propose(t.Context(), 1, consensus.Command{Data: alone, Alone: true})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return machine(0).fork(0) != nil }, 10*time.Second, time.Millisecond)
	f := machine(0).fork(0)

	// The machine as it is when a crash comes between the two.
	m, err := kv.New(kv.Options{FS: c.fs[0], Dir: c.fs[0].PathJoin(c.path(0), "kv", "2")})
	require.NoError(t, err)
	_, err = m.Open()
	require.NoError(t, err)
	r, w := io.Pipe()
	go func() { _ = w.CloseWithError(f.Write(w, consensus.State{Index: f.Index + 7, Term: 9})) }()
	s, err := m.Stage(r)
	require.NoError(t, err)
	require.NoError(t, s.Install(context.Background()))
	require.NoError(t, m.Close())

	torn := *f
	torn.Write = func(w io.Writer, at consensus.State) error {
		_, _ = w.Write([]byte("half"))
		return io.ErrNoProgress
	}
	require.ErrorIs(t, c.hosts[0].Create(2, 1, consensus.Initial{Fork: &torn}), io.ErrNoProgress)
	require.NoError(t, c.hosts[0].Create(2, 1, consensus.Initial{Fork: f}))
	st, err := c.hosts[0].Status(2)
	require.NoError(t, err)
	require.Equal(t, f.Index, st.Applied)
}
