package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

var splitAtM = &shard.Control{Kind: shard.Split, Generation: 1, Move: 5, Key: "m", Other: 3}

// A split hands on what is not below its key, with the generation that it gives to
// both, and only what was there before it.
func TestSplit(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{Start: "a"})
	n.put(2, 1, "b", "m", "z")
	h, err := n.control(2, splitAtM)
	require.NoError(t, err)
	require.Equal(t, &shard.Header{Shard: 2, Span: meta.Span{Start: "a", End: "m"}, Generation: 2, Right: 3, Over: 5, Carried: 5}, h)
	require.Equal(t, h, n.machines[2].Header())
	require.Equal(t, []string{"b"}, n.keys(2))
	n.put(2, 2, "c")
	again, err := n.control(2, splitAtM)
	require.NoError(t, err)
	require.Equal(t, h, again)

	n.make(3)
	require.Equal(t, []string{"m", "z"}, n.keys(3))
	require.Equal(t, &shard.Header{
		Shard: 3, Span: meta.Span{Start: "m"}, Generation: 2, Parent: 2, Born: 2, Over: 5, Carried: 5,
	}, n.machines[3].Header())
	n.put(3, 2, "n")

	for name, c := range map[string]*shard.Control{
		"old generation":   {Kind: shard.Split, Generation: 1, Move: 6, Key: "f", Other: 4},
		"old move":         {Kind: shard.Split, Generation: 2, Move: 5, Key: "f", Other: 4},
		"key at the start": {Kind: shard.Split, Generation: 2, Move: 6, Key: "a", Other: 4},
		"key at the end":   {Kind: shard.Split, Generation: 2, Move: 6, Key: "m", Other: 4},
		"no shard":         {Kind: shard.Split, Generation: 2, Move: 6, Key: "f"},
	} {
		_, err := n.control(2, c)
		require.Equal(t, h, header(t, err), name)
	}
	require.Len(t, n.forks, 1)
	// The next one is to the right of this one, and to the left of the last.
	h, err = n.control(2, &shard.Control{Kind: shard.Split, Generation: 2, Move: 6, Key: "c", Other: 4})
	require.NoError(t, err)
	require.Equal(t, meta.ShardID(4), h.Right)
	n.make(4)
	require.Equal(t, meta.ShardID(3), n.machines[4].Header().Right)
	require.Equal(t, []string{"c"}, n.keys(4))
}

// A shard is not split while its members change.
func TestNoSplitInAJointConfiguration(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	require.NoError(t, n.machines[2].Apply(&consensus.Batch{Index: 9, Term: 1, Rows: rows(true)}, nil))
	n.applied[2] = 9
	_, err := n.control(2, splitAtM)
	header(t, err)
	require.Empty(t, n.forks)
	require.NoError(t, n.machines[2].Apply(&consensus.Batch{Index: 11, Term: 1, Rows: rows(false)}, nil))
	n.applied[2] = 11
	_, err = n.control(2, splitAtM)
	require.NoError(t, err)
}

// Until the new shard has committed something, a crash replays the split: nothing of
// this replica is durable beyond it, not even with a snapshot.
func TestSplitIsReplayed(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	n.put(2, 1, "b", "z")
	require.NoError(t, n.flush(2))
	before := n.machines[2].Durable()
	require.Equal(t, n.applied[2], before)
	_, err := n.control(2, splitAtM)
	require.NoError(t, err)
	n.put(2, 2, "c")
	require.ErrorContains(t, n.flush(2), "a split at index")
	require.Equal(t, before, n.machines[2].Durable())

	other := newNode(t)
	other.begin(2, meta.Span{})
	other.put(2, 1, "b", "z", "y", "y", "y", "y")
	v, err := other.machines[2].View()
	require.NoError(t, err)
	s, err := n.machines[2].Stage(stream(t, v))
	require.NoError(t, err)
	ended, cancel := cancelled(t)
	cancel()
	require.ErrorContains(t, s.Install(ended), "a split at index")
	require.Equal(t, []string{"b", "c"}, n.keys(2))

	n.crash(2)
	require.Equal(t, before, n.applied[2])
	require.Equal(t, []string{"b", "z"}, n.keys(2))
	_, err = n.control(2, splitAtM)
	require.NoError(t, err)
	n.make(3)
	require.Equal(t, []string{"z"}, n.keys(3))
	require.Error(t, n.flush(2), "what the new shard began with is here alone")

	n.forks[3].release()
	require.NoError(t, n.flush(2))
	n.crash(2, 3)
	require.Equal(t, []string{"b"}, n.keys(2))
	require.Equal(t, []string{"z"}, n.keys(3))
	require.Equal(t, uint64(2), n.machines[2].Header().Generation)
}

// A flush that was under way when a split came does not make it durable.
func TestFlushDuringASplit(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	n.put(2, 1, "b", "z")
	to := n.applied[2]
	_, err := n.control(2, splitAtM)
	require.NoError(t, err)
	done, m := make(chan error, 1), n.machines[2]
	go func() { done <- m.Flush(t.Context(), to) }() // asked for what came before
	n.make(3)
	require.Zero(t, n.machines[2].Durable())
	n.forks[3].release()
	require.NoError(t, <-done)
	require.Equal(t, n.applied[2], n.machines[2].Durable())
}

// Replicas that take entries in other batches come to the same.
func TestBatchesDoNotMatter(t *testing.T) {
	one, many := newNode(t), newNode(t)
	one.begin(2, meta.Span{})
	many.begin(2, meta.Span{})
	one.put(2, 1, "b", "c", "x")
	results := make([]consensus.Result, 3)
	b := &consensus.Batch{Index: 11, Term: 1, Commands: [][]byte{put(1, "b"), put(1, "c"), put(1, "x")}}
	require.NoError(t, many.machines[2].Apply(b, results))
	many.applied[2] = 11
	for _, n := range []*node{one, many} {
		_, err := n.control(2, splitAtM)
		require.NoError(t, err)
		n.make(3)
	}
	require.Equal(t, digest(t, one, 2), digest(t, many, 2))
	require.Equal(t, digest(t, one, 3), digest(t, many, 3))
}

// While a store gives up a part, or becomes another, nobody reads what goes.
func TestNobodyReadsWhatGoes(t *testing.T) {
	n := newNode(t)
	var seen []*shard.Header
	n.watch = func() { seen = append(seen, n.machines[2].Header()) }
	n.begin(2, meta.Span{})
	h, err := n.control(2, splitAtM)
	require.NoError(t, err)
	require.Equal(t, []*shard.Header{h}, seen)
	n.forks[3].release()

	peer := newNode(t)
	peer.begin(2, meta.Span{})
	_, err = peer.control(2, splitAtM)
	require.NoError(t, err)
	peer.put(2, 2, "b")
	v, err := peer.machines[2].View()
	require.NoError(t, err)
	s, err := n.machines[2].Stage(stream(t, v))
	require.NoError(t, err)
	require.NoError(t, v.Close())
	require.NoError(t, s.Install(t.Context()))
	require.Len(t, seen, 2)
	require.Equal(t, &shard.Header{Shard: 2}, seen[1])
	require.Equal(t, h, n.machines[2].Header())
}
