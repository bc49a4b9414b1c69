package txn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// nobody's is a transaction that begins now on a node, and that nobody coordinates.
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
		clock, err := hlc.NewClock(nil, bound)
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

// A commit that arrives twice is carried out once, and told the same twice, also when
// others have written since; and one that arrives when its outcome was asked for never.
func TestCommitArrivesAgain(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, n, c := within(t, 30*time.Second), w.Node(2), w.client(1, txn.ClientOptions{})
	name := w.nobodys(1, "00/k")
	writes := []mvcc.Write{putOf("00/k", "first"), mvcc.Unbounded("00/n", 1)}
	first, err := txn.CommitOnce(ctx, n, name, writes...)
	require.NoError(t, err)
	for range 3 {
		w.put(c, "00/k", "other")
		ts, err := txn.CommitOnce(ctx, n, name, writes...)
		require.NoError(t, err)
		require.Equal(t, first, ts)
		o, err := c.Outcome(ctx, name)
		require.NoError(t, err)
		require.Equal(t, txn.Outcome{Committed: true, TS: first}, o)
		require.NoError(t, txn.Prepare(ctx, n, name, []string{"00/k", "90/k"}, writes[0]), "it is done")
	}
	require.Zero(t, w.intents())
	require.Equal(t, "other", w.read(3, "00/k"))
	require.Equal(t, string(mvcc.AppendCounter(nil, 1)), w.read(3, "00/n"))

	late := w.nobodys(1, "00/late")
	for range 2 {
		o, err := c.Outcome(ctx, late)
		require.NoError(t, err)
		require.False(t, o.Committed)
		_, err = txn.CommitOnce(ctx, n, late, putOf("00/late", "late"))
		w.refused(err, txn.Recovered)
		w.refused(txn.Prepare(ctx, n, late, []string{"00/late", "90/late"}, putOf("00/late", "late")), txn.Recovered)
	}
	require.Equal(t, "-", w.read(3, "00/late"))
}

// The name that a transaction has before it commits is good for asking how it ended, in
// whichever order it has written, whether that is asked before or behind its commit.
func TestNameBeforeCommit(t *testing.T) {
	w := boot(t, worldOptions{nodes: 3, shards: 2})
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	for _, keys := range [][]string{{"00/b", "00/a"}, {"90/b", "00/a"}, {"00/a", "90/b"}} {
		for _, protocol := range []txn.Protocol{txn.OneRound, txn.TwoPhase} {
			for _, asked := range []bool{true, false} {
				tx, err := c.Begin(ctx, txn.TxOptions{Set: true, Protocol: protocol})
				require.NoError(t, err)
				require.NoError(t, tx.Put(keys[0], nil))
				name := tx.ID()
				for _, key := range keys {
					require.NoError(t, tx.Put(key, nil))
				}
				require.Equal(t, name, tx.ID())
				if asked {
					o, err := w.client(2, txn.ClientOptions{}).Outcome(ctx, name)
					require.NoError(t, err)
					require.False(t, o.Committed)
					var aborted *txn.AbortedError
					require.ErrorAs(t, tx.Commit(ctx), &aborted)
					require.Contains(t, []txn.Reason{txn.Recovered, txn.Wounded}, aborted.Reason)
				} else {
					require.NoError(t, tx.Commit(ctx))
				}
				require.Equal(t, name, tx.ID())
				for node := range 3 {
					o, err := w.client(node+1, txn.ClientOptions{}).Outcome(ctx, name)
					require.NoError(t, err)
					require.Equal(t, !asked, o.Committed)
				}
			}
		}
	}
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

// How a transaction ended is told truly or, when it began too long ago, not at all: an
// expired one is never said to be aborted. Nor does it begin anything any more.
func TestOutcomeExpires(t *testing.T) {
	w := closing(t, 3, 2, 20*time.Millisecond, 200*time.Millisecond)
	ctx, n, c := within(t, 30*time.Second), w.Node(2), w.client(1, txn.ClientOptions{})
	open, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	require.NoError(t, open.Put("00/open", nil))
	parts, err := c.Begin(ctx, txn.TxOptions{})
	require.NoError(t, err)
	require.NoError(t, parts.Put("00/open", nil))
	require.NoError(t, parts.Put("90/open", nil))
	done, gone := w.nobodys(1, "00/done"), w.nobodys(1, "00/gone")
	ts, err := txn.CommitOnce(ctx, n, done, putOf("00/done", "done"))
	require.NoError(t, err)
	for _, v := range []struct {
		name id.Txn
		want txn.Outcome
	}{{done, txn.Outcome{Committed: true, TS: ts}}, {gone, txn.Outcome{}}} {
		times := 0
		require.Eventually(t, func() bool {
			o, err := c.Outcome(ctx, v.name)
			if err == nil {
				times++
				require.Equal(t, v.want, o)
			} else {
				require.ErrorIs(t, err, txn.ErrOutcomeExpired)
				require.NotErrorIs(t, err, consensus.ErrUnknown)
			}
			w.put(c, "00/done", "new")
			w.put(c, "90/done", "new")
			return err != nil
		}, 20*time.Second, time.Millisecond)
		if v.name == done {
			require.NotZero(t, times, "the test is too slow")
		}
	}
	for _, name := range []id.Txn{done, gone} {
		_, err = txn.CommitOnce(ctx, n, name, putOf("00/done", "again"))
		w.refused(err, txn.Expired)
		w.refused(txn.Prepare(ctx, n, name, []string{"00/done"}, putOf("00/done", "again")), txn.Expired)
	}
	for _, tx := range []*txn.Tx{open, parts} {
		var aborted *txn.AbortedError
		require.ErrorAs(t, tx.Commit(ctx), &aborted)
		require.Equal(t, txn.Expired, aborted.Reason)
		require.True(t, aborted.Retry())
	}
	require.Equal(t, "new", w.read(3, "00/done"))
	require.Equal(t, "-", w.read(3, "00/open"))
}

// A snapshot of a shard says which transactions have ended, so that a leader that began
// with one does not carry out again what it is asked for again, nor what was barred.
func TestSnapshotKnowsWhatEnded(t *testing.T) {
	engine := func() *mvcc.Store {
		e, err := mvcc.Open(mvcc.Options{FS: vfs.NewMem(), Dir: "rows"})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		s := e.Shard(7)
		_, err = s.Open()
		require.NoError(t, err)
		return s
	}
	who := func(n uint64) id.Key { return id.Key{Node: n, Epoch: 1, Seq: n, Start: hlc.Timestamp(10 * n)} }
	of := func(n uint64) []byte {
		return mvcc.AppendHeader(nil, &mvcc.Header{Writer: who(n), TS: who(n).Start.Next()})
	}
	none := func() []byte { return mvcc.AppendHeader(nil, &mvcc.Header{Closed: 25}) }
	put := putOf("k", "v")
	staging := id.Txn{Key: who(3), Anchor: "k"}
	from, to := engine(), engine()
	results := make([]consensus.Result, 7)
	require.NoError(t, from.Apply(&consensus.Batch{Index: 1, Term: 1, Commands: [][]byte{
		mvcc.AppendWrite(of(2), &put),
		mvcc.AppendRecord(mvcc.AppendLay(of(3), "k", &mvcc.Write{Key: "l", Kind: mvcc.Put}), &mvcc.Record{Txn: staging, Status: mvcc.Staging, TS: 31, Promised: []string{"k", "l"}}),
		mvcc.AppendRecord(none(), &mvcc.Record{Txn: id.Txn{Key: who(4), Anchor: "k"}, Status: mvcc.Aborted}),
		mvcc.AppendBar(none(), who(5), "m"),
		mvcc.AppendFence(none(), 6, 1),
		mvcc.AppendLead(none(), 9),
		mvcc.AppendThreshold(none(), 15),
	}}, results))
	for _, r := range results {
		a, err := mvcc.ParseAnswer(r.Data)
		require.NoError(t, err)
		require.Equal(t, mvcc.Done, a.Verdict)
	}
	v, err := from.View()
	require.NoError(t, err)
	var b bytes.Buffer
	_, err = v.WriteTo(&b)
	require.NoError(t, err)
	require.NoError(t, v.Close())
	staged, err := to.Stage(&b)
	require.NoError(t, err)
	require.NoError(t, staged.Install(t.Context()))

	for _, s := range []*mvcc.Store{from, to} {
		r, err := s.Reader()
		require.NoError(t, err)
		_, wrote, err := r.Latest("k", who(2))
		require.NoError(t, errors.Join(err, r.Close()))
		require.EqualValues(t, 21, wrote)
		require.Len(t, s.Intents("l"), 1)
		rec, err := s.Record(staging)
		require.NoError(t, err)
		require.Equal(t, []string{"k", "l"}, rec.Promised)
		rec, err = s.Record(id.Txn{Key: who(4), Anchor: "k"})
		require.NoError(t, err)
		require.Equal(t, mvcc.Aborted, rec.Status)
		barred, err := s.Barred(who(5), "m")
		require.NoError(t, err)
		require.True(t, barred)
		st := s.State()
		require.True(t, st.Fenced(6, 1))
		require.EqualValues(t, 9, st.Lease)
		require.EqualValues(t, 15, st.Threshold)
		require.EqualValues(t, 25, st.Closed)
	}
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

// What a transaction has told its caller it does not read again on the quiet: it is
// aborted, and only Run, which calls its function anew, tries again.
func TestRunReadsAnew(t *testing.T) {
	for _, y := range []string{"00/y", "90/y"} {
		w := boot(t, worldOptions{nodes: 3, shards: 2})
		ctx, c, other := within(t, 30*time.Second), w.client(1, txn.ClientOptions{}), w.client(2, txn.ClientOptions{})
		calls := 0
		copies := func(tx *txn.Tx) error {
			calls++
			value, _, err := tx.Get(ctx, "00/x")
			if err != nil {
				return err
			}
			if calls == 1 {
				require.NoError(t, other.Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
					return errors.Join(tx.Put("00/x", []byte("new")), tx.Put(y, []byte("other")))
				}))
			}
			return tx.Put(y, append(value, '!'))
		}
		tx, err := c.Begin(ctx, txn.TxOptions{})
		require.NoError(t, err)
		require.NoError(t, copies(tx))
		var aborted *txn.AbortedError
		require.ErrorAs(t, tx.Commit(ctx), &aborted)
		require.Equal(t, txn.Conflict, aborted.Reason)
		require.Equal(t, 1, calls)
		require.Equal(t, "other", w.read(3, y))

		calls = 0
		w.put(other, "00/x", "old")
		require.NoError(t, c.Run(ctx, txn.TxOptions{}, copies))
		require.GreaterOrEqual(t, calls, 2)
		require.Equal(t, "new!", w.read(3, y))
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

func second[A any](_ A, err error) error { return err }

func third[A, B any](_ A, _ B, err error) error { return err }

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
