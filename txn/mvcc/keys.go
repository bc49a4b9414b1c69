package mvcc

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A table is a part of what a store keeps.
type table byte

const (
	tableRows table = 1 + iota
	tableIntents
	tableRecords
	tableBars
	tableVersions
	tableEnd
)

// prefixBytes is what each key of a store begins with: the shard and the table.
const prefixBytes = 8 + 1

// appendKey appends the key of Pebble without a suffix: it comes before all that has one.
func appendKey(b []byte, shard uint64, t table, key string) []byte {
	b = append(binary.BigEndian.AppendUint64(b, shard), byte(t))
	return append(append(b, key...), 0)
}

// appendVersion appends the key of a version.
func appendVersion(b []byte, shard uint64, key string, ts hlc.Timestamp) []byte {
	b = ts.AppendDescending(appendKey(b, shard, tableVersions, key))
	return append(b, hlc.Size+1)
}

// appendOf appends the key of what a table holds of a transaction.
func appendOf(b []byte, shard uint64, t table, key string, txn id.Key) []byte {
	b = appendKey(b, shard, t, key)
	before := len(b)
	b = txn.Append(b)
	return append(b, byte(len(b)-before+1))
}

// bounds are those of a span of keys in a table. An empty end is behind all keys.
func bounds(shard uint64, t table, start, end string) (lower, upper []byte) {
	lower = appendKey(nil, shard, t, start)
	if end != "" {
		return lower, appendKey(nil, shard, t, end)
	}
	return lower, appendKey(nil, shard, t+1, "")
}

// cutKey takes a key of Pebble apart, with its suffix but for the length.
func cutKey(b []byte) (t table, key string, suffix []byte, err error) {
	n := split(b)
	if n <= prefixBytes || b[n-1] != 0 {
		return 0, "", nil, fmt.Errorf("mvcc: key %x is malformed", b)
	}
	if n < len(b) {
		suffix = b[n : len(b)-1]
	}
	return table(b[prefixBytes-1]), string(b[prefixBytes : n-1]), suffix, nil
}

// comparer orders keys by what is before their suffixes, and then by those.
var comparer = &pebble.Comparer{
	Name:  "phantomdb.mvcc.1",
	Split: split,
	Compare: func(a, b []byte) int {
		n, m := split(a), split(b)
		if c := bytes.Compare(a[:n], b[:m]); c != 0 {
			return c
		}
		return bytes.Compare(a[n:], b[m:])
	},
	Equal: bytes.Equal,
	AbbreviatedKey: func(b []byte) uint64 { // the shard
		if n := split(b); n < 8 {
			return binary.BigEndian.Uint64(append(bytes.Clone(b[:n]), make([]byte, 8-n)...))
		}
		return binary.BigEndian.Uint64(b)
	},
	ComparePointSuffixes: bytes.Compare,
	CompareRangeSuffixes: bytes.Compare,
	Separator:            func(dst, a, _ []byte) []byte { return append(dst, a...) },
	Successor:            func(dst, a []byte) []byte { return append(dst, a...) },
	ImmediateSuccessor:   func(dst, a []byte) []byte { return append(append(dst, a...), 0) },
	FormatKey:            pebble.DefaultComparer.FormatKey,
}

// split is how long a key is before its suffix, whose last byte says how long that is.
func split(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	return max(0, len(b)-int(b[len(b)-1]))
}
