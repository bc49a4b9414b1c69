package txn_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

func addTo(key string, delta, low, high int64) mvcc.Write {
	return mvcc.Write{Key: key, Kind: mvcc.Add, Delta: delta, Min: low, Max: high}
}

// number is what a transaction reads at a counter.
func number(t *testing.T, tx *txn.Tx, key string) int64 {
	t.Helper()
	value, there, err := tx.Get(within(t, 20*time.Second), key)
	require.NoError(t, err)
	n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !there, Value: value})
	require.True(t, ok)
	return n
}

// What a transaction has reserved of a counter nobody else gets while it may commit, and
// everybody when it has been aborted, by whomever.
func TestReservationsEndWithTheirTransaction(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	add := func(key string, delta, low, high int64) error {
		return c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return tx.AddBounded(key, delta, low, high) })
	}
	outOfRange := func(err error) {
		t.Helper()
		var aborted *txn.AbortedError
		require.ErrorAs(t, err, &aborted)
		require.Equal(t, txn.OutOfRange, aborted.Reason)
		require.False(t, aborted.Retry())
	}
	require.NoError(t, add("00/n", 10, 0, 10))

	// By whoever stands before it, or asks how it ended.
	for _, by := range []func(name id.Txn){
		func(name id.Txn) {
			o, err := c.Outcome(ctx, name)
			require.NoError(t, err)
			require.False(t, o.Committed)
		},
		func(id.Txn) { require.NoError(t, add("00/n", -10, 0, 10)); require.NoError(t, add("00/n", 10, 0, 10)) },
	} {
		name := w.nobodys(1, "90/never")
		w.parts[0].Stands(name, true) // so that who is younger has patience
		require.NoError(t, txn.Prepare(ctx, w.Node(2), name, nil, addTo("00/n", -7, 0, 10)))
		for _, delta := range []int64{-4, 1} { // it may be committed yet, or not
			_, err := txn.CommitOnce(ctx, w.Node(2), w.nobodys(1, "00/n"), addTo("00/n", delta, 0, 10))
			w.refused(err, txn.Conflict)
			require.Equal(t, 1, w.intents(), "the test is too slow")
		}
		w.refused(txn.Prepare(ctx, w.Node(2), w.nobodys(1, "90/never"), nil, addTo("00/n", -4, 0, 10)), txn.Conflict)
		require.NoError(t, add("00/n", -3, 0, 10))
		require.NoError(t, add("00/n", 3, -10, 20))
		w.parts[0].Stands(name, false)
		by(name)
		require.Eventually(t, func() bool { return w.intents() == 0 }, 10*time.Second, time.Millisecond)
		outOfRange(add("00/n", -11, 0, 10))
		require.NoError(t, add("00/n", -10, 0, 10))
		require.NoError(t, add("00/n", 10, 0, 10))
	}

	// By its own coordinator, because of what it meets in another shard.
	for _, protocol := range []txn.Protocol{txn.OneRound, txn.TwoPhase} {
		tx, err := c.Begin(ctx, txn.TxOptions{Set: true, Level: txn.Snapshot, Protocol: protocol})
		require.NoError(t, err)
		_, _, err = tx.Get(ctx, "90/k")
		require.NoError(t, err)
		require.NoError(t, tx.AddBounded("00/n", -10, 0, 10))
		require.NoError(t, tx.Put("90/k", nil))
		w.put(w.client(2, txn.ClientOptions{}), "90/k", "other")
		var aborted *txn.AbortedError
		require.ErrorAs(t, tx.Commit(ctx), &aborted)
		require.Equal(t, txn.Conflict, aborted.Reason)
		require.Eventually(t, func() bool { return w.intents() == 0 }, 10*time.Second, time.Millisecond)
		require.NoError(t, add("00/n", -10, 0, 10))
		require.NoError(t, add("00/n", 10, 0, 10))
	}

	// Because of a bound in one shard, that in another one.
	require.NoError(t, add("90/full", 5, 0, 5))
	outOfRange(c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		return errors.Join(tx.AddBounded("00/n", -10, 0, 10), tx.AddBounded("90/full", 1, 0, 5))
	}))
	require.Eventually(t, func() bool { return w.intents() == 0 }, 10*time.Second, time.Millisecond)
	require.NoError(t, add("00/n", -10, 0, 10))

	// What is committed is no reservation any more, though it may not be resolved yet.
	require.NoError(t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		return errors.Join(tx.AddBounded("00/n", 10, 0, 10), tx.AddBounded("90/full", -5, 0, 5))
	}))
	require.NoError(t, add("90/full", 5, 0, 5))
	outOfRange(add("00/n", 1, 0, 10))
}

// Who reads a counter waits until it is known which additions there are: otherwise two
// could each read it without the other's. So does who wants it for himself.
func TestReservationsCountForReaders(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, 30*time.Second)
	for i, read := range []func(tx *txn.Tx) int64{
		func(tx *txn.Tx) int64 { return number(t, tx, "00/n") },
		func(tx *txn.Tx) int64 {
			rows, err := tx.Scan(ctx, "00/n", "00/o", 0)
			require.NoError(t, err)
			require.Len(t, rows, 1)
			n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Value: rows[0].Value})
			require.True(t, ok)
			return n
		},
		func(tx *txn.Tx) int64 {
			value, _, err := tx.GetForUpdate(ctx, "00/n")
			require.NoError(t, err)
			n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Value: value})
			require.True(t, ok)
			return n
		},
	} {
		for _, committed := range []bool{false, true} {
			c := w.client(1, txn.ClientOptions{})
			var before int64
			require.NoError(t, c.Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
				before = number(t, tx, "00/n")
				return errors.Join(tx.Add("00/n", 0), tx.Put("90/anchor", nil))
			}))
			tx, err := c.Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			name, promised := w.nobodys(2, "90/anchor"), []string{"90/anchor", "00/n"}
			name.Start = tx.At()
			if !committed {
				promised = append(promised, "90/never")
			}
			require.NoError(t, txn.Prepare(ctx, w.Node(2), name, nil, addTo("00/n", 3, 0, 100)))
			require.NoError(t, txn.Prepare(ctx, w.Node(2), name, promised, putOf("90/anchor", "")))
			later, err := c.Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			want := before
			if committed {
				want += 3
			}
			require.Equal(t, want, read(later), "%d, committed=%t", i, committed)
			later.Rollback(ctx)
			tx.Rollback(ctx)
		}
	}
}

// Who knows that an addition is committed does not know what the counter is then: others
// may be committed below it. What is put is known by that, and read at once.
func TestKnownAdditionsAreWaitedFor(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	w.leads(1, "00")
	require.NoError(t, c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error { return errors.Join(tx.Add("00/n", 5), tx.Put("00/k", []byte("old"))) }))
	r, err := w.Node(1).Replica(w.ids[0])
	require.NoError(t, err)
	for _, write := range []mvcc.Write{addTo("00/n", 3, 0, 100), putOf("00/k", "new")} {
		before, err := c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		name := w.nobodys(1, "90/anchor")
		name.Start = before.At().Next()
		forget, err := w.parts[0].Known(ctx, r, name, name.Start)
		require.NoError(t, err)
		require.NoError(t, txn.Prepare(ctx, w.Node(1), name, nil, write))
		reader, err := w.client(1, txn.ClientOptions{Source: told(name.Start.Next())}).Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		if write.Kind == mvcc.Put {
			value, _ := w.get(before, write.Key)
			require.Equal(t, "old", value, "it is committed above")
			value, _ = w.get(reader, write.Key)
			require.Equal(t, "new", value)
			forget()
			continue
		}
		read := make(chan int64, 1)
		go func() { read <- number(t, reader, write.Key) }()
		for range 20 {
			w.put(c, "00/other", "")
		}
		require.Empty(t, read)
		forget() // so that it is asked for, and nobody knows of it
		require.EqualValues(t, 5, <-read)
	}
}

// Additions are writes like others: of two who each read one counter and add to the other
// one must have seen what the other did, but where levels let them; who has read a counter
// and puts what comes of it does not undo what was added since; and who only adds is in
// nobody's way.
func TestAdditionsOnLevels(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		x, y := s.x+"/n", s.y+"/n"
		first, second := s.begin(1), s.begin(2)
		require.Zero(t, number(t, first, y))
		require.Zero(t, number(t, second, x))
		s.put(first, s.x+"/1")
		s.put(second, s.y+"/2")
		require.NoError(t, first.Add(x, 1))
		require.NoError(t, second.Add(y, 1))
		require.NoError(t, first.Commit(s.ctx))
		s.serial(second.Commit(s.ctx))

		first, second = s.begin(1), s.begin(2)
		n := number(t, second, x)
		s.put(first, s.x+"/3")
		s.put(second, s.y+"/4")
		require.NoError(t, first.Add(x, 5))
		require.NoError(t, second.Put(x, mvcc.AppendCounter(nil, n+1)))
		require.NoError(t, first.Commit(s.ctx))
		s.conflicts(second.Commit(s.ctx))

		first, second = s.begin(1), s.begin(2)
		require.NoError(t, first.Add(x, 10))
		require.NoError(t, second.Add(x, 100))
		s.put(first, s.x+"/5")
		s.put(second, s.y+"/6")
		require.NoError(t, first.Commit(s.ctx))
		require.NoError(t, second.Commit(s.ctx))
		require.EqualValues(t, n+115, number(t, s.begin(3), x))
	})
}

// Of many who want more than there is so many get it as there is, in one shard and in
// two, and whoever reads meanwhile sees that nothing is lost: what one counter has given
// the other one has got.
func TestBoundsHoldForMany(t *testing.T) {
	const there, clients, tries = 40, 8, 10
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx := within(t, time.Minute)
	for i, keys := range [][2]string{{"00/a", "00/b"}, {"00/c", "90/d"}} {
		require.NoError(t, w.client(1, txn.ClientOptions{}).Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error { return tx.Add(keys[0], there) }))
		var work, readers sync.WaitGroup
		var got, no, read atomic.Int64
		over := make(chan struct{})
		for node := range 3 {
			readers.Go(func() {
				c := w.client(node+1, txn.ClientOptions{})
				for {
					var a, b int64
					err := c.Run(ctx, txn.TxOptions{Set: true, Level: txn.Level(2 * (node % 2))}, func(tx *txn.Tx) error {
						for key, n := range map[string]*int64{keys[0]: &a, keys[1]: &b} {
							value, ok, err := tx.Get(ctx, key)
							if err != nil {
								return err
							}
							*n, _ = mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !ok, Value: value})
						}
						return nil
					})
					if !assert.NoError(t, err) || !assert.GreaterOrEqual(t, a, int64(0)) || a+b != 0 && !assert.EqualValues(t, there, a+b) {
						return
					}
					read.Add(1)
					select {
					case <-over:
						return
					default:
					}
				}
			})
		}
		for client := range clients {
			work.Go(func() {
				c := w.client(client%3+1, txn.ClientOptions{})
				for range tries {
					err := c.Run(ctx, txn.TxOptions{Set: true, Protocol: txn.Protocol(client % 2)}, func(tx *txn.Tx) error {
						return errors.Join(tx.AddBounded(keys[0], -1, 0, there), tx.AddBounded(keys[1], 1, 0, there))
					})
					var aborted *txn.AbortedError
					switch {
					case err == nil:
						got.Add(1)
					case errors.As(err, &aborted) && aborted.Reason == txn.OutOfRange:
						no.Add(1)
					default:
						assert.NoError(t, err)
					}
				}
			})
		}
		work.Wait()
		close(over)
		readers.Wait()
		t.Logf("%d: %d got one, %d did not, %d looked", i, got.Load(), no.Load(), read.Load())
		require.EqualValues(t, clients*tries, got.Load()+no.Load())
		require.EqualValues(t, there, got.Load())
		require.NoError(t, w.client(1, txn.ClientOptions{}).Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict, ReadOnly: true}, func(tx *txn.Tx) error {
			require.EqualValues(t, there-got.Load(), number(t, tx, keys[0]))
			require.EqualValues(t, got.Load(), number(t, tx, keys[1]))
			return nil
		}))
	}
}
