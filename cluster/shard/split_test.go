package shard_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
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
	n.put(2, 2, "c")
	again, err := n.control(2, splitAtM)
	require.NoError(t, err)
	require.Equal(t, h, again)

	n.make(3)
	require.Equal(t, []string{"m", "z"}, n.keys(3))
	require.Equal(t, []string{"b", "c", "m", "z"}, n.keys(2))
	n.forks[3].release()
	require.Equal(t, []string{"b", "c"}, n.keys(2))
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

// Until the new shard has committed something, a crash loses nothing of what it begins
// with: it is there again, with the rows of then, for whoever makes its replica.
func TestSplitSurvivesACrash(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	n.put(2, 1, "b", "x", "z")
	_, err := n.control(2, splitAtM)
	require.NoError(t, err)
	n.put(2, 2, "c")
	at := n.forks[3].Index
	n.applied[2]++
	require.NoError(t, n.machines[2].Apply(&consensus.Batch{Index: n.applied[2], Term: 2, Rows: rows(true)}, nil))
	_, err = n.control(2, &shard.Control{Kind: shard.Split, Generation: 2, Move: 6, Key: "c", Other: 4})
	header(t, err) // in a joint configuration, hence not
	n.applied[2]++
	require.NoError(t, n.machines[2].Apply(&consensus.Batch{Index: n.applied[2], Term: 2, Rows: rows(false)}, nil))
	_, err = n.control(2, &shard.Control{Kind: shard.Split, Generation: 2, Move: 6, Key: "c", Other: 4})
	require.NoError(t, err)
	require.NoError(t, n.flush(2))

	applied := n.applied[2]
	n.crash(2)
	require.Equal(t, applied, n.applied[2], "nothing is to be replayed")
	require.Equal(t, uint64(3), n.machines[2].Header().Generation)
	require.Len(t, n.forks, 2)
	require.Equal(t, at, n.forks[3].Index)
	index, _ := n.forks[3].View.Position()
	require.Less(t, index, at)
	members, err := consensus.MembershipIn(n.forks[3].View)
	require.NoError(t, err)
	require.False(t, members.Joint)
	n.make(3)
	n.make(4)
	require.Equal(t, []string{"x", "z"}, n.keys(3))
	require.Equal(t, []string{"c"}, n.keys(4))
	require.Equal(t, meta.ShardID(3), n.machines[4].Header().Right)

	// What is still aside of one is not dropped with the other's.
	n.forks[4].release()
	require.Equal(t, []string{"b", "x", "z"}, n.keys(2))
	require.NoError(t, n.flush(2))
	n.put(2, 3, "a")
	require.NoError(t, n.flush(2))
	n.crash(2, 3, 4)
	require.Len(t, n.forks, 1)
	n.forks[3].release()
	n.forks[3].release()
	require.Equal(t, []string{"a", "b"}, n.keys(2))
	n.put(2, 3, "aa")
	require.NoError(t, n.flush(2))
	n.crash(2, 3, 4)
	require.Empty(t, n.forks)
	require.Equal(t, []string{"a", "aa", "b"}, n.keys(2))
	require.Equal(t, []string{"x", "z"}, n.keys(3))
}

// What is aside goes with no snapshot, and none is taken in before it has gone.
func TestNoSnapshotOfWhatIsAside(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	n.put(2, 1, "b", "z")
	_, err := n.control(2, splitAtM)
	require.NoError(t, err)
	v, err := n.machines[2].View()
	require.NoError(t, err)
	require.Equal(t, rows(false), v.State().Rows)
	other := newNode(t)
	other.open(2)
	s, err := other.machines[2].Stage(stream(t, v))
	require.NoError(t, err)
	require.Equal(t, rows(false), s.State().Rows)
	require.NoError(t, s.Install(t.Context()))
	require.Equal(t, []string{"b"}, other.keys(2))
	require.Equal(t, n.machines[2].Header(), other.machines[2].Header())
	other.crash(2)
	require.Empty(t, other.forks)

	other.applied[2]++
	other.put(2, 2, "c")
	later, err := other.machines[2].View()
	require.NoError(t, err)
	s, err = n.machines[2].Stage(stream(t, later))
	require.NoError(t, err)
	ended, cancel := cancelled(t)
	cancel()
	require.ErrorContains(t, s.Install(ended), "the split at index")
	require.Equal(t, []string{"b", "z"}, n.keys(2))
	done := make(chan error, 1)
	go func() { done <- s.Install(t.Context()) }()
	n.forks[3].release()
	require.NoError(t, <-done)
	require.Equal(t, []string{"b", "c"}, n.keys(2))
}

// A merge that brings back what was split off does not meet what was left of it, and
// takes in nothing that is aside in the other.
func TestMergeAfterASplit(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{})
	n.put(2, 1, "b", "n", "y", "z")
	_, err := n.control(2, splitAtM)
	require.NoError(t, err)
	n.make(3)
	n.apply(3, entry{commands: [][]byte{kv.EncodeDelete(shard.AppendCommand(nil, 2), []byte("n"))}})
	_, err = n.control(3, &shard.Control{Kind: shard.Split, Generation: 2, Move: 6, Key: "x", Other: 4})
	require.NoError(t, err)
	n.make(4)
	_, err = n.control(3, &shard.Control{Kind: shard.Freeze, Generation: 3, Move: 7, Other: 2})
	require.NoError(t, err)
	_, err = n.control(2, &shard.Control{
		Kind: shard.Subsume, Generation: 2, Move: 7, Other: 3, OtherGeneration: 4, Span: meta.Span{Start: "m", End: "x"}, Right: 4, Members: 7,
	})
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, n.keys(2))
	n.put(2, 5, "o")
	n.forks[3].release()
	require.Equal(t, []string{"b", "o"}, n.keys(2), "it has gone already")
	require.NoError(t, n.flush(2))
	n.crash(2)
	require.Empty(t, n.forks)
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
	n.forks[3].release()
	require.Equal(t, []*shard.Header{h}, seen)

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
