package shard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster/meta"
)

// A Header is what a shard knows of itself. It is never changed, but replaced.
type Header struct {
	Shard meta.ShardID
	Span  meta.Span
	// Generation counts the changes of the span and of whether commands are taken.
	// 0: it has not begun, and takes none.
	Generation uint64
	// Parent is the shard that it came out of, 0 for none, and Born the generation
	// that both had then.
	Parent meta.ShardID
	Born   uint64
	// Right is the shard that begins where this one ends, as far as this one's log
	// tells, 0 for none. That one may have been split since.
	Right meta.ShardID
	// Frozen is the index from which on it takes no commands, because it is being
	// merged into Into by the move By. 0: it takes them.
	Frozen uint64
	Into   meta.ShardID
	By     uint64
	// Over is the number of the latest move that changed the span or was given up:
	// no control of it or an earlier one is carried out any more, however late.
	// Carried is the latest of those that changed the span.
	Over, Carried uint64

	barred string // if set, nothing that is not below it is to be read
}

// Takes says whether a command or read of key is this shard's.
func (h *Header) Takes(key string) bool {
	return h.open() && h.Span.Contains(key) && (h.barred == "" || key < h.barred)
}

// Covers says whether commands and reads of all of span are this shard's.
func (h *Header) Covers(span meta.Span) bool {
	if !h.open() || span.Start < h.Span.Start || h.barred != "" && (span.End == "" || span.End > h.barred) {
		return false
	}
	return h.Span.End == "" || span.End != "" && span.End <= h.Span.End
}

func (h *Header) open() bool { return h.Generation > 0 && h.Frozen == 0 }

func (h *Header) String() string {
	text := fmt.Sprintf("shard %d %v generation=%d", h.Shard, h.Span, h.Generation)
	if h.Frozen != 0 {
		text += fmt.Sprintf(" frozen at %d, goes into %d", h.Frozen, h.Into)
	}
	return text
}

const headerVersion = 1

// Append encodes a header.
func (h *Header) Append(b []byte) []byte {
	b = append(b, headerVersion)
	for _, v := range []uint64{
		uint64(h.Shard), h.Generation, uint64(h.Parent), h.Born, uint64(h.Right), h.Frozen, uint64(h.Into), h.By, h.Over, h.Carried,
	} {
		b = binary.AppendUvarint(b, v)
	}
	return appendText(appendText(b, h.Span.Start), h.Span.End)
}

// ParseHeader decodes a header and refuses what Append did not write.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) == 0 || b[0] != headerVersion {
		return nil, fmt.Errorf("shard: header %x: expected version %d", b[:min(1, len(b))], headerVersion)
	}
	r := reader{b: b[1:]}
	h := &Header{
		Shard: meta.ShardID(r.uvarint()), Generation: r.uvarint(), Parent: meta.ShardID(r.uvarint()), Born: r.uvarint(),
		Right: meta.ShardID(r.uvarint()), Frozen: r.uvarint(), Into: meta.ShardID(r.uvarint()), By: r.uvarint(), Over: r.uvarint(), Carried: r.uvarint(), Span: r.span(),
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("shard: header: %w", err)
	}
	return h, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

var errMalformed = errors.New("malformed")

// A reader reads the package's encodings. After a malformed value bad is set, and
// every further value is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() string {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)) || n > meta.MaxKeyBytes {
		r.bad = true
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) span() meta.Span { return meta.Span{Start: r.text(), End: r.text()} }

func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return errMalformed
	}
	return nil
}
