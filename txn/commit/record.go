package commit

import (
	"fmt"
	"strings"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A Status is how far a transaction has come, as its anchor tells it.
type Status uint8

// The statuses.
const (
	// Pending: it has no record. It may commit, and anybody may abort it.
	Pending Status = iota
	// Staging: it is committed if all that it promised to write is there, and may
	// still be committed or aborted if not.
	Staging
	Committed
	Aborted
	// Expired: it has no record and began below the edge of the window, so that
	// nobody can tell any more. It will not commit, but may have done so. No record
	// has this status.
	Expired
)

func (s Status) String() string {
	if s > Expired {
		return fmt.Sprintf("status %d", uint8(s))
	}
	return [...]string{"pending", "staging", "committed", "aborted", "expired"}[s]
}

// A Reason says why a transaction was aborted, or refused.
type Reason uint8

// The reasons.
const (
	NoReason Reason = iota
	// Conflict: somebody has committed to one of its keys since its snapshot.
	Conflict
	// Busy: somebody holds one of its keys, and it does not wait.
	Busy
	// Wounded: an older one needed a key that it held.
	Wounded
	// Abandoned: it was found without a record, and nobody cared for it.
	Abandoned
	// Prevented: somebody recovered it while part of it was not prepared.
	Prevented
	// Fenced: the node of its coordinator was declared dead.
	Fenced
	// TooOld: it began below the edge of the window.
	TooOld
	// RefreshFailed: what it read has changed by the time to which it was pushed.
	RefreshFailed
	// Deadline: its coordinator had waited for long enough.
	Deadline
	// Rollback: its client wanted it.
	Rollback
)

func (r Reason) String() string {
	if r > Rollback {
		return fmt.Sprintf("reason %d", uint8(r))
	}
	return [...]string{
		"no reason", "conflict", "busy", "wounded", "abandoned", "prevented", "fenced", "too old",
		"refresh failed", "deadline", "rollback",
	}[r]
}

// A Record is what the shard of a transaction's anchor keeps about it. A Pending
// Record stands for none.
type Record struct {
	Status Status
	// TS is when it committed. Staging: up to when it may, if it does not float.
	TS hlc.Timestamp
	// Floating: nothing else could have written what it read, so that it may commit as
	// late as its latest intent. Only of a Staging one.
	Floating bool
	// Keys are all that it writes, as far as whoever made the record knew them.
	Keys []string
	// Reason is why it was aborted.
	Reason Reason
}

func (r Record) String() string {
	var b strings.Builder
	b.WriteString(r.Status.String())
	switch r.Status {
	case Staging:
		if r.Floating {
			b.WriteString(" floating")
		}
		fmt.Fprintf(&b, " ts=%v", r.TS)
	case Committed:
		fmt.Fprintf(&b, " ts=%v", r.TS)
	case Aborted:
		fmt.Fprintf(&b, " (%v)", r.Reason)
	}
	if len(r.Keys) > 0 {
		fmt.Fprintf(&b, " keys=%s", strings.Join(r.Keys, ","))
	}
	return b.String()
}

// outcome is that of a record whose transaction is decided, or Expired.
func (r Record) outcome() Outcome { return Outcome{Status: r.Status, TS: r.TS, Reason: r.Reason} }

// An Outcome is how a transaction ended: Committed at TS, Aborted for Reason, or
// Expired, when it can no longer be told.
type Outcome struct {
	Status Status
	TS     hlc.Timestamp
	Reason Reason
}

func (o Outcome) String() string {
	return Record{Status: o.Status, TS: o.TS, Reason: o.Reason}.String()
}
