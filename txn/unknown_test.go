package txn_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A commit whose caller did not wait for the answer is asked for again until there is
// one, and is carried out once, or never.
func TestCommitAgain(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 4})
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	rng := rand.New(rand.NewPCG(seed, 11))
	c := w.client(1, txn.ClientOptions{})
	var want, unknown int64
	for i := range 600 {
		tx, err := c.Begin(t.Context(), txn.TxOptions{Set: true, Protocol: txn.Protocol(i % 2)})
		require.NoError(t, err)
		require.NoError(t, tx.Add("10/sum", 1))
		if i%3 != 0 {
			require.NoError(t, tx.Add("80/sum", 1))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rng.IntN(300))*time.Microsecond)
		err = tx.Commit(ctx)
		cancel()
		for again := 0; errors.As(err, new(*txn.UnknownError)); again++ {
			unknown++
			require.ErrorIs(t, err, consensus.ErrUnknown)
			require.Less(t, again, 10)
			err = tx.Commit(within(t, 10*time.Second))
		}
		switch {
		case err == nil:
			want++
		case !errors.As(err, new(*txn.AbortedError)):
			require.ErrorIs(t, err, consensus.ErrRejected) // nobody heard of it
		}
		require.ErrorIs(t, tx.Commit(t.Context()), txn.ErrEnded)
	}
	require.NotZero(t, unknown)
	t.Logf("%d committed, %d times nobody knew", want, unknown)
	var sum int64
	require.NoError(t, c.Run(within(t, 10*time.Second), txn.TxOptions{}, func(tx *txn.Tx) (err error) {
		sum, err = tx.Count(t.Context(), "10/sum")
		return err
	}))
	require.Equal(t, want, sum)
}

// What a client has read once its later transactions read too, though it was written by
// a leader that had to go ahead of the clocks, and they do not ask for realtime order.
func TestClientReadsNoLessThanBefore(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	a, b := w.client(1, txn.ClientOptions{}), w.client(2, txn.ClientOptions{})
	ctx := within(t, 20*time.Second)
	get := func(o txn.TxOptions) (there bool) {
		require.NoError(t, b.Run(ctx, o, func(tx *txn.Tx) (err error) {
			_, there, err = tx.Get(ctx, "k")
			return err
		}))
		return there
	}
	require.NoError(t, a.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Put("k", nil) }))
	require.True(t, get(txn.TxOptions{Set: true, Level: txn.Strict, ReadOnly: true}))
	require.True(t, get(txn.TxOptions{ReadOnly: true}))
}

// A commit that was proposed and whose seat ended is not known to have been in vain.
func TestSeatEndsWithCommitUnderWay(t *testing.T) {
	for _, keys := range [][]string{{"00"}, {"00", "99"}} {
		w := boot(t, worldOptions{nodes: 3, shards: 2})
		leader, p := w.leader("00")
		c, err := txn.NewClient(leader, p, txn.ClientOptions{})
		require.NoError(t, err)
		tx, err := c.Begin(t.Context(), txn.TxOptions{})
		require.NoError(t, err)
		for _, key := range keys {
			require.NoError(t, tx.Put(key, []byte("mine")))
		}
		// It gets to the others, and nobody hears of that.
		for _, n := range w.Nodes() {
			if n != leader {
				w.Network().Cut(n.ID(), leader.ID())
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- tx.Commit(ctx) }()
		time.Sleep(20 * time.Millisecond)
		p.EndSeats()
		err = <-ended
		require.ErrorIs(t, err, consensus.ErrUnknown)
		w.Network().Heal()
		if err = tx.Commit(within(t, 20*time.Second)); err != nil {
			require.ErrorAs(t, err, new(*txn.AbortedError))
		}
		var found bool
		require.NoError(t, w.client(1, txn.ClientOptions{}).Run(within(t, 20*time.Second), txn.TxOptions{}, func(tx *txn.Tx) (err error) {
			_, found, err = tx.Get(t.Context(), "00")
			return err
		}))
		require.Equal(t, err == nil, found)
	}
}

// So does what it has committed itself, at whichever node, though that is ahead of its
// clock.
func TestClientReadsItsCommits(t *testing.T) {
	for node := range 3 {
		for _, keys := range [][]string{{"00/k"}, {"00/k", "90/k"}} {
			w := boot(t, worldOptions{nodes: 3, shards: 2})
			c, ctx := w.client(node+1, txn.ClientOptions{}), within(t, 20*time.Second)
			require.NoError(t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
				for _, key := range keys {
					if err := tx.Put(key, nil); err != nil {
						return err
					}
				}
				return nil
			}))
			for _, level := range []txn.Level{txn.Snapshot, txn.Serializable} {
				for _, key := range keys {
					require.NoError(t, c.Run(ctx, txn.TxOptions{Set: true, Level: level}, func(tx *txn.Tx) error {
						_, there, err := tx.Get(ctx, key)
						require.True(t, there || err != nil, "%v at node %d", level, node+1)
						return err
					}))
				}
			}
		}
	}
}

// A strict commit whose caller does not wait until all see it can be waited for again.
func TestStrictCommitIsWaitedFor(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	c := w.client(1, txn.ClientOptions{})
	for _, keys := range [][]string{{"00"}, {"00", "90"}} {
		tx, err := c.Begin(t.Context(), txn.TxOptions{Set: true, Level: txn.Strict})
		require.NoError(t, err)
		for _, key := range keys {
			require.NoError(t, tx.Put(key, []byte("mine")))
		}
		ctx, cancel := context.WithTimeout(t.Context(), hlc.DefaultBound/2)
		err = tx.Commit(ctx)
		cancel()
		require.ErrorAs(t, err, new(*txn.UnknownError))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, tx.Commit(within(t, 10*time.Second)))
		require.ErrorIs(t, tx.Commit(t.Context()), txn.ErrEnded)
		require.Equal(t, "mine", w.read(2, keys[len(keys)-1]))
	}
}
