package mvcc

import (
	"encoding/binary"
	"fmt"
	"maps"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A State is what all replicas of a shard hold against each command. It is never
// changed, but replaced.
type State struct {
	// Lease is the term of the latest lease that began.
	Lease uint64
	// Closed is the timestamp at and below which nothing is written any more.
	// Threshold is the one below which nobody reads. Invariant: Threshold <= Closed.
	Closed, Threshold hlc.Timestamp
	// Reads is the latest timestamp that a leader has read at which was further ahead of
	// his clock than his successors go by.
	Reads hlc.Timestamp

	fences    map[uint64]uint64     // by node, the latest epoch that was fenced
	protected map[uint64]Protection // by name
}

// A Protection keeps what is read at a timestamp.
type Protection struct{ TS, Until hlc.Timestamp }

// Fenced reports whether a node's epoch was fenced.
func (s *State) Fenced(node, epoch uint64) bool {
	fenced, ok := s.fences[node]
	return ok && epoch <= fenced
}

// Protected calls visit for each protection.
func (s *State) Protected(visit func(name uint64, p Protection)) {
	for name, p := range s.protected {
		visit(name, p)
	}
}

// mayRise reports whether ts may be the threshold.
func (s *State) mayRise(ts hlc.Timestamp) bool {
	for _, p := range s.protected {
		if p.TS < ts {
			return false
		}
	}
	return ts <= s.Closed
}

// join takes in the state of a shard that this one absorbs.
func (s *State) join(o *State) {
	s.Closed, s.Threshold, s.Reads = max(s.Closed, o.Closed), max(s.Threshold, o.Threshold), max(s.Reads, o.Reads)
	s.fences, s.protected = maps.Clone(s.fences), maps.Clone(s.protected)
	for node, epoch := range o.fences {
		set(&s.fences, node, max(epoch, s.fences[node]))
	}
	for name, p := range o.protected {
		set(&s.protected, name, p)
	}
}

// set sets an element of a map that may be nil.
func set[V any](m *map[uint64]V, k uint64, v V) {
	if *m == nil {
		*m = map[uint64]V{}
	}
	(*m)[k] = v
}

// A position is how far a store is, with what moves along all the time.
type position struct {
	index, term, lease       uint64
	closed, threshold, reads hlc.Timestamp
}

// positionOf is that of a state, at an entry of a log.
func positionOf(s *State, index, term uint64) position {
	return position{index, term, s.Lease, s.Closed, s.Threshold, s.Reads}
}

const positionBytes = 6 * 8

func (p *position) encode() []byte {
	b := make([]byte, 0, positionBytes)
	for _, v := range []uint64{p.index, p.term, p.lease, uint64(p.closed), uint64(p.threshold), uint64(p.reads)} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return b
}

func parsePosition(b []byte) (p position, err error) {
	if len(b) != positionBytes {
		return p, fmt.Errorf("mvcc: position of %d bytes, expected %d", len(b), positionBytes)
	}
	for i, v := range []*uint64{&p.index, &p.term, &p.lease, (*uint64)(&p.closed), (*uint64)(&p.threshold), (*uint64)(&p.reads)} {
		*v = binary.BigEndian.Uint64(b[8*i:])
	}
	return p, nil
}

// Rows of a store begin with what they are. Those of the Host come first, as in a
// snapshot they must be known before all others.
const (
	rowHost     = 'h'
	rowFence    = 'f'
	rowPosition = 'p'
	rowProtect  = 'q'
)

func numbered(kind byte, n uint64) string {
	return string(binary.BigEndian.AppendUint64([]byte{kind}, n))
}

// take reads one of the store's own rows into the state.
func (s *State) take(row string, value []byte) error {
	switch {
	case len(row) != 9:
	case row[0] == rowFence && len(value) == 8:
		set(&s.fences, binary.BigEndian.Uint64([]byte(row[1:])), binary.BigEndian.Uint64(value))
		return nil
	case row[0] == rowProtect && len(value) == 16:
		p := Protection{hlc.Timestamp(binary.BigEndian.Uint64(value)), hlc.Timestamp(binary.BigEndian.Uint64(value[8:]))}
		set(&s.protected, binary.BigEndian.Uint64([]byte(row[1:])), p)
		return nil
	}
	return fmt.Errorf("mvcc: row %q is %w", row, errMalformed)
}

// rows calls visit for each of the store's own rows that hold the state, but for the
// position.
func (s *State) rows(visit func(row string, value []byte)) {
	for node, epoch := range s.fences {
		visit(numbered(rowFence, node), binary.BigEndian.AppendUint64(nil, epoch))
	}
	for name, p := range s.protected {
		visit(numbered(rowProtect, name), p.encode())
	}
}

func (p Protection) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(p.TS)), uint64(p.Until))
}
