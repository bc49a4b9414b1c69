package transport

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	pb "go.etcd.io/raft/v3/raftpb"
)

// The encoding of a message, all numbers uvarints unless a width is given:
//
//	group | from | to | kind u8 | body
//	body of kind 0: fields u16 | the fields present, in the order of the bits
//	body of others: length, payload
//
// A field that is absent costs a bit and one that is present but zero a byte
// more, so that what arrives equals what was sent in the sense of proto.Equal,
// which tells the two apart. Entries say "same term" and "next index" in their
// flags: an entry of a batch costs three bytes beside its data.

// Bits of a Raft message's fields.
const (
	hasType = 1 << iota
	hasTo
	hasFrom
	hasTerm
	hasLogTerm
	hasIndex
	hasCommit
	hasVote
	hasRejectHint
	hasReject
	rejectTrue
	hasContext
	hasEntries
	hasSnapshot
	knownFields = 1<<iota - 1
)

// Flags of an entry: two bits each for type, term and index, one for data.
const (
	entryTypeMask     = 3 // 0: absent, else type + 1
	entryTermSame     = 1 << 2
	entryTermGiven    = 2 << 2
	entryTermMask     = 3 << 2
	entryIndexNext    = 1 << 4
	entryIndexGiven   = 2 << 4
	entryIndexMask    = 3 << 4
	entryHasData      = 1 << 6
	knownEntryFlags   = 1<<7 - 1
	maxEntryType      = pb.EntryConfChangeV2
	maxMessageType    = pb.MsgForgetLeader
	snapshotHasData   = 1 << 0
	snapshotHasMeta   = 1 << 1
	snapshotHasConf   = 1 << 2
	snapshotHasIndex  = 1 << 3
	snapshotHasTerm   = 1 << 4
	snapshotHasAuto   = 1 << 5
	snapshotAutoLeave = 1 << 6
	knownSnapshotBits = 1<<7 - 1
)

// A shape is what encoding a message takes and what decoding it will
// allocate; shapes add up.
type shape struct {
	bytes    int // encoded length
	messages int // Raft messages
	entries  int
	numbers  int // uint64s that decoded messages and entries point to
	refs     int // bytes of data, contexts and payloads, which stay in the frame
}

func (s *shape) add(t shape) {
	s.bytes += t.bytes
	s.messages += t.messages
	s.entries += t.entries
	s.numbers += t.numbers
	s.refs += t.refs
}

func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// shapeOf measures m exactly. It panics if m can never be sent: a Raft message
// is missing, or is one that must not leave its node.
func shapeOf(m *Message) shape {
	s := shape{bytes: uvarintLen(uint64(m.Group)) + uvarintLen(uint64(m.From)) + uvarintLen(uint64(m.To)) + 1}
	if m.Kind != 0 {
		s.bytes += uvarintLen(uint64(len(m.Payload))) + len(m.Payload)
		s.refs = len(m.Payload)
		return s
	}
	r := m.Raft
	if r == nil || len(r.Responses) > 0 {
		panic(fmt.Sprintf("transport: message of group %d from replica %d to %d cannot be sent: %v", m.Group, m.From, m.To, r))
	}
	s.messages = 1
	s.bytes += 2
	if r.Type != nil {
		s.bytes += uvarintLen(uint64(*r.Type))
	}
	for _, p := range [...]*uint64{r.To, r.From, r.Term, r.LogTerm, r.Index, r.Commit, r.Vote, r.RejectHint} {
		if p != nil {
			s.bytes += uvarintLen(*p)
			s.numbers++
		}
	}
	if r.Context != nil {
		s.bytes += uvarintLen(uint64(len(r.Context))) + len(r.Context)
		s.refs += len(r.Context)
	}
	if len(r.Entries) > 0 {
		s.entries = len(r.Entries)
		s.bytes += uvarintLen(uint64(len(r.Entries)))
		shapeEntries(&s, r)
	}
	if r.Snapshot != nil {
		shapeSnapshot(&s, r.Snapshot)
	}
	return s
}

func shapeEntries(s *shape, r *pb.Message) {
	term, index := r.LogTerm, r.GetIndex()
	for _, e := range r.Entries {
		s.bytes++
		if e.Term != nil {
			if term == nil || *e.Term != *term {
				s.bytes += uvarintLen(*e.Term)
				s.numbers++
			}
			term = e.Term
		}
		if e.Index != nil {
			s.numbers++
			if *e.Index != index+1 {
				s.bytes += uvarintLen(*e.Index)
			}
			index = *e.Index
		}
		if e.Data != nil {
			s.bytes += uvarintLen(uint64(len(e.Data))) + len(e.Data)
			s.refs += len(e.Data)
		}
	}
}

func shapeSnapshot(s *shape, p *pb.Snapshot) {
	s.bytes++
	if p.Data != nil {
		s.bytes += uvarintLen(uint64(len(p.Data))) + len(p.Data)
		s.refs += len(p.Data)
	}
	meta := p.Metadata
	if meta == nil {
		return
	}
	for _, n := range [...]*uint64{meta.Index, meta.Term} {
		if n != nil {
			s.bytes += uvarintLen(*n)
			s.numbers++
		}
	}
	if c := meta.ConfState; c != nil {
		for _, list := range [...][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
			s.bytes += uvarintLen(uint64(len(list)))
			s.numbers += len(list)
			for _, id := range list {
				s.bytes += uvarintLen(id)
			}
		}
	}
}

// appendMessage appends m's encoding, which is shapeOf(m).bytes long.
func appendMessage(dst []byte, m *Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(m.Group))
	dst = binary.AppendUvarint(dst, uint64(m.From))
	dst = binary.AppendUvarint(dst, uint64(m.To))
	dst = append(dst, m.Kind)
	if m.Kind != 0 {
		return appendBytes(dst, m.Payload)
	}
	return appendRaft(dst, m.Raft)
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

func appendRaft(dst []byte, r *pb.Message) []byte {
	at := len(dst)
	dst = append(dst, 0, 0)
	var fields uint16
	if r.Type != nil {
		fields |= hasType
		dst = binary.AppendUvarint(dst, uint64(*r.Type))
	}
	for i, p := range [...]*uint64{r.To, r.From, r.Term, r.LogTerm, r.Index, r.Commit, r.Vote, r.RejectHint} {
		if p != nil {
			fields |= hasTo << i
			dst = binary.AppendUvarint(dst, *p)
		}
	}
	if r.Reject != nil {
		fields |= hasReject
		if *r.Reject {
			fields |= rejectTrue
		}
	}
	if r.Context != nil {
		fields |= hasContext
		dst = appendBytes(dst, r.Context)
	}
	if len(r.Entries) > 0 {
		fields |= hasEntries
		dst = appendEntries(dst, r)
	}
	if r.Snapshot != nil {
		fields |= hasSnapshot
		dst = appendSnapshot(dst, r.Snapshot)
	}
	binary.LittleEndian.PutUint16(dst[at:], fields)
	return dst
}

func appendEntries(dst []byte, r *pb.Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(r.Entries)))
	term, index := r.LogTerm, r.GetIndex()
	for _, e := range r.Entries {
		at := len(dst)
		var flags byte
		dst = append(dst, 0)
		if e.Type != nil {
			if *e.Type < 0 || *e.Type > maxEntryType {
				panic(fmt.Sprintf("transport: entry %d has type %d, known are 0 to %d", e.GetIndex(), *e.Type, maxEntryType))
			}
			flags |= byte(*e.Type) + 1
		}
		if e.Term != nil {
			if term != nil && *e.Term == *term {
				flags |= entryTermSame
			} else {
				flags |= entryTermGiven
				dst = binary.AppendUvarint(dst, *e.Term)
			}
			term = e.Term
		}
		if e.Index != nil {
			if *e.Index == index+1 {
				flags |= entryIndexNext
			} else {
				flags |= entryIndexGiven
				dst = binary.AppendUvarint(dst, *e.Index)
			}
			index = *e.Index
		}
		if e.Data != nil {
			flags |= entryHasData
			dst = appendBytes(dst, e.Data)
		}
		dst[at] = flags
	}
	return dst
}

func appendSnapshot(dst []byte, p *pb.Snapshot) []byte {
	at := len(dst)
	var flags byte
	dst = append(dst, 0)
	if p.Data != nil {
		flags |= snapshotHasData
		dst = appendBytes(dst, p.Data)
	}
	if meta := p.Metadata; meta != nil {
		flags |= snapshotHasMeta
		if meta.Index != nil {
			flags |= snapshotHasIndex
			dst = binary.AppendUvarint(dst, *meta.Index)
		}
		if meta.Term != nil {
			flags |= snapshotHasTerm
			dst = binary.AppendUvarint(dst, *meta.Term)
		}
		if c := meta.ConfState; c != nil {
			flags |= snapshotHasConf
			if c.AutoLeave != nil {
				flags |= snapshotHasAuto
				if *c.AutoLeave {
					flags |= snapshotAutoLeave
				}
			}
			for _, list := range [...][]uint64{c.Voters, c.Learners, c.VotersOutgoing, c.LearnersNext} {
				dst = binary.AppendUvarint(dst, uint64(len(list)))
				for _, id := range list {
					dst = binary.AppendUvarint(dst, id)
				}
			}
		}
	}
	dst[at] = flags
	return dst
}
