package meta

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// errMalformed is about bytes that this package did not write.
var errMalformed = errors.New("malformed")

// A reader reads numbers and strings. After the first that is not there, or is
// beyond its limit, everything is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() { r.b, r.bad = nil, true }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

// within reads a number that is at most limit.
func (r *reader) within(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.fail()
		return 0
	}
	return v
}

func (r *reader) bool() bool { return r.within(1) == 1 }

func (r *reader) text(limit int) string {
	n := int(r.within(uint64(limit)))
	if n > len(r.b) {
		r.fail()
		return ""
	}
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}

func (r *reader) texts(most, limit int) []string {
	n := int(r.within(uint64(most)))
	var list []string
	for range n {
		list = append(list, r.text(limit))
	}
	return list
}

// end returns an error unless everything was read.
func (r *reader) end() error {
	switch {
	case r.bad:
		return errMalformed
	case len(r.b) > 0:
		return fmt.Errorf("%w: %d bytes too many", errMalformed, len(r.b))
	}
	return nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTexts(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendText(b, s)
	}
	return b
}

func appendNumbers(b []byte, list ...uint64) []byte {
	for _, v := range list {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func number(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}
