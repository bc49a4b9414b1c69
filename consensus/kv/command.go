package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of what a command may carry, in bytes. A command beyond them is
// answered with ErrCommand.
const (
	MaxKeyBytes   = 64 << 10
	MaxValueBytes = 64 << 20
)

// counterBytes is the size of a counter's value.
const counterBytes = 8

// ErrCommand says that the machine could not parse a command, and therefore
// did nothing.
var ErrCommand = errors.New("kv: malformed command")

type kind byte

const (
	kindPut kind = 1 + iota
	kindDelete
	kindAdd
	kindSwap
	kindNop
)

// EncodePut appends to dst the command that sets key to value.
func EncodePut(dst, key, value []byte) []byte {
	return append(appendKey(dst, kindPut, key), value...)
}

// EncodeDelete appends to dst the command that removes key.
func EncodeDelete(dst, key []byte) []byte {
	return appendKey(dst, kindDelete, key)
}

// EncodeAdd appends to dst the command that adds delta to the counter at key.
// An absent counter counts as zero; the sum wraps around at 64 bits. A value
// that is not a counter stays as it is and the command answers Done false.
func EncodeAdd(dst, key []byte, delta int64) []byte {
	return binary.LittleEndian.AppendUint64(appendKey(dst, kindAdd, key), uint64(delta))
}

// EncodeCompareAndSwap appends to dst the command that sets key to value if
// key now holds old. A nil old asks that key be absent; an old that is empty
// but not nil asks for an empty value.
func EncodeCompareAndSwap(dst, key, old, value []byte) []byte {
	dst = appendKey(dst, kindSwap, key)
	if old == nil {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
	}
	dst = binary.AppendUvarint(dst, uint64(len(old)))
	return append(append(dst, old...), value...)
}

// EncodeNop appends to dst a command that carries payload and does nothing.
func EncodeNop(dst, payload []byte) []byte {
	return append(append(dst, byte(kindNop)), payload...)
}

func appendKey(dst []byte, k kind, key []byte) []byte {
	dst = append(dst, byte(k))
	dst = binary.AppendUvarint(dst, uint64(len(key)))
	return append(dst, key...)
}

// command is a parsed command; its slices point into the encoded one.
type command struct {
	kind       kind
	oldPresent bool // swap
	delta      int64
	key        []byte
	old, value []byte
}

// parseCommand reads one command. It is deterministic and reports false for
// anything that no Encode function could have made within the limits.
func parseCommand(data []byte) (c command, ok bool) {
	if len(data) == 0 {
		return c, false
	}
	c.kind = kind(data[0])
	if c.kind == kindNop {
		return c, true
	}
	if c.kind < kindPut || c.kind > kindNop {
		return c, false
	}
	key, rest, ok := cutField(data[1:])
	if !ok || len(key) > MaxKeyBytes {
		return c, false
	}
	c.key = key
	switch c.kind {
	case kindPut:
		c.value = rest
	case kindDelete:
		return c, len(rest) == 0
	case kindAdd:
		if len(rest) != counterBytes {
			return c, false
		}
		c.delta = int64(binary.LittleEndian.Uint64(rest))
		return c, true
	case kindSwap:
		if len(rest) == 0 || rest[0] > 1 {
			return c, false
		}
		c.oldPresent = rest[0] == 1
		if c.old, c.value, ok = cutField(rest[1:]); !ok {
			return c, false
		}
		if !c.oldPresent && len(c.old) > 0 {
			return c, false
		}
	}
	return c, len(c.value) <= MaxValueBytes
}

// cutField splits off a length and as many bytes.
func cutField(data []byte) (field, rest []byte, ok bool) {
	// Nearly every length fits one byte.
	if len(data) > 0 && data[0] < 0x80 {
		if n := int(data[0]); n < len(data) {
			return data[1 : 1+n : 1+n], data[1+n:], true
		}
		return nil, nil, false
	}
	n, width := binary.Uvarint(data)
	if width <= 0 || n > uint64(len(data)-width) {
		return nil, nil, false
	}
	end := width + int(n)
	return data[width:end:end], data[end:], true
}

// Bits of an answer's first byte.
const (
	bitDone = 1 << iota
	bitFound
	bitMalformed
)

// answers holds the answers of one byte, so that the common commands answer
// without an allocation. Nobody writes to them.
var answers = [...][]byte{{0}, {1}, {2}, {3}, {4}}

// An Outcome is the answer to a command.
type Outcome struct {
	// Done tells that the command had its effect: always for put and nop, for
	// delete if there was something to remove, for add if the value was absent
	// or a counter, for swap if old matched.
	Done bool
	// Found tells that key held a value before the command.
	Found bool
	// Counter is the sum after an add that was done.
	Counter int64
	// Value is, after a swap that was not done, what key holds instead of old.
	// It is part of the answer's bytes.
	Value []byte
}

// ParseOutcome reads an answer, the Data of a consensus.Result. For an answer
// to a command that did not parse it returns ErrCommand.
func ParseOutcome(data []byte) (Outcome, error) {
	if len(data) == 0 {
		return Outcome{}, fmt.Errorf("kv: answer of 0 bytes, expected at least 1")
	}
	if data[0] == bitMalformed {
		return Outcome{}, ErrCommand
	}
	if data[0] > bitDone|bitFound {
		return Outcome{}, fmt.Errorf("kv: answer starts with %#x, expected at most %#x", data[0], bitMalformed)
	}
	o := Outcome{Done: data[0]&bitDone != 0, Found: data[0]&bitFound != 0}
	switch rest := data[1:]; {
	case o.Done && len(rest) == counterBytes:
		o.Counter = int64(binary.LittleEndian.Uint64(rest))
	case !o.Done && o.Found:
		o.Value = rest
	case len(rest) > 0:
		return Outcome{}, fmt.Errorf("kv: answer %#x carries %d bytes, expected none", data[0], len(rest))
	}
	return o, nil
}

// Counter reads a value as a counter. It reports false if value is none.
func Counter(value []byte) (int64, bool) {
	if len(value) != counterBytes {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(value)), true
}
