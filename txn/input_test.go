package txn_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// saysAll wants an error to be of a kind and to name what it is about.
func saysAll(t *testing.T, err, kind error, names ...string) {
	t.Helper()
	require.ErrorIs(t, err, kind)
	for _, name := range names {
		require.ErrorContains(t, err, name)
	}
}

// free wants that nothing stands in anybody's way at keys, and that nothing of the
// transactions before came about.
func (w *world) free(keys ...string) {
	w.t.Helper()
	ctx := within(w.t, 20*time.Second)
	require.NoError(w.t, w.client(2, txn.ClientOptions{MaxTries: 1}).Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		for _, key := range keys {
			if _, there, err := tx.GetForUpdate(ctx, key); there || err != nil {
				return errors.Join(errors.New(key+" is not as it was"), err)
			}
		}
		return nil
	}))
	require.Zero(w.t, w.intents())
}

// What a client asks for that cannot be is refused with what it is and what was expected,
// at once, and harms neither the transaction nor others.
func TestBadInput(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, 30*time.Second)
	_, err := txn.NewClient(w.Node(1), w.parts[0], txn.ClientOptions{Level: 7})
	saysAll(t, err, txn.ErrLevel, "level 7")
	_, err = txn.NewClient(w.Node(1), w.parts[0], txn.ClientOptions{Protocol: 7})
	require.ErrorContains(t, err, "protocol")
	_, err = txn.NewClient(w.Node(1), w.parts[0], txn.ClientOptions{MaxReads: -1})
	require.ErrorContains(t, err, "MaxReads -1")
	c := w.client(1, txn.ClientOptions{MaxBytes: 1000, MaxReads: 3})
	_, err = c.Begin(ctx, txn.TxOptions{Set: true, Level: 7})
	saysAll(t, err, txn.ErrLevel, "level 7")
	_, err = c.Begin(ctx, txn.TxOptions{Set: true, Protocol: 7})
	require.ErrorContains(t, err, "protocol")
	clock := w.parts[0].Clock()
	far := clock.Now().Add(clock.Bound() + time.Hour)
	_, err = c.Begin(ctx, txn.TxOptions{At: far})
	saysAll(t, err, txn.ErrFuture, far.String())
	_, err = w.client(1, txn.ClientOptions{Source: told(far)}).Begin(ctx, txn.TxOptions{})
	saysAll(t, err, txn.ErrFuture, far.String(), "expected at most "+(2*clock.Bound()).String())
	_, err = c.Outcome(ctx, w.nobodys(1, ""))
	require.ErrorContains(t, err, "anchor")

	tx, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	long := strings.Repeat("k", mvcc.MaxKeyBytes)
	for _, key := range []string{"", long} {
		for _, err := range []error{
			tx.Put(key, nil), tx.Delete(key), tx.Add(key, 1), tx.AddBounded(key, 1, 0, 1), third(tx.Get(ctx, key)), third(tx.GetForUpdate(ctx, key)),
		} {
			saysAll(t, err, txn.ErrTooLarge, "key of", "expected 1 to")
			require.Less(t, len(err.Error()), 300, "it has all of the key")
		}
	}
	saysAll(t, tx.Put("00/k", make([]byte, mvcc.MaxValueBytes+1)), txn.ErrTooLarge, `"00/k"`, "8388609", "8388608")
	require.NoError(t, tx.Put("00/k", make([]byte, 600)))
	saysAll(t, tx.Put("90/k", make([]byte, 600)), txn.ErrTooLarge, "1208", "1000")
	require.ErrorContains(t, tx.AddBounded("00/n", 1, 2, 1), "bounds 2 to 1")
	_, err = tx.Scan(ctx, "00", "01", -1)
	require.ErrorContains(t, err, "limit -1")
	for _, key := range []string{"00/1", "00/2", "90/3"} {
		_, _, err = tx.Get(ctx, key)
		require.NoError(t, err)
	}
	saysAll(t, third(tx.Get(ctx, "00/4")), txn.ErrTooLarge, "reads 4", "at most 3")
	_, err = tx.Scan(ctx, "00", "01", 0)
	saysAll(t, err, txn.ErrTooLarge, "reads 4", "at most 3")
	require.NoError(t, tx.Commit(ctx), "what was refused does not count")
	w.free("00/1", "00/n", "90/k")

	for _, o := range []txn.TxOptions{{ReadOnly: true}, {At: clock.Now()}, {Followers: true}} {
		tx, err := c.Begin(ctx, o)
		require.NoError(t, err)
		saysAll(t, tx.Put("00/r", nil), txn.ErrReadOnly, `"00/r"`)
		require.ErrorIs(t, third(tx.GetForUpdate(ctx, "00/r")), txn.ErrReadOnly)
		require.NoError(t, tx.Commit(ctx))
	}
	w.free("00/r")
}

// Shards refuse timestamps that no right clock shows, whoever sends them, and no clock
// follows them.
func TestShardsRefuseTheFuture(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	ctx := within(t, 10*time.Second)
	clock := w.parts[0].Clock()
	name := w.nobodys(1, "00/k")
	name.Start = name.Start.Add(clock.Bound() + time.Hour)
	for node := range 3 {
		n := w.Node(node + 1)
		require.ErrorContains(t, second(txn.CommitOnce(ctx, n, name, putOf("00/k", ""))), txn.ErrFuture.Error())
		require.ErrorContains(t, txn.Prepare(ctx, n, name, []string{"00/k"}, putOf("00/k", "")), txn.ErrFuture.Error())
		require.ErrorContains(t, txn.LockBy(ctx, n, name, "00/k"), txn.ErrFuture.Error())
	}
	for i := range w.Nodes() {
		require.Less(t, w.parts[i].Clock().Last(), name.Start)
	}
	w.free("00/k")
}

// A transaction that has ended takes no more calls, however it ended, and says so.
func TestUseAfterEnd(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	for _, end := range []func(*txn.Tx){
		func(tx *txn.Tx) { require.NoError(t, tx.Commit(ctx)) },
		func(tx *txn.Tx) { tx.Rollback(ctx) },
		func(tx *txn.Tx) { // which ends it as well
			w.refusedFor(tx.AddBounded("00/two", 5, 0, 1), txn.OutOfRange, tx.Commit(ctx))
		},
	} {
		tx, err := c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		_, _, err = tx.GetForUpdate(ctx, "00/one")
		require.NoError(t, err)
		point := tx.Savepoint()
		end(tx)
		name := tx.ID().Key.String()
		_, scan := tx.Scan(ctx, "00", "", 0)
		for _, err := range []error{
			tx.Put("00/one", nil), tx.Delete("00/one"), tx.Add("00/one", 1), third(tx.Get(ctx, "00/one")), third(tx.GetForUpdate(ctx, "00/one")),
			scan, tx.RollbackTo(point), tx.Commit(ctx), tx.Commit(ctx),
		} {
			saysAll(t, err, txn.ErrEnded, name)
		}
		tx.Rollback(ctx)
		require.Eventually(t, func() bool { return w.parts[0].Waiting() == 0 }, 10*time.Second, time.Millisecond)
		w.free("00/one", "00/two", "90/two")
	}
}

// refusedFor wants a transaction to be aborted for good, and what was asked of it before
// to have been taken.
func (w *world) refusedFor(before error, why txn.Reason, err error) {
	w.t.Helper()
	require.NoError(w.t, before)
	var aborted *txn.AbortedError
	require.ErrorAs(w.t, err, &aborted)
	require.Equal(w.t, why, aborted.Reason)
	require.False(w.t, aborted.Retry())
}

// What is more than a shard's log takes at once is refused, and not tried for ever.
func TestTooMuchForALog(t *testing.T) {
	const most = 64 << 10
	o := worldOptions{nodes: 3, shards: 2}
	o.local.Node = func(_ int, c *cluster.Options) { c.Consensus = func(o *consensus.Options) { o.MaxCommandBytes = most } }
	w := boot(t, o)
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	for _, keys := range [][]string{{"00/a"}, {"00/a", "00/b"}, {"00/a", "90/b"}, {"90/b", "00/small"}} {
		for _, protocol := range []txn.Protocol{txn.OneRound, txn.TwoPhase} {
			err := c.Run(ctx, txn.TxOptions{Set: true, Protocol: protocol}, func(tx *txn.Tx) error {
				for _, key := range keys {
					size := most/len(keys) + 1
					if key == "00/small" {
						size = 1
					} else if len(keys) == 2 && keys[1] != "00/b" {
						size = most
					}
					if err := tx.Put(key, make([]byte, size)); err != nil {
						return err
					}
				}
				return nil
			})
			saysAll(t, err, txn.ErrTooLarge, "65536")
			var aborted *txn.AbortedError
			require.ErrorAs(t, err, &aborted)
			require.Equal(t, txn.TooLarge, aborted.Reason)
			require.False(t, aborted.Retry())
			require.Eventually(t, func() bool { return w.intents() == 0 }, 10*time.Second, time.Millisecond)
			w.free(keys...)
		}
	}
	w.put(c, "00/a", strings.Repeat("v", most-1000))
}

// Where intents are few enough for one entry of the log, and what ends them is not, they
// are ended by several. Otherwise they would stay for ever, and with them whoever waits.
func TestMoreIntentsThanALogEndsAtOnce(t *testing.T) {
	const most = 64 << 10
	o := worldOptions{nodes: 3, shards: 2}
	o.local.Node = func(_ int, c *cluster.Options) { c.Consensus = func(o *consensus.Options) { o.MaxCommandBytes = most } }
	w := boot(t, o)
	ctx, c := within(t, time.Minute), w.client(1, txn.ClientOptions{})
	for _, v := range []struct {
		name      string
		protocol  txn.Protocol
		anchor    int // keys in the shard of the anchor
		away      int // in the other one
		abandoned bool
	}{
		{name: "away", away: 2500, anchor: 1},
		{name: "anchor", away: 1, anchor: 1600},
		{name: "record/two-phase", away: 2500, anchor: 2500, protocol: txn.TwoPhase},
		{name: "abandoned", away: 2500, anchor: 1, abandoned: true},
	} {
		t.Run(v.name, func(t *testing.T) {
			key := func(shard, i int) string { return fmt.Sprintf("%02d/%04d", shard, i) }
			var writes [2][]mvcc.Write
			for i := range v.anchor {
				writes[0] = append(writes[0], mvcc.Write{Key: key(0, i), Kind: mvcc.Put})
			}
			for i := range v.away {
				writes[1] = append(writes[1], mvcc.Write{Key: key(90, i), Kind: mvcc.Put})
			}
			if v.abandoned {
				name := w.nobodys(1, key(90, 0))
				require.NoError(t, txn.Prepare(ctx, w.Node(1), name, []string{key(90, 0), "00/never"}, writes[1]...))
				o, err := c.Outcome(ctx, name)
				require.NoError(t, err)
				require.False(t, o.Committed)
			} else {
				require.NoError(t, c.Run(ctx, txn.TxOptions{Set: true, Protocol: v.protocol}, func(tx *txn.Tx) error {
					for _, list := range writes {
						for _, w := range list {
							if err := tx.Put(w.Key, nil); err != nil {
								return err
							}
						}
					}
					return nil
				}))
			}
			require.Eventually(t, func() bool { return w.intents() == 0 }, 15*time.Second, time.Millisecond)
		})
	}
}

// What was written behind a savepoint is forgotten, and what was before stays; so do
// locks. A savepoint is of one transaction, and goes with those before it.
func TestSavepoints(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{MaxBytes: 200})
	w.put(c, "00/old", "old")
	tx, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	empty := tx.Savepoint()
	require.NoError(t, tx.Put("00/a", []byte("1")))
	require.NoError(t, tx.Add("00/n", 1))
	middle := tx.Savepoint()
	require.NoError(t, tx.Put("00/a", []byte("2")))
	require.NoError(t, tx.Add("00/n", 10))
	require.NoError(t, tx.Put("90/b", make([]byte, 100)))
	require.NoError(t, tx.Delete("00/old"))
	late := tx.Savepoint()
	for range 2 {
		require.NoError(t, tx.RollbackTo(middle))
		require.Equal(t, "1", first(w.get(tx, "00/a")))
		require.Equal(t, "-", first(w.get(tx, "90/b")))
		require.Equal(t, "old", first(w.get(tx, "00/old")))
		require.Equal(t, string(mvcc.AppendCounter(nil, 1)), first(w.get(tx, "00/n")))
	}
	saysAll(t, tx.RollbackTo(late), txn.ErrSavepoint, tx.ID().Key.String())
	other, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	require.ErrorIs(t, other.RollbackTo(middle), txn.ErrSavepoint)
	other.Rollback(ctx)
	require.NoError(t, tx.Put("90/b", make([]byte, 100)), "its room is free again")
	for range 3 {
		require.NoError(t, tx.Put("00/c", nil))
	}
	require.ErrorIs(t, tx.RollbackTo(late), txn.ErrSavepoint, "it was of what is no more")
	require.NoError(t, tx.RollbackTo(middle))
	require.NoError(t, tx.Commit(ctx))
	require.Equal(t, "1", w.read(2, "00/a"))
	require.Equal(t, "-", w.read(2, "90/b"))
	require.Equal(t, "old", w.read(2, "00/old"))

	tx, err = c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	require.ErrorIs(t, tx.RollbackTo(empty), txn.ErrSavepoint, "it is another's")
	empty = tx.Savepoint()
	_, _, err = tx.GetForUpdate(ctx, "00/a")
	require.NoError(t, err)
	require.NoError(t, tx.Put("00/a", []byte("3")))
	require.NoError(t, tx.RollbackTo(empty))
	younger, err := c.Begin(ctx, txn.TxOptions{}) // of another node it might be older
	require.NoError(t, err)
	waited := make(chan error, 1)
	go func() { waited <- third(younger.GetForUpdate(ctx, "00/a")) }()
	_, p := w.leader("00")
	require.Eventually(t, func() bool { return p.Waiting() == 1 }, 10*time.Second, time.Millisecond, "its lock has gone")
	require.NoError(t, tx.Commit(ctx), "it writes nothing")
	require.NoError(t, <-waited)
	younger.Rollback(ctx)
}
