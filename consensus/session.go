package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// OpenSession opens a session in group g and returns its id. Its commands are
// applied at most once each, see Command. A client keeps at most 16 sequence
// numbers under way: below that window a retry is refused with
// ErrSequenceExpired. Results of its commands are kept up to this node's
// Options.MaxSessionResultBytes, for as long as it lives and whoever leads: a
// larger one ends as ErrResultTooLarge. Errors are those of Propose; a group
// that holds Options.MaxSessions refuses with ErrTooManySessions.
func (h *Host) OpenSession(ctx context.Context, g GroupID) (uint64, error) {
	limits := binary.AppendUvarint(nil, uint64(h.opts.MaxSessions))
	limits = binary.AppendUvarint(limits, uint64(h.opts.MaxSessionResultBytes))
	res, err := h.propose(ctx, g, commandOpen, Command{Data: limits})
	if err != nil {
		return 0, err
	}
	if len(res.Data) != 8 {
		return 0, fmt.Errorf("consensus: group %d: session id of %d bytes, expected 8", g, len(res.Data))
	}
	return binary.LittleEndian.Uint64(res.Data), nil
}

// expireSlice is how many sessions one command looks at: each may delete 17 rows,
// and the groups that share the worker wait for all of them.
const expireSlice = 64

// ExpireSessions ends the sessions of group g whose last command has an index
// below before. Sessions end by this replicated call only, never by a clock.
//
// It is a row of commands, so that no worker stands still while a large table is
// swept, and commands of others are applied between them. The error is that of
// the command which ended the call; the ones before it took effect. Wherever the
// call stopped, some idle sessions have then ended as a whole and the others
// live on, and a call with the same before, here or at another leader, does the
// rest: that is safe after any error, ErrUnknown too.
func (h *Host) ExpireSessions(ctx context.Context, g GroupID, before uint64) error {
	for e := (expiry{before: before, limit: expireSlice}); ; {
		res, err := h.propose(ctx, g, commandExpire, Command{Data: e.encode()})
		if err != nil {
			return err
		}
		if len(res.Data) != 8 {
			return fmt.Errorf("consensus: group %d: expiry answered %d bytes, expected 8", g, len(res.Data))
		}
		if e.from = binary.LittleEndian.Uint64(res.Data); e.from == 0 {
			return nil
		}
	}
}

// An expiry is the argument of a commandExpire: three uvarints. The limit comes
// with the command, so that all replicas end the same sessions.
type expiry struct{ before, from, limit uint64 }

func (e *expiry) encode() []byte {
	b := binary.AppendUvarint(nil, e.before)
	b = binary.AppendUvarint(b, e.from)
	return binary.AppendUvarint(b, e.limit)
}

func decodeExpiry(b []byte) (expiry, error) {
	d := decoder{buf: b}
	e := expiry{before: d.uvarint(), from: d.uvarint(), limit: d.uvarint()}
	if !d.done() || e.limit == 0 {
		return expiry{}, fmt.Errorf("expire: malformed argument of %d bytes", len(b))
	}
	return e, nil
}

// decodeLimits reads the argument of a commandOpen.
func decodeLimits(b []byte) (sessions, resultBytes uint64, err error) {
	d := decoder{buf: b}
	sessions, resultBytes = d.uvarint(), d.uvarint()
	if !d.done() || resultBytes == 0 {
		return 0, 0, errors.New("open session: malformed limits")
	}
	return sessions, resultBytes, nil
}
