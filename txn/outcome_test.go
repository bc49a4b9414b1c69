package txn_test

import (
	"bytes"
	"errors"
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

// What has been given up is not read, wherever the leader is: whoever reads there is told
// that it is too old, and what was expected, and not what is left.
func TestReadsOfWhatWasGivenUp(t *testing.T) {
	w := closing(t, 3, 1, 20*time.Millisecond, 200*time.Millisecond)
	ctx, c := within(t, 30*time.Second), w.client(1, txn.ClientOptions{})
	w.put(c, "00/k", "old")
	at := w.after(c)
	_, store := w.store(1, w.ids[0])
	for store.State().Threshold <= at {
		w.put(c, "00/k", "new")
	}
	for node := range 3 {
		c := w.client(node+1, txn.ClientOptions{})
		for _, followers := range []bool{false, true} {
			saysAll(t, third(w.at(c, at, followers).Get(ctx, "00/k")), txn.ErrSnapshotTooOld, at.String(), "expected")
			saysAll(t, second(w.at(c, at, followers).Scan(ctx, "00", "01", 0)), txn.ErrSnapshotTooOld, at.String(), "expected")
		}
		saysAll(t, second(c.Protect(ctx, "", "", at, time.Minute)), txn.ErrSnapshotTooOld, at.String())
	}
	require.Equal(t, "new", w.read(1, "00/k"))
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
