package lock

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/id"
)

// Who has prepared is not wounded: the older one waits, and has it pushed, once.
func TestPreparedIsPushed(t *testing.T) {
	for _, policy := range []Policy{WoundWait, WaitDie, Detect} {
		table, called := watched(t, Options{Policy: policy})
		now(t, table, 2, "k", Exclusive)
		now(t, table, 2, "pending", Exclusive)
		require.NoError(t, table.Prepare(txn(2), Exclusive, "k"))
		require.Equal(t, []Holder{{Owner: txn(2), Mode: Exclusive, Prepared: true}}, table.Holders("k"))
		older := later(t, table, 1, "k", Shared)
		younger := later(t, table, 3, "k", Shared)
		other := later(t, table, 0, "pending", Exclusive)
		require.NoError(t, table.Check(txn(2)))
		table.ReleaseAll(txn(2))
		for _, done := range []chan error{older, younger, other} {
			require.NoError(t, result(t, done))
		}
		pushes := called.take()
		require.Contains(t, pushes, "push 2 at k by 1")
		for _, call := range pushes {
			require.NotRegexp(t, "wounded|by 3|by 0", call)
		}

		// The next time it is prepared it is pushed again.
		table.ReleaseAll(txn(0))
		now(t, table, 2, "stays", Exclusive)
		require.NoError(t, table.Prepare(txn(2), Exclusive, "m"))
		before := later(t, table, 5, "m", Shared)
		table.Release(txn(2), "m")
		require.NoError(t, result(t, before))
		require.Contains(t, called.take(), "push 2 at m by 5")
		require.NoError(t, table.Prepare(txn(2), Exclusive, "l"))
		again := later(t, table, 4, "l", Shared)
		table.Release(txn(2), "l")
		require.NoError(t, result(t, again))
		require.Contains(t, called.take(), "push 2 at l by 4")
	}
}

// Under NoWait nobody stands there, but somebody must see to it.
func TestPreparedIsPushedUnderNoWait(t *testing.T) {
	table, called := watched(t, Options{Policy: NoWait})
	require.NoError(t, table.Prepare(txn(2), Exclusive, "k"))
	for i := range 2 {
		var conflict *ConflictError
		require.ErrorAs(t, table.Acquire(t.Context(), txn(1), "k", Shared), &conflict)
		require.Len(t, called.take(), 1-i, "once")
	}
	require.EqualValues(t, 2, table.Stats().Conflicts)
	require.NoError(t, table.check())
}

// Push may release what it is called for.
func TestPushMayRelease(t *testing.T) {
	var table *Table
	table = newTable(t, Options{Push: func(holder id.Key, key string, _ id.Key) { table.Release(holder, key) }})
	require.NoError(t, table.Prepare(txn(2), Exclusive, "k"))
	require.NoError(t, table.Acquire(t.Context(), txn(1), "k", Exclusive))
	require.NoError(t, table.Prepare(txn(1), Exclusive, "k"))
	require.NoError(t, table.AcquireAll(t.Context(), txn(3), []string{"j", "k"}, Exclusive))
	require.NoError(t, table.check())
}

// Who waits already when a lock is prepared stands behind it from then on.
func TestPreparedWhileOthersWait(t *testing.T) {
	table, called := watched(t, Options{})
	now(t, table, 1, "k", Exclusive)
	waiter := later(t, table, 2, "k", Shared)
	require.NoError(t, table.Prepare(txn(1), Exclusive, "k"))
	called.expect(t, "push 1 at k by 2")
	now(t, table, 3, "l", Exclusive)
	reader := later(t, table, 4, "l", Shared)
	require.NoError(t, table.Restore(txn(3), Exclusive, "l"))
	called.expect(t, "push 3 at l by 4")
	table.ReleaseAll(txn(1))
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, waiter))
	require.NoError(t, result(t, reader))
}

// Who prepares while it waits for the same key itself has what it waits for, and is not
// in its own way; and those who stand behind it from then on may close a cycle.
func TestPrepareWhileWaiting(t *testing.T) {
	table, called := watched(t, Options{})
	require.NoError(t, table.Prepare(txn(3), Add, "k"))
	older := later(t, table, 1, "k", Shared)
	own := later(t, table, 2, "k", Add)
	require.NoError(t, table.Prepare(txn(2), Add, "k"))
	require.NoError(t, result(t, own))
	called.expect(t, "push 3 at k by 1", "push 2 at k by 1")
	table.ReleaseAll(txn(2))
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, older))

	table, called = watched(t, Options{})
	require.NoError(t, table.Prepare(txn(3), Add, "k"))
	own = later(t, table, 2, "k", Shared)
	called.expect(t, "push 3 at k by 2")
	require.NoError(t, table.Prepare(txn(2), Add, "k"))
	require.Empty(t, called.take(), "it does not push itself")
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, own))

	table = newTable(t, Options{Policy: Detect})
	now(t, table, 3, "k", Add)
	now(t, table, 2, "a", Exclusive)
	first, second := later(t, table, 1, "a", Shared), later(t, table, 2, "k", Shared)
	require.NoError(t, table.Prepare(txn(1), Add, "k"))
	var deadlock *DeadlockError
	require.ErrorAs(t, result(t, second), &deadlock)
	require.NoError(t, result(t, first))
	require.NoError(t, table.check())
}

// When nothing of it is prepared any more an owner can be wounded again, and those who
// wait see to it.
func TestNoLongerPrepared(t *testing.T) {
	table, called := watched(t, Options{})
	now(t, table, 2, "k", Exclusive)
	now(t, table, 2, "m", Exclusive)
	require.NoError(t, table.Prepare(txn(2), Exclusive, "l"))
	older := later(t, table, 1, "k", Exclusive)
	called.expect(t, "push 2 at k by 1")
	table.Release(txn(2), "l")
	require.NoError(t, result(t, older))
	called.expect(t, "wounded 2 by 1")

	table = newTable(t, Options{Policy: WaitDie})
	now(t, table, 1, "k", Exclusive)
	require.NoError(t, table.Prepare(txn(1), Exclusive, "l"))
	younger := later(t, table, 2, "k", Exclusive)
	table.Release(txn(1), "l")
	var dead *DieError
	require.ErrorAs(t, result(t, younger), &dead)
	require.NoError(t, table.check())
}

// Reservations that commute stand side by side.
func TestAdd(t *testing.T) {
	table := newTable(t, Options{})
	require.NoError(t, table.Prepare(txn(2), Add, "k"))
	require.NoError(t, table.Restore(txn(3), Add, "k"))
	now(t, table, 4, "k", Add)
	require.Len(t, table.Holders("k"), 3)
	reader := later(t, table, 1, "k", Shared)
	require.Zero(t, table.Held(txn(4), "k"), "the pending one is wounded")
	late := later(t, table, 5, "k", Add)
	table.Release(txn(2), "k")
	require.Equal(t, []int{1, 5}, line(table, "k"))
	table.Release(txn(3), "k")
	require.NoError(t, result(t, reader))
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, late))
	require.NoError(t, table.check())
}

// Prepare takes what is free, and nothing from anybody who has it.
func TestPrepareConflicts(t *testing.T) {
	table := newTable(t, Options{})
	now(t, table, 2, "a", Shared)
	now(t, table, 3, "a", Shared)
	var conflict *ConflictError
	require.ErrorAs(t, table.Prepare(txn(2), Exclusive, "free", "a"), &conflict)
	require.Equal(t, ConflictError{Owner: txn(2), Holder: txn(3), Key: "a", Mode: Exclusive, Held: Shared}, *conflict)
	require.EqualError(t, conflict, `lock: transaction 1.1.2@0.000000+102 wants "a" exclusive, which 1.1.3@0.000000+103 has shared`)
	require.ErrorAs(t, table.Prepare(txn(4), Add, "a"), &conflict)
	require.Zero(t, table.Held(txn(2), "free"))
	require.Equal(t, Shared, table.Held(txn(2), "a"))
	require.NoError(t, table.check(), "who has nothing is not kept")
	table.ReleaseAll(txn(3))
	require.NoError(t, table.Prepare(txn(2), Exclusive, "free", "a", "a"))
	require.Equal(t, []Holder{{Owner: txn(2), Mode: Exclusive, Prepared: true}}, table.Holders("a"))
	require.NoError(t, table.check())
}

// The log is the truth: whoever has what is in it loses all, however old it is, and
// nobody in line gets it.
func TestRestore(t *testing.T) {
	for policy := WoundWait; policy <= Detect; policy++ {
		table, called := watched(t, Options{Policy: policy})
		now(t, table, 1, "k", Shared)
		now(t, table, 1, "l", Shared)
		now(t, table, 1, "other", Exclusive)
		var waiter chan error
		if policy != NoWait {
			waits := map[Policy]int{WoundWait: 2, WaitDie: 0, Detect: 2}
			waiter = later(t, table, waits[policy], "other", Exclusive)
		}
		require.NoError(t, table.Restore(txn(5), Exclusive, "k", "l"))
		require.Equal(t, &WoundedError{Owner: txn(1), By: txn(5), Key: "k"}, table.Check(txn(1)))
		if waiter != nil {
			require.NoError(t, result(t, waiter))
		}
		require.Contains(t, called.take(), "wounded 1 by 5")
		require.Equal(t, []Holder{{Owner: txn(5), Mode: Exclusive, Prepared: true}}, table.Holders("k"))
		var conflict *ConflictError
		require.ErrorAs(t, table.Restore(txn(6), Exclusive, "m", "l"), &conflict, "not both are in the log")
		require.Zero(t, table.Held(txn(6), "m"))
		require.NoError(t, table.check())
	}
}

func TestRestoreGoesAheadOfTheLine(t *testing.T) {
	table, called := watched(t, Options{})
	now(t, table, 1, "k", Exclusive)
	waiter := later(t, table, 2, "k", Exclusive)
	require.NoError(t, table.Restore(txn(3), Exclusive, "k"))
	require.NoError(t, table.check())
	called.expect(t, "wounded 1 by 3", "push 3 at k by 2")
	select {
	case <-waiter:
		t.Fatal("two have it")
	case <-time.After(2 * time.Millisecond):
	}
	table.Release(txn(3), "k")
	require.NoError(t, result(t, waiter))

	// What was wounded here and is in the log all the same was in time.
	now(t, table, 9, "w", Shared)
	now(t, table, 8, "w", Exclusive)
	require.Error(t, table.Check(txn(9)))
	require.NoError(t, table.Restore(txn(9), Add, "x"))
	require.NoError(t, table.Check(txn(9)))
}
