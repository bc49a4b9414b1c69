package consensus

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// sessionWindow is how many sequence numbers below the highest one a session
// remembers. It bounds the commands that one session may have under way.
const sessionWindow = 16

// sessions remembers the results of recent commands, so that a retried one is
// applied once (Raft thesis, section 6.3). It is part of the replicated state:
// what it does depends on the log alone, never on a clock or on an option of
// this node, and its rows live in the machine.
type sessions struct {
	byID  map[uint64]*session // nil until the first session
	order []uint64            // Invariant: the keys of byID, ascending.
}

// A session is one client's window. Slot s%sessionWindow holds sequence s.
type session struct {
	used      uint64 // index of its last command
	high      uint64 // highest sequence applied
	maxResult uint64 // bytes of a result that is kept; 0 only while rows are loaded
	slots     [sessionWindow]sessionSlot
}

type sessionSlot struct {
	sequence uint64 // 0: empty
	size     uint64 // of the result, which is not kept above maxResult
	result   []byte
}

// Rows of sessions: sessionRow | id, big endian, for the session itself, and
// with one byte of slot behind it for a result. Their values are
//
//	used uvarint | maxResult uvarint
//	sequence uvarint | used uvarint | size uvarint | result, unless it is too large
const sessionRow = 's'

func sessionKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{sessionRow}, id)
}

// open adds a session and returns its row. The limits come with the command:
// a replica's own options must not decide what is replicated. Ids ascend.
func (s *sessions) open(id, index, limit, maxResult uint64) (Row, error) {
	if uint64(len(s.byID)) >= limit {
		return Row{}, fmt.Errorf("%w: %d of %d", ErrTooManySessions, len(s.byID), limit)
	}
	ses := s.put(id)
	ses.used, ses.maxResult = index, maxResult
	v := binary.AppendUvarint(nil, index)
	return Row{Key: sessionKey(id), Value: binary.AppendUvarint(v, maxResult)}, nil
}

func (s *sessions) put(id uint64) *session {
	if s.byID == nil {
		s.byID = map[uint64]*session{}
	}
	ses := s.byID[id]
	if ses == nil {
		ses = &session{}
		s.byID[id] = ses
		s.order = append(s.order, id)
	}
	return ses
}

// check says what to do with a command: apply it (fresh), answer with what is
// kept of its first application, or refuse it. It also returns the bound of the
// session's results.
func (s *sessions) check(id, sequence uint64) (fresh bool, kept sessionSlot, maxResult uint64, err error) {
	ses := s.byID[id]
	if ses == nil {
		return false, sessionSlot{}, 0, ErrNoSession
	}
	if sequence+sessionWindow <= ses.high {
		return false, sessionSlot{}, 0, ErrSequenceExpired
	}
	if slot := ses.slots[sequence%sessionWindow]; slot.sequence == sequence {
		return false, slot, ses.maxResult, nil
	}
	return true, sessionSlot{}, ses.maxResult, nil
}

// reserve marks a command as applied before its result is known, so that a
// copy of it in the same batch is recognised.
func (s *sessions) reserve(id, sequence, index uint64) {
	ses := s.byID[id]
	ses.used, ses.high = index, max(ses.high, sequence)
	ses.slots[sequence%sessionWindow] = sessionSlot{sequence: sequence}
}

// record keeps the result of a reserved command, or its size if it is too large,
// and returns its row. A later command of the same batch may already have taken
// the slot. What is kept is a copy: a machine may answer with a piece of
// something larger.
func (s *sessions) record(id, sequence, index uint64, result []byte) (Row, bool) {
	ses := s.byID[id]
	if ses == nil || ses.slots[sequence%sessionWindow].sequence != sequence {
		return Row{}, false
	}
	size := uint64(len(result))
	if size > ses.maxResult {
		result = nil
	}
	v := make([]byte, 0, 3*binary.MaxVarintLen64+len(result))
	v = binary.AppendUvarint(v, sequence)
	v = binary.AppendUvarint(v, index)
	v = binary.AppendUvarint(v, size)
	head := len(v)
	v = append(v, result...)
	ses.slots[sequence%sessionWindow] = sessionSlot{sequence: sequence, size: size, result: v[head:len(v):len(v)]}
	return Row{Key: append(sessionKey(id), byte(sequence%sessionWindow)), Value: v}, true
}

// expire ends those of the next limit sessions, from an id on and in the order
// of ids, that were last used before an index. It returns the rows that forget
// them, and the id to go on from; 0 if none is left. The order is the same on
// every replica, whether it applied the whole log or came from a snapshot.
func (s *sessions) expire(before, from, limit uint64) (rows []Row, next uint64) {
	at, _ := slices.BinarySearch(s.order, from)
	kept := s.order[:at]
	for ; at < len(s.order); at++ {
		id := s.order[at]
		if id/maxOrdinals >= before { // opened later, as all behind it
			break
		}
		if limit == 0 {
			next = id
			break
		}
		limit--
		ses := s.byID[id]
		if ses.used >= before {
			kept = append(kept, id)
			continue
		}
		delete(s.byID, id)
		rows = append(rows, Row{Key: sessionKey(id)})
		for i := range ses.slots {
			if ses.slots[i].sequence != 0 {
				rows = append(rows, Row{Key: append(sessionKey(id), byte(i))})
			}
		}
	}
	s.order = append(kept, s.order[at:]...)
	return rows, next
}

// load takes a row back. When all are loaded, loaded must be called.
func (s *sessions) load(row Row) error {
	k := row.Key
	if len(k) != 9 && len(k) != 10 || k[0] != sessionRow {
		return fmt.Errorf("unknown row")
	}
	ses := s.put(binary.BigEndian.Uint64(k[1:]))
	d := decoder{buf: row.Value}
	if len(k) == 9 {
		ses.used, ses.maxResult = max(ses.used, d.uvarint()), d.uvarint()
		if !d.done() {
			return fmt.Errorf("malformed session")
		}
		return nil
	}
	sequence, used, size := d.uvarint(), d.uvarint(), d.uvarint()
	if d.bad || sequence == 0 || k[9] != byte(sequence%sessionWindow) || len(d.buf) > 0 && uint64(len(d.buf)) != size {
		return fmt.Errorf("malformed session result")
	}
	ses.used, ses.high = max(ses.used, used), max(ses.high, sequence)
	ses.slots[k[9]] = sessionSlot{sequence: sequence, size: size, result: append([]byte(nil), d.buf...)}
	return nil
}

// loaded ends loading. A machine may have given the rows in any order.
func (s *sessions) loaded() error {
	slices.Sort(s.order)
	for _, id := range s.order {
		ses := s.byID[id]
		if ses.maxResult == 0 {
			return fmt.Errorf("session %d: results without their session", id)
		}
		for i := range ses.slots {
			if slot := &ses.slots[i]; slot.size <= ses.maxResult != (uint64(len(slot.result)) == slot.size) {
				return fmt.Errorf("session %d: result of %d bytes is kept as %d, and at most %d are",
					id, slot.size, len(slot.result), ses.maxResult)
			}
		}
	}
	return nil
}
