package lock

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/id"
)

// calls notes what a table has called, as text.
type calls struct {
	mu   sync.Mutex
	list []string // guarded by mu
}

func (c *calls) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, fmt.Sprintf(format, args...))
}

// take returns what was called since the last take.
func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.list
	c.list = nil
	return list
}

// expect expects calls, the last of which may be about to come.
func (c *calls) expect(t testing.TB, want ...string) {
	t.Helper()
	var list []string
	require.Eventually(t, func() bool {
		list = append(list, c.take()...)
		return len(list) >= len(want)
	}, 10*time.Second, 50*time.Microsecond, "%q", want)
	require.ElementsMatch(t, want, list)
}

func watched(t testing.TB, o Options) (*Table, *calls) {
	c := &calls{}
	o.Push = func(holder id.Key, key string, by id.Key) { c.note("push %d at %s by %d", holder.Seq, key, by.Seq) }
	o.Wounded = func(owner, by id.Key) { c.note("wounded %d by %d", owner.Seq, by.Seq) }
	o.Blocked = func(waiter id.Key, key string, waitsFor []id.Key) {
		seqs := []uint64{}
		for _, k := range waitsFor {
			seqs = append(seqs, k.Seq)
		}
		c.note("blocked %d at %s for %v", waiter.Seq, key, seqs)
	}
	return newTable(t, o), c
}

// An older one takes the key from all younger ones in its way, who lose all they have
// and want, and from nobody else.
func TestWoundWait(t *testing.T) {
	table, called := watched(t, Options{})
	now(t, table, 1, "old", Exclusive)
	now(t, table, 3, "k", Shared)
	now(t, table, 3, "other", Exclusive)
	now(t, table, 4, "k", Shared)
	waiter := later(t, table, 4, "old", Shared)
	stands := later(t, table, 5, "other", Shared)
	now(t, table, 2, "k", Exclusive)
	wounded := WoundedError{Owner: txn(4), By: txn(2), Key: "k"}
	require.Equal(t, &wounded, result(t, waiter))
	require.NoError(t, result(t, stands))
	called.expect(t, "wounded 3 by 2", "wounded 4 by 2")
	require.EqualValues(t, 2, table.Stats().Wounds)

	// It is told so, until it is forgotten.
	require.EqualError(t, table.Check(txn(3)), `lock: transaction 1.1.3@0.000000+103 has lost its locks to 1.1.2@0.000000+102 at "k"`)
	require.Equal(t, &wounded, table.Acquire(t.Context(), txn(4), "free", Shared))
	require.Equal(t, &wounded, table.AcquireAll(t.Context(), txn(4), []string{"free"}, Shared))
	require.Equal(t, &wounded, table.Prepare(txn(4), Exclusive, "free"))
	require.NoError(t, table.Check(txn(1)))
	table.Forget(txn(4))
	require.NoError(t, table.Check(txn(4)))

	// A younger one waits, and what is not in the way stays.
	younger := later(t, table, 6, "k", Shared)
	now(t, table, 1, "new", Shared)
	now(t, table, 6, "new", Shared)
	table.ReleaseAll(txn(2))
	require.NoError(t, result(t, younger))
	require.Equal(t, Shared, table.Held(txn(6), "new"))
}

// Lines are in the order of age: otherwise the oldest would wait for the youngest, which
// waits for a reader, which may wait for the oldest.
func TestWoundWaitLine(t *testing.T) {
	table, called := watched(t, Options{})
	now(t, table, 2, "k", Shared)
	writer := later(t, table, 3, "k", Exclusive)
	now(t, table, 1, "k", Shared)
	last := later(t, table, 5, "k", Shared)
	between := later(t, table, 4, "k", Shared)
	require.Equal(t, []int{3, 4, 5}, line(table, "k"))
	require.Empty(t, called.take())
	table.ReleaseAll(txn(1))
	table.ReleaseAll(txn(2))
	require.NoError(t, result(t, writer))
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, last))
	require.NoError(t, result(t, between))
}

// Of two readers that both want to write one goes on.
func TestUpgradeDeadlock(t *testing.T) {
	var wounded *WoundedError
	var dead *DieError
	var deadlock *DeadlockError

	table := newTable(t, Options{})
	now(t, table, 1, "k", Shared)
	now(t, table, 2, "k", Shared)
	upgrade := later(t, table, 2, "k", Exclusive)
	now(t, table, 1, "k", Exclusive)
	require.ErrorAs(t, result(t, upgrade), &wounded)

	table = newTable(t, Options{Policy: WaitDie})
	now(t, table, 1, "k", Shared)
	now(t, table, 2, "k", Shared)
	upgrade = later(t, table, 1, "k", Exclusive)
	require.ErrorAs(t, table.Acquire(t.Context(), txn(2), "k", Exclusive), &dead)
	require.Equal(t, Shared, table.Held(txn(2), "k"))
	table.ReleaseAll(txn(2))
	require.NoError(t, result(t, upgrade))

	for _, first := range []int{1, 2} { // the younger one gives way, whoever comes first
		table = newTable(t, Options{Policy: Detect})
		now(t, table, 1, "k", Shared)
		now(t, table, 2, "k", Shared)
		upgrade = later(t, table, first, "k", Exclusive)
		err := table.Acquire(t.Context(), txn(3-first), "k", Exclusive)
		if first == 2 {
			require.NoError(t, err)
			err = result(t, upgrade)
		} else {
			require.NoError(t, result(t, upgrade))
		}
		require.ErrorAs(t, err, &deadlock)
		require.Equal(t, txn(2), deadlock.Victim)
		require.ElementsMatch(t, []id.Key{txn(1), txn(2)}, deadlock.Cycle)
		require.Equal(t, Exclusive, table.Held(txn(1), "k"))
		require.Equal(t, deadlock, table.Check(txn(2)))
		require.EqualValues(t, 1, table.Stats().Deadlocks)
		require.NoError(t, table.check())
	}
}

// Those who say beforehand that they will write do not meet like that.
func TestUpdateDoesNotDeadlock(t *testing.T) {
	table := newTable(t, Options{Policy: Detect})
	now(t, table, 1, "k", Update)
	second := later(t, table, 2, "k", Update)
	now(t, table, 1, "k", Exclusive)
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, second))
	require.Zero(t, table.Stats().Deadlocks)
}

func TestWaitDie(t *testing.T) {
	table := newTable(t, Options{Policy: WaitDie})
	now(t, table, 5, "k", Shared)
	now(t, table, 6, "mine", Exclusive)
	older := later(t, table, 3, "k", Exclusive)
	var dead *DieError
	require.ErrorAs(t, table.Acquire(t.Context(), txn(6), "k", Exclusive), &dead)
	require.Equal(t, DieError{Owner: txn(6), By: txn(5), Key: "k"}, *dead)
	require.ErrorAs(t, table.Acquire(t.Context(), txn(4), "k", Shared), &dead)
	require.Equal(t, DieError{Owner: txn(4), By: txn(3), Key: "k"}, *dead, "those in line count too")
	require.EqualError(t, dead, `lock: transaction 1.1.4@0.000000+104 does not wait at "k" for 1.1.3@0.000000+103, which is older`)
	require.Equal(t, Exclusive, table.Held(txn(6), "mine"))
	require.NoError(t, table.Check(txn(6)))
	oldest := later(t, table, 2, "k", Exclusive)
	require.EqualValues(t, 2, table.Stats().Dies)
	table.ReleaseAll(txn(5))
	require.NoError(t, result(t, older))
	table.ReleaseAll(txn(3))
	require.NoError(t, result(t, oldest))

	// Nobody dies who is not in its way.
	table = newTable(t, Options{Policy: WaitDie})
	now(t, table, 3, "k", Shared)
	require.NoError(t, table.Prepare(txn(3), Exclusive, "prepared"))
	writer := later(t, table, 5, "k", Exclusive)
	reader := later(t, table, 4, "k", Shared)
	now(t, table, 3, "k", Update)
	require.ErrorAs(t, result(t, writer), &dead)
	require.NoError(t, result(t, reader))

	// An upgrade goes ahead of a younger one in line, which would wait for it then.
	table = newTable(t, Options{Policy: WaitDie})
	now(t, table, 3, "k", Shared)
	now(t, table, 5, "k", Update)
	younger := later(t, table, 4, "k", Update)
	upgrade := later(t, table, 3, "k", Exclusive)
	require.ErrorAs(t, result(t, younger), &dead)
	require.Equal(t, DieError{Owner: txn(4), By: txn(3), Key: "k"}, *dead)
	table.ReleaseAll(txn(5))
	require.NoError(t, result(t, upgrade))
	require.NoError(t, table.check())
}

// Deadlocks over several keys are found when the last one begins to wait.
func TestDetect(t *testing.T) {
	table, called := watched(t, Options{Policy: Detect})
	now(t, table, 1, "a", Exclusive)
	now(t, table, 2, "b", Exclusive)
	now(t, table, 3, "c", Exclusive)
	first := later(t, table, 1, "b", Shared)
	third := later(t, table, 3, "a", Shared)
	called.expect(t, "blocked 1 at b for [2]", "blocked 3 at a for [1]")
	require.NoError(t, table.Acquire(t.Context(), txn(2), "c", Shared), "it goes on when 3 has given way")
	var deadlock *DeadlockError
	require.ErrorAs(t, result(t, third), &deadlock)
	require.Equal(t, DeadlockError{Victim: txn(3), Cycle: []id.Key{txn(2), txn(3), txn(1)}}, *deadlock)
	table.ReleaseAll(txn(2))
	require.NoError(t, result(t, first))
	require.NoError(t, table.check())
}

// Those who wait behind others in line wait for them.
func TestDetectThroughTheLine(t *testing.T) {
	table, called := watched(t, Options{Policy: Detect})
	now(t, table, 1, "a", Shared)
	now(t, table, 3, "b", Exclusive)
	writer := later(t, table, 2, "a", Exclusive)
	also := later(t, table, 4, "a", Exclusive)
	reader := later(t, table, 3, "a", Shared)
	called.expect(t, "blocked 2 at a for [1]", "blocked 4 at a for [1 2]", "blocked 3 at a for [2 4]")
	require.Equal(t, []id.Key{txn(2), txn(4)}, table.WaitsFor(txn(3)))
	require.NoError(t, table.Acquire(t.Context(), txn(1), "b", Shared))
	var deadlock *DeadlockError
	require.ErrorAs(t, result(t, also), &deadlock, "the youngest in the cycle")
	require.Equal(t, txn(4), deadlock.Victim)
	require.ErrorAs(t, result(t, reader), &deadlock)
	require.Equal(t, []id.Key{txn(1), txn(3), txn(2)}, deadlock.Cycle)
	require.EqualError(t, deadlock, "lock: transaction 1.1.3@0.000000+103 is the victim of a deadlock of 3: "+
		"[1.1.1@0.000000+101 1.1.3@0.000000+103 1.1.2@0.000000+102]")
	table.ReleaseAll(txn(1))
	require.NoError(t, result(t, writer))
	require.NoError(t, table.check())
}

// Who is chosen elsewhere loses what it has here, apart from what is prepared.
func TestAbort(t *testing.T) {
	table := newTable(t, Options{Policy: Detect})
	now(t, table, 1, "held", Exclusive)
	now(t, table, 2, "a", Exclusive)
	require.NoError(t, table.Prepare(txn(2), Exclusive, "b"))
	waiter := later(t, table, 2, "held", Shared)
	next := later(t, table, 3, "a", Exclusive)
	deadlock := &DeadlockError{Victim: txn(2), Cycle: []id.Key{txn(2), txn(9)}}
	require.True(t, table.Abort(txn(2), deadlock))
	require.Equal(t, deadlock, result(t, waiter))
	require.NoError(t, result(t, next))
	require.Equal(t, []Holder{{Owner: txn(2), Mode: Exclusive, Prepared: true}}, table.Holders("b"))
	require.Equal(t, deadlock, table.Acquire(t.Context(), txn(2), "free", Shared))
	require.True(t, table.Abort(txn(2), errors.New("a second time")))
	require.Equal(t, deadlock, table.Check(txn(2)), "the first reason stays")
	require.False(t, table.Abort(txn(9), deadlock))
	require.NoError(t, table.Check(txn(9)), "it had nothing here to lose")
	require.NoError(t, table.check())
}

// Many in one line are searched through in steps, not each with each.
func TestSearchOfLongLines(t *testing.T) {
	for _, mode := range []Mode{Exclusive, Update} {
		table := newTable(t, Options{Policy: Detect})
		now(t, table, 1, "k", Exclusive)
		const n = 2000
		table.mu.Lock()
		for i := range n {
			_, err := table.ask(txn(2+i), "k", mode)
			require.NoError(t, err)
		}
		table.search++
		steps := 0
		for w := table.keys["k"].first; w != nil; w = w.next {
			w.ahead(table.search, func(*owner) { steps++ })
		}
		require.LessOrEqual(t, steps, 2*n)
		table.mu.Unlock()
		table.Close(errors.New("done"))
	}
}

// Of owners that have lost their locks only so many are remembered: those that were
// asked for last.
func TestEndedAreBounded(t *testing.T) {
	table := newTable(t, Options{MaxEnded: 2})
	for i, key := range []string{"a", "b", "c"} {
		now(t, table, 10+i, key, Shared)
	}
	now(t, table, 1, "a", Exclusive)
	now(t, table, 1, "b", Exclusive)
	require.Error(t, table.Check(txn(10)))
	now(t, table, 1, "c", Exclusive)
	require.Error(t, table.Check(txn(10)))
	require.NoError(t, table.Check(txn(11)))
	require.Error(t, table.Check(txn(12)))
	require.Zero(t, table.Held(txn(11), "b"), "which it finds out here")
	table.Forget(txn(10))
	table.Forget(txn(10))
	require.NoError(t, table.check())
}
