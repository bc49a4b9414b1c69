package saga_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// locks is a step that locks a key, and does what else it does.
func locks(key string, s saga.Step) saga.Step {
	s.Do = saga.Data(func(ctx context.Context, c *saga.Context) ([]byte, error) {
		if err := c.Lock(ctx, key); err != nil {
			return nil, err
		}
		if err := c.Lock(ctx, key); err != nil {
			return nil, err // it has it already
		}
		return nil, c.Tx.Add(key+"/"+c.Saga.Name, 1)
	})
	return s
}

// A saga holds keys from the step that locks them to its end, and others who ask are
// told by whom.
func TestLocks(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	twice := locks("40/x", adds("a", "40/x"))
	twice.Retry.Attempts = 2
	var back gate
	held40 := locks("40/x", adds("a", "40/x"))
	held40.Undo = saga.Data(func(context.Context, *saga.Context) ([]byte, error) {
		if !back.open.Load() {
			return nil, errors.New("closed")
		}
		return nil, nil
	})
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{
		define("holds", locks("40/x", adds("a", "40/x")), locks("40/x", adds("b", "40/x", "a")), g.step("c", "80/c", "b")),
		define("wants", locks("40/x", adds("a", "40/x"))),
		define("gives up", twice),
		define("fails", held40, locks("80/y", adds("b", "80/y", "a")), failing("c", "b")),
	}})
	locked := func(key string) error {
		return w.clients[1].Run(within(t, 30*time.Second), txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
			return saga.Locked(t.Context(), tx, key)
		})
	}
	require.NoError(t, locked("40/x"))
	holder := start(t, o, "holder", "holds", "")
	stepOf(t, o, "holder", "b", saga.Finished)
	in, err := o.Inspect(within(t, time.Minute), id("holder"))
	require.NoError(t, err)
	require.Equal(t, []string{"40/x"}, in.Steps[0].Locks)
	var held *saga.LockedError
	require.ErrorAs(t, locked("40/x"), &held)
	require.Equal(t, saga.LockedError{Key: "40/x", Holder: id("holder"), Step: "a"}, *held)
	require.NoError(t, locked("40/xy"))

	res := finish(t, start(t, o, "impatient", "gives up", ""))
	require.Equal(t, saga.Compensated, res.State)
	require.Contains(t, res.Cause, "holder")
	waiter := start(t, o, "waiter", "wants", "")
	stepOf(t, o, "waiter", "a", saga.Pending)
	g.open.Store(true)
	require.Equal(t, saga.Done, finish(t, holder).State)
	require.Equal(t, saga.Done, finish(t, waiter).State)
	require.NoError(t, locked("40/x"))

	// What is taken back does not hold its keys any longer.
	fails := start(t, o, "fails", "fails", "")
	require.Eventually(t, func() bool {
		in, err := o.Inspect(within(t, time.Minute), id("fails"))
		return err == nil && in.Steps[1].Undo && in.Steps[1].State == saga.Finished
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, locked("80/y"))
	require.ErrorAs(t, locked("40/x"), &held)
	back.open.Store(true)
	require.Equal(t, saga.Compensated, finish(t, fails).State)
	require.NoError(t, locked("40/x"))
	require.Empty(t, w.rows("40/x", func(key string) bool { return key == "40/x\x00saga/k" || key == "80/y\x00saga/k" }))
}
