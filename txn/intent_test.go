package txn_test

import (
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
