package txn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A reading is a transaction that has read that there is nothing at keys, in a shard
// whose leader does not take its timestamp for one of its beginning.
type reading struct {
	w    *world
	tx   *txn.Tx
	keys []string
}

func (w *world) reads(node int, keys ...string) *reading {
	w.t.Helper()
	c := w.client(node, txn.ClientOptions{})
	for _, key := range keys {
		w.put(c, key+"/beside", "")
	}
	tx, err := c.Begin(w.t.Context(), txn.TxOptions{})
	require.NoError(w.t, err)
	r := &reading{w: w, tx: tx, keys: keys}
	r.again()
	return r
}

func (r *reading) again() {
	r.w.t.Helper()
	for _, key := range r.keys {
		value, _ := r.w.get(r.tx, key)
		require.Equal(r.w.t, "-", value, key)
	}
}

// writes has somebody write the keys whose clock shows less than what they were read at,
// and looks whether that is still so.
func (r *reading) writes(node int) {
	r.w.t.Helper()
	ctx := within(r.w.t, 20*time.Second)
	c := r.w.client(node, txn.ClientOptions{Source: told(r.tx.At().Prev())})
	require.NoError(r.w.t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		for _, key := range r.keys {
			if err := tx.Put(key, []byte("below")); err != nil {
				return err
			}
		}
		return nil
	}))
	r.again()
	require.Equal(r.w.t, "below", r.w.read(node, r.keys[0]))
}

// Nobody writes at or below a timestamp at which a key was read, in one shard or several,
// whatever his clock shows.
func TestWritesStayAboveReads(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, 30*time.Second)
	w.reads(1, "00/one").writes(2)
	w.reads(1, "00/two", "90/two").writes(2)

	for i, keys := range [][]string{{"00/scanned"}, {"00/spanned", "90/spanned"}} {
		r := w.reads(1)
		for _, key := range keys {
			w.put(w.client(1, txn.ClientOptions{}), key+"/beside", "")
		}
		require.Equal(t, "", w.read(1, keys[0]+"/beside"))
		c := w.client(1, txn.ClientOptions{})
		require.NoError(t, c.Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
			_, err := tx.Scan(ctx, "00", "", 0)
			return err
		}))
		var err error
		r.tx, err = c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		scan := func() int {
			rows, err := r.tx.Scan(ctx, keys[0], keys[len(keys)-1]+"/", 0)
			require.NoError(t, err)
			return len(rows)
		}
		before := scan()
		r.keys = keys
		r.writes(2)
		require.Equal(t, before, scan(), "%d", i)
	}

	// Who has the lock has read as well, and may lose it to somebody older.
	r := w.reads(1)
	c := w.client(1, txn.ClientOptions{})
	w.put(c, "00/locked/beside", "")
	var err error
	r.tx, err = c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	_, there, err := r.tx.GetForUpdate(ctx, "00/locked")
	require.NoError(t, err)
	require.False(t, there)
	r.keys = []string{"00/locked"}
	r.writes(2)
}

// Nobody writes below what was written: who comes later is not hidden by his clock.
func TestWritesStayAboveWrites(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, 30*time.Second)
	for _, keys := range [][]string{{"00/one"}, {"00/two", "90/two"}} {
		c := w.client(1, txn.ClientOptions{})
		var before hlc.Timestamp
		for _, value := range []string{"first", "second"} {
			require.NoError(t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
				before = tx.At()
				for _, key := range keys {
					if err := tx.Put(key, []byte(value)); err != nil {
						return err
					}
				}
				return nil
			}))
			c = w.client(2, txn.ClientOptions{Source: told(before)})
		}
		for _, key := range keys {
			require.Equal(t, "second", w.read(3, key))
		}
	}
}

// What was read in one seat the next one does not know, and so takes it that all was
// read, up to what any clock may have shown: where another node leads, where a part is a
// shard of its own, and where two have become one.
func TestReadsOutliveTheirSeat(t *testing.T) {
	const bound = 2 * time.Second // longer than it takes to be led by another node
	bounded := func(_ int, o *txn.Options) {
		clock, err := hlc.NewClock(steady, bound)
		require.NoError(t, err)
		o.Clock = clock
	}
	t.Run("leader", func(t *testing.T) {
		w := boot(t, worldOptions{nodes: 3, shards: 1, participant: bounded})
		w.leads(1, "00")
		r := w.reads(1, "00/k")
		w.leads(2, "00")
		r.writes(2)
	})
	t.Run("clock", func(t *testing.T) {
		w := boot(t, worldOptions{nodes: 3, shards: 1, participant: bounded})
		w.leads(1, "00")
		ahead := told(w.parts[0].Clock().Now().Add(bound * 9 / 10))
		tx, err := w.client(3, txn.ClientOptions{Source: ahead}).Begin(t.Context(), txn.TxOptions{})
		require.NoError(t, err)
		r := &reading{w: w, tx: tx, keys: []string{"00/k"}}
		r.again()
		w.leads(2, "00")
		r.writes(2)
	})
	t.Run("split", func(t *testing.T) {
		w := boot(t, worldOptions{nodes: 3, shards: 1, participant: bounded})
		left, right := w.reads(1, "10/k"), w.reads(1, "90/k")
		_, err := w.Node(1).Split(within(t, 10*time.Second), "50")
		require.NoError(t, err)
		left.writes(2)
		right.writes(2)
	})
	t.Run("merge", func(t *testing.T) {
		w := boot(t, worldOptions{nodes: 3, shards: 2, participant: bounded})
		w.leads(1, "00")
		w.leads(2, "90")
		left, right := w.reads(1, "10/k"), w.reads(1, "10/l", "90/k")
		right.keys = right.keys[1:]
		require.NoError(t, w.Node(1).Merge(within(t, 10*time.Second), w.ids[0]))
		left.writes(2)
		right.writes(2)
	})
}

// What was evaluated in a seat is not carried out behind the next one's lease: it is
// evaluated again there, and whoever asked does not hear of it.
func TestEvaluatedInAnotherSeat(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(2, txn.ClientOptions{})
	for i, keys := range [][]string{{"00/k"}, {"00/k", "90/k"}} {
		w.leads(1, "00")
		r, err := w.Node(1).Replica(w.ids[0])
		require.NoError(t, err)
		for round := range 3 {
			require.NoError(t, w.parts[0].Usurp(ctx, r))
			tx, err := c.Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			require.NoError(t, tx.Add("00/n", 1))
			for _, key := range keys {
				require.NoError(t, tx.Put(key, []byte{byte(round)}))
			}
			require.NoError(t, tx.Commit(ctx))
			for _, key := range keys {
				require.Equal(t, string([]byte{byte(round)}), w.read(3, key))
			}
			require.Equal(t, string(mvcc.AppendCounter(nil, int64(3*i+round+1))), w.read(3, "00/n"))
		}
	}
}

// Nobody evaluates anything about a key that is being changed: all wait for its latch.
func TestAllWaitForLatches(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, time.Minute)
	c := w.client(1, txn.ClientOptions{})
	away, reader := id.Txn{}, (*txn.Tx)(nil)
	writes := func(key string) func(string) error {
		return func(string) error { return errors.Join(reader.Put(key, nil), reader.Commit(ctx)) }
	}
	for _, v := range []struct {
		name string
		fn   func(key string) error
	}{
		{"get", func(key string) error {
			return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return third(tx.Get(ctx, key)) })
		}},
		{"scan", func(key string) error {
			return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { _, err := tx.Scan(ctx, "00", "01", 0); return err })
		}},
		{"lock", func(key string) error {
			return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return third(tx.GetForUpdate(ctx, key)) })
		}},
		{"put", func(key string) error {
			return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Put(key, nil) })
		}},
		{"add", func(key string) error {
			return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Add(key+"/", 1) })
		}},
		{"prepare", func(key string) error {
			return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return errors.Join(tx.Put(key, nil), tx.Put("90", nil)) })
		}},
		{"outcome", func(key string) error { return second(c.Outcome(ctx, w.nobodys(1, key))) }},
		{"prevent", func(string) error { return second(c.Outcome(ctx, away)) }},
		{"was-read/here", writes("10/reader")},
		{"was-read/elsewhere", writes("90/reader")},
	} {
		t.Run(v.name, func(t *testing.T) {
			key := "00/" + v.name
			if v.name == "add" {
				key += "/"
			}
			away = w.nobodys(1, "90/"+v.name)
			if v.name == "prevent" {
				require.NoError(t, txn.Prepare(ctx, w.Node(1), away, []string{away.Anchor, key}, putOf(away.Anchor, "")))
			}
			w.leads(1, "00")
			r, err := w.Node(1).Replica(w.ids[0])
			require.NoError(t, err)
			reader, err = c.Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			w.get(reader, key)
			release, waiting, err := w.parts[0].Hold(ctx, r, key)
			require.NoError(t, err)
			done := make(chan error, 1)
			go func() { done <- v.fn("00/" + v.name) }()
			require.Eventually(t, func() bool { return waiting() > 0 }, 10*time.Second, time.Millisecond)
			require.Empty(t, done)
			release()
			require.NoError(t, <-done)
		})
	}
}

// Intents keep others out where a leader has just begun, which has no locks but those.
func TestIntentsAreLocksOfTheNextLeader(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	w.leads(1, "00")
	for _, key := range []string{"00/k", "90/k"} {
		w.put(c, key, "old")
	}
	older, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	name := w.nobodys(2, "90/k")
	name.Start = older.At().Next() // above all that was read and written
	require.NoError(t, txn.Prepare(ctx, w.Node(1), name, []string{"90/k", "00/k"}, putOf("90/k", "new")))
	require.NoError(t, txn.Prepare(ctx, w.Node(1), name, nil, putOf("00/k", "new")))
	w.leads(2, "00")
	value, _, err := older.GetForUpdate(ctx, "00/k")
	require.NoError(t, err)
	require.Equal(t, "new", string(value))
	older.Rollback(ctx)
}

// Who waited in a seat while its keys went to another shard is not told what is left of
// them there, which is nothing: he is answered by that other one.
func TestKeysLeaveWhileTheyAreRead(t *testing.T) {
	for _, v := range []struct {
		name string
		fn   func(ctx context.Context, c *txn.Client, tx *txn.Tx) (string, error)
	}{
		{"get", func(ctx context.Context, _ *txn.Client, tx *txn.Tx) (string, error) {
			value, _, err := tx.Get(ctx, "90/k")
			return string(value), err
		}},
		{"scan", func(ctx context.Context, _ *txn.Client, tx *txn.Tx) (string, error) {
			rows, err := tx.Scan(ctx, "90/k", "90/l", 0)
			if len(rows) != 1 {
				return fmt.Sprintf("%d rows", len(rows)), err
			}
			return string(rows[0].Value), err
		}},
		{"lock", func(ctx context.Context, _ *txn.Client, tx *txn.Tx) (string, error) {
			value, _, err := tx.GetForUpdate(ctx, "90/k")
			return string(value), err
		}},
		{"put", func(ctx context.Context, c *txn.Client, tx *txn.Tx) (string, error) {
			if err := errors.Join(tx.Put("90/k", []byte("value")), tx.Commit(ctx)); err != nil {
				return "", err
			}
			tx, err := c.Begin(ctx, txn.TxOptions{})
			if err != nil {
				return "", err
			}
			value, _, err := tx.Get(ctx, "90/k")
			return string(value), err
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			w := boot(t, worldOptions{nodes: 3, shards: 1})
			ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
			w.put(c, "90/k", "value")
			w.leads(2, "00")
			r, err := w.Node(2).Replica(w.ids[0])
			require.NoError(t, err)
			release, waiting, err := w.parts[1].Hold(ctx, r, "90/k")
			require.NoError(t, err)
			tx, err := c.Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			type answer struct {
				value string
				err   error
			}
			done := make(chan answer, 1)
			go func() {
				value, err := v.fn(ctx, c, tx)
				done <- answer{value, err}
			}()
			require.Eventually(t, func() bool { return waiting() > 0 }, 10*time.Second, time.Millisecond)
			_, err = w.Node(1).Split(ctx, "50")
			require.NoError(t, err)
			require.Eventually(t, func() bool { return !r.Header().Span.Contains("90/k") }, 10*time.Second, time.Millisecond)
			release()
			require.Equal(t, answer{value: "value"}, <-done)
		})
	}
}
