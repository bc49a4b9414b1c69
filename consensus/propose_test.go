package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

func put(key, value string) consensus.Command {
	return consensus.Command{Data: kv.EncodePut(nil, []byte(key), []byte(value))}
}

func TestProposeIsAppliedEverywhere(t *testing.T) {
	c := boot(t, setup{groups: 3, marshal: true})
	ctx := t.Context()
	for g := consensus.GroupID(1); g <= 3; g++ {
		for i := range 50 {
			c.put(ctx, g, fmt.Sprint("k", i), fmt.Sprint(g, "/", i))
		}
	}
	for i, h := range c.hosts {
		for g := consensus.GroupID(1); g <= 3; g++ {
			require.NoError(t, h.ReadIndex(ctx, g))
			for k := range 50 {
				v, ok := c.machine(i, g).Get([]byte(fmt.Sprint("k", k)))
				require.True(t, ok)
				require.Equal(t, fmt.Sprint(g, "/", k), string(v))
			}
		}
	}
}

// Commands of many clients share entries: that is what makes the Host fast.
func TestCommandsArePacked(t *testing.T) {
	c := boot(t, setup{})
	h := c.leader(1)
	before, err := h.Status(1)
	require.NoError(t, err)
	const clients, each = 64, 50
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for range each {
				if _, err := h.Propose(context.Background(), 1, put(fmt.Sprint(i), "v")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	after, err := h.Status(1)
	require.NoError(t, err)
	require.Less(t, after.Last-before.Last, uint64(clients*each/2), "entries for %d commands", clients*each)
}

// A hooks calls functions once: when a batch has been applied and when a pass
// ends, on a manual pool.
type hooks struct{ applied, passed func() }

func (*hooks) once(f *func()) {
	if g := *f; g != nil {
		*f = nil
		g()
	}
}

// options are those of a cluster in which node 1 has the hooks.
func (k *hooks) options(nodes int) manualOptions {
	return manualOptions{
		nodes:  nodes,
		charge: func(consensus.Work) time.Duration { k.once(&k.passed); return 0 },
		host: func(o *consensus.Options) {
			machine, first := o.Machine, o.Node == 1
			o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
				sm, err := machine(g)
				return &watched{StateMachine: sm, note: func(*consensus.Batch) {
					if first {
						k.once(&k.applied)
					}
				}}, err
			}
		},
	}
}

// Those who waited while a batch was under way share the next entry with those
// whom it wakes.
func TestWokenClientsJoinTheNextEntry(t *testing.T) {
	var k hooks
	stepwise(t, k.options(1), func(t *testing.T, m *manual) {
		m.elect(1)
		before := m.status(1).Last
		var calls []*asyncCall
		propose := func(key string) { calls = append(calls, m.propose(1, key, "v")) }
		propose("first")
		k.applied = func() {
			propose("waited")
			k.passed = func() { propose("woken") } // at the end of the same pass
		}
		m.settle()
		require.Len(t, calls, 3)
		for _, c := range calls {
			require.True(t, c.ended, c.name)
			require.NoError(t, c.err, c.name)
		}
		require.Equal(t, uint64(2), m.status(1).Last-before, "entries of %d commands", len(calls))
	})
}

// comeBack ends a batch of so many commands, has their clients come back one in a
// pass, and returns how many of them were there when an entry left, each time.
func comeBack(t *testing.T, clients int) (entries []int) {
	var k hooks
	stepwise(t, k.options(1), func(t *testing.T, m *manual) {
		m.elect(1)
		for i := range clients {
			m.propose(1, fmt.Sprint("k", i), "first")
		}
		back, last := 0, m.status(1).Last+1 // of the batch that ends
		var next func()
		next = func() {
			if st := m.status(1); st.Last > last {
				last = st.Last
				entries = append(entries, back)
			}
			if back < clients {
				back++
				m.propose(1, fmt.Sprint("k", back), "second")
				k.passed = next
			}
		}
		k.applied = func() { k.passed = next }
		m.settle()
		next()
	})
	return entries
}

// Clients that come back in one pass after the other share an entry, which leaves
// when all are there, and at last when the first has waited for eight passes.
func TestWokenClientsAreWaitedFor(t *testing.T) {
	require.Equal(t, []int{5}, comeBack(t, 5))
	entries := comeBack(t, 20)
	require.Equal(t, 9, entries[0])
}

// Nor is somebody put off who comes when nobody else will.
func TestLateCommandIsNotPutOff(t *testing.T) {
	var k hooks
	stepwise(t, k.options(1), func(t *testing.T, m *manual) {
		m.elect(1)
		for i := range 5 {
			m.propose(1, fmt.Sprint("k", i), "v")
		}
		m.tick(10)
		before := m.status(1).Last
		k.passed = func() { require.Equal(t, before+1, m.status(1).Last) }
		m.mustPut(1, "k", "late")
	})
}

// Commands are put off once and not in every pass that ends a batch, or a full
// pipe would run dry.
func TestWaitingCommandsArePutOffOnce(t *testing.T) {
	var k hooks
	stepwise(t, k.options(3), func(t *testing.T, m *manual) {
		m.elect(1)
		before := m.status(1).Last
		m.hold = func(p transport.Pending) bool { return kindOf(p) == "MsgAppResp" }
		for _, key := range []string{"first", "second"} {
			m.propose(1, key, "v")
			m.settle()
		}
		require.Equal(t, before+2, m.status(1).Last)
		deliver := func(index uint64) {
			n := m.wire.DeliverIf(func(p transport.Pending) bool {
				return kindOf(p) == "MsgAppResp" && p.Message.Raft.GetIndex() == index
			})
			require.Equal(t, 2, n)
		}
		deliver(before + 1)
		var third *asyncCall
		k.applied = func() {
			third = m.propose(1, "third", "v")
			k.passed = func() {
				require.Equal(t, before+2, m.status(1).Last, "the pass in which the first ended")
				deliver(before + 2)
				k.passed = func() {
					require.Equal(t, before+2, m.status(1).Applied)
					require.Equal(t, before+3, m.status(1).Last, "the pass in which the second ended")
				}
			}
		}
		m.hold = nil
		m.settle()
		require.Nil(t, k.passed)
		require.True(t, third.ended)
		require.NoError(t, third.err)
	})
}

func TestProposeElsewhereIsRejectedWithTheLeader(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	for _, h := range c.hosts {
		if h == l {
			continue
		}
		require.NoError(t, h.ReadIndex(t.Context(), 1)) // so that it knows the leader
		_, err := h.Propose(t.Context(), 1, put("k", "v"))
		require.ErrorIs(t, err, consensus.ErrRejected)
		require.NotErrorIs(t, err, consensus.ErrUnknown)
		var nl *consensus.NotLeaderError
		require.ErrorAs(t, err, &nl)
		require.Equal(t, l.Node(), nl.Node)
	}
	_, err := l.Propose(t.Context(), 9, put("k", "v"))
	require.ErrorIs(t, err, consensus.ErrNoReplica)
}

func TestCancelledProposalIsUnknown(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	c.wire.Partition([]consensus.NodeID{l.Node()}, c.others(l))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := l.Propose(ctx, 1, put("k", "v"))
	require.ErrorIs(t, err, consensus.ErrUnknown)
	require.NotErrorIs(t, err, consensus.ErrRejected)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// Whatever it was cancelled for.
	ctx, because := context.WithCancelCause(t.Context())
	why := fmt.Errorf("something else: %w", consensus.ErrRejected)
	time.AfterFunc(20*time.Millisecond, func() { because(why) })
	_, err = l.Propose(ctx, 1, put("k", "v"))
	require.ErrorIs(t, err, consensus.ErrUnknown)
	require.NotErrorIs(t, err, consensus.ErrRejected)
	require.ErrorContains(t, err, why.Error())
}

// others are the nodes that are not h's.
func (c *cluster) others(h *consensus.Host) []consensus.NodeID {
	var list []consensus.NodeID
	for i := range c.hosts {
		if n := consensus.NodeID(i + 1); n != h.Node() {
			list = append(list, n)
		}
	}
	return list
}

// A deposed leader's uncommitted proposals are rejected, not unknown, once an
// entry of the new leader has been applied in their place.
func TestLostProposalIsRejected(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	c.wire.Partition([]consensus.NodeID{l.Node()}, c.others(l))
	failed := make(chan error, 1)
	go func() {
		_, err := l.Propose(context.Background(), 1, put("k", "lost"))
		failed <- err
	}()
	var next *consensus.Host
	require.Eventually(t, func() bool {
		for _, h := range c.hosts {
			if h == l {
				continue
			}
			if _, err := h.Propose(t.Context(), 1, put("k", "kept")); err == nil {
				next = h
				return true
			}
		}
		return false
	}, 20*time.Second, time.Millisecond)
	c.wire.Heal()
	err := <-failed
	require.ErrorIs(t, err, consensus.ErrRejected)
	require.NotErrorIs(t, err, consensus.ErrUnknown)
	require.NoError(t, next.ReadIndex(t.Context(), 1))
	v, _ := c.machine(int(next.Node()-1), 1).Get([]byte("k"))
	require.Equal(t, "kept", string(v))
}

func TestOverloadIsRefusedEarly(t *testing.T) {
	c := boot(t, setup{options: func(o *consensus.Options) { o.MaxGroupBytes = 4096 }})
	l := c.leader(1)
	c.wire.Partition([]consensus.NodeID{l.Node()}, c.others(l))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_, err := l.Propose(ctx, 1, consensus.Command{Data: make([]byte, 1200)})
			if !errors.Is(err, consensus.ErrUnknown) {
				t.Errorf("a command under way ended as %v", err)
			}
		})
	}
	require.Eventually(t, func() bool { return l.Stats().PendingBytes > 3600 }, 10*time.Second, time.Millisecond)
	_, err := l.Propose(ctx, 1, consensus.Command{Data: make([]byte, 1200)})
	var over *consensus.OverloadError
	require.ErrorAs(t, err, &over)
	require.ErrorIs(t, err, consensus.ErrRejected)
	require.Equal(t, int64(4096), over.Limit)
	cancel()
	wg.Wait()
	_, err = l.Propose(t.Context(), 1, consensus.Command{Data: make([]byte, 9<<20)})
	require.ErrorIs(t, err, consensus.ErrTooLarge)
}

func TestCloseEndsProposalsAsUnknown(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	c.wire.Partition([]consensus.NodeID{l.Node()}, c.others(l))
	failed := make(chan error, 1)
	go func() {
		_, err := l.Propose(context.Background(), 1, put("k", "v"))
		failed <- err
	}()
	require.Eventually(t, func() bool { return l.Stats().PendingBytes > 0 }, 10*time.Second, time.Millisecond)
	st, err := l.Status(1) // behind the proposal on the same worker
	require.NoError(t, err)
	require.NotZero(t, st.Last)
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-failed, consensus.ErrUnknown)
	_, err = l.Propose(t.Context(), 1, put("k", "v"))
	require.ErrorIs(t, err, consensus.ErrRejected)
}

func TestSessionAppliesOnce(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	ctx := t.Context()
	id, err := l.OpenSession(ctx, 1)
	require.NoError(t, err)
	add := func(seq uint64) (consensus.Result, error) {
		return l.Propose(ctx, 1, consensus.Command{Session: id, Sequence: seq, Data: kv.EncodeAdd(nil, []byte("n"), 1)})
	}
	var wg sync.WaitGroup
	results := make([]string, 8)
	for i := range results { // copies of one command, some in one entry
		wg.Go(func() {
			res, err := add(1)
			if err != nil {
				t.Error(err)
			}
			results[i] = string(res.Data)
		})
	}
	wg.Wait()
	for _, r := range results {
		require.Equal(t, results[0], r)
	}
	for seq := uint64(2); seq <= 20; seq++ {
		_, err := add(seq)
		require.NoError(t, err)
	}
	again, err := add(20)
	require.NoError(t, err)
	next, err := add(21)
	require.NoError(t, err)
	require.NotEqual(t, again.Data, next.Data)
	_, err = add(2)
	require.ErrorIs(t, err, consensus.ErrSequenceExpired)
	_, err = l.Propose(ctx, 1, consensus.Command{Session: id + 1, Sequence: 1, Data: kv.EncodeAdd(nil, []byte("n"), 1)})
	require.ErrorIs(t, err, consensus.ErrNoSession)
	st, err := l.Status(1)
	require.NoError(t, err)
	require.NoError(t, l.ExpireSessions(ctx, 1, st.Last+1))
	for _, seq := range []uint64{21, 22} { // one that was applied, and one that never was
		_, err = add(seq)
		require.ErrorIs(t, err, consensus.ErrNoSession)
		require.NotErrorIs(t, err, consensus.ErrRejected, "nobody knows any more")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := boot(t, setup{options: func(o *consensus.Options) { o.MaxSessions = 2 }})
	l := c.leader(1)
	for range 2 {
		_, err := l.OpenSession(t.Context(), 1)
		require.NoError(t, err)
	}
	_, err := l.OpenSession(t.Context(), 1)
	require.ErrorIs(t, err, consensus.ErrTooManySessions)
}
