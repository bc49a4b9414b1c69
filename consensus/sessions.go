package consensus

import (
	"encoding/binary"
	"fmt"
)

// sessionWindow is how many sequence numbers below the highest one a session
// remembers. It bounds the commands that one session may have under way.
const sessionWindow = 16

// sessions remembers the results of recent commands, so that a retried one is
// applied once (Raft thesis, section 6.3). It is part of the replicated state:
// what it does depends on the log alone, never on a clock, and its rows live
// in the machine.
type sessions struct {
	byID map[uint64]*session // nil until the first session
}

// A session is one client's window. Slot s%sessionWindow holds sequence s.
type session struct {
	used  uint64 // index of its last command
	high  uint64 // highest sequence applied
	slots [sessionWindow]sessionSlot
}

type sessionSlot struct {
	sequence uint64 // 0: empty
	result   []byte
}

// Rows of sessions: sessionRow | id, big endian, for the session itself, and
// with one byte of slot behind it for a result.
const sessionRow = 's'

func sessionKey(id uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{sessionRow}, id)
}

// open adds a session and returns its row. The limit comes with the command:
// a replica's own option must not decide what is replicated.
func (s *sessions) open(id, index, limit uint64) (Row, error) {
	if uint64(len(s.byID)) >= limit {
		return Row{}, fmt.Errorf("%w: %d of %d", ErrTooManySessions, len(s.byID), limit)
	}
	s.put(id).used = index
	return Row{Key: sessionKey(id), Value: binary.AppendUvarint(nil, index)}, nil
}

func (s *sessions) put(id uint64) *session {
	if s.byID == nil {
		s.byID = map[uint64]*session{}
	}
	ses := s.byID[id]
	if ses == nil {
		ses = &session{}
		s.byID[id] = ses
	}
	return ses
}

// check says what to do with a command: apply it (fresh), answer with the
// result of its first application, or refuse it.
func (s *sessions) check(id, sequence uint64) (fresh bool, result []byte, err error) {
	ses := s.byID[id]
	if ses == nil {
		return false, nil, ErrNoSession
	}
	if sequence+sessionWindow <= ses.high {
		return false, nil, ErrSequenceExpired
	}
	if slot := &ses.slots[sequence%sessionWindow]; slot.sequence == sequence {
		return false, slot.result, nil
	}
	return true, nil, nil
}

// reserve marks a command as applied before its result is known, so that a
// copy of it in the same batch is recognised.
func (s *sessions) reserve(id, sequence, index uint64) {
	ses := s.byID[id]
	ses.used, ses.high = index, max(ses.high, sequence)
	ses.slots[sequence%sessionWindow] = sessionSlot{sequence: sequence}
}

// record keeps the result of a reserved command and returns its row. A later
// command of the same batch may already have taken the slot.
func (s *sessions) record(id, sequence, index uint64, result []byte) (Row, bool) {
	ses := s.byID[id]
	if ses == nil || ses.slots[sequence%sessionWindow].sequence != sequence {
		return Row{}, false
	}
	ses.slots[sequence%sessionWindow].result = result
	v := binary.AppendUvarint(nil, sequence)
	v = binary.AppendUvarint(v, index)
	return Row{Key: append(sessionKey(id), byte(sequence%sessionWindow)), Value: append(v, result...)}, true
}

// expire ends the sessions last used before index and returns the rows that
// forget them.
func (s *sessions) expire(before uint64) []Row {
	var rows []Row
	for id, ses := range s.byID {
		if ses.used >= before {
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
	return rows
}

// load takes a row back.
func (s *sessions) load(row Row) error {
	k := row.Key
	if len(k) != 9 && len(k) != 10 || k[0] != sessionRow {
		return fmt.Errorf("unknown row")
	}
	ses := s.put(binary.BigEndian.Uint64(k[1:]))
	d := decoder{buf: row.Value}
	if len(k) == 9 {
		ses.used = max(ses.used, d.uvarint())
		if !d.done() {
			return fmt.Errorf("malformed session")
		}
		return nil
	}
	sequence, used := d.uvarint(), d.uvarint()
	if d.bad || k[9] != byte(sequence%sessionWindow) {
		return fmt.Errorf("malformed session result")
	}
	ses.used, ses.high = max(ses.used, used), max(ses.high, sequence)
	ses.slots[k[9]] = sessionSlot{sequence: sequence, result: append([]byte(nil), d.buf...)}
	return nil
}
