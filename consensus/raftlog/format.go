package raftlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	formatVersion      = 1
	segmentHeaderBytes = 64
	frameHeaderBytes   = 32
	frameAlign         = 32
	recordHeaderBytes  = 8

	frameMagic = 0x6d617266 // "fram"
	// maxFrameBytes closes a frame that holds more than one write, so that
	// recovery holds no more than one segment and damage costs little.
	maxFrameBytes = 1 << 20
	// maxIndex keeps arithmetic on indexes from overflowing.
	maxIndex = 1 << 62
	// entryOverhead bounds what a record adds to an entry's data: its header,
	// kind and five varints.
	entryOverhead = recordHeaderBytes + 1 + 5*binary.MaxVarintLen64
	// stateOverhead bounds what a record adds to a group's meta.
	stateOverhead = recordHeaderBytes + 1 + 9*binary.MaxVarintLen64
)

var (
	segmentMagic = [8]byte{'p', 'h', 'a', 'n', 't', 'l', 'o', 'g'}
	castagnoli   = crc32.MakeTable(crc32.Castagnoli)
	le           = binary.LittleEndian
)

// A position is a place in the log. Positions are ordered as the bytes are.
type position struct{ seg, off uint32 }

func (p position) before(q position) bool {
	return p.seg < q.seg || p.seg == q.seg && p.off < q.off
}

func (p position) String() string { return fmt.Sprintf("%d:%d", p.seg, p.off) }

// seed is what a checksum at p begins with. It makes bytes valid in one place
// of one store only. A CRC maps different beginnings to different sums, so two
// places collide only where seeds do.
func seed(store uint64, p position) uint32 {
	x := store ^ (uint64(p.seg)<<32 | uint64(p.off))
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return uint32(x >> 32)
}

func sum(store uint64, p position, data []byte) uint32 {
	return crc32.Update(seed(store, p), castagnoli, data)
}

// encodeSegmentHeader writes the head of a segment file.
func encodeSegmentHeader(b []byte, store uint64, num uint32) {
	clear(b[:segmentHeaderBytes])
	copy(b, segmentMagic[:])
	le.PutUint32(b[8:], formatVersion)
	le.PutUint32(b[12:], num)
	le.PutUint64(b[16:], store)
	le.PutUint32(b[24:], crc32.Checksum(b[:24], castagnoli))
}

// decodeSegmentHeader reads the head of the segment file called name.
func decodeSegmentHeader(b []byte, name string, num uint32) (store uint64, err error) {
	bad := func(format string, args ...any) error {
		return &CorruptionError{Segment: num, Detail: fmt.Sprintf("header of "+name+": "+format, args...)}
	}
	switch {
	case len(b) < segmentHeaderBytes:
		return 0, bad("%d bytes, expected %d", len(b), segmentHeaderBytes)
	case [8]byte(b[:8]) != segmentMagic:
		return 0, bad("begins with %q, expected %q", b[:8], segmentMagic[:])
	case le.Uint32(b[24:]) != crc32.Checksum(b[:24], castagnoli):
		return 0, bad("checksum %08x, expected %08x", le.Uint32(b[24:]), crc32.Checksum(b[:24], castagnoli))
	}
	// The version comes after the checksum: a damaged one is damage.
	if v := le.Uint32(b[8:]); v != formatVersion {
		return 0, &VersionError{Segment: name, Version: v, MostRecent: formatVersion, LeastVersion: formatVersion}
	}
	if n := le.Uint32(b[12:]); n != num {
		return 0, bad("it is segment %d", n)
	}
	return le.Uint64(b[16:]), nil
}

// A frameHeader precedes the records of a frame.
type frameHeader struct {
	length  uint32   // bytes of records
	records uint32   // how many
	prevEnd uint32   // where the segment before ended, 0 in the first of all
	durable position // how far the log was durable when this was written
}

// frameBytes is what a frame with so many bytes of records takes in the file.
func frameBytes(records int) int {
	return frameHeaderBytes + (records+frameAlign-1)&^(frameAlign-1)
}

func (h frameHeader) encode(b []byte, store uint64, at position) {
	le.PutUint32(b, frameMagic)
	le.PutUint32(b[4:], h.length)
	le.PutUint32(b[8:], h.records)
	le.PutUint32(b[12:], h.prevEnd)
	le.PutUint32(b[16:], h.durable.seg)
	le.PutUint32(b[20:], h.durable.off)
	le.PutUint32(b[24:], 0)
	le.PutUint32(b[28:], sum(store, at, b[:28]))
}

// decodeFrameHeader reads a header at a place; ok is false if there is none.
func decodeFrameHeader(b []byte, store uint64, at position) (h frameHeader, ok bool) {
	if len(b) < frameHeaderBytes || le.Uint32(b) != frameMagic || le.Uint32(b[28:]) != sum(store, at, b[:28]) {
		return h, false
	}
	return frameHeader{
		length: le.Uint32(b[4:]), records: le.Uint32(b[8:]), prevEnd: le.Uint32(b[12:]),
		durable: position{le.Uint32(b[16:]), le.Uint32(b[20:])},
	}, true
}

// A kind says what a record means.
type kind uint8

const (
	kindEntry    kind = iota + 1 // an entry; it cuts everything behind it
	kindRewrite                  // a copy of a live entry, made by collection
	kindHard                     // a HardState
	kindTruncate                 // entries up to an index are not needed
	kindState                    // all there is to a group but its entries
	kindSkip                     // what a crashed owner had not flushed
	kindOwner                    // what an owner keeps for itself, of group 0
)

const (
	flagDestroyed = 1 << iota // a tombstone
	flagFresh                 // the log is empty from here on
)

// A record is one record, decoded. Data and meta point into what it was
// decoded from.
type record struct {
	kind             kind
	owner            uint64
	group            GroupID
	index, term, typ uint64 // entry, rewrite, truncate, base of a state
	flags            uint64
	replica          ReplicaID
	hard             hardState
	data             []byte // of an entry, or meta of a state or an owner
	at               position
	length           uint32 // in the file, with its header
}

// hardState is raft's HardState without its pointers.
type hardState struct{ term, vote, commit uint64 }

var errRecord = errors.New("raftlog: record is cut short or overlong")

// decode reads the body of a record whose checksum has been checked.
func (r *record) decode(b []byte) error {
	if len(b) == 0 {
		return errRecord
	}
	r.kind = kind(b[0])
	if r.kind < kindEntry || r.kind > kindOwner {
		return fmt.Errorf("raftlog: record of kind %d, expected %d to %d", r.kind, kindEntry, kindOwner)
	}
	d := fields{rest: b[1:]}
	if r.kind == kindSkip {
		return nil
	}
	r.owner, r.group = d.uvarint(), GroupID(d.uvarint())
	switch r.kind {
	case kindEntry, kindRewrite:
		r.index, r.term, r.typ = d.uvarint(), d.uvarint(), d.uvarint()
		r.data, d.rest = d.rest, nil
	case kindHard:
		r.hard = d.hard()
	case kindTruncate:
		r.index, r.term = d.uvarint(), d.uvarint()
	case kindState:
		r.flags, r.replica = d.uvarint(), ReplicaID(d.uvarint())
		r.index, r.term = d.uvarint(), d.uvarint()
		r.hard = d.hard()
		r.data, d.rest = d.rest, nil
	case kindOwner:
		r.data, d.rest = d.rest, nil
	}
	if d.bad || len(d.rest) > 0 {
		return errRecord
	}
	if r.kind == kindOwner && r.group != 0 {
		return fmt.Errorf("raftlog: record of owner %d that names group %d, expected 0", r.owner, r.group)
	}
	if r.index > maxIndex {
		return fmt.Errorf("raftlog: record of index %d, expected at most %d", r.index, uint64(maxIndex))
	}
	return nil
}

// fields reads varints one after another and remembers the first bad one.
type fields struct {
	rest []byte
	bad  bool
}

func (d *fields) uvarint() uint64 {
	if len(d.rest) > 0 && d.rest[0] < 0x80 {
		v := uint64(d.rest[0])
		d.rest = d.rest[1:]
		return v
	}
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.bad, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *fields) hard() hardState { return hardState{d.uvarint(), d.uvarint(), d.uvarint()} }

// appendBody appends the body of r.
func (r *record) appendBody(b []byte) []byte {
	b = append(b, byte(r.kind))
	b = binary.AppendUvarint(b, r.owner)
	b = binary.AppendUvarint(b, uint64(r.group))
	switch r.kind {
	case kindEntry, kindRewrite:
		b = binary.AppendUvarint(b, r.index)
		b = binary.AppendUvarint(b, r.term)
		b = binary.AppendUvarint(b, r.typ)
		b = append(b, r.data...)
	case kindHard:
		b = r.hard.append(b)
	case kindTruncate:
		b = binary.AppendUvarint(b, r.index)
		b = binary.AppendUvarint(b, r.term)
	case kindState:
		b = binary.AppendUvarint(b, r.flags)
		b = binary.AppendUvarint(b, uint64(r.replica))
		b = binary.AppendUvarint(b, r.index)
		b = binary.AppendUvarint(b, r.term)
		b = r.hard.append(b)
		b = append(b, r.data...)
	case kindOwner:
		b = append(b, r.data...)
	}
	return b
}

func (h hardState) append(b []byte) []byte {
	b = binary.AppendUvarint(b, h.term)
	b = binary.AppendUvarint(b, h.vote)
	return binary.AppendUvarint(b, h.commit)
}

// checkRecord checks the record at the start of b, which lies at a place, and
// returns its body; nil if there is none.
func checkRecord(b []byte, store uint64, at position) []byte {
	if len(b) < recordHeaderBytes {
		return nil
	}
	n := int(le.Uint32(b))
	if n <= 0 || n > len(b)-recordHeaderBytes {
		return nil
	}
	body := b[recordHeaderBytes : recordHeaderBytes+n]
	if le.Uint32(b[4:]) != sum(store, at, body) {
		return nil
	}
	return body
}
