package txn

import (
	"errors"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Reason is why a transaction was aborted.
type Reason byte

// The reasons.
const (
	// Conflict: another transaction wrote, at Key, what this one would have had to see,
	// or to be seen by.
	Conflict Reason = 1 + iota
	// Wounded: an older transaction, By, wanted a lock that this one had.
	Wounded
	// Died: this one would have had to wait for an older one, By.
	Died
	// Deadlock: it waited for itself, through others.
	Deadlock
	// Recovered: others had to know how it ends, and it had not said.
	Recovered
	// Fenced: its node was taken for dead.
	Fenced
	// Expired: it began too long ago.
	Expired
	// OutOfRange: a counter at Key would have left its bounds, whatever others do.
	OutOfRange
	// NoCounter: what is at Key is no number.
	NoCounter
	// RolledBack: its client gave it up.
	RolledBack

	// Unreached: a shard did not answer in time, and none of it was carried out.
	Unreached
	// TooLarge: what it writes in a shard is more than the shard's log takes at once.
	TooLarge

	// pushed: the timestamp must be TS or later. A client is not told.
	pushed
)

func (r Reason) String() string {
	if r < Conflict || r > pushed {
		return fmt.Sprintf("reason %d", byte(r))
	}
	return [...]string{
		"conflict", "wounded", "died", "deadlock", "recovered", "fenced", "expired", "out of range", "no counter", "rolled back", "unreached", "too large", "pushed",
	}[r-Conflict]
}

// A Refusal is a shard's no.
type Refusal struct {
	Reason Reason
	Key    string
	By     id.Key        // whom it met, if that is known
	TS     hlc.Timestamp // of what it met, if that is known
	Text   string        // more, for people

	// Of one who was to prepare: final says that it never will be at all keys, and laid
	// that it is at some.
	final, laid bool
}

func (e *Refusal) Error() string {
	return fmt.Sprintf("txn: %v", e.Reason) + e.where()
}

// Unwrap is ErrTooLarge where that is the reason.
func (e *Refusal) Unwrap() error {
	if e.Reason == TooLarge {
		return ErrTooLarge
	}
	return nil
}

// An AbortedError says that a transaction was aborted: it did nothing, and never will.
type AbortedError struct {
	Txn id.Key
	Refusal
}

func (e *AbortedError) Error() string {
	return fmt.Sprintf("txn: %v was aborted: %v", e.Txn, e.Reason) + e.where()
}

func (e *Refusal) where() string {
	text := ""
	if e.Key != "" {
		text = fmt.Sprintf(" at %q", e.Key)
	}
	if !e.By.Zero() {
		text += fmt.Sprintf(" with %v", e.By)
	}
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Retry reports whether the same transaction, tried again from its beginning, may do
// better.
func (e *AbortedError) Retry() bool {
	switch e.Reason {
	case OutOfRange, NoCounter, RolledBack, TooLarge:
		return false
	}
	return true
}

// An UnknownError says that nobody could say in time how a transaction ended. Commit,
// called again, or Client.Outcome find out. It wraps consensus.ErrUnknown.
type UnknownError struct {
	Txn id.Txn
	Err error
}

func (e *UnknownError) Error() string {
	return fmt.Sprintf("txn: commit of %v: %v", e.Txn, e.Err)
}

func (e *UnknownError) Unwrap() []error { return []error{consensus.ErrUnknown, e.Err} }

// Errors that say what was wrong with what was asked. Nothing was done.
var (
	ErrEnded          = errors.New("the transaction has ended")
	ErrReadOnly       = errors.New("the transaction is read-only")
	ErrTooLarge       = errors.New("too large")
	ErrLevel          = errors.New("no such isolation level")
	ErrFuture         = errors.New("the timestamp is in the future")
	ErrSnapshotTooOld = errors.New("the snapshot is no more")
	ErrOutcomeExpired = errors.New("the outcome is not kept any more")
	ErrSavepoint      = errors.New("no such savepoint")
)

// A TooOldError says that a shard has given up what was read at a timestamp. It wraps
// ErrSnapshotTooOld.
type TooOldError struct {
	Shard     uint64
	At        hlc.Timestamp
	Threshold hlc.Timestamp // the first one that is kept
}

func (e *TooOldError) Error() string {
	return fmt.Sprintf("txn: shard %d: %v: timestamp %v, expected %v or later", e.Shard, ErrSnapshotTooOld, e.At, e.Threshold)
}

// Unwrap is ErrSnapshotTooOld.
func (e *TooOldError) Unwrap() error { return ErrSnapshotTooOld }

// ErrSkewed says that a node serves nothing because its clock is wrong: see SkewedError.
var ErrSkewed = errors.New("the node's clock is wrong")

// A SkewedError says that a node serves nothing: its clock is too far from those of most
// others, or was set and is not compared yet. Nothing was done. It wraps ErrSkewed, and
// consensus.ErrRejected: other nodes may serve.
type SkewedError struct {
	// Offset is how far the clock is off, from that of Node. Node 0 is this one, whose
	// clock was set.
	Offset time.Duration
	Node   uint64
	// Limit is how far it may be, and Bound what all clocks are to keep to.
	Limit, Bound time.Duration
}

func (e *SkewedError) Error() string {
	of := "what it showed before"
	if e.Node != 0 {
		of = fmt.Sprintf("that of node %d", e.Node)
	}
	return fmt.Sprintf("txn: %v: it is %v from %s, expected at most %v with a bound of %v", ErrSkewed, e.Offset, of, e.Limit, e.Bound)
}

// Unwrap is what it wraps.
func (e *SkewedError) Unwrap() []error { return []error{ErrSkewed, consensus.ErrRejected} }
