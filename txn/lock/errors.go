package lock

import (
	"fmt"

	"github.com/phantomdb/phantomdb/txn/id"
)

// A WoundedError tells an owner that it has lost its locks to another one, and must be
// given up.
type WoundedError struct {
	Owner, By id.Key
	Key       string // at which they met
}

func (e *WoundedError) Error() string {
	return fmt.Sprintf("lock: transaction %v has lost its locks to %v at %q", e.Owner, e.By, e.Key)
}

// A DieError refuses to let an owner wait for an older one. It may be tried again, with
// the same age.
type DieError struct {
	Owner, By id.Key
	Key       string
}

func (e *DieError) Error() string {
	return fmt.Sprintf("lock: transaction %v does not wait at %q for %v, which is older", e.Owner, e.Key, e.By)
}

// A ConflictError says that a lock cannot be had at once.
type ConflictError struct {
	Owner, Holder id.Key
	Key           string
	Mode, Held    Mode // which is wanted, and in which Holder has it
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("lock: transaction %v wants %q %v, which %v has %v", e.Owner, e.Key, e.Mode, e.Holder, e.Held)
}

// A DeadlockError tells an owner that it has lost its locks, and must be given up,
// because each of Cycle waited for the next one, and the last for the first.
type DeadlockError struct {
	Victim id.Key
	Cycle  []id.Key
}

func (e *DeadlockError) Error() string {
	return fmt.Sprintf("lock: transaction %v is the victim of a deadlock of %d: %v", e.Victim, len(e.Cycle), e.Cycle)
}

// An OverloadError refuses a request because a table is full. It may be tried again.
type OverloadError struct {
	Owner          id.Key
	Key            string
	Locks, Waiting int // locks that are held, and requests that wait
}

func (e *OverloadError) Error() string {
	return fmt.Sprintf("lock: transaction %v at %q: the table is full with %d locks and %d requests that wait", e.Owner, e.Key, e.Locks, e.Waiting)
}
