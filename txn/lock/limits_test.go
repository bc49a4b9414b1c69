package lock

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/id"
)

func TestTableIsFull(t *testing.T) {
	table := newTable(t, Options{MaxWaiting: 1, MaxLocks: 3})
	now(t, table, 1, "k", Exclusive)
	first := later(t, table, 2, "k", Shared)
	var full *OverloadError
	require.ErrorAs(t, table.Acquire(t.Context(), txn(3), "k", Shared), &full)
	require.Equal(t, OverloadError{Owner: txn(3), Key: "k", Locks: 1, Waiting: 1}, *full)
	require.NoError(t, table.check())
	now(t, table, 3, "l", Shared)
	require.ErrorAs(t, table.Acquire(t.Context(), txn(3), "m", Shared), &full)
	require.Equal(t, OverloadError{Owner: txn(3), Key: "m", Locks: 2, Waiting: 1}, *full)
	require.ErrorAs(t, table.Prepare(txn(3), Exclusive, "l", "m"), &full)
	require.NoError(t, table.check())
	now(t, table, 3, "l", Exclusive)
	require.NoError(t, table.Prepare(txn(3), Exclusive, "l"))
	require.NoError(t, table.Restore(txn(4), Exclusive, "m", "n"), "the log is the truth")
	require.NoError(t, table.Prepare(txn(3), Exclusive, "l"), "which takes nothing more")
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, first))
	require.NoError(t, table.check())
}

func TestClose(t *testing.T) {
	table := newTable(t, Options{})
	now(t, table, 1, "k", Exclusive)
	waiter := later(t, table, 2, "k", Shared)
	moved := errors.New("another node leads")
	table.Close(moved)
	table.Close(errors.New("a second time"))
	require.ErrorIs(t, result(t, waiter), moved)
	require.ErrorIs(t, table.Acquire(t.Context(), txn(3), "l", Shared), moved)
	require.ErrorIs(t, table.AcquireAll(t.Context(), txn(3), []string{"l"}, Shared), moved)
	require.ErrorIs(t, table.Prepare(txn(3), Exclusive, "l"), moved)
	require.ErrorIs(t, table.Restore(txn(3), Exclusive, "l"), moved)
	require.ErrorIs(t, table.Check(txn(1)), moved)
	require.False(t, table.Abort(txn(1), moved))
	table.Release(txn(1), "k")
	table.ReleaseAll(txn(1))
	table.Forget(txn(1))
	require.Empty(t, table.Holders("k"))
	require.Empty(t, table.Waits())
	require.Empty(t, table.WaitsFor(txn(2)))
	require.Zero(t, table.Stats().Locks+table.Stats().Waiting)
	require.Panics(t, func() { newTable(t, Options{}).Close(nil) })
}

func TestRefusesBadInput(t *testing.T) {
	for text, o := range map[string]Options{
		"lock: MaxLocks is -1, expected at least 1":   {MaxLocks: -1},
		"lock: MaxWaiting is -1, expected at least 1": {MaxWaiting: -1},
		"lock: MaxEnded is -1, expected at least 1":   {MaxEnded: -1},
		"lock: Policy is 4, expected 0 to 3":          {Policy: 4},
	} {
		_, err := New(o)
		require.EqualError(t, err, text)
	}
	table := newTable(t, Options{})
	ctx := t.Context()
	require.EqualError(t, table.Acquire(ctx, id.Key{}, "k", Shared), "lock: the owner is no transaction")
	for _, mode := range []Mode{0, 5} {
		text := fmt.Sprintf("lock: transaction 1.1.1@0.000000+101: mode is %d, expected 1 to 4", mode)
		require.EqualError(t, table.Acquire(ctx, txn(1), "k", mode), text)
		require.EqualError(t, table.AcquireAll(ctx, txn(1), nil, mode), text)
		require.EqualError(t, table.Prepare(txn(1), mode, "k"), text)
	}
	for _, mode := range []Mode{Shared, Update} {
		text := fmt.Sprintf("lock: transaction 1.1.1@0.000000+101: prepared %v, expected exclusive or add", mode)
		require.EqualError(t, table.Prepare(txn(1), mode, "k"), text)
		require.EqualError(t, table.Restore(txn(1), mode, "k"), text)
	}
	require.NoError(t, table.Prepare(txn(1), Add))
	require.NoError(t, table.check())
}

// After many were there at once only so much is kept.
func TestMemory(t *testing.T) {
	table := newTable(t, Options{})
	for i := range 2 * spares {
		now1 := fmt.Sprint(i)
		require.NoError(t, table.Acquire(t.Context(), txn(1+i), now1, Exclusive))
		require.NoError(t, table.Acquire(t.Context(), txn(1+i), "all", Shared))
	}
	for i := range 2 * spares {
		table.ReleaseAll(txn(1 + i))
	}
	require.NoError(t, table.check())
	require.Len(t, table.freeHolds, spares)
	require.Len(t, table.freeOwners, spares)
	require.Len(t, table.freeQueues, spares)
	table.freeOwners, table.freeQueues = nil, nil
	for i := range largeList + 1 {
		require.NoError(t, table.Acquire(t.Context(), txn(1+i), "all", Shared))
	}
	for i := range largeList + 1 {
		table.ReleaseAll(txn(1 + i))
	}
	require.Empty(t, table.freeQueues)
	table.freeOwners = nil
	for i := range largeList + 1 {
		require.NoError(t, table.Acquire(t.Context(), txn(1), fmt.Sprint(i), Exclusive))
	}
	table.ReleaseAll(txn(1))
	require.Empty(t, table.freeOwners)
	require.NoError(t, table.Acquire(t.Context(), txn(1), "k", Exclusive)) // makes room
	table.ReleaseAll(txn(1))
	require.Zero(t, testing.AllocsPerRun(100, func() {
		require.NoError(t, table.Acquire(t.Context(), txn(1), "k", Exclusive))
		table.ReleaseAll(txn(1))
	}))
}
