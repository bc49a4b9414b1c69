package txn_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A transaction reads what it wrote and what was committed before it, and others see
// all or nothing of it.
func TestOneShard(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	ctx := within(t, time.Minute)
	c := w.client(1, txn.ClientOptions{})
	tx, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	_, there, err := tx.Get(ctx, "a")
	require.NoError(t, err)
	require.False(t, there)
	require.NoError(t, tx.Put("a", []byte("1")))
	require.NoError(t, tx.Put("b", []byte("2")))
	require.NoError(t, tx.Add("n", 5))
	v, there, err := tx.Get(ctx, "a")
	require.NoError(t, err)
	require.True(t, there)
	require.Equal(t, "1", string(v))
	other := w.client(2, txn.ClientOptions{})
	before, err := other.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	_, there, err = before.Get(ctx, "a")
	require.NoError(t, err)
	require.False(t, there)
	require.NoError(t, tx.Commit(ctx))
	_, there, err = before.Get(ctx, "b")
	require.NoError(t, err)
	require.False(t, there, "its snapshot is from before")
	before.Rollback(ctx)

	rows := []string{}
	require.NoError(t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		list, err := tx.Scan(ctx, "", "", 0)
		for _, r := range list {
			rows = append(rows, r.Key)
		}
		n, there, err2 := tx.Get(ctx, "n")
		require.NoError(t, err2)
		require.True(t, there)
		require.Equal(t, mvcc.AppendCounter(nil, 5), n)
		return err
	}))
	require.Equal(t, []string{"a", "b", "n"}, rows)

	tx, err = c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	require.NoError(t, tx.Add("n", 2))
	for key, want := range map[string]int64{"n": 7, "none": 0} {
		n, err := tx.Count(ctx, key)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	_, err = tx.Count(ctx, "a")
	var aborted *txn.AbortedError
	require.ErrorAs(t, err, &aborted)
	require.Equal(t, txn.NoCounter, aborted.Reason)
	require.Equal(t, "a", aborted.Key)
}

// Who met what was written ahead of his clock sees it when he tries again.
func TestRunSeesWhatItMet(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, 20*time.Second)
	for _, keys := range [][]string{{"00"}, {"00/a", "90/a"}} {
		// A seat that was just taken writes ahead of all clocks.
		require.NoError(t, w.client(1, txn.ClientOptions{}).Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
			for _, key := range keys {
				if err := tx.Add(key, 1); err != nil {
					return err
				}
			}
			return nil
		}))
		tries := 0
		require.NoError(t, w.client(2, txn.ClientOptions{}).Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
			tries++
			for _, key := range keys {
				n, err := tx.Count(ctx, key)
				if err != nil {
					return err
				}
				if err := tx.Put(key, mvcc.AppendCounter(nil, n+1)); err != nil {
					return err
				}
			}
			return nil
		}))
		require.LessOrEqual(t, tries, 1+len(keys))
	}
}
