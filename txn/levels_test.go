package txn_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A stage is where transactions meet, step by step: two rows, both "0" before. Where a
// level aborts a reader instead of telling it something else, that is no anomaly.
type stage struct {
	t    *testing.T
	w    *world
	ctx  context.Context
	o    txn.TxOptions
	x, y string
	// wide are shards in which each transaction writes something of its own, so that it
	// commits by intents.
	wide []string
	// stale has the second writer go by a clock that stands still: nothing but the
	// shards sees to it that it commits behind the first.
	stale bool
	seq   int
}

// stages runs a test on all levels and all ways to commit.
func stages(t *testing.T, fn func(*testing.T, *stage)) {
	w := boot(t, worldOptions{nodes: 3, shards: 3, participant: func(_ int, o *txn.Options) {
		clock, err := hlc.NewClock(steady, skewBound) // a strict commit waits as long
		require.NoError(t, err)
		o.Clock = clock
	}})
	n := 0
	for _, level := range []txn.Level{txn.Snapshot, txn.Serializable, txn.Strict} {
		for _, c := range []struct {
			name     string
			y        string
			wide     []string
			stale    bool
			protocol txn.Protocol
		}{
			{name: "shards=1", y: "00"},
			{name: "shards=1/stale", y: "00", stale: true},
			{name: "shards=2", y: "90"},
			{name: "shards=2/stale", y: "90", stale: true},
			{name: "shards=2/intents", y: "90", wide: []string{"10", "80"}},
			{name: "shards=2/intents/stale", y: "90", wide: []string{"10", "80"}, stale: true},
			{name: "shards=2/intents/two-phase", y: "90", wide: []string{"10", "80"}, protocol: txn.TwoPhase},
			{name: "shards=3/intents", y: "90", wide: []string{"50"}},
			{name: "shards=3/intents/stale", y: "90", wide: []string{"50"}, stale: true},
		} {
			if level == txn.Strict && c.stale {
				continue // which promises nothing
			}
			n++
			t.Run(fmt.Sprintf("isolation=%v/%s", level, c.name), func(t *testing.T) {
				s := &stage{
					t: t, w: w, ctx: within(t, 30*time.Second), wide: c.wide, stale: c.stale,
					o: txn.TxOptions{Set: true, Level: level, Protocol: c.protocol},
					x: fmt.Sprintf("00/%03d/x", n), y: fmt.Sprintf("%s/%03d/y", c.y, n),
				}
				for _, key := range []string{s.x, s.y} {
					w.put(w.client(3, txn.ClientOptions{}), key, "0")
				}
				fn(t, s)
			})
		}
	}
}

// begin begins a transaction of a client that knows of the rows.
func (s *stage) begin(node int) *txn.Tx {
	s.t.Helper()
	c := s.w.client(node, txn.ClientOptions{})
	require.NoError(s.t, c.Run(s.ctx, txn.TxOptions{Set: true, Level: txn.Strict, ReadOnly: true}, func(tx *txn.Tx) error {
		_, err := tx.Scan(s.ctx, s.x, s.y+"/z", 0)
		return err
	}))
	tx, err := c.Begin(s.ctx, s.o)
	require.NoError(s.t, err)
	if s.stale && node == 2 {
		at := tx.At()
		tx.Rollback(s.ctx)
		tx, err = s.w.client(node, txn.ClientOptions{Source: told(at)}).Begin(s.ctx, s.o)
		require.NoError(s.t, err)
	}
	return tx
}

// told is a source of one timestamp.
type told hlc.Timestamp

func (s told) Timestamp(context.Context) (hlc.Timestamp, error) { return hlc.Timestamp(s), nil }

func (s *stage) get(tx *txn.Tx, key string) string {
	s.t.Helper()
	value, _ := s.w.get(tx, key)
	return value
}

// still is what a transaction reads that has read before, "aborted" if it was.
func (s *stage) still(tx *txn.Tx, key string) string {
	s.t.Helper()
	b, _, err := tx.Get(s.ctx, key)
	return s.orAborted(string(b), err)
}

func (s *stage) orAborted(value string, err error) string {
	s.t.Helper()
	if s.o.Level == txn.Strict && err != nil {
		s.conflicts(err)
		return "aborted"
	}
	require.NoError(s.t, err)
	return value
}

// put writes, and something of the transaction's own elsewhere.
func (s *stage) put(tx *txn.Tx, key string) {
	s.t.Helper()
	require.NoError(s.t, tx.Put(key, []byte("1")))
	for _, at := range s.wide {
		s.seq++
		require.NoError(s.t, tx.Put(fmt.Sprintf("%s/%s/%d", at, s.x, s.seq), nil))
	}
}

// conflicts wants an error to say that another one was first.
func (s *stage) conflicts(err error) {
	s.t.Helper()
	var aborted *txn.AbortedError
	require.ErrorAs(s.t, err, &aborted)
	require.Equal(s.t, txn.Conflict, aborted.Reason)
	require.True(s.t, aborted.Retry())
}

// serial wants a commit to fail on levels that have all reads be at one time with it.
func (s *stage) serial(err error) {
	s.t.Helper()
	if s.o.Level == txn.Snapshot {
		require.NoError(s.t, err)
		return
	}
	s.conflicts(err)
}

// Two read the same and write it: the second one would undo the first. No level lets it.
func TestLostUpdate(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		first, second := s.begin(1), s.begin(2)
		require.Equal(t, "0", s.get(first, s.x))
		require.Equal(t, "0", s.get(second, s.x))
		require.NoError(t, first.Put(s.x, []byte("first")))
		s.put(first, s.y)
		s.put(second, s.x)
		require.NoError(t, first.Commit(s.ctx))
		s.conflicts(second.Commit(s.ctx))
		require.Equal(t, "first", s.get(s.begin(3), s.x))
	})
}

// Two read both rows and write one each, so that either would have met the other's had
// they come one after the other. Snapshot lets them.
func TestWriteSkew(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		first, second := s.begin(1), s.begin(2)
		for _, tx := range []*txn.Tx{first, second} {
			require.Equal(t, "0", s.get(tx, s.x))
			require.Equal(t, "0", s.get(tx, s.y))
		}
		s.put(first, s.x)
		s.put(second, s.y)
		require.NoError(t, first.Commit(s.ctx))
		s.serial(second.Commit(s.ctx))
	})
}

// One reads a row, and the other one when both have been written: it must not see one
// of before and one of behind.
func TestReadSkew(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		reader, writer := s.begin(1), s.begin(2)
		require.Equal(t, "0", s.get(reader, s.x))
		s.put(writer, s.x)
		s.put(writer, s.y)
		require.NoError(t, writer.Commit(s.ctx))
		if s.still(reader, s.y) != "aborted" {
			require.Equal(t, "0", s.still(reader, s.y))
			require.NoError(t, reader.Commit(s.ctx))
		}
	})
}

// What a transaction has read once it reads again, or it is aborted.
func TestNonRepeatableRead(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		reader, writer := s.begin(2), s.begin(1)
		require.Equal(t, "0", s.get(reader, s.x))
		s.put(writer, s.x)
		require.NoError(t, writer.Commit(s.ctx))
		if s.still(reader, s.x) != "aborted" {
			require.Equal(t, "0", s.still(reader, s.x))
			require.NoError(t, reader.Commit(s.ctx))
		}
	})
}

// Rows that come into a span that was scanned, or go from it, are like ones that change:
// a transaction scans the same again, and of two that scan a span and change it one must
// have seen what the other did. Snapshot lets them.
func TestPhantom(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		scan := func(tx *txn.Tx) string {
			rows, err := tx.Scan(s.ctx, s.x, s.y+"/z", 0)
			return s.orAborted(fmt.Sprint(len(rows)), err)
		}
		first, second := s.begin(1), s.begin(2)
		before := scan(first)
		require.Equal(t, before, scan(second))
		s.put(first, s.x+"/new")
		s.put(second, s.y+"/new")
		require.NoError(t, first.Commit(s.ctx))
		if scan(second) != "aborted" {
			s.serial(second.Commit(s.ctx))
		}

		first, second = s.begin(1), s.begin(2)
		scan(first)
		scan(second)
		require.NoError(t, first.Delete(s.x))
		require.NoError(t, second.Delete(s.y))
		require.NoError(t, first.Commit(s.ctx))
		s.serial(second.Commit(s.ctx))
	})
}

// Nobody reads what is not committed, or never will be.
func TestDirtyRead(t *testing.T) {
	stages(t, func(t *testing.T, s *stage) {
		writer := s.begin(1)
		_, _, err := writer.GetForUpdate(s.ctx, s.x)
		require.NoError(t, err)
		s.put(writer, s.x)
		s.put(writer, s.y)
		for _, end := range []func(){func() {}, func() { writer.Rollback(s.ctx) }} {
			end()
			reader := s.begin(2)
			require.Equal(t, "0", s.get(reader, s.x))
			require.Equal(t, "0", s.get(reader, s.y))
			require.NoError(t, reader.Commit(s.ctx))
		}
	})
}

// Who begins when another one has returned reads what that has written, though the clock
// of its node is behind by the bound: a strict reader looks for what is above its
// timestamp, and a strict writer waits until all clocks are.
func TestStaleRead(t *testing.T) {
	for _, c := range []struct {
		writer, reader txn.Level
		fresh          bool
	}{
		{txn.Strict, txn.Strict, true},
		{txn.Serializable, txn.Strict, true},
		{txn.Snapshot, txn.Strict, true},
		{txn.Strict, txn.Serializable, true},
		{txn.Strict, txn.Snapshot, true},
		{txn.Serializable, txn.Serializable, false}, // which shows that the clocks are apart
	} {
		for _, scan := range []bool{false, true} {
			t.Run(fmt.Sprintf("writer=%v/reader=%v/scan=%t", c.writer, c.reader, scan), func(t *testing.T) {
				var clocks clocks
				clocks.set(1, skewBound*7/10) // none is so far from most others that it serves nothing
				w := clocks.boot(t, 3, 1)
				w.leads(2, "00")
				ctx := within(t, 30*time.Second)
				require.NoError(t, w.client(1, txn.ClientOptions{}).Run(ctx, txn.TxOptions{Set: true, Level: c.writer}, func(tx *txn.Tx) error { return tx.Put("00", []byte("new")) }))
				tx, err := w.client(3, txn.ClientOptions{}).Begin(ctx, txn.TxOptions{Set: true, Level: c.reader})
				require.NoError(t, err)
				there := false
				if scan {
					rows, err := tx.Scan(ctx, "00", "01", 0)
					require.NoError(t, err)
					there = len(rows) > 0 && rows[0].Key == "00"
				} else {
					_, there, err = tx.Get(ctx, "00")
					require.NoError(t, err)
				}
				require.Equal(t, c.fresh, there)
			})
		}
	}
}
