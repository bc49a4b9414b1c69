package commit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// Local is what the leader of a shard knows about a transaction, and about the keys of
// one request, while it has their latches. Its methods say what the request changes
// and what it is answered. The driver replicates the change and then sends the answer;
// a change that is not replicated is not answered.
type Local struct {
	// Record is Pending if there is none, and where the anchor does not live.
	Record Record
	// Anchored is when the transaction's write of the anchor was applied, 0 if it was
	// not or the anchor does not live here.
	Anchored hlc.Timestamp
	// Keys are in the order of those of the request.
	Keys []Key
	// Fenced: this life of the coordinator's node, or a later one, is fenced here.
	Fenced bool
	// Edge is the lower edge of the window.
	Edge hlc.Timestamp
	// Refuse is why whoever grants locks here refuses a Prepare: Busy or Wounded.
	Refuse Reason
}

// Key is what is known about a key.
type Key struct {
	// Intent is the timestamp of the transaction's intent, 0 if it has none.
	Intent hlc.Timestamp
	// Applied is when the transaction's write was applied, 0 if it was not.
	Applied hlc.Timestamp
	// Buried: the transaction never lays an intent here.
	Buried bool
	// Holder is another transaction with an intent here.
	Holder id.Txn
	// Conflict: another transaction has written a version since the snapshot.
	Conflict bool
}

// check returns an error that names what can not be.
func (l Local) check() error {
	for i, k := range l.Keys {
		n := 0
		for _, is := range []bool{k.Intent != 0, k.Applied != 0, k.Buried} {
			if is {
				n++
			}
		}
		switch {
		case n > 1:
			return fmt.Errorf("commit: key %d has %+v", i, k)
		case k.Intent != 0 && !k.Holder.Zero():
			return fmt.Errorf("commit: key %d has an intent beside that of %v", i, k.Holder)
		case k.Applied != 0 && (l.Record.Status == Staging || l.Record.Status == Aborted):
			return fmt.Errorf("commit: key %d was applied, and the record is %v", i, l.Record)
		}
	}
	if l.Record.Status == Expired {
		return fmt.Errorf("commit: record %v", l.Record)
	}
	return nil
}

// An Effect is what a request changes. The values of intents are the driver's.
type Effect struct {
	// Lay are the keys that get an intent, at LayTS.
	Lay   []string
	LayTS hlc.Timestamp
	// Commit are the keys whose intent becomes a version, at CommitTS.
	Commit   []string
	CommitTS hlc.Timestamp
	// Drop are the keys whose intent is removed.
	Drop []string
	// Bury are the keys that get a tombstone.
	Bury []string
	// Put is the record that there is from now on, if it is not Pending.
	Put Record
	// Forget removes the record.
	Forget bool
}

// Empty reports whether nothing changes, so that there is nothing to replicate.
func (e Effect) Empty() bool {
	return len(e.Lay)+len(e.Commit)+len(e.Drop)+len(e.Bury) == 0 && e.Put.Status == Pending && !e.Forget
}

func (e Effect) String() string {
	var list []string
	add := func(what string, keys []string, at string) {
		if len(keys) > 0 {
			list = append(list, what+" "+strings.Join(keys, ",")+at)
		}
	}
	add("lay", e.Lay, fmt.Sprintf(" ts=%v", e.LayTS))
	add("commit", e.Commit, fmt.Sprintf(" ts=%v", e.CommitTS))
	add("drop", e.Drop, "")
	add("bury", e.Bury, "")
	if e.Put.Status != Pending {
		list = append(list, "record "+e.Put.String())
	}
	if e.Forget {
		list = append(list, "forget")
	}
	if e.Empty() {
		list = append(list, "nothing")
	}
	return strings.Join(list, "; ")
}

// closed says whether the transaction can begin nothing here any more: neither lay an
// intent nor a record.
func (l Local) closed(t id.Txn) bool { return l.Fenced || t.Start < l.Edge }

// Prepare lays intents at ts, or later than that if m wants it.
func (l Local) Prepare(m Prepare, ts hlc.Timestamp) (Effect, PrepareReply) {
	switch l.Record.Status {
	case Committed:
		return Effect{}, PrepareReply{Answer: Done, TS: l.Record.TS}
	case Aborted:
		return l.refuse(l.Record.Reason, true)
	}
	ts = max(ts, m.TS)
	latest, missing, buried := hlc.Timestamp(0), 0, false
	for _, k := range l.Keys {
		if k.Applied != 0 {
			return Effect{}, PrepareReply{Answer: Done, TS: k.Applied}
		}
		buried = buried || k.Buried
		if latest = max(latest, k.Intent); k.Intent == 0 {
			missing++
		}
	}
	stage := len(m.Promises) > 0 && l.Record.Status == Pending
	if missing == 0 && !stage {
		return Effect{}, PrepareReply{TS: latest}
	}
	// Nothing of it was applied here, or this was so long ago that the window is past
	// its start: what is found further down is therefore final, if it stays so.
	switch {
	case buried:
		return l.refuse(Prevented, true)
	case m.Txn.Start < l.Edge:
		return l.refuse(TooOld, false)
	case l.Fenced:
		return l.refuse(Fenced, true)
	}
	if r, stop := l.contend(); stop {
		return Effect{}, r
	}
	e := Effect{Lay: l.where(m.Keys, Key.without), LayTS: ts}
	if stage {
		e.Put = Record{Status: Staging, TS: m.TS, Floating: m.Floating, Keys: m.Promises}
	}
	if missing > 0 {
		latest = max(latest, ts)
	}
	return e, PrepareReply{TS: latest}
}

// contend looks at the others who want the keys.
func (l Local) contend() (r PrepareReply, stop bool) {
	for _, k := range l.Keys {
		if k.Conflict && k.Intent == 0 {
			_, r := l.refuse(Conflict, true)
			return r, true
		}
	}
	if l.Refuse != NoReason {
		_, r := l.refuse(l.Refuse, false)
		return r, true
	}
	for _, k := range l.Keys {
		if !k.Holder.Zero() {
			return PrepareReply{Answer: Blocked, By: k.Holder}, true
		}
	}
	return PrepareReply{}, false
}

func (l Local) refuse(why Reason, final bool) (Effect, PrepareReply) {
	clean := !slices.ContainsFunc(l.Keys, Key.with)
	return Effect{}, PrepareReply{Answer: Refused, Reason: why, Final: final, Clean: clean}
}

func (k Key) with() bool    { return k.Intent != 0 }
func (k Key) without() bool { return k.Intent == 0 }

// where returns the keys of which something is true.
func (l Local) where(keys []string, is func(Key) bool) []string {
	n := 0
	for _, k := range l.Keys {
		if is(k) {
			n++
		}
	}
	if n == len(keys) {
		return keys
	}
	list := make([]string, 0, n)
	for i, k := range l.Keys {
		if is(k) {
			list = append(list, keys[i])
		}
	}
	return list
}

// truth is what can be told at the anchor without deciding anything.
func (l Local) truth(t id.Txn) Record {
	switch {
	case l.Record.Status != Pending:
		return l.Record
	case l.Anchored != 0:
		// The record has been forgotten. The version tells.
		return Record{Status: Committed, TS: l.Anchored}
	case t.Start < l.Edge:
		return Record{Status: Expired}
	case l.Fenced:
		// It has none and will have none.
		return Record{Status: Aborted, Reason: Fenced}
	}
	return Record{}
}

// Decide decides unless somebody has, and resolves according to what is true then.
func (l Local) Decide(m Decide) (Effect, DecideReply) {
	r, put := l.truth(m.Txn), Record{}
	if r.Status == Pending || r.Status == Staging {
		put = Record{Status: Aborted, Reason: m.Reason, Keys: r.Keys}
		if m.Commit {
			put = Record{Status: Committed, TS: m.TS, Keys: r.Keys}
			if r.Status == Pending {
				put.Keys = m.Promises
			}
		}
		r = put
	}
	e := l.settle(m.Txn, m.Keys, r.Status == Committed, r.TS)
	e.Put = put
	return e, DecideReply{Outcome: r.outcome()}
}

// settle resolves intents. Where an aborted transaction has none it might still lay
// one, since a Prepare can come late, or a second time: it gets a tombstone. The
// anchor needs none, since it lives with the record, or where none may be begun.
func (l Local) settle(t id.Txn, keys []string, commit bool, ts hlc.Timestamp) Effect {
	if commit {
		return Effect{Commit: l.where(keys, Key.with), CommitTS: ts}
	}
	return Effect{Drop: l.where(keys, Key.with), Bury: l.open(t, keys, false)}
}

// open returns the keys at which the transaction could lay an intent if it were not
// for a tombstone now: those with an intent only if it is about to be removed.
func (l Local) open(t id.Txn, keys []string, only bool) []string {
	if l.closed(t) {
		return nil
	}
	var list []string
	for i, k := range l.Keys {
		if k.Applied == 0 && !k.Buried && keys[i] != t.Anchor && !(only && k.with()) {
			list = append(list, keys[i])
		}
	}
	return list
}

// Resolve makes versions of intents, or removes them.
func (l Local) Resolve(m Resolve) (Effect, ResolveReply) {
	return l.settle(m.Txn, m.Keys, m.Commit, m.TS), ResolveReply{Keys: m.Keys}
}

// Prevent buries the keys that have no intent.
func (l Local) Prevent(m Prevent) (Effect, PreventReply) {
	r := PreventReply{Keys: make([]Found, len(m.Keys))}
	for i, k := range l.Keys {
		r.Keys[i] = Found{Key: m.Keys[i]}
		switch {
		case k.Applied != 0:
			r.Keys[i].What, r.Keys[i].TS = Applied, k.Applied
		case k.Intent != 0:
			r.Keys[i].What, r.Keys[i].TS = Present, k.Intent
		}
	}
	return Effect{Bury: l.open(m.Txn, m.Keys, true)}, r
}

// Query tells how far it has come, and aborts it if it is pending and m wants it.
func (l Local) Query(m Query) (Effect, QueryReply) {
	r := l.truth(m.Txn)
	if r.Status != Pending || m.Abort == NoReason {
		return Effect{}, QueryReply{Record: r}
	}
	r = Record{Status: Aborted, Reason: m.Abort}
	return Effect{Put: r}, QueryReply{Record: r}
}

// Forget removes the record of a committed transaction.
func (l Local) Forget(Forget) (Effect, ForgetReply) {
	return Effect{Forget: l.Record.Status == Committed}, ForgetReply{}
}
