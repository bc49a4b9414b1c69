package meta

import (
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/consensus"
)

// A Command changes a State. Doing one again that was done already is no error and
// gives the same answer: who did not hear the answer asks again.
type Command interface {
	kind() byte
	append(b []byte) []byte
	read(r *reader)
	run(t *turn) Answer
}

// The commands.
const (
	kindInit = iota + 1
	kindJoin
	kindStart
	kindDeclare
	kindDrain
	kindRemove
	kindCreate
	kindReport
	kindWant
	kindBegin
	kindEnd
)

func blank(kind byte) Command {
	switch kind {
	case kindInit:
		return new(Init)
	case kindJoin:
		return new(Join)
	case kindStart:
		return new(Start)
	case kindDeclare:
		return new(Declare)
	case kindDrain:
		return new(Drain)
	case kindRemove:
		return new(Remove)
	case kindCreate:
		return new(Create)
	case kindReport:
		return new(Report)
	case kindWant:
		return new(Want)
	case kindBegin:
		return new(Begin)
	case kindEnd:
		return new(End)
	}
	return nil
}

// Encode appends a command as it is proposed.
func Encode(b []byte, c Command) []byte { return c.append(append(b, recordVersion, c.kind())) }

// Decode reads a command.
func Decode(b []byte) (Command, error) {
	if len(b) < 2 || b[0] != recordVersion {
		return nil, fmt.Errorf("meta: command %x: expected version %d", b[:min(2, len(b))], recordVersion)
	}
	c := blank(b[1])
	if c == nil {
		return nil, fmt.Errorf("meta: command of kind %d: expected %d to %d", b[1], kindInit, kindEnd)
	}
	r := &reader{b: b[2:]}
	c.read(r)
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("meta: %T: %w", c, err)
	}
	return c, nil
}

// Init makes the cluster, with its first node, which holds the only replica of the
// meta group. The answer is the node's id, 1.
type Init struct {
	Cluster uint64 // not 0
	Format  uint64
	Request uint64
	Profile
}

func (*Init) kind() byte { return kindInit }
func (c *Init) append(b []byte) []byte {
	return c.Profile.append(appendNumbers(b, c.Cluster, c.Format, c.Request))
}
func (c *Init) read(r *reader) {
	c.Cluster, c.Format, c.Request = r.uvarint(), r.uvarint(), r.uvarint()
	c.Profile.read(r)
}

// Join gives a new node an id, which is the answer.
type Join struct {
	Cluster uint64 // 0: whichever it is
	Request uint64 // not 0; names the node until it has an id
	// Node is the id that the node must have, because its certificate says so. It
	// must be above all that were ever given out. 0: any.
	Node consensus.NodeID
	Profile
}

func (*Join) kind() byte { return kindJoin }
func (c *Join) append(b []byte) []byte {
	return c.Profile.append(appendNumbers(b, c.Cluster, c.Request, uint64(c.Node)))
}
func (c *Join) read(r *reader) {
	c.Cluster, c.Request, c.Node = r.uvarint(), r.uvarint(), consensus.NodeID(r.uvarint())
	c.Profile.read(r)
}

// Start says that a node has started, under a new epoch. It makes it live.
type Start struct {
	Cluster uint64
	Node    consensus.NodeID
	Epoch   uint64
	Nonce   uint64 // drawn for this start: two that share an epoch are not one
	Address string
	Profile
}

func (*Start) kind() byte { return kindStart }
func (c *Start) append(b []byte) []byte {
	return c.Profile.append(appendText(appendNumbers(b, c.Cluster, uint64(c.Node), c.Epoch, c.Nonce), c.Address))
}
func (c *Start) read(r *reader) {
	c.Cluster, c.Node, c.Epoch, c.Nonce = r.uvarint(), consensus.NodeID(r.uvarint()), r.uvarint(), r.uvarint()
	c.Address = r.text(MaxAddressBytes)
	c.Profile.read(r)
}

// Declare says what the leader of the meta group thinks of a node, of that epoch. Turn
// is Node.Told as whoever sends it knows it, so that one that comes late does not undo
// what was said since.
type Declare struct {
	Node      consensus.NodeID
	Epoch     uint64
	Condition Condition // Live, Suspect or Dead
	Turn      uint64
}

func (*Declare) kind() byte { return kindDeclare }
func (c *Declare) append(b []byte) []byte {
	return appendNumbers(b, uint64(c.Node), c.Epoch, uint64(c.Condition), c.Turn)
}
func (c *Declare) read(r *reader) {
	c.Node, c.Epoch, c.Condition, c.Turn = consensus.NodeID(r.uvarint()), r.uvarint(), Condition(r.within(uint64(Dead))), r.uvarint()
}

// Drain has a node give up its replicas, so that it can be removed; Off takes that
// back. Turn is Node.Turns as whoever sends it knows it: two such commands undo each
// other, and one that comes late must not undo what was done since.
type Drain struct {
	Node consensus.NodeID
	Off  bool
	Turn uint64
}

func (*Drain) kind() byte { return kindDrain }
func (c *Drain) append(b []byte) []byte {
	return appendNumbers(b, uint64(c.Node), number(c.Off), c.Turn)
}
func (c *Drain) read(r *reader) {
	c.Node, c.Off, c.Turn = consensus.NodeID(r.uvarint()), r.bool(), r.uvarint()
}

// Remove removes a node that drains and holds nothing any more.
type Remove struct{ Node consensus.NodeID }

func (*Remove) kind() byte               { return kindRemove }
func (c *Remove) append(b []byte) []byte { return appendNumbers(b, uint64(c.Node)) }
func (c *Remove) read(r *reader)         { c.Node = consensus.NodeID(r.uvarint()) }

// Create makes a shard, with a replica on each of the nodes, in an order of its own: the
// first leads. The answer is its id.
type Create struct {
	Request uint64 // not 0
	Span    Span
	Want    int
	Require []string
	Nodes   []consensus.NodeID
}

func (*Create) kind() byte { return kindCreate }
func (c *Create) append(b []byte) []byte {
	b = appendText(appendText(appendNumbers(b, c.Request, uint64(c.Want)), c.Span.Start), c.Span.End)
	b = binary.AppendUvarint(appendTexts(b, c.Require), uint64(len(c.Nodes)))
	for _, n := range c.Nodes {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}
func (c *Create) read(r *reader) {
	c.Request, c.Want, c.Span = r.uvarint(), int(r.within(MaxMembers)), readSpan(r)
	c.Require = r.texts(MaxLocality, MaxLocalityBytes)
	for range r.within(MaxMembers) {
		c.Nodes = append(c.Nodes, consensus.NodeID(r.uvarint()))
	}
}

// Report is what the leader of a shard says of it. One that is older than what is
// known changes nothing.
type Report struct {
	Shard               ShardID
	Generation, Version uint64
	Span                Span
	Members             []Member
}

func (*Report) kind() byte { return kindReport }
func (c *Report) append(b []byte) []byte {
	b = appendNumbers(b, uint64(c.Shard), c.Generation, c.Version)
	return appendMembers(appendText(appendText(b, c.Span.Start), c.Span.End), c.Members)
}
func (c *Report) read(r *reader) {
	c.Shard, c.Generation, c.Version = ShardID(r.uvarint()), r.uvarint(), r.uvarint()
	c.Span, c.Members = readSpan(r), readMembers(r)
}

// Want says how many replicas a shard is to have, and where.
type Want struct {
	Shard   ShardID
	Want    int
	Require []string
}

func (*Want) kind() byte { return kindWant }
func (c *Want) append(b []byte) []byte {
	return appendTexts(appendNumbers(b, uint64(c.Shard), uint64(c.Want)), c.Require)
}
func (c *Want) read(r *reader) {
	c.Shard, c.Want = ShardID(r.uvarint()), int(r.within(MaxMembers))
	c.Require = r.texts(MaxLocality, MaxLocalityBytes)
}

// Begin begins a move. The answer is its id.
type Begin struct {
	Shard    ShardID
	Kind     MoveKind
	From, To consensus.NodeID
	Key      string  // of a split
	Other    ShardID // of a merge
	Why      string
}

func (*Begin) kind() byte { return kindBegin }
func (c *Begin) append(b []byte) []byte {
	b = appendNumbers(b, uint64(c.Shard), uint64(c.Kind), uint64(c.From), uint64(c.To), uint64(c.Other))
	return appendText(appendText(b, c.Key), c.Why)
}
func (c *Begin) read(r *reader) {
	c.Shard, c.Kind = ShardID(r.uvarint()), MoveKind(r.within(uint64(MoveMerge)))
	c.From, c.To, c.Other = consensus.NodeID(r.uvarint()), consensus.NodeID(r.uvarint()), ShardID(r.uvarint())
	c.Key, c.Why = r.text(MaxKeyBytes), r.text(MaxWhyBytes)
}

// End ends a move, done or given up. What the shard's members are then a Report has
// said before.
type End struct {
	Shard ShardID
	Move  uint64
}

func (*End) kind() byte               { return kindEnd }
func (c *End) append(b []byte) []byte { return appendNumbers(b, uint64(c.Shard), c.Move) }
func (c *End) read(r *reader)         { c.Shard, c.Move = ShardID(r.uvarint()), r.uvarint() }
