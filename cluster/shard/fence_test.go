package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// A shard takes nothing before it has begun, and then what was made for its
// generation alone, whatever else is in the batch.
func TestFence(t *testing.T) {
	n := newNode(t)
	n.open(2)
	require.NoError(t, n.machines[2].Apply(&consensus.Batch{Index: 7, Term: 1, Rows: rows(false)}, nil))
	n.applied[2] = 7
	_, err := shard.Answer(n.apply(2, entry{commands: [][]byte{put(0, "a")}})[0].Data)
	require.Zero(t, header(t, err).Generation)
	_, err = n.control(2, &shard.Control{Kind: shard.Split, Move: 1, Key: "m", Other: 3})
	header(t, err)
	_, err = n.control(2, &shard.Control{Kind: shard.Begin, Span: meta.Span{Start: "a", End: "z"}})
	require.NoError(t, err)
	h, err := n.control(2, &shard.Control{Kind: shard.Begin, Span: meta.Span{}})
	require.NoError(t, err)
	require.Equal(t, meta.Span{Start: "a", End: "z"}, h.Span, "it began before")

	results := n.apply(2, entry{commands: [][]byte{
		put(1, "b"), put(2, "c"), nil, put(1, "d"), put(0, "e"), {9}, kv.EncodePut(nil, []byte("f"), nil), put(1, "g"),
	}})
	for i, ok := range []bool{true, false, false, true, false, false, false, true} {
		answer, err := shard.Answer(results[i].Data)
		if !ok {
			require.Error(t, err, "command %d", i)
			continue
		}
		require.NoError(t, err)
		o, err := kv.ParseOutcome(answer)
		require.NoError(t, err)
		require.True(t, o.Done)
	}
	require.Equal(t, []string{"b", "d", "g"}, n.keys(2))
	_, err = shard.Answer(results[1].Data)
	require.Equal(t, uint64(1), header(t, err).Generation)
	_, err = shard.Answer(results[2].Data)
	require.ErrorContains(t, err, "malformed")

	// What changes the header must stand alone.
	split := (&shard.Control{Kind: shard.Split, Generation: 1, Move: 1, Key: "m", Other: 3}).Encode()
	_, err = shard.Controlled(n.apply(2, entry{commands: [][]byte{split}})[0].Data)
	require.ErrorContains(t, err, "malformed")
	require.Equal(t, "z", n.machines[2].Header().Span.End)
	for _, bad := range [][]byte{nil, {0xe2}, {99}, append(split, 0)} {
		_, err = shard.Controlled(n.apply(2, entry{commands: [][]byte{bad}, alone: true})[0].Data)
		require.ErrorContains(t, err, "malformed")
	}
	n.put(2, 1, "h")
}

// The rows that the Host records of results are made of the results that clients get,
// the fence's own among them.
func TestResultRowsSeeAllResults(t *testing.T) {
	for _, mixed := range []bool{false, true} {
		n := newNode(t)
		n.begin(2, meta.Span{})
		commands := [][]byte{put(1, "a"), put(1, "b")}
		if mixed {
			commands = [][]byte{put(1, "a"), put(7, "x"), put(1, "b")}
		}
		results := make([]consensus.Result, len(commands))
		var seen []consensus.Result
		b := &consensus.Batch{Index: 9, Term: 1, Commands: commands, ResultRows: func(r []consensus.Result) []consensus.Row {
			seen = append(seen, r...)
			return []consensus.Row{{Key: []byte("s"), Value: []byte{1}}}
		}}
		require.NoError(t, n.machines[2].Apply(b, results))
		require.Equal(t, results, seen)
		for _, r := range seen {
			require.NotEmpty(t, r.Data)
		}
	}
}

// A store whose answers look like the fence's stops its replica.
func TestAnswersOfTheStoreAreChecked(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	m := n.machines[2]
	liar := shard.New(shard.Options{Shard: 2, Store: &lying{Store: m.Store()}})
	_, err := liar.Open()
	require.NoError(t, err)
	err = liar.Apply(&consensus.Batch{Index: 9, Term: 1, Commands: [][]byte{put(1, "a")}}, make([]consensus.Result, 1))
	require.ErrorContains(t, err, "kept for the fence")
}

type lying struct{ shard.Store }

func (l *lying) Open() (consensus.State, error) {
	h := shard.Header{Shard: 2, Generation: 1}
	return consensus.State{Index: 8, Term: 1, Rows: append(rows(false), consensus.Row{Key: []byte("shard"), Value: h.Append(nil)})}, nil
}

func (l *lying) Apply(b *consensus.Batch, results []consensus.Result) error {
	err := l.Store.Apply(b, results)
	for i := range results {
		results[i].Data = []byte{0xff}
	}
	return err
}

// The header of another shard, or one that cannot be read, refuses the machine.
func TestForeignHeaderIsRefused(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	require.NoError(t, n.machines[2].Flush(t.Context(), n.applied[2]))
	store, err := kv.New(kv.Options{FS: n.fs, Dir: "shards/2"})
	require.NoError(t, err)
	_, err = shard.New(shard.Options{Shard: 3, Store: store}).Open()
	require.ErrorContains(t, err, "the header is that of shard 2")
	_, err = shard.ParseHeader([]byte{9, 1})
	require.ErrorContains(t, err, "expected version 1")
	whole := n.machines[2].Header().Append(nil)
	for i := range whole {
		_, err = shard.ParseHeader(whole[:i])
		require.Error(t, err)
	}
	_, err = shard.ParseHeader(append(whole, 0))
	require.Error(t, err)
}

// While its leader waits for a split, a shard takes no reads of what goes.
func TestBar(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{Start: "a", End: "z"})
	m := n.machines[2]
	_, err := m.Bar(7, "m")
	header(t, err)
	before := m.Header()
	first, err := m.Bar(1, "m")
	require.NoError(t, err)
	require.NotSame(t, before, m.Header(), "who reads now looks again")
	second, err := m.Bar(1, "m")
	require.NoError(t, err)
	_, err = m.Bar(1, "n")
	header(t, err)
	barred := func() bool { return !m.Header().Takes("m") }
	require.True(t, barred())
	require.True(t, m.Header().Takes("l"))
	require.False(t, m.Header().Covers(meta.Span{Start: "l", End: "m0"}))
	require.True(t, m.Header().Covers(meta.Span{Start: "l", End: "m"}))
	require.False(t, m.Header().Covers(meta.Span{Start: "l"}))
	first()
	first()
	require.True(t, barred(), "the other split may yet be applied")
	n.put(2, 1, "x") // until then the shard has all
	second()
	require.False(t, barred())

	undo, err := m.Bar(1, "m")
	require.NoError(t, err)
	_, err = n.control(2, &shard.Control{Kind: shard.Fence, Generation: 1, Move: 1})
	require.NoError(t, err)
	require.False(t, barred(), "the split that it was for cannot be applied any more")
	again, err := m.Bar(2, "m")
	require.NoError(t, err)
	undo()
	require.True(t, barred())
	again()
	require.False(t, barred())
}
