package lock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

func newTable(t testing.TB, o Options) *Table {
	table, err := New(o)
	require.NoError(t, err)
	return table
}

// txn is one of many transactions: the higher the number, the younger.
func txn(i int) id.Key {
	return id.Key{Node: 1, Epoch: 1, Seq: uint64(i), Start: hlc.Timestamp(100 + i)}
}

// now expects a lock at once.
func now(t testing.TB, table *Table, i int, key string, mode Mode) {
	t.Helper()
	waits := table.Stats().Waits
	require.NoError(t, table.Acquire(t.Context(), txn(i), key, mode))
	require.Equal(t, waits, table.Stats().Waits, "it has waited")
	require.NoError(t, table.check())
}

// later begins a request and returns when it waits.
func later(t testing.TB, table *Table, i int, key string, mode Mode) chan error {
	t.Helper()
	return wait1(t, table, func() error { return table.Acquire(t.Context(), txn(i), key, mode) })
}

func wait1(t testing.TB, table *Table, call func() error) chan error {
	t.Helper()
	before, done := table.Stats().Waits, make(chan error, 1)
	go func() { done <- call() }()
	require.Eventually(t, func() bool { return table.Stats().Waits == before+1 }, 10*time.Second, 50*time.Microsecond)
	require.NoError(t, table.check())
	return done
}

func result(t testing.TB, done chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(10 * time.Second):
		require.Fail(t, "it still waits")
		return nil
	}
}

// line is who waits for a key.
func line(table *Table, key string) (all []int) {
	for _, w := range table.Waits() {
		if w.Key == key {
			all = append(all, int(w.Owner.Seq))
		}
	}
	return all
}

// Of two owners the second one gets the key exactly if their modes go together.
func TestWhatGoesTogether(t *testing.T) {
	yes := map[[2]Mode]bool{{Shared, Shared}: true, {Shared, Update}: true, {Update, Shared}: true, {Add, Add}: true}
	for a := Shared; a <= Add; a++ {
		for b := Shared; b <= Add; b++ {
			table := newTable(t, Options{Policy: NoWait})
			now(t, table, 1, "k", a)
			err := table.Acquire(t.Context(), txn(2), "k", b)
			if yes[[2]Mode{a, b}] {
				require.NoError(t, err)
				require.Equal(t, []Holder{{Owner: txn(1), Mode: a}, {Owner: txn(2), Mode: b}}, table.Holders("k"))
				continue
			}
			var conflict *ConflictError
			require.ErrorAs(t, err, &conflict, "%v and %v", a, b)
			require.Equal(t, ConflictError{Owner: txn(2), Holder: txn(1), Key: "k", Mode: b, Held: a}, *conflict)
			require.Equal(t, Mode(0), table.Held(txn(2), "k"))
			now(t, table, 2, "l", b)
		}
	}
}

// Who asks for more than it has gets the weakest mode that is as strong as both.
func TestUpgrade(t *testing.T) {
	for _, c := range []struct{ had, wants, has Mode }{
		{Shared, Shared, Shared}, {Shared, Update, Update}, {Shared, Exclusive, Exclusive}, {Shared, Add, Exclusive},
		{Update, Shared, Update}, {Update, Exclusive, Exclusive}, {Update, Add, Exclusive},
		{Exclusive, Shared, Exclusive}, {Exclusive, Update, Exclusive}, {Exclusive, Add, Exclusive},
		{Add, Add, Add}, {Add, Shared, Exclusive}, {Add, Exclusive, Exclusive},
	} {
		table := newTable(t, Options{})
		now(t, table, 1, "k", c.had)
		now(t, table, 1, "k", c.wants)
		require.Equal(t, c.has, table.Held(txn(1), "k"), "%v and %v", c.had, c.wants)
		require.Equal(t, 1, table.Stats().Locks)
		table.Release(txn(1), "k", "never locked")
		require.Zero(t, table.Held(txn(1), "k"))
	}
}

// Who has a key does not stand in line for it.
func TestWhoHasItDoesNotWait(t *testing.T) {
	table := newTable(t, Options{Policy: Detect})
	now(t, table, 1, "k", Exclusive)
	waiter := later(t, table, 2, "k", Exclusive)
	grants := table.Stats().Grants
	now(t, table, 1, "k", Shared)
	require.NoError(t, table.Prepare(txn(1), Exclusive, "k"))
	require.Equal(t, grants, table.Stats().Grants)
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, waiter))
}

// An owner may ask for a key in several ways at once. They stand together, and when it
// gets one the others become upgrades; otherwise it would wait for those who wait for it.
func TestRequestsSideBySide(t *testing.T) {
	table := newTable(t, Options{Policy: Detect})
	now(t, table, 9, "k", Exclusive)
	reader := later(t, table, 3, "k", Shared)
	first := later(t, table, 1, "k", Shared)
	writer := later(t, table, 2, "k", Exclusive)
	add := later(t, table, 1, "k", Add)
	again := later(t, table, 1, "k", Shared)
	require.Zero(t, table.Stats().Deadlocks, "nobody waits for itself")
	require.Equal(t, []id.Key{txn(3), txn(9)}, table.WaitsFor(txn(1)))
	table.ReleaseAll(txn(9))
	for _, done := range []chan error{first, reader, again} {
		require.NoError(t, result(t, done))
	}
	require.Equal(t, []Waiter{{txn(1), "k", Exclusive}, {txn(2), "k", Exclusive}}, table.Waits())
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, add))
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, writer))
	require.NoError(t, table.check())

	// Upgrades go ahead, all of them.
	table = newTable(t, Options{Policy: Detect})
	now(t, table, 3, "k", Add)
	all := []chan error{
		later(t, table, 2, "k", Shared), later(t, table, 1, "k", Shared), later(t, table, 1, "k", Update),
	}
	require.NoError(t, table.Prepare(txn(1), Add, "k"))
	require.Equal(t, []int{1, 1, 2}, line(table, "k"))
	require.Zero(t, table.Stats().Deadlocks)
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, all[1]))
	require.NoError(t, result(t, all[2]))
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, all[0]))
}

// A stream of readers does not starve a writer, and whoever releases hands on to all at
// the head of the line that go together.
func TestNobodyOvertakes(t *testing.T) {
	for _, policy := range []Policy{WoundWait, Detect} {
		table := newTable(t, Options{Policy: policy})
		now(t, table, 1, "k", Shared)
		writer := later(t, table, 2, "k", Exclusive)
		readers := []chan error{later(t, table, 3, "k", Shared), later(t, table, 4, "k", Update), later(t, table, 5, "k", Shared)}
		last := later(t, table, 6, "k", Exclusive)
		require.Equal(t, []int{2, 3, 4, 5, 6}, line(table, "k"))
		table.ReleaseAll(txn(1))
		require.NoError(t, result(t, writer))
		require.Equal(t, []int{3, 4, 5, 6}, line(table, "k"))
		table.ReleaseAll(txn(2))
		for _, reader := range readers {
			require.NoError(t, result(t, reader))
		}
		require.Len(t, table.Holders("k"), 3)
		require.Equal(t, []int{6}, line(table, "k"))
		for i := 3; i <= 5; i++ {
			table.ReleaseAll(txn(i))
		}
		require.NoError(t, result(t, last))
		require.NoError(t, table.check())
	}
}

// Who conflicts with nobody goes on, whoever stands there.
func TestWhoIsInNobodysWayPasses(t *testing.T) {
	table := newTable(t, Options{Policy: Detect})
	now(t, table, 1, "k", Update)
	update := later(t, table, 2, "k", Update)
	now(t, table, 3, "k", Shared)
	upgrade := later(t, table, 1, "k", Exclusive)
	reader := later(t, table, 4, "k", Shared) // not any more
	require.Equal(t, []int{1, 2, 4}, line(table, "k"), "upgrades go first")
	require.Equal(t, []id.Key{txn(3)}, table.WaitsFor(txn(1)))
	require.Equal(t, []id.Key{txn(1)}, table.WaitsFor(txn(2)))
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, upgrade))
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, update))
	require.NoError(t, result(t, reader))
}

// Who gives up lets those through who only waited for it, and keeps what it had.
func TestGivingUp(t *testing.T) {
	table := newTable(t, Options{})
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	now(t, table, 1, "k", Shared)
	now(t, table, 2, "k", Shared)
	now(t, table, 2, "l", Exclusive)
	upgrade := wait1(t, table, func() error { return table.Acquire(ctx, txn(2), "k", Exclusive) })
	reader := later(t, table, 3, "k", Shared)
	cancel(gone)
	require.ErrorIs(t, result(t, upgrade), gone)
	require.NoError(t, result(t, reader))
	require.Equal(t, Shared, table.Held(txn(2), "k"))
	require.Equal(t, Exclusive, table.Held(txn(2), "l"))
	require.NoError(t, table.Acquire(ctx, txn(4), "free", Exclusive), "ctx does not matter where nobody is in the way")

	// An owner that has nothing is forgotten with its request.
	canceled := wait1(t, table, func() error {
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		return table.Acquire(short, txn(5), "l", Shared)
	})
	require.ErrorIs(t, result(t, canceled), context.DeadlineExceeded)
	require.NoError(t, table.check())
}

// A request that was granted before its caller has noticed that it gives up is granted.
func TestGivingUpWhenGranted(t *testing.T) {
	table := newTable(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		now(t, table, 1, "k", Exclusive)
		table.mu.Lock()
		w, err := table.ask(txn(2), "k", Exclusive)
		table.unlock()
		require.NoError(t, err)
		table.ReleaseAll(txn(1))
		require.NoError(t, table.await(ctx, w))
		require.Equal(t, Exclusive, table.Held(txn(2), "k"))
		table.ReleaseAll(txn(2))
	}
}

// What AcquireAll took before it failed it gives back, and nothing else.
func TestAcquireAll(t *testing.T) {
	table := newTable(t, Options{Policy: NoWait})
	now(t, table, 1, "b", Shared)
	now(t, table, 1, "e", Exclusive)
	now(t, table, 2, "c", Shared)
	keys := []string{"a", "b", "b", "e", "c", "d"}
	var conflict *ConflictError
	require.ErrorAs(t, table.AcquireAll(t.Context(), txn(1), keys, Exclusive), &conflict)
	require.NoError(t, table.check())
	for key, mode := range map[string]Mode{"a": 0, "b": Shared, "c": 0, "d": 0, "e": Exclusive} {
		require.Equal(t, mode, table.Held(txn(1), key), key)
	}
	require.NoError(t, table.AcquireAll(t.Context(), txn(1), keys, Shared))
	require.Equal(t, 5, len(table.owners[txn(1)].holds))

	table = newTable(t, Options{})
	now(t, table, 1, "c", Exclusive)
	all := wait1(t, table, func() error { return table.AcquireAll(t.Context(), txn(2), keys, Exclusive) })
	other := later(t, table, 3, "a", Exclusive)
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, all))
	table.ReleaseAll(txn(2))
	require.NoError(t, result(t, other))

	// What has been prepared in the meantime stays.
	ctx, cancel := context.WithCancel(t.Context())
	now(t, table, 1, "q", Exclusive)
	now(t, table, 2, "p", Shared)
	all = wait1(t, table, func() error { return table.AcquireAll(ctx, txn(2), []string{"o", "p", "q"}, Exclusive) })
	require.NoError(t, table.Prepare(txn(2), Exclusive, "o", "p"))
	cancel()
	require.ErrorIs(t, result(t, all), context.Canceled)
	require.Equal(t, []Holder{{Owner: txn(2), Mode: Exclusive, Prepared: true}}, table.Holders("o"))
	require.Equal(t, []Holder{{Owner: txn(2), Mode: Exclusive, Prepared: true}}, table.Holders("p"))

	// What is lowered goes to those who wait.
	ctx, cancel = context.WithCancel(t.Context())
	now(t, table, 4, "x", Shared)
	now(t, table, 3, "y", Exclusive)
	all = wait1(t, table, func() error { return table.AcquireAll(ctx, txn(4), []string{"x", "y"}, Exclusive) })
	reader := later(t, table, 5, "x", Shared)
	cancel()
	require.ErrorIs(t, result(t, all), context.Canceled)
	require.NoError(t, result(t, reader))
	require.NoError(t, table.check())
}
