package mvcc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

func anchorOf(who uint64) string { return fmt.Sprintf("k%02d", who) }

// abort says of a transaction all that one that was aborted leaves.
func abort(who uint64) part {
	return func(b []byte) []byte {
		b = AppendRecord(b, &Record{Txn: id.Txn{Key: txn(who), Anchor: anchorOf(who)}, Status: Aborted})
		return AppendBar(b, txn(who), anchorOf(who))
	}
}

// aborted reports whether a store knows of a transaction that it was aborted, and that it
// is barred from its key.
func (r *rig) aborted(who uint64) bool {
	r.t.Helper()
	rec, err := r.s.Record(id.Txn{Key: txn(who), Anchor: anchorOf(who)})
	require.NoError(r.t, err)
	barred, err := r.s.Barred(txn(who), anchorOf(who))
	require.NoError(r.t, err)
	require.Equal(r.t, rec != nil, barred, "transaction %d", who)
	return barred
}

// counted checks that what is counted is no less than what is there.
func (r *rig) counted() {
	r.t.Helper()
	r.s.mu.RLock()
	aborted, bars := r.s.aborted, r.s.bars
	r.s.mu.RUnlock()
	g, err := r.s.oldRows(0, hlc.Max)
	require.NoError(r.t, err)
	require.NoError(r.t, g.batch.Close())
	require.LessOrEqual(r.t, g.removed, aborted+bars)
	for who := range uint64(100) {
		b, err := r.s.get(appendOf(nil, r.s.shard, tableBars, anchorOf(who), txn(who)))
		require.NoError(r.t, err)
		require.Equal(r.t, b != nil, r.aborted(who), "transaction %d", who)
	}
}

// sweep sweeps to the end.
func (r *rig) sweep() (removed int) {
	r.t.Helper()
	for {
		n, ended, err := r.s.Sweep(2)
		require.NoError(r.t, err)
		if removed += n; ended {
			return removed
		}
	}
}

// Of the versions at or below the threshold the latest stays, unless it deletes; above it
// all do. So does what is known of aborted transactions that began above it.
func TestSweep(t *testing.T) {
	r := newRig(t)
	r.apply(r.put(1, 10, "a", "1"), r.put(2, 20, "a", "2"), r.put(3, 21, "a", "3"), r.put(4, 30, "a", "4"))
	r.apply(r.put(1, 10, "b", "1"), r.put(2, 20, "b", ""), r.put(4, 30, "b", "4"))
	r.apply(r.put(1, 10, "c", "1"), r.put(3, 21, "c", ""), r.put(5, 22, "d", ""))
	r.must(r.header(8, 20), lay(putOf("e", "laid")))
	r.must(Header{}, abort(19), abort(20), abort(21), abort(22))
	r.must(Header{Closed: 25}, record(Record{Txn: id.Txn{Key: txn(18), Anchor: "e"}, Status: Committed}))
	require.Zero(t, r.sweep(), "below the threshold there is nothing")
	r.must(Header{}, threshold(20))
	require.Equal(t, 3+2*2, r.sweep())
	require.Zero(t, r.sweep())
	rd, err := r.s.Reader()
	require.NoError(t, err)
	require.Equal(t, []string{
		"a@30=4 by 4", "a@21=3 by 3", "a@20=2 by 2", "b@30=4 by 4", "c@21=- by 3", "c@10=1 by 1", "d@22=- by 5",
	}, versions(t, rd))
	require.NoError(t, rd.Close())
	require.Len(t, r.s.Intents("e"), 1)
	require.False(t, r.aborted(19) || r.aborted(20))
	require.True(t, r.aborted(21) && r.aborted(22))
	require.Len(t, r.s.records, 1)
	require.Equal(t, []int{2, 2}, []int{r.s.aborted, r.s.bars}, "what is looked for no more")
}

// A sweep goes on where the last one stopped, and never parts the versions of a key.
func TestSweepInSteps(t *testing.T) {
	r := newRig(t)
	for _, key := range []string{"a", "b", "c"} {
		for ts := hlc.Timestamp(1); ts <= 5; ts++ {
			r.apply(r.put(uint64(ts), ts, key, "x"))
		}
	}
	r.must(Header{Closed: 9}, threshold(0))
	r.must(Header{}, threshold(9))
	for i, want := range []int{4, 4, 4} {
		n, ended, err := r.s.Sweep(1)
		require.NoError(t, err)
		require.Equal(t, want, n)
		require.Equal(t, i == 2, ended)
	}
	require.Zero(t, r.sweep())
}

// pair returns two replicas of one log, with aborted transactions and a key of two
// versions, one of which is below its threshold.
func pair(t *testing.T) (r, other *rig) {
	r, other = newRig(t), newRig(t)
	both := func(h Header, parts ...part) {
		r.must(h, parts...)
		other.must(h, parts...)
	}
	both(r.header(1, 1), write(putOf("v", "first")))
	both(r.header(2, 2), write(putOf("v", "second")))
	for who := uint64(10); who < 15; who++ {
		both(Header{}, abort(who))
	}
	both(Header{Closed: 25})
	both(Header{}, threshold(5))
	return r, other
}

// changes are ways in which a store comes to hold something else. A replica that took
// part in the same log is given.
var changes = map[string]func(t *testing.T, r, other *rig){
	"installs": func(t *testing.T, r, other *rig) {
		other.must(Header{}, abort(30))
		install(t, r.s, snapshot(t, other.s))
	},
	"opens again": func(t *testing.T, r, _ *rig) {
		r.must(Header{}, abort(30))
		require.NoError(t, r.s.Close())
		_, err := r.s.Open()
		require.NoError(t, err)
	},
	"drops and absorbs": func(t *testing.T, r, other *rig) {
		other.must(Header{}, abort(30))
		to := r.shard(8)
		install(t, to, snapshot(t, other.s))
		require.NoError(t, r.s.Drop("", "", nil))
		v, err := to.View()
		require.NoError(t, err)
		r.index++
		require.NoError(t, r.s.Absorb(&consensus.Batch{Index: r.index, Term: 1}, v, "", ""))
		require.NoError(t, v.Close())
	},
}

// What a sweep found of aborted transactions must not be taken off the count of what the
// store has come to hold meanwhile: it would not look for those that are there.
func TestSweepOfRowsWhileContentsChange(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			r, other := pair(t)
			for _, one := range []*rig{r, other} {
				one.must(Header{}, threshold(20))
			}
			other.sweep() // has none of those that are about to go
			life := r.s.life
			g, err := r.s.oldRows(life, 20)
			require.Equal(t, 10, g.removed)
			change(t, r, other)
			ok, err := r.s.remove(g, err)
			require.NoError(t, err)
			require.False(t, ok)
			require.True(t, r.aborted(30))
			r.counted()
			r.sweep()
			require.True(t, r.aborted(30))
			require.False(t, r.aborted(10))
			r.counted()
		})
	}
}

// Nor must the versions: what hides others in one state is gone, with those that are in
// another one, of a replica that was swept less, coming to light.
func TestSweepOfVersionsWhileContentsChange(t *testing.T) {
	for _, name := range []string{"installs", "drops and absorbs"} {
		t.Run(name, func(t *testing.T) {
			r, other := pair(t)
			require.Equal(t, 1, r.sweep(), "the first version, of this replica only")
			for _, one := range []*rig{r, other} {
				one.apply(one.put(9, 30, "v", ""))
				one.must(Header{Closed: 40}, threshold(5))
				one.must(Header{}, threshold(35))
			}
			g, next, err := r.s.oldVersions(r.s.life, "", 35, 100)
			require.Equal(t, 2, g.removed)
			require.Empty(t, next)
			changes[name](t, r, other)
			_, err = r.s.remove(g, err)
			require.NoError(t, err)
			require.Empty(t, r.get("v", 40), "what was deleted is there again")
			r.sweep()
			require.Empty(t, r.get("v", 40))
		})
	}
}

// Repeated bars and aborts count too often until a sweep has counted them.
func TestSweepCounts(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.must(Header{}, abort(30), abort(31))
	}
	require.Equal(t, []int{6, 6}, []int{r.s.aborted, r.s.bars})
	g, err := r.s.oldRows(r.s.life, 0)
	require.NoError(t, err)
	r.must(Header{}, abort(32)) // while the sweep is under way
	ok, err := r.s.remove(g, nil)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, []int{3, 3}, []int{r.s.aborted, r.s.bars})
	r.counted()
	r.must(Header{}, forget(30, anchorOf(30)))
	r.sweep()
	require.Equal(t, []int{2, 3}, []int{r.s.aborted, r.s.bars})
}
