package shard

import (
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster/meta"
)

// The first byte of a command: none that a store's own begins with by chance.
const (
	kindStore = iota + 0xe0 // one for the store, for a generation
	kindBegin
	kindSplit
	kindFreeze
	kindThaw
	kindSubsume
	kindFence
)

// AppendCommand appends what a command for the store begins with: that it was made
// for this generation of the shard. The store's own command follows.
func AppendCommand(b []byte, generation uint64) []byte {
	return binary.AppendUvarint(append(b, kindStore), generation)
}

// cutCommand takes a command for the store apart.
func cutCommand(b []byte) (generation uint64, command []byte, ok bool) {
	if len(b) < 2 || b[0] != kindStore {
		return 0, nil, false
	}
	if b[1] < 0x80 { // nearly every one
		return uint64(b[1]), b[2:], true
	}
	generation, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return 0, nil, false
	}
	return generation, b[1+n:], true
}

// A Control changes a shard's header. It is proposed as a command that stands alone.
// One that was made for another generation than the shard has, or that does not fit,
// changes nothing; one that was done already answers as before.
type Control struct {
	// Kind says what it does.
	Kind Kind
	// Generation is that of the shard for which it was made. Begin has none.
	Generation uint64
	// Move is the number of the cluster's move that it is a part of, see Header.Over.
	Move uint64
	// Span is the whole one of Begin, and that of the right shard of Subsume.
	Span meta.Span
	// Key is where a split cuts, Other the shard that a split makes, that a frozen
	// one is merged into, or that is subsumed.
	Key   string
	Other meta.ShardID
	// Right and OtherGeneration are what the header of the shard that is subsumed
	// says of its right neighbour and its generation, and Members the Index of the
	// Membership under which all of this shard's replicas have one of that one
	// beside them.
	Right           meta.ShardID
	OtherGeneration uint64
	Members         uint64
}

// A Kind is what a Control does.
type Kind byte

// The kinds of control.
const (
	Begin   Kind = kindBegin   // gives a new shard its span, and the first generation
	Split   Kind = kindSplit   // hands what is not below Key to a new shard
	Freeze  Kind = kindFreeze  // takes no commands from here on
	Thaw    Kind = kindThaw    // takes them again, if it was frozen: the move is over
	Subsume Kind = kindSubsume // takes in a frozen neighbour
	Fence   Kind = kindFence   // does nothing but that the move is over
)

func (k Kind) String() string {
	if k < Begin || k > Fence {
		return fmt.Sprintf("control %d", byte(k))
	}
	return [...]string{"begin", "split", "freeze", "thaw", "subsume", "fence"}[k-Begin]
}

// Encode is the control as it is proposed.
func (c *Control) Encode() []byte {
	b := []byte{byte(c.Kind)}
	for _, v := range []uint64{c.Generation, c.Move, uint64(c.Other), uint64(c.Right), c.OtherGeneration, c.Members} {
		b = binary.AppendUvarint(b, v)
	}
	return appendText(appendText(appendText(b, c.Span.Start), c.Span.End), c.Key)
}

func decodeControl(b []byte) (*Control, error) {
	if len(b) == 0 || b[0] < kindBegin || b[0] > kindFence {
		return nil, fmt.Errorf("shard: command %x: %w", b[:min(1, len(b))], errMalformed)
	}
	r := reader{b: b[1:]}
	c := &Control{
		Kind: Kind(b[0]), Generation: r.uvarint(), Move: r.uvarint(), Other: meta.ShardID(r.uvarint()), Right: meta.ShardID(r.uvarint()),
		OtherGeneration: r.uvarint(), Members: r.uvarint(), Span: r.span(), Key: r.text(),
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("shard: %v: %w", c.Kind, err)
	}
	return c, nil
}

// refused is the first byte of an answer that is the fence's and not the store's.
const refused = 0xff

// What follows it: a malformed command, or the header of a shard that takes no such
// command, or that has done what a control says.
const (
	badCommand = iota
	stale
	controlled
)

// A StaleError says that a command was made for another generation of its shard, and
// certainly did nothing.
type StaleError struct{ Header *Header }

func (e *StaleError) Error() string { return "shard: stale: it is now " + e.Header.String() }

// Answer reads what came of a command for the store: its answer, a *StaleError, or an
// error that says that the command was malformed and did nothing.
func Answer(data []byte) ([]byte, error) {
	if len(data) == 0 || data[0] != refused {
		return data, nil
	}
	h, err := verdict(data, stale)
	if err == nil {
		err = &StaleError{h}
	}
	return nil, err
}

// Controlled reads what came of a Control: the header behind it, or a *StaleError with
// the one that it did not fit.
func Controlled(data []byte) (*Header, error) {
	if len(data) > 1 && data[0] == refused && data[1] == stale {
		_, err := Answer(data)
		return nil, err
	}
	return verdict(data, controlled)
}

func verdict(data []byte, want byte) (*Header, error) {
	if len(data) < 2 || data[0] != refused || data[1] != want {
		return nil, fmt.Errorf("shard: the command is %w: answer %x", errMalformed, data[:min(2, len(data))])
	}
	return ParseHeader(data[2:])
}

func say(what byte, h *Header) []byte { return h.Append([]byte{refused, what}) }
