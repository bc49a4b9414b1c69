package saga_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// Sagas take as many transactions as the package says, and not one more.
func TestTransactionsOfASaga(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	pivot := adds("b", "40/b", "a")
	pivot.Undo, pivot.Pivot = saga.Action{}, true
	forward := adds("c", "80/c", "b")
	forward.Undo = saga.Action{}
	var commits atomic.Int64
	o, err := saga.OpenStill(within(t, time.Minute), func(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error {
		err := w.clients[0].Run(ctx, o, fn)
		if err == nil && !o.ReadOnly {
			commits.Add(1)
		}
		return err
	}, saga.Options{Name: "o", Homes: []string{home}, Definitions: []*saga.Definition{
		define("one", adds("a", "10/a")),
		define("three", adds("a", "10/a"), adds("b", "40/b", "a"), adds("c", "80/c", "b")),
		define("pivot", adds("a", "10/a"), pivot, forward),
		define("fails at once", failing("a")),
		define("fails third", adds("a", "10/a"), adds("b", "40/b", "a"), failing("c", "b")),
		define("calls", adds("a", "10/a"), out.step("call", nil, "a"), adds("c", "80/c", "call")),
		define("three ends", adds("a", "10/a"), adds("b", "40/b"), adds("c", "80/c")),
	}})
	require.NoError(t, err)
	for name, want := range map[string][]int64{
		"one": {1}, "three": {3}, "pivot": {3}, "fails at once": {1}, "fails third": {4}, "calls": {4}, "three ends": {3, 4},
	} {
		before := commits.Load()
		finish(t, start(t, o, name, name, ""))
		require.Contains(t, want, commits.Load()-before, name)
	}
	require.NoError(t, o.Close(t.Context()))
}
