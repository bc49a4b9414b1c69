package txn_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/id"
)

// Who has lost its lock to another does not write over its intent, by either way.
func TestIntentsWithoutLocks(t *testing.T) {
	for _, keys := range [][]string{{"00"}, {"00", "99"}} {
		w := boot(t, worldOptions{nodes: 3, shards: 2})
		n := w.Node(1)
		now, err := w.parts[0].Clock().Timestamp(t.Context())
		require.NoError(t, err)
		left := id.Txn{Key: id.Key{Node: uint64(n.ID()), Epoch: n.Epoch(), Seq: 1 << 40, Start: now}, Anchor: "00"}
		c := w.client(1, txn.ClientOptions{})
		tx, err := c.Begin(t.Context(), txn.TxOptions{})
		require.NoError(t, err)
		for _, key := range keys {
			require.NoError(t, tx.Put(key, []byte("mine")))
		}
		require.Eventually(t, func() bool { // or it is led by another one meanwhile
			leader, p := w.leader("00")
			r, err := leader.Replica(w.ids[0])
			return err == nil && p.Leave(within(t, 10*time.Second), r, left, "00", now, false) == nil
		}, 20*time.Second, time.Millisecond)
		var aborted *txn.AbortedError
		require.ErrorAs(t, tx.Commit(within(t, 10*time.Second)), &aborted)
		require.Equal(t, txn.Wounded, aborted.Reason)
		require.Equal(t, left.Key, aborted.By)

		// Nobody coordinates it, so it is ended before long.
		require.NoError(t, c.Run(within(t, 20*time.Second), txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Put("00", []byte("mine")) }))
		o, err := c.Outcome(within(t, 10*time.Second), left)
		require.NoError(t, err)
		require.False(t, o.Committed)
	}
}

// Nor is who takes a lock there told what was before the intent, which may be committed
// below the timestamp at which he reads.
func TestLocksMeetIntents(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	ctx, c := within(t, 20*time.Second), w.client(1, txn.ClientOptions{})
	w.put(c, "00", "old")
	tx, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	left := w.nobodys(1, "00")
	left.Start = tx.At()
	require.Eventually(t, func() bool {
		leader, p := w.leader("00")
		r, err := leader.Replica(w.ids[0])
		return err == nil && p.Leave(within(t, 10*time.Second), r, left, "00", left.Start, false) == nil
	}, 20*time.Second, time.Millisecond)
	_, _, err = tx.GetForUpdate(ctx, "00")
	var aborted *txn.AbortedError
	require.ErrorAs(t, err, &aborted)
	require.Equal(t, txn.Wounded, aborted.Reason)
	require.Equal(t, left.Key, aborted.By)
	require.NoError(t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		value, _, err := tx.GetForUpdate(ctx, "00")
		require.True(t, err != nil || string(value) == "old")
		return err
	}))
}

// Who is older takes a lock from who is younger, who learns of it with the next thing that
// he asks of the shard, has done nothing, and may try again; who is younger waits.
func TestWoundedLearnsAtHisNextCall(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	w.put(c, "00/k", "old")
	for _, next := range []func(tx *txn.Tx) error{
		func(tx *txn.Tx) error { return third(tx.GetForUpdate(ctx, "00/other")) },
		func(tx *txn.Tx) error { return errors.Join(tx.Put("00/k", nil), tx.Commit(ctx)) },
		func(tx *txn.Tx) error { return errors.Join(tx.Put("00/k", nil), tx.Put("90/k", nil), tx.Commit(ctx)) },
	} {
		older, err := c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		younger, err := c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		require.NoError(t, third(younger.GetForUpdate(ctx, "00/k")))
		require.NoError(t, third(older.GetForUpdate(ctx, "00/k")))
		var aborted *txn.AbortedError
		require.ErrorAs(t, next(younger), &aborted)
		require.Equal(t, txn.Wounded, aborted.Reason)
		require.Equal(t, older.ID().Key, aborted.By)
		require.True(t, aborted.Retry())
		require.Zero(t, w.intents())

		younger, err = c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		waited := make(chan error, 1)
		go func() { waited <- third(younger.GetForUpdate(ctx, "00/k")) }()
		_, p := w.leader("00")
		require.Eventually(t, func() bool { return p.Waiting() == 1 }, 10*time.Second, time.Millisecond)
		require.NoError(t, older.Put("00/k", []byte("older")))
		require.NoError(t, older.Commit(ctx))
		require.NoError(t, <-waited)
		younger.Rollback(ctx)
	}
	require.Equal(t, "older", w.read(2, "00/k"))
}

// leader returns the node that leads the shard of a key, which has answered there.
func (w *world) leader(key string) (*cluster.Node, *txn.Participant) {
	w.t.Helper()
	c := w.client(1, txn.ClientOptions{})
	require.NoError(w.t, c.Run(within(w.t, 20*time.Second), txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Put(key+"/led", nil) }))
	at, ok := w.Node(1).Locate(key)
	require.True(w.t, ok)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for i, n := range w.Nodes() {
			r, err := n.Replica(at.Shard)
			if err != nil {
				continue
			}
			if _, ok := r.Holds(); ok {
				return n, w.parts[i]
			}
		}
	}
	w.t.Fatalf("nobody leads the shard of %q", key)
	return nil, nil
}
