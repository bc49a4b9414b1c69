package codec

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed says that bytes are not what was written.
var ErrMalformed = errors.New("malformed")

// AppendText appends a text and how long it is.
func AppendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendBytes appends bytes and how many they are.
func AppendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// AppendBool appends a truth.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// A Reader reads what was appended. It is for one goroutine.
type Reader struct {
	// Rest is what was not read yet.
	Rest []byte
	// Bad says that something was malformed.
	Bad bool
}

// Read begins to read.
func Read(b []byte) Reader { return Reader{Rest: b} }

// Fail notes that what was read is not what was written.
func (r *Reader) Fail() { r.Rest, r.Bad = nil, true }

// End returns an error that wraps ErrMalformed unless all was well, and nothing is left.
func (r *Reader) End() error {
	if r.Bad || len(r.Rest) > 0 {
		return ErrMalformed
	}
	return nil
}

// Byte reads a byte.
func (r *Reader) Byte() byte {
	if len(r.Rest) == 0 {
		r.Fail()
		return 0
	}
	v := r.Rest[0]
	r.Rest = r.Rest[1:]
	return v
}

// Bool reads a truth.
func (r *Reader) Bool() bool {
	v := r.Byte()
	if v > 1 {
		r.Fail()
	}
	return v == 1
}

// Uvarint reads an unsigned varint.
func (r *Reader) Uvarint() uint64 {
	v, n := binary.Uvarint(r.Rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Varint reads a signed varint.
func (r *Reader) Varint() int64 {
	v, n := binary.Varint(r.Rest)
	if n <= 0 {
		r.Fail()
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Uint64 reads eight bytes, big-endian.
func (r *Reader) Uint64() uint64 {
	if len(r.Rest) < 8 {
		r.Fail()
		return 0
	}
	v := binary.BigEndian.Uint64(r.Rest)
	r.Rest = r.Rest[8:]
	return v
}

// Count reads how many things follow, of at least a byte each, at most limit.
func (r *Reader) Count(limit int) int {
	n := r.Uvarint()
	if n > uint64(limit) || n > uint64(len(r.Rest)) {
		r.Fail()
		return 0
	}
	return int(n)
}

// Bytes reads bytes, at most limit. They are shared with what is read.
func (r *Reader) Bytes(limit int) []byte {
	n := r.Count(limit)
	if r.Bad {
		return nil
	}
	v := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return v
}

// Text reads a text, at most limit bytes long.
func (r *Reader) Text(limit int) string { return string(r.Bytes(limit)) }
