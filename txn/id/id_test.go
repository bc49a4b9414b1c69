package id_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

func TestMain(m *testing.M) { harness.Main(m) }

var some = []id.Txn{
	{},
	{Key: id.Key{Node: 1, Epoch: 2, Seq: 3, Start: 4}, Anchor: "a"},
	{Key: id.Key{Node: math.MaxUint64, Epoch: 1 << 40, Seq: 127, Start: hlc.Max}, Anchor: "\x00\xff"},
}

func TestEncodingGoesBothWays(t *testing.T) {
	for _, want := range some {
		b := append(want.Append([]byte{7})[1:], "rest"...)
		got, rest, err := id.Cut(b)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, "rest", string(rest))
		for n := range len(b) - len("rest") {
			_, _, err := id.Cut(b[:n])
			require.Error(t, err, "the first %d bytes of %x", n, b)
		}
	}
}

func TestOlderComesFirst(t *testing.T) {
	order := []id.Key{
		{},
		{Node: 9, Epoch: 9, Seq: 9, Start: 1},
		{Node: 1, Epoch: 1, Seq: 1, Start: 2},
		{Node: 1, Epoch: 1, Seq: 2, Start: 2},
		{Node: 1, Epoch: 2, Seq: 1, Start: 2},
		{Node: 2, Epoch: 1, Seq: 1, Start: 2},
	}
	for i, a := range order {
		require.Equal(t, i == 0, a.Zero())
		for j, b := range order {
			got := a.Compare(b)
			require.Equal(t, i < j, got < 0, "%v and %v", a, b)
			require.Equal(t, i == j, got == 0, "%v and %v", a, b)
		}
	}
}
