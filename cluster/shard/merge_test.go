package shard_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

func stream(t *testing.T, v consensus.View) io.Reader {
	var b bytes.Buffer
	_, err := v.WriteTo(&b)
	require.NoError(t, err)
	return &b
}

func cancelled(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

func digest(t *testing.T, n *node, id meta.ShardID) uint32 {
	index, sum := n.machines[id].Store().(*kv.Machine).Digest()
	require.Equal(t, n.applied[id], index)
	return sum
}

// two has shards 2 and 3 side by side, the second with the higher generation.
func two(t *testing.T) *node {
	n := newNode(t)
	n.begin(2, meta.Span{End: "m"})
	n.begin(3, meta.Span{Start: "m", End: "t"})
	_, err := n.control(3, &shard.Control{Kind: shard.Fence, Generation: 1, Move: 1})
	require.NoError(t, err)
	n.put(2, 1, "b")
	n.put(3, 2, "m", "s")
	return n
}

var freeze = &shard.Control{Kind: shard.Freeze, Generation: 2, Move: 5, Other: 2}

func subsume(generation uint64) *shard.Control {
	return &shard.Control{
		Kind: shard.Subsume, Generation: generation, Move: 5, Other: 3, OtherGeneration: 3, Span: meta.Span{Start: "m", End: "t"}, Right: 9, Members: 7,
	}
}

// A frozen shard takes nothing, and its neighbour takes it in, with a generation above
// both.
func TestMerge(t *testing.T) {
	n := two(t)
	h, err := n.control(3, freeze)
	require.NoError(t, err)
	require.Equal(t, n.applied[3], h.Frozen)
	require.Equal(t, meta.ShardID(2), h.Into)
	require.Equal(t, uint64(5), h.By)
	again, err := n.control(3, freeze)
	require.NoError(t, err)
	require.Equal(t, h, again)
	require.False(t, h.Takes("m"), "no reads either: the neighbour may have taken writes")
	for _, generation := range []uint64{2, 3} {
		_, err = shard.Answer(n.apply(3, entry{commands: [][]byte{put(generation, "n")}})[0].Data)
		require.Equal(t, h, header(t, err))
	}
	h, err = n.control(2, subsume(1))
	require.NoError(t, err)
	require.Equal(t, &shard.Header{Shard: 2, Span: meta.Span{End: "t"}, Generation: 4, Right: 9, Over: 5, Carried: 5}, h)
	again, err = n.control(2, subsume(1))
	require.NoError(t, err)
	require.Equal(t, h, again)
	require.Equal(t, []string{"b", "m", "s"}, n.keys(2))
	n.put(2, 4, "n")
}

// What the neighbour held is taken in again when a crash comes before that is durable.
func TestMergeIsReplayed(t *testing.T) {
	n := two(t)
	_, err := n.control(3, freeze)
	require.NoError(t, err)
	require.NoError(t, n.flush(2))
	require.NoError(t, n.flush(3))
	_, err = n.control(2, subsume(1))
	require.NoError(t, err)
	n.crash(2, 3)
	require.Equal(t, []string{"b"}, n.keys(2))
	_, err = n.control(2, subsume(1))
	require.NoError(t, err)
	require.NoError(t, n.flush(2))
	n.crash(2)
	require.Equal(t, []string{"b", "m", "s"}, n.keys(2))
	require.Equal(t, "t", n.machines[2].Header().Span.End)
}

// A merge is not carried out that was given up, or that does not fit.
func TestMergeThatDoesNotFit(t *testing.T) {
	n := two(t)
	_, err := n.control(3, freeze)
	require.NoError(t, err)
	for name, change := range map[string]func(*shard.Control){
		"other members": func(c *shard.Control) { c.Members = 8 },
		"not beside it": func(c *shard.Control) { c.Span.Start = "n" },
		"old move":      func(c *shard.Control) { c.Move = 0 },
		"generation":    func(c *shard.Control) { c.Generation = 3 },
	} {
		c := subsume(1)
		change(c)
		_, err := n.control(2, c)
		require.Equal(t, uint64(1), header(t, err).Generation, name)
	}

	fence := &shard.Control{Kind: shard.Fence, Generation: 1, Move: 5}
	h, err := n.control(2, fence)
	require.NoError(t, err)
	require.Equal(t, uint64(5), h.Over)
	again, err := n.control(2, fence)
	require.NoError(t, err)
	require.Equal(t, h, again)
	_, err = n.control(2, subsume(2)) // by one who has not heard that it is given up
	require.Equal(t, h, header(t, err))
	thaw := &shard.Control{Kind: shard.Thaw, Generation: 3, Move: 5}
	h, err = n.control(3, thaw)
	require.NoError(t, err)
	require.Zero(t, h.Frozen)
	_, err = n.control(3, &shard.Control{Kind: shard.Freeze, Generation: 4, Move: 5, Other: 2}) // likewise
	require.Equal(t, h, header(t, err))
	n.put(3, 4, "o")

	_, err = n.control(3, &shard.Control{Kind: shard.Freeze, Generation: 4, Move: 6, Other: 2})
	require.NoError(t, err)
	_, err = n.control(3, &shard.Control{Kind: shard.Split, Generation: 5, Move: 7, Key: "o", Other: 4})
	header(t, err)
	c := subsume(2)
	c.Move, c.OtherGeneration = 6, 5
	_, err = n.control(2, c)
	require.NoError(t, err)
	require.Equal(t, []string{"b", "m", "o", "s"}, n.keys(2))
}

// A merge that was carried out cannot be given up any more, though the fence of one who
// has not heard leads to the very same generation.
func TestFenceComesTooLate(t *testing.T) {
	n := newNode(t)
	n.begin(2, meta.Span{End: "m"})
	n.begin(3, meta.Span{Start: "m", End: "t"})
	for i := uint64(1); i <= 2; i++ {
		_, err := n.control(2, &shard.Control{Kind: shard.Fence, Generation: i, Move: i})
		require.NoError(t, err)
	}
	_, err := n.control(3, &shard.Control{Kind: shard.Freeze, Generation: 1, Move: 5, Other: 2})
	require.NoError(t, err)
	merge := subsume(3)
	merge.OtherGeneration = 2
	h, err := n.control(2, merge)
	require.NoError(t, err)
	require.Equal(t, uint64(4), h.Generation)
	_, err = n.control(2, &shard.Control{Kind: shard.Fence, Generation: 3, Move: 5})
	require.Equal(t, h, header(t, err))
}

// A replica without its frozen neighbour stops, before it is another than its peers.
func TestMergeWithoutTheNeighbour(t *testing.T) {
	n := two(t)
	_, err := n.try(2, entry{[][]byte{subsume(1).Encode()}, true})
	require.ErrorContains(t, err, "expected")
	n = two(t)
	// Frozen again, after this merge was given up.
	for _, c := range []*shard.Control{freeze, {Kind: shard.Thaw, Generation: 3, Move: 5}, {Kind: shard.Freeze, Generation: 4, Move: 6, Other: 2}} {
		_, err = n.control(3, c)
		require.NoError(t, err)
	}
	_, err = n.try(2, entry{[][]byte{subsume(1).Encode()}, true})
	require.ErrorContains(t, err, "frozen with generation 3")
	n = two(t)
	_, err = n.control(3, &shard.Control{Kind: shard.Freeze, Generation: 2, Move: 5, Other: 4})
	require.NoError(t, err)
	_, err = n.try(2, entry{[][]byte{subsume(1).Encode()}, true})
	require.ErrorContains(t, err, "expected", "it goes elsewhere")
	n = two(t)
	_, err = n.control(3, &shard.Control{Kind: shard.Freeze, Generation: 2, Move: 4, Other: 2})
	require.NoError(t, err)
	_, err = n.try(2, entry{[][]byte{subsume(1).Encode()}, true})
	require.ErrorContains(t, err, "expected", "it is frozen by another move")
	n = two(t)
	delete(n.machines, 3)
	_, err = n.try(2, entry{[][]byte{subsume(1).Encode()}, true})
	require.ErrorContains(t, err, "no such neighbour")
	require.Equal(t, []string{"b"}, n.keys(2))
}
