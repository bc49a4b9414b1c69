package txn_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// closing is a world whose shards close timestamps soon.
func closing(t *testing.T, nodes, shards int, lag, retention time.Duration) *world {
	t.Helper()
	return boot(t, worldOptions{nodes: nodes, shards: shards, participant: func(_ int, o *txn.Options) { o.ClosedLag, o.Retention = lag, retention }})
}

func (w *world) put(c *txn.Client, key, value string) {
	w.t.Helper()
	ctx := within(w.t, 20*time.Second)
	require.NoError(w.t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Put(key, []byte(value)) }))
}

// at begins a transaction that reads at a timestamp.
func (w *world) at(c *txn.Client, at hlc.Timestamp, followers bool) *txn.Tx {
	w.t.Helper()
	tx, err := c.Begin(w.t.Context(), txn.TxOptions{At: at, Followers: followers})
	require.NoError(w.t, err)
	return tx
}

// get is what a transaction reads, with "-" for nothing and whether no leader was asked.
func (w *world) get(tx *txn.Tx, key string) (value string, nearby bool) {
	w.t.Helper()
	before := tx.Nearby()
	b, there, err := tx.Get(within(w.t, 20*time.Second), key)
	require.NoError(w.t, err)
	if !there {
		return "-", tx.Nearby() > before
	}
	return string(b), tx.Nearby() > before
}

// follower returns the number of a node that does not lead the shard of a key.
func (w *world) follower(key string) int {
	w.t.Helper()
	leader, _ := w.leader(key)
	for i, n := range w.Nodes() {
		if n != leader {
			return i + 1
		}
	}
	return 0
}

// alone cuts a node off from all others.
func (w *world) alone(i int) {
	for _, n := range w.Nodes() {
		if v := w.Node(i); n != v {
			w.Network().Cut(n.ID(), v.ID())
			w.Network().Cut(v.ID(), n.ID())
		}
	}
}

// after is a timestamp that has all that a client has committed, and nothing that it
// will.
func (w *world) after(c *txn.Client) hlc.Timestamp {
	w.t.Helper()
	tx, err := c.Begin(w.t.Context(), txn.TxOptions{})
	require.NoError(w.t, err)
	tx.Rollback(w.t.Context())
	return tx.At().Prev()
}

// store is what a node holds of a shard.
func (w *world) store(i int, id meta.ShardID) (*cluster.Replica, *mvcc.Store) {
	w.t.Helper()
	r, err := w.Node(i).Replica(id)
	require.NoError(w.t, err)
	return r, r.Store().(*mvcc.Store)
}

// A follower answers by itself what its leader would, of a shard that nobody writes any
// more, and nothing that it may not know of yet.
func TestFollowerReads(t *testing.T) {
	w := closing(t, 3, 1, 20*time.Millisecond, time.Minute)
	f := w.follower("00")
	c, other := w.client(f, txn.ClientOptions{}), w.client(f%3+1, txn.ClientOptions{})
	for i := range 4 {
		w.put(other, fmt.Sprintf("%d0", i), fmt.Sprint(i))
	}
	old := w.after(other)
	w.put(other, "10", "new")
	at := w.after(other)
	leads := w.at(other, at, false)
	rows, err := leads.Scan(within(t, 10*time.Second), "", "", 0)
	require.NoError(t, err)
	value, _ := w.get(leads, "10")
	require.Equal(t, "new", value)
	require.Zero(t, leads.Nearby())
	require.Eventually(t, func() bool {
		_, nearby := w.get(w.at(c, at, true), "10")
		return nearby
	}, 10*time.Second, 5*time.Millisecond, "nobody closes the shard")

	w.alone(f)
	tx := w.at(c, at, true)
	value, _ = w.get(tx, "10")
	require.Equal(t, "new", value)
	value, _ = w.get(tx, "11")
	require.Equal(t, "-", value)
	value, _ = w.get(w.at(c, old, true), "10")
	require.Equal(t, "1", value)
	found, err := tx.Scan(within(t, 10*time.Second), "", "", 0)
	require.NoError(t, err)
	require.Equal(t, rows, found)
	for limit := 1; limit <= len(rows); limit++ {
		found, err = tx.Scan(within(t, 10*time.Second), "", "", limit)
		require.NoError(t, err)
		require.Equal(t, rows[:limit], found)
	}
	require.ErrorIs(t, tx.Put("10", nil), txn.ErrReadOnly)

	w.put(other, "10", "newer")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	b, _, err := w.at(c, w.after(other), true).Get(ctx, "10")
	require.Error(t, err, "it was told %q", b)
	w.Network().Heal()
	b, _, err = w.at(c, w.after(other), true).Get(within(t, 10*time.Second), "10")
	require.NoError(t, err)
	require.Equal(t, "newer", string(b))
}

// Who leaves it to the client when reads what replicas have closed.
func TestFollowersClose(t *testing.T) {
	const lag = 200 * time.Millisecond
	w := closing(t, 3, 1, lag, time.Minute)
	w.put(w.client(1, txn.ClientOptions{}), "00", "old")
	f := w.follower("00")
	c := w.client(f, txn.ClientOptions{})
	require.Eventually(t, func() bool {
		value, _ := w.get(w.at(c, 0, true), "00")
		return value == "old"
	}, 10*time.Second, 10*time.Millisecond)
	_, store := w.store(f, w.ids[0])
	first, began, count, nearby := store.Applied(), time.Now(), 0, 0
	for ; time.Since(began) < 3*lag; count++ {
		tx := w.at(c, 0, true)
		require.ErrorIs(t, tx.Put("00", nil), txn.ErrReadOnly)
		value, here := w.get(tx, "00")
		require.Equal(t, "old", value)
		if here {
			nearby++
		}
		// As late as anything can be closed.
		w.get(w.at(c, hlc.At(time.Now().Add(-lag)), true), "00")
	}
	more := store.Applied() - first
	require.LessOrEqual(t, more, uint64(time.Since(began)/(lag/2))+3, "commands for %d reads", count)
	require.Greater(t, nearby, count/2, "of %d reads", count)
}

// Where an intent is in the way the leader is asked, which ends it.
func TestFollowersMeetIntents(t *testing.T) {
	w := closing(t, 3, 1, 20*time.Millisecond, time.Minute)
	f := w.follower("00")
	c := w.client(f, txn.ClientOptions{})
	w.put(c, "00", "old")
	before := w.after(c)
	leader, p := w.leader("00")
	r, err := leader.Replica(w.ids[0])
	require.NoError(t, err)
	start := max(before.Next(), p.Clock().Now())
	left := id.Txn{Key: id.Key{Node: uint64(leader.ID()), Epoch: leader.Epoch(), Seq: 1 << 40, Start: start}, Anchor: "00"}
	require.NoError(t, p.Leave(within(t, 10*time.Second), r, left, left.Anchor, start, true))
	_, store := w.store(f, w.ids[0])
	require.Eventually(t, func() bool { return len(store.Intents("00")) > 0 }, 10*time.Second, time.Millisecond)
	at := store.Intents("00")[0].TS
	require.Eventually(t, func() bool {
		w.put(c, "50", "closes it")
		return store.State().Closed >= at
	}, 10*time.Second, time.Millisecond)

	value, nearby := w.get(w.at(c, before, true), "00")
	require.True(t, nearby, "what comes later is in nobody's way")
	require.Equal(t, "old", value)
	_, nearby = w.get(w.at(c, at, true), "40")
	require.True(t, nearby, "it is at another key")
	require.NotEmpty(t, store.Intents("00"), "the test is too slow")
	value, nearby = w.get(w.at(c, at, true), "00")
	require.False(t, nearby)
	require.Equal(t, "old", value)
	require.Eventually(t, func() bool {
		value, nearby = w.get(w.at(c, at, true), "00")
		return nearby
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, "old", value)
}

// What happens to a replica while it is read is found out.
func TestFollowersLookAgain(t *testing.T) {
	w := closing(t, 3, 2, 20*time.Millisecond, 300*time.Millisecond)
	f := w.follower("00")
	c, other := w.client(f, txn.ClientOptions{}), w.client(f%3+1, txn.ClientOptions{})
	whole := meta.Span{Start: "00", End: "40"}
	r, store := w.store(f, w.ids[0])
	ready := func() *txn.Tx { // reads what was closed just now
		at := w.after(other)
		require.Eventually(t, func() bool {
			w.put(other, "00", "value")
			return store.State().Closed >= at
		}, 10*time.Second, 5*time.Millisecond)
		return w.at(c, at, true)
	}
	tx := ready()
	ok, err := tx.Here(whole, func() {})
	require.NoError(t, err)
	require.True(t, ok)
	ok, err = tx.Here(meta.Span{}, func() {})
	require.NoError(t, err)
	require.False(t, ok, "a part of it is another shard's")

	// Versions go.
	w.put(other, "01", "kept")
	tx = ready()
	ok, err = tx.Here(whole, func() {
		require.Eventually(t, func() bool {
			w.put(other, "00", "newer")
			return store.State().Threshold > tx.At()
		}, 10*time.Second, 5*time.Millisecond)
	})
	require.ErrorIs(t, err, txn.ErrSnapshotTooOld)
	require.False(t, ok)
	_, _, err = tx.Get(within(t, 10*time.Second), "01")
	require.ErrorIs(t, err, txn.ErrSnapshotTooOld)
	_, err = tx.Scan(within(t, 10*time.Second), "00", "40", 0)
	require.ErrorIs(t, err, txn.ErrSnapshotTooOld)

	// The span is another.
	tx = ready()
	ok, err = tx.Here(whole, func() {
		generation := r.Header().Generation
		_, err := w.Node(1).Split(within(t, 10*time.Second), "20")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return r.Header().Generation > generation }, 10*time.Second, time.Millisecond)
	})
	require.NoError(t, err)
	require.False(t, ok)

	// The replica goes.
	tx = ready()
	ok, err = tx.Here(meta.Span{Start: "00", End: "10"}, func() { w.crash(f) })
	require.NoError(t, err)
	require.False(t, ok)
}

// At one timestamp followers show all of each transaction or nothing, whatever happens
// to shards, and what leaders do.
func TestFollowersOfABank(t *testing.T) {
	const accounts, each, nodes = 8, 1000, 4
	w := closing(t, nodes, 4, 30*time.Millisecond, time.Minute)
	account := func(i int) string { return fmt.Sprintf("%02d/account", i*100/accounts) }
	c := w.client(1, txn.ClientOptions{})
	require.NoError(t, c.Run(within(t, 10*time.Second), txn.TxOptions{}, func(tx *txn.Tx) error {
		for i := range accounts {
			if err := tx.Put(account(i), mvcc.AppendCounter(nil, each)); err != nil {
				return err
			}
		}
		return nil
	}))
	opened := w.after(c)
	ctx, stop := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer stop()
	var work sync.WaitGroup
	var moved, read, nearby atomic.Int64
	for i := range nodes {
		c := w.client(1+i, txn.ClientOptions{})
		rng := rand.New(rand.NewPCG(harness.Seed(), uint64(i)))
		work.Go(func() {
			for ctx.Err() == nil {
				from, to, v := rng.IntN(accounts), rng.IntN(accounts), int64(1+rng.IntN(10))
				err := c.Run(within(t, 20*time.Second), txn.TxOptions{}, func(tx *txn.Tx) error {
					if err := tx.Add(account(from), -v); err != nil {
						return err
					}
					return tx.Add(account(to), v)
				})
				if err != nil {
					t.Errorf("transfer: %v", err)
				}
				moved.Add(1)
			}
		})
		work.Go(func() {
			for ctx.Err() == nil {
				tx, err := c.Begin(ctx, txn.TxOptions{Followers: true})
				if err != nil || tx.At() < opened {
					continue
				}
				sums := [2]int64{}
				for j, tx := range []*txn.Tx{tx, w.at(c, tx.At(), false)} {
					list, err := tx.Scan(within(t, 20*time.Second), "", "", 0)
					if err != nil {
						t.Errorf("scan at %v: %v", tx.At(), err)
					}
					for k := range list {
						n, _ := mvcc.Counter(&mvcc.Version{TS: 1, Value: list[k].Value})
						sums[j] += n
						if j == 1 && k%3 == 0 {
							value, there, err := tx.Get(within(t, 20*time.Second), list[k].Key)
							if err != nil || !there || string(value) != string(list[k].Value) {
								t.Errorf("%q at %v: %x, %v, expected %x", list[k].Key, tx.At(), value, err, list[k].Value)
							}
						}
					}
				}
				if want := int64(accounts * each); sums != [2]int64{want, want} {
					t.Errorf("at %v there are %d at followers and leaders, expected %d", tx.At(), sums, want)
				}
				read.Add(1)
				nearby.Add(int64(tx.Nearby()))
			}
		})
	}
	d := &faults{w: w, rng: rand.New(rand.NewPCG(harness.Seed(), 7))}
	for i := 0; ctx.Err() == nil; i++ {
		switch i % 4 {
		case 0:
			d.split(ctx)
		case 2:
			d.merge(ctx)
		default:
			d.transfer(ctx)
		}
		time.Sleep(20 * time.Millisecond)
	}
	work.Wait()
	t.Logf("%d transfers, %d reads, %d parts of them nearby", moved.Load(), read.Load(), nearby.Load())
	require.Positive(t, nearby.Load())
}
