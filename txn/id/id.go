package id

import (
	"cmp"
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A Txn names a transaction for as long as anybody remembers it: no two have the same.
// It tells whom to ask for its outcome, its coordinator for as long as that lives, and
// otherwise the shard that has its anchor.
type Txn struct {
	Key
	// Anchor is the key at which its outcome is kept, one of those that it writes.
	// Empty: it has none yet, and has written nothing.
	Anchor string
}

// A Key is what of a Txn tells it from all others.
type Key struct {
	// Node is the coordinator's, and Epoch the life of that node in which Seq was
	// given out.
	Node, Epoch, Seq uint64
	// Start is when it began, which is its age. It stays the same when the transaction
	// is tried again, so that it gets its turn.
	Start hlc.Timestamp
}

// Zero reports whether it names none.
func (k Key) Zero() bool { return k == Key{} }

// Compare orders transactions by age: negative if k is older than o. Of two that began
// at once one counts as older, the same one everywhere.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Start, o.Start), cmp.Compare(k.Node, o.Node), cmp.Compare(k.Epoch, o.Epoch), cmp.Compare(k.Seq, o.Seq))
}

func (k Key) String() string { return fmt.Sprintf("%d.%d.%d@%v", k.Node, k.Epoch, k.Seq, k.Start) }

func (t Txn) String() string { return fmt.Sprintf("%v at %q", t.Key, t.Anchor) }

// Append encodes a key.
func (k Key) Append(b []byte) []byte {
	b = binary.AppendUvarint(b, k.Node)
	b = binary.AppendUvarint(b, k.Epoch)
	b = binary.AppendUvarint(b, k.Seq)
	return binary.BigEndian.AppendUint64(b, uint64(k.Start))
}

// CutKey decodes what Append wrote and returns what follows it.
func CutKey(b []byte) (k Key, rest []byte, err error) {
	rest = b
	for _, v := range []*uint64{&k.Node, &k.Epoch, &k.Seq} {
		x, n := binary.Uvarint(rest)
		if n <= 0 {
			return Key{}, nil, malformed(b)
		}
		*v, rest = x, rest[n:]
	}
	if len(rest) < hlc.Size {
		return Key{}, nil, malformed(b)
	}
	k.Start = hlc.Timestamp(binary.BigEndian.Uint64(rest))
	return k, rest[hlc.Size:], nil
}

// Append encodes a transaction's name.
func (t Txn) Append(b []byte) []byte {
	b = binary.AppendUvarint(t.Key.Append(b), uint64(len(t.Anchor)))
	return append(b, t.Anchor...)
}

// Cut decodes what Txn.Append wrote and returns what follows it.
func Cut(b []byte) (t Txn, rest []byte, err error) {
	if t.Key, rest, err = CutKey(b); err != nil {
		return Txn{}, nil, err
	}
	size, n := binary.Uvarint(rest)
	if n <= 0 || size > meta.MaxKeyBytes || size > uint64(len(rest)-n) {
		return Txn{}, nil, malformed(b)
	}
	t.Anchor = string(rest[n : n+int(size)])
	return t, rest[n+int(size):], nil
}

func malformed(b []byte) error {
	return fmt.Errorf("id: transaction %x is malformed", b[:min(len(b), 32)])
}
