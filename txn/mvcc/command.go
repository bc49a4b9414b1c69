package mvcc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Header is what a command begins with. What is to be done follows, each thing
// appended by one of the functions below; it is done as a whole or not at all.
type Header struct {
	// Lease is the term of the lease under which it was evaluated, 0 for none.
	Lease uint64
	// Closed says that no command after this one writes at or below it.
	Closed hlc.Timestamp
	// Reads, if not zero, is a timestamp at and below which may be read what nobody in the
	// seat to come remembers.
	Reads hlc.Timestamp
	// Writer is the transaction for which it writes versions, lays intents or makes a
	// record, none of which is done once that was fenced or is too old. Zero: it does
	// none of these.
	Writer id.Key
	// TS is the timestamp of its versions and intents. Float says that it may be raised,
	// to be above that of a counter that is added to; the answer tells.
	TS    hlc.Timestamp
	Float bool
}

// The limits of what is written.
const (
	MaxKeyBytes   = meta.MaxKeyBytes
	MaxValueBytes = 8 << 20
)

const commandVersion = 1

const (
	flagFloat = 1 << iota
	flagWriter
	flagReads
)

// AppendHeader appends the beginning of a command.
func AppendHeader(b []byte, h *Header) []byte {
	flags := byte(0)
	if h.Float {
		flags |= flagFloat
	}
	if !h.Writer.Zero() {
		flags |= flagWriter
	}
	if h.Reads != 0 {
		flags |= flagReads
	}
	b = append(b, commandVersion, flags)
	b = binary.AppendUvarint(b, h.Lease)
	b = binary.BigEndian.AppendUint64(b, uint64(h.Closed))
	b = binary.BigEndian.AppendUint64(b, uint64(h.TS))
	if flags&flagWriter != 0 {
		b = h.Writer.Append(b)
	}
	if flags&flagReads != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(h.Reads))
	}
	return b
}

// A Kind is what is written at a key.
type Kind byte

// The kinds of what is written.
const (
	Put    Kind = 1 + iota // a value
	Delete                 // that there is none
	Add                    // a number is added to a counter
)

func (k Kind) String() string {
	if k < Put || k > Add {
		return fmt.Sprintf("kind %d", byte(k))
	}
	return [...]string{"put", "delete", "add"}[k-Put]
}

// A Write is what is to be written at a key.
type Write struct {
	Key  string
	Kind Kind
	// Value is what is put.
	Value []byte
	// Delta is added, if the counter stays from Min to Max whatever else commits that
	// is laid down already.
	Delta, Min, Max int64
}

// Unbounded is a write that adds to a counter without bounds.
func Unbounded(key string, delta int64) Write {
	return Write{Key: key, Kind: Add, Delta: delta, Min: math.MinInt64, Max: math.MaxInt64}
}

// Operations, the first byte of each thing that a command does.
const (
	opWrite = 1 + iota
	opLay
	opResolve
	opBar
	opRecord
	opForget
	opLead
	opFence
	opThreshold
	opProtect
	opUnprotect
)

// AppendWrite has a version of the header's writer written at the header's timestamp.
func AppendWrite(b []byte, w *Write) []byte { return appendWrite(append(b, opWrite), w) }

// AppendLay has an intent of the header's writer laid down, whose anchor is given.
func AppendLay(b []byte, anchor string, w *Write) []byte {
	return appendWrite(appendText(append(b, opLay), anchor), w)
}

// EncodeWrite appends a write, in the form that CutWrite reads.
func EncodeWrite(b []byte, w *Write) []byte { return appendWrite(b, w) }

// CutWrite decodes what EncodeWrite wrote and returns what follows it. The value is
// of b.
func CutWrite(b []byte) (w Write, rest []byte, err error) {
	r := reader{b: b}
	if w = r.write(); r.bad {
		return w, nil, fmt.Errorf("mvcc: write is %w", errMalformed)
	}
	return w, r.b, nil
}

func appendWrite(b []byte, w *Write) []byte {
	b = appendText(append(b, byte(w.Kind)), w.Key)
	switch w.Kind {
	case Put:
		b = append(binary.AppendUvarint(b, uint64(len(w.Value))), w.Value...)
	case Add:
		for _, v := range []int64{w.Delta, w.Min, w.Max} {
			b = binary.AppendVarint(b, v)
		}
	}
	return b
}

// AppendResolve ends a transaction's intent at a key: it becomes a version at ts, or
// nothing if ts is zero. Where there is none nothing happens.
func AppendResolve(b []byte, txn id.Key, key string, ts hlc.Timestamp) []byte {
	b = appendText(txn.Append(append(b, opResolve)), key)
	return binary.BigEndian.AppendUint64(b, uint64(ts))
}

// AppendBar says of a transaction that it lays no intent at a key.
func AppendBar(b []byte, txn id.Key, key string) []byte {
	return appendText(txn.Append(append(b, opBar)), key)
}

// AppendRecord makes or replaces the record of a transaction.
func AppendRecord(b []byte, r *Record) []byte { return r.append(append(b, opRecord)) }

// AppendForget drops the record of a transaction.
func AppendForget(b []byte, txn id.Txn) []byte { return txn.Append(append(b, opForget)) }

// AppendLead begins a lease: commands under leases of other terms are refused behind it.
func AppendLead(b []byte, term uint64) []byte {
	return binary.AppendUvarint(append(b, opLead), term)
}

// AppendFence has nothing more written for transactions of a node's epochs up to this.
func AppendFence(b []byte, node, epoch uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(append(b, opFence), node), epoch)
}

// AppendThreshold gives up what is read below a timestamp. It is refused if that is
// protected or not closed. That no intent is below it is for who leads to see to: stores
// may still hold, or hold no more, what was split off.
func AppendThreshold(b []byte, ts hlc.Timestamp) []byte {
	return binary.BigEndian.AppendUint64(append(b, opThreshold), uint64(ts))
}

// AppendProtect keeps what is read at a timestamp until a moment, under a name. It is
// refused if that has been given up.
func AppendProtect(b []byte, name uint64, ts, until hlc.Timestamp) []byte {
	b = binary.AppendUvarint(append(b, opProtect), name)
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(ts)), uint64(until))
}

// AppendUnprotect ends what AppendProtect began.
func AppendUnprotect(b []byte, name uint64) []byte {
	return binary.AppendUvarint(append(b, opUnprotect), name)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// A Verdict is what came of a command.
type Verdict byte

// The verdicts. A command that was not Done did nothing.
const (
	Done       Verdict = iota
	Malformed          // it is not a command
	Unleased           // it was evaluated under another lease
	TooLow             // its timestamp is closed, or a version is above it that must not be: it is to be evaluated again
	Fenced             // its writer's node was fenced
	Expired            // its writer, or what it asks for, is below the threshold
	OutOfRange         // a counter could leave its bounds
	NoCounter          // what is added to is no number
	Protected          // the threshold must not rise yet
)

func (v Verdict) String() string {
	if v > Protected {
		return fmt.Sprintf("verdict %d", byte(v))
	}
	return [...]string{"done", "malformed", "unleased", "too low", "fenced", "expired", "out of range", "no counter", "protected"}[v]
}

// An Answer is what Apply answers to a command. TS is the timestamp of what was written,
// or, for TooLow, one that it must be above.
type Answer struct {
	Verdict Verdict
	TS      hlc.Timestamp
}

func (a Answer) encode() []byte {
	if a.TS == 0 {
		return verdicts[a.Verdict]
	}
	return binary.BigEndian.AppendUint64([]byte{byte(a.Verdict)}, uint64(a.TS))
}

var verdicts = func() (list [Protected + 1][]byte) {
	for i := range list {
		list[i] = []byte{byte(i)}
	}
	return list
}()

// ParseAnswer decodes what Apply answered.
func ParseAnswer(b []byte) (Answer, error) {
	switch {
	case len(b) == 1 && b[0] <= byte(Protected):
		return Answer{Verdict: Verdict(b[0])}, nil
	case len(b) == 1+hlc.Size && b[0] <= byte(Protected):
		return Answer{Verdict(b[0]), hlc.Timestamp(binary.BigEndian.Uint64(b[1:]))}, nil
	}
	return Answer{}, fmt.Errorf("mvcc: answer %x is malformed", b[:min(len(b), 16)])
}

var errMalformed = errors.New("malformed")

// A reader reads the package's encodings. After a malformed value bad is set, and every
// further value is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.fail()
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) timestamp() hlc.Timestamp {
	if len(r.b) < hlc.Size {
		r.fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.b)
	r.b = r.b[hlc.Size:]
	return hlc.Timestamp(v)
}

// text returns bytes of the command itself.
func (r *reader) text(limit int) []byte {
	n := r.uvarint()
	if n > uint64(limit) || n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) txnKey() id.Key {
	k, rest, err := id.CutKey(r.b)
	if err != nil {
		r.fail()
		return id.Key{}
	}
	r.b = rest
	return k
}

func (r *reader) txn() id.Txn {
	t, rest, err := id.Cut(r.b)
	if err != nil {
		r.fail()
		return id.Txn{}
	}
	r.b = rest
	return t
}

func (r *reader) header() (h Header) {
	if r.byte() != commandVersion {
		r.fail()
		return h
	}
	flags := r.byte()
	h.Lease, h.Closed, h.TS, h.Float = r.uvarint(), r.timestamp(), r.timestamp(), flags&flagFloat != 0
	if flags&flagWriter != 0 {
		h.Writer = r.txnKey()
	}
	if flags&flagReads != 0 {
		h.Reads = r.timestamp()
	}
	return h
}

// write reads a Write. Its key and value are of the command itself: key is a copy.
func (r *reader) write() (w Write) {
	w.Kind = Kind(r.byte())
	w.Key = string(r.text(MaxKeyBytes))
	switch w.Kind {
	case Put:
		w.Value = r.text(MaxValueBytes)
	case Delete:
	case Add:
		w.Delta, w.Min, w.Max = r.varint(), r.varint(), r.varint()
	default:
		r.fail()
	}
	return w
}
