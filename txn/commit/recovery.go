package commit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Hint is what somebody knows who wants a transaction recovered.
type Hint struct {
	// Keys are some at which it has intents.
	Keys []string
	// Abort is why it is to be aborted if it is pending. NoReason: it is left alone.
	Abort Reason
}

// stage is what a Recovery waits for.
type stage uint8

const (
	querying   stage = iota // the anchor: how far it has come
	preventing              // the shards: what is there of a staging one
	deciding                // the anchor's word
	settling                // the shards
	clearing                // the anchor, which is to forget the record
	over
)

func (s stage) String() string {
	return [...]string{"querying", "preventing", "deciding", "settling", "clearing", "over"}[s]
}

// A Recovery finds out what became of a transaction, or sees to it that something
// does, in place of its coordinator or beside it.
type Recovery struct {
	txn   id.Txn
	abort Reason

	stage stage
	// keys are those that it deals with, in order, and answered those of them whose
	// shard has answered in this stage.
	keys     []string
	answered []bool
	record   Record        // the Staging one
	latest   hlc.Timestamp // of its intents
	// outcome is what it wants while it decides, and then what is true.
	outcome Outcome
	// whole: keys are all that the transaction writes.
	whole bool

	out []Output
}

// NewRecovery returns a recovery that has not begun.
func NewRecovery(t id.Txn, h Hint) *Recovery {
	r := &Recovery{txn: t, abort: h.Abort}
	r.take(h.Keys)
	return r
}

// take adds keys to those that it deals with.
func (r *Recovery) take(keys []string) {
	r.keys = append(slices.Clip(r.keys), keys...)
	slices.Sort(r.keys)
	r.keys = slices.Compact(r.keys)
	r.answered = make([]bool, len(r.keys))
}

// Outcome is how the transaction ended, as far as is certain: Pending until then.
func (r *Recovery) Outcome() Outcome {
	if r.stage < settling {
		return Outcome{}
	}
	return r.outcome
}

// Step takes an input. What it returns is good until the next call.
func (r *Recovery) Step(in Input) []Output {
	r.out = r.out[:0]
	switch in.Kind {
	case Begin, Unknown, Retry:
		r.send()
	case Got:
		r.got(in.Reply)
	}
	return r.out
}

// send sends what the stage wants, to those who have not answered.
func (r *Recovery) send() {
	var m Request
	switch r.stage {
	case querying:
		m = Query{Txn: r.txn, Abort: r.abort}
	case preventing:
		m = Prevent{Txn: r.txn, Keys: r.unanswered()}
	case deciding:
		d := Decide{Txn: r.txn, Commit: r.outcome.Status == Committed, TS: r.outcome.TS, Reason: r.outcome.Reason}
		if d.Commit {
			d.Promises = r.keys
		}
		m = d
	case settling:
		m = Resolve{Txn: r.txn, Keys: r.unanswered(), Commit: r.outcome.Status == Committed, TS: r.outcome.TS}
	case clearing:
		m = Forget{Txn: r.txn}
	default:
		return
	}
	r.out = append(r.out, Output{Kind: Send, Request: m})
}

func (r *Recovery) unanswered() []string {
	list := make([]string, 0, len(r.keys))
	for i, k := range r.keys {
		if !r.answered[i] {
			list = append(list, k)
		}
	}
	return list
}

// mark notes that the shard of a key has answered, and reports whether all have.
func (r *Recovery) mark(key string) {
	if i, ok := slices.BinarySearch(r.keys, key); ok {
		r.answered[i] = true
	}
}

func (r *Recovery) all() bool { return !slices.Contains(r.answered, false) }

// enter enters a stage in which nobody has answered yet.
func (r *Recovery) enter(s stage) {
	r.stage = s
	clear(r.answered)
	r.send()
}

func (r *Recovery) got(reply Reply) {
	switch m := reply.(type) {
	case QueryReply:
		if r.stage == querying {
			r.queried(m.Record)
		}
	case DecideReply:
		if r.stage == deciding {
			r.settle(m.Outcome)
		}
	case PreventReply:
		if r.stage == preventing {
			r.found(m.Keys)
		}
	case ResolveReply:
		if r.stage == settling {
			for _, k := range m.Keys {
				r.mark(k)
			}
			r.settled()
		}
	case ForgetReply:
		if r.stage == clearing {
			r.finish()
		}
	default:
		panic(fmt.Sprintf("commit: a recovery got %v", reply))
	}
}

// queried takes what the anchor knows.
func (r *Recovery) queried(rec Record) {
	r.take(rec.Keys)
	switch rec.Status {
	case Pending:
		r.finish() // and left alone
	case Staging:
		r.record, r.whole = rec, true
		r.enter(preventing)
	default:
		r.whole = rec.Status == Committed && len(rec.Keys) > 0
		r.settle(rec.outcome())
	}
}

// found takes what there is at keys. One at which nothing is, and nothing will be, is
// enough to know that it cannot be committed unless it was long ago, which the anchor
// knows. That all is there is known only when all have answered.
func (r *Recovery) found(keys []Found) {
	for _, k := range keys {
		switch k.What {
		case Applied:
			r.settle(Outcome{Status: Committed, TS: k.TS})
			return
		case Missing:
			r.decide(Outcome{Status: Aborted, Reason: Prevented})
			return
		case Present:
			r.latest = max(r.latest, k.TS)
			r.mark(k.Key)
		}
	}
	if !r.all() {
		return
	}
	switch {
	case r.latest <= r.record.TS:
		r.decide(Outcome{Status: Committed, TS: r.record.TS})
	case r.record.Floating:
		r.decide(Outcome{Status: Committed, TS: r.latest})
	default:
		r.decide(Outcome{Status: Aborted, Reason: Prevented})
	}
}

func (r *Recovery) decide(o Outcome) {
	r.outcome = o
	r.enter(deciding)
}

// settle has what is certain carried out. What is left of an expired transaction is
// removed: one that committed has left no intents, or its record would still be there.
func (r *Recovery) settle(o Outcome) {
	if o.Status == Pending || o.Status == Staging {
		panic(fmt.Sprintf("commit: %v: a decision made it %v", r.txn, o))
	}
	r.outcome = o
	r.out = append(r.out, Output{Kind: Ack, Outcome: o})
	if r.stage = settling; len(r.keys) > 0 {
		r.enter(settling)
		return
	}
	r.settled()
}

func (r *Recovery) settled() {
	switch {
	case !r.all():
	case r.whole && r.outcome.Status == Committed:
		r.enter(clearing)
	default:
		r.finish()
	}
}

func (r *Recovery) finish() {
	r.stage = over
	r.out = append(r.out, Output{Kind: Finished})
}

// check returns an error that names what is wrong.
func (r *Recovery) check() error {
	switch {
	case len(r.keys) != len(r.answered):
		return fmt.Errorf("commit: %d keys and %d answers", len(r.keys), len(r.answered))
	case !slices.IsSorted(r.keys):
		return fmt.Errorf("commit: keys %v", r.keys)
	case r.stage == clearing && !(r.whole && r.outcome.Status == Committed):
		return fmt.Errorf("commit: %v of a transaction %v, whole=%t", r.stage, r.outcome, r.whole)
	case (r.stage == preventing || r.stage == deciding) && r.record.Status != Staging:
		return fmt.Errorf("commit: %v, and it was %v", r.stage, r.record)
	}
	return nil
}

func (r *Recovery) String() string {
	var b strings.Builder
	b.WriteString(r.stage.String())
	if r.stage >= deciding {
		fmt.Fprintf(&b, " %v", r.outcome)
	}
	for i, k := range r.keys {
		b.WriteString(" " + k)
		if r.answered[i] {
			b.WriteString(":answered")
		}
	}
	return b.String()
}
