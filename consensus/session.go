package consensus

import (
	"context"
	"encoding/binary"
	"fmt"
)

// OpenSession opens a session in group g and returns its id. Its commands are
// applied at most once each, see Command. A client keeps at most 16 sequence
// numbers under way: below that window a retry is refused with
// ErrSequenceExpired. Errors are those of Propose; a group that holds
// Options.MaxSessions refuses with ErrTooManySessions.
func (h *Host) OpenSession(ctx context.Context, g GroupID) (uint64, error) {
	limit := binary.AppendUvarint(nil, uint64(h.opts.MaxSessions))
	res, err := h.propose(ctx, g, commandOpen, Command{Data: limit})
	if err != nil {
		return 0, err
	}
	if len(res.Data) != 8 {
		return 0, fmt.Errorf("consensus: group %d: session id of %d bytes, expected 8", g, len(res.Data))
	}
	return binary.LittleEndian.Uint64(res.Data), nil
}

// ExpireSessions ends the sessions of group g whose last command has an index
// below before. Sessions end by this replicated command only, never by a
// clock.
func (h *Host) ExpireSessions(ctx context.Context, g GroupID, before uint64) error {
	_, err := h.propose(ctx, g, commandExpire, Command{Data: binary.LittleEndian.AppendUint64(nil, before)})
	return err
}
