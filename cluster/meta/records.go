package meta

import (
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/consensus"
)

// The first byte of a record's key.
const (
	recordCluster = 'c' // the one record of what is not a node, shard or move
	recordMove    = 'm'
	recordNode    = 'n'
	recordShard   = 's'
)

const recordVersion = 1

func recordKey(kind byte, id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, id)
}

func (s *State) appendCluster(b []byte) []byte {
	return appendNumbers(append(b, recordVersion), s.Cluster, s.Format, s.last.node, s.last.shard, s.last.move)
}

func (n *Node) append(b []byte) []byte {
	b = appendNumbers(append(b, recordVersion), uint64(n.ID), n.Epoch, n.Nonce, uint64(n.Condition), n.Told, number(n.Draining), n.Turns, n.Request)
	return n.Profile.append(appendText(b, n.Address))
}

func (p *Profile) append(b []byte) []byte {
	return appendNumbers(appendTexts(b, p.Locality), p.Weight, p.Formats.Min, p.Formats.Max)
}

func (p *Profile) read(r *reader) {
	p.Locality = r.texts(MaxLocality, MaxLocalityBytes)
	p.Weight, p.Formats.Min, p.Formats.Max = r.uvarint(), r.uvarint(), r.uvarint()
}

func readNode(r *reader) *Node {
	n := &Node{
		ID: consensus.NodeID(r.uvarint()), Epoch: r.uvarint(), Nonce: r.uvarint(), Condition: Condition(r.within(uint64(Dead))), Told: r.uvarint(),
		Draining: r.bool(), Turns: r.uvarint(),
		Request: r.uvarint(), Address: r.text(MaxAddressBytes),
	}
	n.Profile.read(r)
	return n
}

func (sh *Shard) append(b []byte) []byte {
	b = appendNumbers(append(b, recordVersion), uint64(sh.ID), sh.Generation, sh.Version, uint64(sh.Want), uint64(sh.Replicas), sh.Request)
	b = appendNumbers(b, uint64(sh.Parent), sh.Born, uint64(sh.Into))
	b = appendTexts(appendText(appendText(b, sh.Span.Start), sh.Span.End), sh.Require)
	return appendMembers(b, sh.Members)
}

func readShard(r *reader) *Shard {
	return &Shard{
		ID: ShardID(r.uvarint()), Generation: r.uvarint(), Version: r.uvarint(), Want: int(r.within(MaxMembers)),
		Replicas: consensus.ReplicaID(r.uvarint()), Request: r.uvarint(), Parent: ShardID(r.uvarint()), Born: r.uvarint(), Into: ShardID(r.uvarint()), Span: readSpan(r),
		Require: r.texts(MaxLocality, MaxLocalityBytes), Members: readMembers(r),
	}
}

func readSpan(r *reader) Span { return Span{r.text(MaxKeyBytes), r.text(MaxKeyBytes)} }

func appendMembers(b []byte, list []Member) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, m := range list {
		b = appendNumbers(b, uint64(m.Replica), uint64(m.Node), number(m.Learner))
	}
	return b
}

func readMembers(r *reader) []Member {
	n := int(r.within(MaxMembers))
	var list []Member
	for range n {
		m := consensus.Member{Replica: consensus.ReplicaID(r.uvarint()), Node: consensus.NodeID(r.uvarint())}
		list = append(list, Member{m, r.bool()})
	}
	return list
}

func (m *Move) append(b []byte) []byte {
	b = appendNumbers(append(b, recordVersion), m.ID, uint64(m.Shard), uint64(m.Kind), uint64(m.From), uint64(m.To), uint64(m.Replica), uint64(m.Other))
	return appendText(appendText(b, m.Key), m.Why)
}

func readMove(r *reader) *Move {
	return &Move{
		ID: r.uvarint(), Shard: ShardID(r.uvarint()), Kind: MoveKind(r.within(uint64(MoveMerge))),
		From: consensus.NodeID(r.uvarint()), To: consensus.NodeID(r.uvarint()), Replica: consensus.ReplicaID(r.uvarint()),
		Other: ShardID(r.uvarint()), Key: r.text(MaxKeyBytes), Why: r.text(MaxWhyBytes),
	}
}

// set takes in a record. Without a value it is one that was deleted.
func (s *State) set(key, value []byte) error {
	if len(key) != 9 {
		return fmt.Errorf("meta: record %x: %w key", key, errMalformed)
	}
	kind, id := key[0], binary.BigEndian.Uint64(key[1:])
	if value == nil {
		return s.unset(kind, id)
	}
	if value = value[:len(value):len(value)]; len(value) == 0 || value[0] != recordVersion {
		return fmt.Errorf("meta: record %c %d has version %v, expected %d: a later version of the program wrote it", kind, id, value[:min(1, len(value))], recordVersion)
	}
	r := &reader{b: value[1:]}
	var named uint64 // what the record says that it is
	switch kind {
	case recordCluster:
		s.Cluster, s.Format, s.last.node, s.last.shard, s.last.move = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	case recordNode:
		n := readNode(r)
		if named = uint64(n.ID); !r.bad {
			s.setNode(n)
		}
	case recordShard:
		sh := readShard(r)
		if named = uint64(sh.ID); !r.bad {
			s.setShard(sh)
		}
	case recordMove:
		m := readMove(r)
		if named = uint64(m.Shard); !r.bad {
			s.setMove(m)
		}
	default:
		r.fail()
	}
	if err := r.end(); err != nil {
		return fmt.Errorf("meta: record %c %d: %w", kind, id, err)
	}
	if named != id {
		return fmt.Errorf("meta: record %c %d is %d's", kind, id, named)
	}
	return nil
}

func (s *State) unset(kind byte, id uint64) error {
	switch kind {
	case recordNode:
		if n, ok := s.nodes.Delete(consensus.NodeID(id)); ok {
			s.addresses.Delete(n.Address)
			s.joined.Delete(n.Request)
		}
	case recordShard:
		s.place()
		if sh, ok := s.shards.Delete(ShardID(id)); ok {
			if at, _ := s.spans.Get(sh.Span.Start); at == sh.ID { // or it has passed to another
				s.spans.Delete(sh.Span.Start)
			}
			s.made.Delete(sh.Request)
		}
	case recordMove:
		s.moves.Delete(ShardID(id))
		s.place()
	default:
		return fmt.Errorf("meta: record %c %d: %w: nothing that is deleted", kind, id, errMalformed)
	}
	return nil
}

func (s *State) setNode(n *Node) {
	if old, ok := s.nodes.Set(n.ID, n); ok && old.Address != n.Address {
		s.addresses.Delete(old.Address)
	}
	if n.Address != "" {
		s.addresses.Set(n.Address, n.ID)
	}
	s.joined.Set(n.Request, n.ID)
}

func (s *State) setMove(m *Move) {
	s.place()
	s.moves.Set(m.Shard, m)
}

func (s *State) setShard(sh *Shard) {
	s.place()
	old, ok := s.shards.Set(sh.ID, sh)
	if sh.Request != 0 {
		s.made.Set(sh.Request, sh.ID)
	}
	if sh.ID == MetaShard {
		return
	}
	if ok && old.Span.Start != sh.Span.Start {
		if id, _ := s.spans.Get(old.Span.Start); id == sh.ID { // not yet another's
			s.spans.Delete(old.Span.Start)
		}
	}
	s.spans.Set(sh.Span.Start, sh.ID)
}
