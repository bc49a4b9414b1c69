package consensus

import (
	"errors"
	"fmt"
)

// The two ends of a proposal other than success. Every error that Propose,
// Reconfigure and the session calls return wraps exactly one of them, unless
// it is ErrSequenceExpired, ErrNoSession or ErrResultTooLarge. Of a call that is
// several commands, ExpireSessions, it speaks of the last one.
var (
	// ErrRejected says that the proposal was certainly not applied and never
	// will be. Trying again, perhaps elsewhere, is safe.
	ErrRejected = errors.New("rejected")
	// ErrUnknown says that the proposal may have been applied, or may still
	// be. A retry with the same session and sequence settles it.
	ErrUnknown = errors.New("outcome unknown")
)

// Reasons, wrapped beside ErrRejected or ErrUnknown.
var (
	// ErrClosed: the Host is closed, or the replica was destroyed or has
	// stopped after an error of its machine (see Status.Err).
	ErrClosed = errors.New("closed")
	// ErrNoReplica: the node has no replica of the group.
	ErrNoReplica = errors.New("no replica of the group on this node")
	// ErrLeaving: an earlier replica of the group is still being removed here.
	ErrLeaving = errors.New("an earlier replica is still being removed")
	// ErrReconfiguring: another change of the group is under way.
	ErrReconfiguring = errors.New("a reconfiguration is under way")
	// ErrInvalidChange: the change contradicts the group's configuration.
	ErrInvalidChange = errors.New("invalid change")
	// ErrTooLarge: the command exceeds Options.MaxCommandBytes.
	ErrTooLarge = errors.New("command too large")
	// ErrTooManySessions: the group holds Options.MaxSessions sessions.
	ErrTooManySessions = errors.New("too many sessions")
)

// What is known no more: this attempt changed nothing, and whether an earlier
// one did is forgotten. A client that cannot tell otherwise must not start over
// in a new session.
var (
	// ErrSequenceExpired: the sequence number lies below the window of its
	// session.
	ErrSequenceExpired = errors.New("sequence is below the session's window")
	// ErrNoSession: the session has expired, or never existed.
	ErrNoSession = errors.New("no such session")
)

// ErrResultTooLarge says that a command of a session was applied, once, but that
// the session keeps no result of its size, so that neither the first attempt nor
// a retry is told it. What the machine did can be read from it. See
// Options.MaxSessionResultBytes.
var ErrResultTooLarge = errors.New("applied, but the result is too large for a session")

// A NotLeaderError says that the replica does not lead its group. It wraps
// ErrRejected.
type NotLeaderError struct {
	Group GroupID
	// Leader and Node tell who leads, as far as this replica knows; 0 if it
	// knows nobody.
	Leader ReplicaID
	Node   NodeID
}

func (e *NotLeaderError) Error() string {
	return fmt.Sprintf("consensus: group %d: not leader; leader is replica %d on node %d", e.Group, e.Leader, e.Node)
}

// Unwrap makes the error an ErrRejected.
func (e *NotLeaderError) Unwrap() error { return ErrRejected }

// An OverloadError says that accepting the command would exceed a quota. It
// wraps ErrRejected.
type OverloadError struct {
	Group        GroupID
	What         string // "group", "store" or "log buffer"
	Bytes, Limit int64  // in use, and allowed
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("consensus: group %d: %s holds %d bytes of %d: try again later", e.Group, e.What, e.Bytes, e.Limit)
}

// Unwrap makes the error an ErrRejected.
func (e *OverloadError) Unwrap() error { return ErrRejected }

// rejected and unknown say how a proposal to group ended, and why.
func rejected(g GroupID, why error) error {
	return fmt.Errorf("consensus: group %d: %w: %w", g, ErrRejected, why)
}

func unknown(g GroupID, why error) error {
	if errors.Is(why, ErrRejected) { // what ended the wait may say so of something else
		return fmt.Errorf("consensus: group %d: %w: %s", g, ErrUnknown, why.Error())
	}
	return fmt.Errorf("consensus: group %d: %w: %w", g, ErrUnknown, why)
}
