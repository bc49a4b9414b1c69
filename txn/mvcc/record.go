package mvcc

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Status is how a transaction stands.
type Status byte

// The statuses of a record.
const (
	Staging   Status = 1 + iota // committed if all that it promised is there
	Committed                   // at TS; the record goes when no intent is left
	Aborted
)

func (s Status) String() string {
	if s < Staging || s > Aborted {
		return fmt.Sprintf("status %d", byte(s))
	}
	return [...]string{"staging", "committed", "aborted"}[s-Staging]
}

// A Record is what the shard of a transaction's anchor keeps of it.
type Record struct {
	Txn    id.Txn
	Status Status
	// TS is the timestamp of the commit, of Staging the highest that it may have. Float
	// says of Staging that it may have any.
	TS    hlc.Timestamp
	Float bool
	// Promised are the keys at which it lays intents, and the anchor among them. Of
	// Aborted nobody needs to know.
	Promised []string
}

// maxPromised bounds the keys of a record.
const maxPromised = 1 << 20

func (r *Record) append(b []byte) []byte {
	float := byte(0)
	if r.Float {
		float = 1
	}
	b = append(r.Txn.Append(b), byte(r.Status), float)
	b = binary.BigEndian.AppendUint64(b, uint64(r.TS))
	b = binary.AppendUvarint(b, uint64(len(r.Promised)))
	for _, key := range r.Promised {
		b = appendText(b, key)
	}
	return b
}

func (r *reader) record() *Record {
	rec := &Record{Txn: r.txn(), Status: Status(r.byte())}
	switch r.byte() {
	case 0:
	case 1:
		rec.Float = true
	default:
		r.fail()
	}
	rec.TS = r.timestamp()
	n := r.uvarint()
	if n > maxPromised || n > uint64(len(r.b)) || rec.Status < Staging || rec.Status > Aborted {
		r.fail()
	}
	if r.bad {
		return rec
	}
	for range n {
		rec.Promised = append(rec.Promised, string(r.text(MaxKeyBytes)))
	}
	return rec
}

// parseRecord decodes what append wrote.
func parseRecord(b []byte) (*Record, error) {
	r := reader{b: b}
	rec := r.record()
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("mvcc: record is %w", errMalformed)
	}
	return rec, nil
}

// An Intent is what a transaction will have written at a key, if it commits.
type Intent struct {
	Txn   id.Txn
	TS    hlc.Timestamp // the lowest at which it may commit
	Write Write
}

func (i *Intent) encode() []byte {
	b := binary.BigEndian.AppendUint64(i.Txn.Append(nil), uint64(i.TS))
	return appendWrite(b, &i.Write)
}

func parseIntent(b []byte) (*Intent, error) {
	r := reader{b: b}
	i := &Intent{Txn: r.txn(), TS: r.timestamp(), Write: r.write()}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("mvcc: intent is %w", errMalformed)
	}
	return i, nil
}

// A Version is what a key holds from a timestamp on.
type Version struct {
	TS     hlc.Timestamp // zero: there is none
	Writer id.Key
	// Others have added to the same counter at the very same time.
	Others  []id.Key
	Deleted bool
	Added   bool // it is a counter, and adds to the version before it
	Value   []byte
}

// By reports whether a transaction wrote it.
func (v *Version) By(txn id.Key) bool { return v.Writer == txn || slices.Contains(v.Others, txn) }

// There reports whether it holds a value.
func (v *Version) There() bool { return v.TS != 0 && !v.Deleted }

// flagOthers is set in the first byte of a version with more than one writer.
const flagOthers = 0x80

// appendVersionValue appends the value that Pebble keeps of a version.
func appendVersionValue(b []byte, v *Version) []byte {
	kind := byte(Put)
	switch {
	case v.Deleted:
		kind = byte(Delete)
	case v.Added:
		kind = byte(Add)
	}
	if len(v.Others) > 0 {
		kind |= flagOthers
	}
	b = v.Writer.Append(append(b, kind))
	if len(v.Others) > 0 {
		b = binary.AppendUvarint(b, uint64(len(v.Others)))
		for _, o := range v.Others {
			b = o.Append(b)
		}
	}
	return append(b, v.Value...)
}

// parseVersion decodes it. The value is of b.
func parseVersion(ts hlc.Timestamp, b []byte) (Version, error) {
	r := reader{b: b}
	kind := r.byte()
	v := Version{TS: ts, Writer: r.txnKey()}
	switch Kind(kind &^ flagOthers) {
	case Put:
	case Delete:
		v.Deleted = true
	case Add:
		v.Added = true
	default:
		r.fail()
	}
	if kind&flagOthers != 0 {
		n := r.uvarint()
		for ; n > 0 && !r.bad; n-- {
			v.Others = append(v.Others, r.txnKey())
		}
	}
	if r.bad {
		return v, fmt.Errorf("mvcc: version at %v is %w", ts, errMalformed)
	}
	v.Value = r.b
	return v, nil
}

// counterBytes is the size of a counter.
const counterBytes = 8

// Counter reads a counter. No value is zero.
func Counter(v *Version) (n int64, ok bool) {
	if !v.There() {
		return 0, true
	}
	if len(v.Value) != counterBytes {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64(v.Value)), true
}

// AppendCounter appends a counter's value.
func AppendCounter(b []byte, n int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(n)) }
