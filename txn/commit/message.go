package commit

import (
	"fmt"
	"strings"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Request is what a coordinator or a recovery asks of a shard. All of them may be
// repeated, and come late.
type Request interface {
	fmt.Stringer
	request()
}

// A Reply is the answer to a Request.
type Reply interface {
	fmt.Stringer
	reply()
}

// Prepare asks for an intent at each of the keys, or at none.
type Prepare struct {
	Txn  id.Txn
	Keys []string
	// TS is the lowest timestamp that the intents may have.
	TS hlc.Timestamp
	// Promises are all keys that the transaction writes, in the one Prepare that is to
	// lay a Staging record with them: that of the anchor, when it commits in one round.
	// Empty in all others.
	Promises []string
	// Floating is of that record.
	Floating bool
}

// Decide asks the shard of the anchor to decide, if nobody has yet, and to resolve in
// the same step what intents the transaction has at the keys.
type Decide struct {
	Txn id.Txn
	// Keys live in the shard of the anchor.
	Keys   []string
	Commit bool
	// TS is when it commits.
	TS hlc.Timestamp
	// Promises are for a record that was not Staging.
	Promises []string
	// Reason is why it does not commit.
	Reason Reason
}

// Resolve asks to make versions of the intents at the keys, or to remove them. The
// transaction must have been decided so at its anchor, or be known never to commit.
type Resolve struct {
	Txn    id.Txn
	Keys   []string
	Commit bool
	TS     hlc.Timestamp
}

// Prevent asks for the intents at the keys, and that none is laid where none is.
type Prevent struct {
	Txn  id.Txn
	Keys []string
}

// Query asks the shard of the anchor how far a transaction has come. A pending one is
// aborted for the reason, if there is one.
type Query struct {
	Txn   id.Txn
	Abort Reason
}

// Forget lets the record of a committed transaction go, all of whose intents have been
// resolved.
type Forget struct {
	Txn id.Txn
}

func (Prepare) request() {}
func (Decide) request()  {}
func (Resolve) request() {}
func (Prevent) request() {}
func (Query) request()   {}
func (Forget) request()  {}

func (m Prepare) String() string {
	s := fmt.Sprintf("prepare %s ts=%v", strings.Join(m.Keys, ","), m.TS)
	if len(m.Promises) > 0 {
		s += " promises=" + strings.Join(m.Promises, ",")
	}
	if m.Floating {
		s += " floating"
	}
	return s
}

func (m Decide) String() string {
	s := "decide " + fate(m.Commit, m.TS)
	if !m.Commit {
		s += fmt.Sprintf(" (%v)", m.Reason)
	}
	if len(m.Keys) > 0 {
		s += " resolving " + strings.Join(m.Keys, ",")
	}
	return s
}

func (m Resolve) String() string {
	return fmt.Sprintf("resolve %s %s", strings.Join(m.Keys, ","), fate(m.Commit, m.TS))
}

func (m Prevent) String() string { return "prevent " + strings.Join(m.Keys, ",") }

func (m Query) String() string {
	if m.Abort == NoReason {
		return "query"
	}
	return fmt.Sprintf("query, abort if pending (%v)", m.Abort)
}

func (m Forget) String() string { return "forget" }

func fate(commit bool, ts hlc.Timestamp) string {
	if commit {
		return fmt.Sprintf("commit ts=%v", ts)
	}
	return "abort"
}

// An Answer is what became of a Prepare.
type Answer uint8

// The answers.
const (
	Prepared Answer = iota // there is an intent at each of the keys
	Blocked                // somebody else's intent is in the way
	Refused
	Done // the transaction has been committed, by somebody who recovered it
)

// PrepareReply answers a Prepare.
type PrepareReply struct {
	Answer Answer
	// TS is that of the latest of the intents, or when it committed.
	TS hlc.Timestamp
	// By is the one that is in the way.
	By id.Txn
	// Reason is why it was refused.
	Reason Reason
	// Final: at least one of the keys had no intent, and will never have one. So the
	// transaction does not commit.
	Final bool
	// Clean: none of the keys had an intent.
	Clean bool
}

// DecideReply answers a Decide with what is true now. There may be no record of it: it
// may have expired, or committed and been forgotten.
type DecideReply struct {
	Outcome Outcome
}

// QueryReply answers a Query with what is true now. Without a record, its status may
// still be Committed, Aborted or Expired.
type QueryReply struct {
	Record Record
}

// PreventReply answers a Prevent, key by key.
type PreventReply struct {
	Keys []Found
}

// Found is what a Prevent found at a key.
type Found struct {
	Key  string
	What Finding
	// TS is that of the intent, or when it was applied.
	TS hlc.Timestamp
}

// A Finding is what of a transaction there is at a key.
type Finding uint8

// The findings.
const (
	Missing Finding = iota // no intent, and there will never be one
	Present
	Applied // a version that was its intent
)

// ResolveReply answers a Resolve: these keys have none of its intents any more.
type ResolveReply struct {
	Keys []string
}

// ForgetReply answers a Forget.
type ForgetReply struct{}

func (PrepareReply) reply() {}
func (DecideReply) reply()  {}
func (QueryReply) reply()   {}
func (PreventReply) reply() {}
func (ResolveReply) reply() {}
func (ForgetReply) reply()  {}

func (r PrepareReply) String() string {
	switch r.Answer {
	case Prepared:
		return fmt.Sprintf("prepared ts=%v", r.TS)
	case Blocked:
		return fmt.Sprintf("blocked by %v", r.By.Key)
	case Done:
		return fmt.Sprintf("done, committed ts=%v", r.TS)
	}
	s := fmt.Sprintf("refused (%v)", r.Reason)
	if r.Final {
		s += " final"
	}
	if r.Clean {
		s += " clean"
	}
	return s
}

func (r DecideReply) String() string { return "decided " + r.Outcome.String() }

func (r QueryReply) String() string { return "record " + r.Record.String() }

func (r PreventReply) String() string {
	s := "found"
	for _, k := range r.Keys {
		s += " " + k.String()
	}
	return s
}

func (f Found) String() string {
	switch f.What {
	case Present:
		return fmt.Sprintf("%s:present@%v", f.Key, f.TS)
	case Applied:
		return fmt.Sprintf("%s:applied@%v", f.Key, f.TS)
	}
	return f.Key + ":missing"
}

func (r ResolveReply) String() string { return "resolved " + strings.Join(r.Keys, ",") }

func (ForgetReply) String() string { return "forgotten" }
