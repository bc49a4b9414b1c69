package consensus

import "context"

// Kinds of the Host's own commands, see ProposeOwn.
const (
	CommandOpen   = commandOpen
	CommandExpire = commandExpire
	ExpireSlice   = expireSlice
)

// ProposeOwn proposes a command of the Host's own with any argument.
func (h *Host) ProposeOwn(ctx context.Context, g GroupID, kind byte, data []byte) (Result, error) {
	return h.propose(ctx, g, kind, Command{Data: data})
}

// EncodeExpiry encodes the argument of CommandExpire.
func EncodeExpiry(before, from, limit uint64) []byte {
	e := expiry{before: before, from: from, limit: limit}
	return e.encode()
}

// Sessions is how many sessions h knows of g.
func (h *Host) Sessions(g GroupID) (n int) {
	if r, err := h.replica(g); err == nil {
		h.run(r.w, func() { n = len(r.sessions.byID) })
	}
	return n
}

// ReadRows reads rows as those of a snapshot of g.
func (h *Host) ReadRows(g GroupID, rows ...Row) error {
	r, err := h.replica(g)
	if err == nil {
		_, err = r.readRows(State{Rows: rows})
	}
	return err
}

// A SessionTable is what a replica knows of sessions.
type SessionTable struct{ s sessions }

// LoadSessions makes a table of the rows of a machine.
func LoadSessions(rows []Row) (*SessionTable, error) {
	t := &SessionTable{}
	for _, row := range rows {
		if err := t.s.load(row); err != nil {
			return nil, err
		}
	}
	return t, t.s.loaded()
}

// Open opens a session.
func (t *SessionTable) Open(id, index, maxResult uint64) (Row, error) {
	return t.s.open(id, index, 1<<20, maxResult)
}

// Apply books a command of a session.
func (t *SessionTable) Apply(id, sequence, index uint64, result []byte) Row {
	t.s.reserve(id, sequence, index)
	row, _ := t.s.record(id, sequence, index, result)
	return row
}

// Expire ends a slice of the idle sessions.
func (t *SessionTable) Expire(before, from, limit uint64) (rows []Row, next uint64) {
	return t.s.expire(before, from, limit)
}

// Len is how many sessions there are.
func (t *SessionTable) Len() int { return len(t.s.byID) }

// Kept is what a retry is told.
func (t *SessionTable) Kept(id, sequence uint64) []byte {
	_, kept, _, _ := t.s.check(id, sequence)
	return kept.result
}

// Options are those that h runs with.
func (h *Host) Options() Options { return h.opts }
