package mvcc

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A reader sees the latest version at its timestamp, whatever was written in which
// batch, and after a crash what is left is a prefix.
func TestVersions(t *testing.T) {
	r := newRig(t)
	require.Equal(t, []Answer{{}, {}}, r.apply(r.put(1, 10, "a", "1"), r.put(2, 20, "a", "2")))
	r.apply(r.put(3, 15, "b", "x"))
	require.NoError(t, r.s.Flush(t.Context(), r.index))
	require.Equal(t, r.index, r.s.Durable())
	r.apply(r.put(4, 30, "a", ""))
	require.Equal(t, "", r.get("a", 9))
	require.Equal(t, "1", r.get("a", 10))
	require.Equal(t, "1", r.get("a", 19))
	require.Equal(t, "2", r.get("a", 29))
	require.Equal(t, "", r.get("a", hlc.Max))
	require.Equal(t, "x", r.get("b", hlc.Max))
	require.Equal(t, "", r.get("ab", hlc.Max))
	r.crash()
	require.Equal(t, uint64(2), r.index)
	require.Equal(t, "2", r.get("a", hlc.Max))
}

// A snapshot holds what the store held when it was taken, and another store that
// installs it holds the same, durably, and nothing of before.
func TestSnapshot(t *testing.T) {
	r := newRig(t)
	r.apply(r.put(1, 10, "a", "1"), r.put(2, 20, "a", "2"), r.put(2, 20, "c", "3"))
	v, err := r.s.View()
	require.NoError(t, err)
	r.apply(r.put(3, 30, "a", "4"))
	var b bytes.Buffer
	n, err := v.WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	require.NoError(t, v.Close())

	to := newRig(t)
	to.s = to.shard(9)
	h := to.header(1, 5)
	to.index = 0
	require.NoError(t, to.s.Apply(&consensus.Batch{Index: 1, Commands: [][]byte{AppendWrite(AppendHeader(nil, &h), &Write{Key: "b", Kind: Put, Value: []byte("old")})}}, make([]consensus.Result, 1)))
	// Index 1 is applied there too.
	staged, err := to.s.Stage(bytes.NewReader(b.Bytes()))
	require.NoError(t, err)
	require.ErrorContains(t, staged.Install(t.Context()), "is applied")
	require.NoError(t, staged.Discard())
	r.apply(r.put(3, 40, "d", "5"))
	v, err = r.s.View()
	require.NoError(t, err)
	b.Reset()
	_, err = v.WriteTo(&b)
	require.NoError(t, err)
	staged, err = to.s.Stage(&b)
	require.NoError(t, err)
	require.Equal(t, "old", to.get("b", hlc.Max))
	require.NoError(t, staged.Install(t.Context()))
	require.Equal(t, uint64(3), to.s.Durable())
	lost := to.fs.CrashClone(vfs.CrashCloneCfg{})
	for range 2 {
		require.Equal(t, "", to.get("b", hlc.Max))
		require.Equal(t, "1", to.get("a", 15))
		require.Equal(t, "4", to.get("a", hlc.Max))
		require.Equal(t, "5", to.get("d", hlc.Max))
		require.NoError(t, to.e.Close())
		to.fs = lost
		to.open()
		to.s = to.shard(9)
	}
}

// What the next leader is to know of reads is in the log, in snapshots, and behind merges.
func TestReadsAreKnown(t *testing.T) {
	r := newRig(t)
	require.Equal(t, Done, r.do(Header{Reads: 50}).Verdict)
	require.Equal(t, Done, r.do(Header{Reads: 40}).Verdict)
	require.Equal(t, hlc.Timestamp(50), r.s.State().Reads)
	require.NoError(t, r.s.Flush(t.Context(), r.index))
	r.crash()
	require.Equal(t, hlc.Timestamp(50), r.s.State().Reads)
	other := r.shard(8)
	install(t, other, snapshot(t, r.s))
	require.Equal(t, hlc.Timestamp(50), other.State().Reads)
	var s State
	s.join(r.s.State())
	require.Equal(t, hlc.Timestamp(50), s.Reads)
}

// What was applied is not applied again, and a store that is closed does nothing.
func TestRefusals(t *testing.T) {
	r, other := newRig(t), newRig(t)
	other.index = 9
	other.apply(other.put(1, 10, "a", "theirs"))
	r.apply(r.put(1, 10, "a", "1"))
	r.apply(r.put(2, 20, "a", "2"))
	batch := &consensus.Batch{Index: 2, Term: 1, Commands: [][]byte{r.put(3, 20, "a", "3")}}
	results := make([]consensus.Result, 1)
	for _, batch.Index = range []uint64{0, 1, 2} {
		require.ErrorContains(t, r.s.Apply(batch, results), "2 is applied already")
		require.Equal(t, "2", r.get("a", hlc.Max))
	}
	require.ErrorContains(t, r.s.Flush(t.Context(), 3), "only 2 is applied")
	_, err := r.s.Open()
	require.ErrorContains(t, err, "open already")
	v, err := other.s.View()
	require.NoError(t, err)
	staged, err := r.s.Stage(bytes.NewReader(snapshot(t, other.s)))
	require.NoError(t, err)

	require.NoError(t, r.s.Close())
	batch.Index = 3
	require.ErrorIs(t, r.s.Apply(batch, results), ErrClosed)
	require.ErrorIs(t, r.s.Absorb(batch, v, "", ""), ErrClosed)
	require.NoError(t, v.Close())
	require.ErrorIs(t, r.s.Drop("", "", nil), ErrClosed)
	require.ErrorIs(t, staged.Install(t.Context()), ErrClosed)
	require.NoError(t, staged.Discard())
	_, err = r.s.View()
	require.ErrorIs(t, err, ErrClosed)
	_, _, err = r.s.Sweep(1)
	require.ErrorIs(t, err, ErrClosed)
	require.Equal(t, "2", r.get("a", hlc.Max))
	st, err := r.s.Open()
	require.NoError(t, err)
	require.Equal(t, consensus.State{Index: 2, Term: 1}, st)
}
