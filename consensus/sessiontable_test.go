package consensus_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
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

// fullTable returns a table of n sessions with full windows, and its rows. The
// session opened at index i, of id i*1024, was last used at index i, or at n+i if
// i is odd.
func fullTable(tb testing.TB, n uint64) (*consensus.SessionTable, []consensus.Row) {
	tb.Helper()
	table := &consensus.SessionTable{}
	var rows []consensus.Row
	for i := uint64(1); i <= n; i++ {
		row, err := table.Open(i<<10, i, 8)
		require.NoError(tb, err)
		rows = append(rows, row)
		for seq := uint64(1); seq <= 16; seq++ {
			rows = append(rows, table.Apply(i<<10, seq, i+i%2*n, make([]byte, seq)))
		}
	}
	return table, rows
}

// A table that came from rows, in any order, ends the same sessions in the same
// slices as one that applied the commands, and no slice ends more than it may.
func TestSlicesOfExpiryAreTheSameEverywhere(t *testing.T) {
	const n, limit = 20, 3
	live, rows := fullTable(t, n)
	rng := rand.New(rand.NewPCG(1, 2))
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	loaded, err := consensus.LoadSessions(rows)
	require.NoError(t, err)
	from, slices := uint64(0), 0
	for {
		want, next := live.Expire(n, from, limit)
		got, gotNext := loaded.Expire(n, from, limit)
		require.Equal(t, want, got)
		require.Equal(t, next, gotNext)
		require.LessOrEqual(t, len(want), limit*17)
		slices++
		if next == 0 {
			break
		}
		require.Greater(t, next, from, "a slice that does not move on never ends")
		from = next
	}
	require.Equal(t, 7, slices, "19 sessions opened before the index, three at a time")
	require.Equal(t, n/2+1, live.Len(), "those used later, and the one used at the index")
	_, next := live.Expire(6, 0, limit)
	require.Zero(t, next, "1, 3 and 5 are left of those opened before index 6: a sweep ends though others open sessions")
	all, next := live.Expire(3*n, 0, n)
	require.Len(t, all, (n/2+1)*17, "the order of what is left is whole")
	require.Zero(t, next)
}

// Rows that no table wrote are refused.
func TestMalformedSessionRows(t *testing.T) {
	id := func(slot ...byte) []byte { return append([]byte{'s', 0, 0, 0, 0, 0, 0, 4, 0}, slot...) }
	session := consensus.Row{Key: id(), Value: []byte{1, 8}}
	_, err := consensus.LoadSessions([]consensus.Row{session, {Key: id(1), Value: []byte{1, 1, 2, 'o', 'k'}}, {Key: id(2), Value: []byte{2, 1, 9}}})
	require.NoError(t, err)
	for name, row := range map[string]consensus.Row{
		"unknown":           {Key: []byte("t"), Value: []byte{1}},
		"session, short":    {Key: id(), Value: []byte{1}},
		"session, long":     {Key: id(), Value: []byte{1, 8, 0}},
		"session, no bound": {Key: id(), Value: []byte{1, 0}},
		"result, empty":     {Key: id(1)},
		"result, no size":   {Key: id(1), Value: []byte{1, 1}},
		"result, wrong":     {Key: id(2), Value: []byte{1, 1, 1, 'x'}},
		"result, none":      {Key: id(0), Value: []byte{0, 1, 1, 'x'}},
		"result, short":     {Key: id(1), Value: []byte{1, 1, 2, 'x'}},
		"result, long":      {Key: id(1), Value: []byte{1, 1, 1, 'x', 'y'}},
		"result, missing":   {Key: id(1), Value: []byte{1, 1, 2}},
		"result, too large": {Key: id(1), Value: append([]byte{1, 1, 9}, "123456789"...)},
		"result, alone":     {Key: []byte{'s', 0, 0, 0, 0, 0, 0, 8, 0, 1}, Value: []byte{1, 1, 1, 'x'}},
	} {
		_, err := consensus.LoadSessions([]consensus.Row{session, row})
		require.Error(t, err, name)
	}
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) { // and by a replica
		require.NoError(t, m.host(1).ReadRows(1, session))
		require.Error(t, m.host(1).ReadRows(1, consensus.Row{Key: id(1), Value: []byte{1, 1, 1, 'x'}}))
	})
}

// A result above the bound is told to nobody, neither at first nor to a retry,
// and the bound is that of the session: nodes with other options agree.
func TestResultsOfSessionsAreBounded(t *testing.T) {
	o := func(o *consensus.Options) {
		o.QuiesceTicks = -1
		if o.MaxSessionResultBytes = 64; o.Node == 3 {
			o.MaxSessionResultBytes = 4096
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		id := openSession(m)
		m.mustPut(1, "small", strings.Repeat("v", 56))
		m.mustPut(1, "large", strings.Repeat("v", 200))
		get := func(key string) consensus.Command { // answers the value
			return consensus.Command{Data: kv.EncodeCompareAndSwap(nil, []byte(key), []byte("?"), []byte("!"))}
		}
		refused := func(err error) {
			t.Helper()
			require.ErrorIs(t, err, consensus.ErrResultTooLarge)
			require.NotErrorIs(t, err, consensus.ErrRejected, "it was applied")
			require.NotErrorIs(t, err, consensus.ErrUnknown)
		}
		small, err := once(m, get("small"), id, 1)
		require.NoError(t, err)
		require.True(t, bytes.HasSuffix(small.Data, []byte(strings.Repeat("v", 56))))
		h, large := m.host(1), get("large")
		large.Session, large.Sequence = id, 2
		var calls []*asyncCall
		for range 2 { // two in one batch
			calls = append(calls, m.call("large", func(ctx context.Context) error {
				_, err := h.Propose(ctx, 1, large)
				return err
			}))
		}
		m.settle()
		for _, c := range calls {
			require.True(t, c.ended)
			refused(c.err)
		}
		_, err = once(m, large, id, 2)
		refused(err)
		res, err := once(m, get("small"), id, 1)
		require.NoError(t, err)
		require.Equal(t, small, res)

		m.transfer(1, 3)
		m.until("the lease", func() bool { return len(m.holders()) == 1 && m.holders()[0] == 3 })
		for seq := uint64(2); seq <= 3; seq++ { // an old one, and a new one
			large.Sequence = seq
			c := m.call("large", func(ctx context.Context) error {
				_, err := m.host(3).Propose(ctx, 1, large)
				return err
			})
			m.settle()
			require.True(t, c.ended)
			refused(c.err)
		}
		m.tick(2)
		sums := map[uint32]bool{}
		for node := consensus.NodeID(1); node <= 3; node++ {
			sm, err := m.host(node).Machine(1)
			require.NoError(t, err)
			_, sum := sm.(*stallingMachine).Digest()
			sums[sum] = true
		}
		require.Len(t, sums, 1, "the replicas differ")
	})
}

// A large table is swept by several commands. What a call that stopped half way
// has left, another ends. Malformed arguments are refused, and change nothing.
func TestSessionsExpireInSlices(t *testing.T) {
	const n = 2*consensus.ExpireSlice + 1
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		for range n {
			openSession(m)
		}
		h, before := m.host(1), m.status(1).Last+1
		expire := func(f func(ctx context.Context) error) error {
			c := m.call("expire", f)
			m.settle()
			require.True(t, c.ended)
			return c.err
		}
		for kind, arguments := range map[byte][][]byte{
			consensus.CommandExpire: {nil, consensus.EncodeExpiry(before, 0, 0), append(consensus.EncodeExpiry(before, 0, 1), 0)},
			consensus.CommandOpen:   {nil, {0xff, 0x7f, 0}, {0xff, 0x7f, 1, 0}},
		} {
			for _, data := range arguments {
				err := expire(func(ctx context.Context) error {
					_, err := h.ProposeOwn(ctx, 1, kind, data)
					return err
				})
				require.ErrorIs(t, err, consensus.ErrRejected)
			}
		}
		require.Equal(t, n, h.Sessions(1))
		require.NoError(t, expire(func(ctx context.Context) error {
			res, err := h.ProposeOwn(ctx, 1, consensus.CommandExpire, consensus.EncodeExpiry(before, 0, 5))
			require.NotZero(t, binary.LittleEndian.Uint64(res.Data))
			return err
		}))
		require.Equal(t, n-5, h.Sessions(1))
		late, last := openSession(m), m.status(1).Last
		require.NoError(t, expire(func(ctx context.Context) error { return h.ExpireSessions(ctx, 1, before) }))
		require.Equal(t, last+2, m.status(1).Last, "124 sessions, 64 at a time")
		require.Equal(t, 1, h.Sessions(1))
		_, err := once(m, put("k", "v"), late, 1)
		require.NoError(t, err)
	})
}

// A session keeps a copy of a result, not the memory it was a piece of.
func TestSessionsKeepCopies(t *testing.T) {
	table, _ := fullTable(t, 1)
	result := []byte("before")
	table.Apply(1<<10, 17, 9, result)
	copy(result, "after!")
	require.Equal(t, "before", string(table.Kept(1<<10, 17)))
}

func TestBoundOfSessionResultsIsChecked(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		for _, bytes := range []int{-1, 8<<20 + 1} {
			o := m.host(1).Options()
			o.MaxSessionResultBytes = bytes
			_, err := consensus.New(o)
			require.ErrorContains(t, err, fmt.Sprintf("option MaxSessionResultBytes is %d, expected in [1, 8 MiB]", bytes))
		}
	})
}
