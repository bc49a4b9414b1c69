package mvcc

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

func TestComparer(t *testing.T) {
	require.NoError(t, pebble.CheckComparer(comparer,
		[][]byte{[]byte("a\x00"), []byte("ab\x00"), []byte("a\x00\x00"), []byte("\x00"), []byte("a longer one\x00")},
		[][]byte{{1, 2}, {0, 2}, {5, 6, 7, 8, 9, 1, 2, 3, 9}, {0, 0, 0, 0, 0, 0, 0, 0, 9}},
	))
}

// Keys of Pebble are ordered as keys are, and below a key by suffix.
func TestKeysAreOrdered(t *testing.T) {
	rng := rand.New(rand.NewPCG(harness.Seed(), 1))
	var keys []string
	for range 200 {
		var b strings.Builder
		for range rng.IntN(4) {
			b.WriteByte("\x00\x01\x09az\xff"[rng.IntN(6)])
		}
		keys = append(keys, b.String())
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	var all [][]byte
	for _, shard := range []uint64{2, 256} {
		for _, k := range keys {
			all = append(all, appendOf(nil, shard, tableIntents, k, id.Key{Node: 1}), appendOf(nil, shard, tableIntents, k, id.Key{Node: 1, Start: hlc.Max}))
		}
		for _, k := range keys {
			all = append(all, appendKey(nil, shard, tableVersions, k))
			for _, ts := range []hlc.Timestamp{hlc.Max, 1 << 40, 7, 0} {
				all = append(all, appendVersion(nil, shard, k, ts))
			}
		}
	}
	require.True(t, slices.IsSortedFunc(all, comparer.Compare))
	for i, b := range all[1:] {
		require.Negative(t, comparer.Compare(all[i], b), "%x and %x", all[i], b)
	}
}

func TestBounds(t *testing.T) {
	for _, c := range []struct {
		start, end, key string
		want            bool
	}{
		{"", "", "", true}, {"", "", "\xff\xff", true}, {"a", "b", "a", true}, {"a", "b", "a\x00", true}, {"a", "b", "b", false},
		{"a", "b", "", false}, {"b", "", "a\xff", false}, {"b", "", "b", true}, {"b", "", "c", true}, {"", "a\x00", "a", true}, {"", "a\x00", "a\x00", false},
	} {
		lower, upper := bounds(7, tableVersions, c.start, c.end)
		for _, ts := range []hlc.Timestamp{0, 5, hlc.Max} {
			k := appendVersion(nil, 7, c.key, ts)
			require.Equal(t, c.want, comparer.Compare(lower, k) <= 0 && comparer.Compare(k, upper) < 0, "%q in [%q, %q)", c.key, c.start, c.end)
			table, key, suffix, err := cutKey(k)
			require.NoError(t, err)
			require.Equal(t, tableVersions, table)
			require.Equal(t, c.key, key)
			got, err := hlc.Descending(suffix)
			require.NoError(t, err)
			require.Equal(t, ts, got)
		}
	}
	for _, bad := range []string{"", "short", "no zero at the end", "too long a suffix\x00\xff"} {
		_, _, _, err := cutKey([]byte(bad))
		require.Error(t, err, "%q", bad)
	}
}
