package txn_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// nobodys names a transaction that begins now on a node, and that nobody coordinates.
func (w *world) nobodys(node int, anchor string) id.Txn {
	w.t.Helper()
	w.seq++
	n := w.Node(node)
	return id.Txn{Key: id.Key{Node: uint64(n.ID()), Epoch: n.Epoch(), Seq: 1<<40 + w.seq, Start: w.parts[node-1].Clock().Now()}, Anchor: anchor}
}

func putOf(key, value string) mvcc.Write {
	return mvcc.Write{Key: key, Kind: mvcc.Put, Value: []byte(value)}
}

// refused wants a shard to have said no.
func (w *world) refused(err error, why ...txn.Reason) {
	w.t.Helper()
	var no *txn.Refusal
	require.ErrorAs(w.t, err, &no)
	require.Contains(w.t, why, no.Reason)
}

// read is what a client reads that sees all that was committed before.
func (w *world) read(node int, key string) string {
	w.t.Helper()
	tx, err := w.client(node, txn.ClientOptions{}).Begin(w.t.Context(), txn.TxOptions{Set: true, Level: txn.Strict, ReadOnly: true})
	require.NoError(w.t, err)
	value, _ := w.get(tx, key)
	return value
}

// A transaction whose record promises what is all there is committed, whoever finds it,
// and however old he is. If anything is missing, or came too late for what it has read,
// it is aborted, and what was on its way does not arrive.
func TestStagedIsRecovered(t *testing.T) {
	for _, c := range []struct {
		name      string
		missing   bool
		pushed    bool
		finds     string
		committed bool
	}{
		{name: "whole/outcome", finds: "outcome", committed: true},
		{name: "whole/reader", finds: "reader", committed: true},
		{name: "whole/scanner", finds: "scanner", committed: true},
		{name: "whole/older-writer", finds: "writer", committed: true},
		{name: "whole/older-lock", finds: "lock", committed: true},
		{name: "missing/outcome", finds: "outcome", missing: true},
		{name: "missing/reader", finds: "reader", missing: true},
		{name: "missing/older-writer", finds: "writer", missing: true},
		{name: "pushed/outcome", finds: "outcome", pushed: true},
		{name: "pushed/reader", finds: "reader", pushed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := boot(t, worldOptions{nodes: 3, shards: 2})
			ctx, n, client := within(t, 30*time.Second), w.Node(2), w.client(1, txn.ClientOptions{})
			for _, key := range []string{"00/a", "90/b"} {
				w.put(client, key, "old")
			}
			older, err := client.Begin(ctx, txn.TxOptions{})
			require.NoError(t, err)
			name := w.nobodys(2, "00/a")
			name.Start = older.At().Next() // above all that was read and written
			keys := []string{"00/a", "90/b"}
			if c.pushed {
				tx, err := w.client(1, txn.ClientOptions{Source: told(name.Start)}).Begin(ctx, txn.TxOptions{})
				require.NoError(t, err)
				require.Equal(t, "old", first(w.get(tx, "90/b")))
			}
			if !c.missing {
				require.NoError(t, txn.Prepare(ctx, n, name, nil, putOf("90/b", "new")))
			}
			require.NoError(t, txn.Prepare(ctx, n, name, keys, putOf("00/a", "new")))
			want := "old"
			if c.committed {
				want = "new"
			}
			late, err := w.client(3, txn.ClientOptions{}).Begin(ctx, txn.TxOptions{Set: true, Level: txn.Strict})
			require.NoError(t, err)
			switch c.finds {
			case "reader":
				require.Equal(t, want, first(w.get(late, "00/a")))
				require.Equal(t, want, first(w.get(late, "90/b")))
			case "scanner":
				rows, err := late.Scan(ctx, "90/b", "90/c", 0)
				require.NoError(t, err)
				require.Equal(t, want, string(rows[0].Value))
			case "writer":
				for _, key := range keys {
					require.NoError(t, older.Put(key+"/older", nil))
				}
				require.NoError(t, older.Put("00/a", []byte("older")))
				require.NoError(t, older.Commit(ctx))
				require.Equal(t, want, w.read(3, "90/b"))
				require.Equal(t, "older", w.read(3, "00/a"))
			case "lock":
				value, _, err := older.GetForUpdate(ctx, "00/a")
				require.NoError(t, err)
				require.Equal(t, want, string(value))
				older.Rollback(ctx)
			}
			o, err := client.Outcome(ctx, name)
			require.NoError(t, err)
			require.Equal(t, c.committed, o.Committed)
			if c.missing {
				// Leaders remember that its locks are gone. The next ones go by the log.
				for _, node := range []int{1, 2} {
					w.leads(node, "90")
					w.refused(txn.Prepare(ctx, n, name, nil, putOf("90/b", "late")), txn.Recovered, txn.Wounded)
					w.leads(node, "00")
					w.refused(txn.Prepare(ctx, n, name, keys, putOf("00/a", "late")), txn.Recovered, txn.Wounded)
				}
				require.Equal(t, "old", w.read(3, "90/b"))
			}
			require.Eventually(t, func() bool { return w.intents() == 0 }, 10*time.Second, time.Millisecond)
		})
	}
}

func first[A, B any](a A, _ B) A { return a }

// While a part of what a transaction has promised is not there, nobody sees any other
// part, whoever asks its coordinator; nor does its client hear that it is committed.
func TestNothingIsSeenBeforeAllIsThere(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(2, txn.ClientOptions{})
	w.leads(1, "00")
	r, err := w.Node(1).Replica(w.ids[0])
	require.NoError(t, err)
	for _, keys := range [][]string{{"00/a", "90/a"}, {"90/b", "00/b"}} { // the anchor first
		for _, protocol := range []txn.Protocol{txn.OneRound, txn.TwoPhase} {
			here, there := keys[0], keys[1]
			if here > there {
				here, there = there, here
			}
			for _, key := range keys {
				w.put(c, key, "old")
			}
			release, waiting, err := w.parts[0].Hold(ctx, r, here)
			require.NoError(t, err)
			committed, read := make(chan error, 1), make(chan string, 1)
			writer, err := c.Begin(ctx, txn.TxOptions{Set: true, Protocol: protocol})
			require.NoError(t, err)
			for _, key := range keys {
				require.NoError(t, writer.Put(key, []byte("new")))
			}
			go func() { committed <- writer.Commit(ctx) }()
			require.Eventually(t, func() bool { return waiting() > 0 && w.intents() == 1 }, 10*time.Second, time.Millisecond)
			reader, err := w.client(3, txn.ClientOptions{}).Begin(ctx, txn.TxOptions{Set: true, Level: txn.Strict})
			require.NoError(t, err)
			go func() { read <- first(w.get(reader, there)) }()
			for range 20 {
				w.put(w.client(3, txn.ClientOptions{}), "90/other", "")
			}
			require.Empty(t, committed)
			require.Empty(t, read)
			release()
			saw := <-read
			if err := <-committed; err == nil {
				require.Equal(t, "new", w.read(3, there))
				require.Equal(t, "new", w.read(3, here))
			} else { // somebody had waited for too long
				require.ErrorAs(t, err, new(*txn.AbortedError))
				require.Equal(t, "old", saw)
				require.Equal(t, "old", w.read(3, here))
			}
		}
	}
}

// Whether a transaction's node is fenced is decided where its commit stands in the log,
// not when it was looked at.
func TestFencedWhileItIsDecided(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	ctx := within(t, 20*time.Second)
	leader, p := w.leader("00")
	r, err := leader.Replica(w.ids[0])
	require.NoError(t, err)
	name := w.nobodys(1, "00/k")
	require.NoError(t, txn.LeaveBy(ctx, w.Node(1), name, "00/k"))
	committed, err := p.DecideFenced(ctx, r, name)
	require.NoError(t, err)
	require.False(t, committed)
	o, err := w.client(2, txn.ClientOptions{}).Outcome(ctx, name)
	require.NoError(t, err)
	require.False(t, o.Committed)
	require.Equal(t, "-", w.read(2, "00/k"))
}

// Of whom the shard of the anchor has been asked as of a dead one, nothing begins there
// any more: otherwise it could be committed when its intents have been dropped elsewhere.
func TestWhoIsSaidToBeDeadBeginsNothing(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 1})
	ctx, n := within(t, 20*time.Second), w.Node(2)
	name, committed := w.nobodys(1, "00/k"), w.nobodys(1, "00/c")
	name.Epoch += 7 // no life that there is
	committed.Epoch = name.Epoch
	_, err := txn.CommitOnce(ctx, n, committed, putOf("00/c", ""))
	require.NoError(t, err)
	for range 2 {
		open, err := txn.Fates(ctx, n, name)
		require.NoError(t, err)
		require.False(t, open)
		open, err = txn.Fates(ctx, n, committed)
		require.NoError(t, err)
		require.True(t, open)
		_, err = txn.CommitOnce(ctx, n, name, putOf("00/k", "late"))
		w.refused(err, txn.Fenced)
		w.refused(txn.Prepare(ctx, n, name, []string{"00/k"}, putOf("00/k", "late")), txn.Fenced)
	}
	require.Equal(t, "-", w.read(1, "00/k"))
}

// A node has so many transactions under way whose intents are not resolved, and no more:
// the next one waits, and was not heard of by anybody if its client does not.
func TestCommitsAreBounded(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	c := w.client(1, txn.ClientOptions{})
	wide := func() *txn.Tx {
		tx, err := c.Begin(t.Context(), txn.TxOptions{})
		require.NoError(t, err)
		require.NoError(t, tx.Put("00/wide", nil))
		require.NoError(t, tx.Put("90/wide", nil))
		return tx
	}
	require.NoError(t, wide().Commit(within(t, 10*time.Second)))
	require.Eventually(t, func() bool { return w.intents() == 0 }, 10*time.Second, time.Millisecond)
	release := w.parts[0].Occupy()
	gave, cancel := context.WithCancel(t.Context())
	patient, impatient := make(chan error, 1), make(chan error, 1)
	go func() { patient <- wide().Commit(within(t, 20*time.Second)) }()
	go func() { impatient <- wide().Commit(gave) }()
	for i := range 20 {
		w.put(c, fmt.Sprintf("00/%d", i), "") // which leaves no intents
	}
	require.Empty(t, patient)
	require.Empty(t, impatient)
	cancel()
	err := <-impatient
	require.ErrorIs(t, err, consensus.ErrRejected)
	require.NotErrorIs(t, err, consensus.ErrUnknown)
	release()
	require.NoError(t, <-patient)
}

// Nothing is left of transactions that have ended, though nobody comes behind them:
// neither intents nor records.
func TestNothingIsLeft(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 3})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	for _, n := range []int{40, 1} {
		for i := range n {
			require.NoError(t, c.Run(ctx, txn.TxOptions{Set: true, Protocol: txn.Protocol(i % 2)}, func(tx *txn.Tx) error {
				return errors.Join(tx.Put(fmt.Sprintf("00/%d", i), nil), tx.Put(fmt.Sprintf("50/%d", i), nil), tx.Put(fmt.Sprintf("90/%d", i), nil))
			}))
		}
		require.Eventually(t, func() bool {
			records := 0
			for i := range w.Nodes() {
				records += w.parts[i].Records()
			}
			return w.intents()+records == 0
		}, 10*time.Second, time.Millisecond)
	}
}

func second[A any](_ A, err error) error { return err }

func third[A, B any](_ A, _ B, err error) error { return err }

// What nobody coordinates any more ends by itself: intents and records though nobody comes
// behind them, and locks, of which no log tells, when somebody does.
func TestWhatIsLeftEnds(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, n := within(t, 30*time.Second), w.Node(2)
	aborted, whole := w.nobodys(1, "90/gone"), w.nobodys(1, "90/whole")
	require.NoError(t, txn.Prepare(ctx, n, aborted, nil, putOf("00/a", "")))
	require.NoError(t, txn.Prepare(ctx, n, whole, []string{"90/whole"}, putOf("90/whole", "")))
	holder := w.nobodys(1, "")
	require.NoError(t, txn.LockBy(ctx, n, holder, "00/locked"))
	tx, err := w.client(1, txn.ClientOptions{}).Begin(ctx, txn.TxOptions{}) // which is younger
	require.NoError(t, err)
	require.NoError(t, third(tx.GetForUpdate(ctx, "00/locked")))
	tx.Rollback(ctx)
	require.Eventually(t, func() bool { return w.intents() == 0 }, 20*time.Second, time.Millisecond)
	require.Equal(t, "-", w.read(1, "00/a"))
}
