package commit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// phase is what a Coordinator waits for.
type phase uint8

const (
	preparing  phase = iota
	refreshing       // the driver
	committing       // the anchor's word that it is committed
	aborting         // the anchor's word that it is not
	resolving        // the parts, its outcome being certain
	forgetting       // the anchor
	finished
)

func (p phase) String() string {
	return [...]string{"preparing", "refreshing", "committing", "aborting", "resolving", "forgetting", "finished"}[p]
}

// part is what a Coordinator knows of a part.
type part struct {
	keys    []string
	retired bool // divided into others
	anchor  bool
	// prepared: there were intents at all its keys.
	prepared bool
	// resolved: there are no more, and will be none.
	resolved bool
}

// A Coordinator commits a transaction.
type Coordinator struct {
	plan Plan
	keys []string // of all parts

	phase phase
	parts []part
	// latest is that of the intents known of.
	latest hlc.Timestamp
	// outcome is how it ends, as far as this coordinator knows or wants. It is certain
	// once it was acknowledged, and when resolving.
	outcome Outcome
	acked   bool

	out   []Output
	space struct { // so that two parts need no allocation of their own
		parts [2]part
		out   [4]Output
		keys  [4]string
	}
}

// NewCoordinator returns a coordinator that has not begun.
func NewCoordinator(p Plan) (*Coordinator, error) {
	c := &Coordinator{plan: p}
	c.parts, c.out, c.keys = c.space.parts[:0], c.space.out[:0], c.space.keys[:0]
	anchors := 0
	for i, keys := range p.Parts {
		if len(keys) == 0 {
			return nil, fmt.Errorf("commit: %v: part %d has no keys", p.Txn, i)
		}
		c.add(part{keys: keys})
		c.keys = append(c.keys, keys...)
		if c.parts[i].anchor {
			anchors++
		}
	}
	if anchors != 1 {
		return nil, fmt.Errorf("commit: %v: the anchor is in %d of %d parts", p.Txn, anchors, len(p.Parts))
	}
	return c, nil
}

func (c *Coordinator) add(p part) {
	p.anchor = slices.Contains(p.keys, c.plan.Txn.Anchor)
	c.parts = append(c.parts, p)
}

// Outcome is how the transaction ended. It is certain once it was acknowledged, and
// Pending before.
func (c *Coordinator) Outcome() Outcome {
	if !c.acked {
		return Outcome{}
	}
	return c.outcome
}

// Step takes an input. What it returns is good until the next call.
func (c *Coordinator) Step(in Input) []Output {
	c.out = c.out[:0]
	switch in.Kind {
	case Begin, Retry:
		c.resend()
	case Got:
		c.got(in.Part, in.Reply)
	case Unknown:
		if c.awaits(in.Part) {
			c.send(in.Part)
		}
	case Refreshed:
		if c.phase == refreshing {
			c.refreshed(in.OK)
		}
	case GiveUp:
		c.giveUp(in.Reason)
	}
	return c.out
}

// Resplit takes notice that the keys of a part no longer live in one shard. The part
// is replaced by new ones, whose numbers follow those that there are; what still comes
// from the old one counts for nothing.
func (c *Coordinator) Resplit(i int, into [][]string) []Output {
	c.out = c.out[:0]
	old := c.parts[i]
	if old.retired {
		return c.out
	}
	c.parts[i].retired = true
	for _, keys := range into {
		c.add(part{keys: keys, prepared: old.prepared, resolved: old.resolved})
		if last := len(c.parts) - 1; c.awaits(last) {
			c.send(last)
		}
	}
	return c.out
}

// awaits says whether an answer of a part is needed.
func (c *Coordinator) awaits(i int) bool {
	p := c.parts[i]
	switch {
	case p.retired:
		return false
	case c.phase == preparing:
		return !p.prepared
	case c.phase == resolving:
		return !p.resolved
	default:
		return p.anchor && (c.phase == committing || c.phase == aborting || c.phase == forgetting)
	}
}

func (c *Coordinator) resend() {
	for i := range c.parts {
		if c.awaits(i) {
			c.send(i)
		}
	}
}

// send sends what the phase wants of a part.
func (c *Coordinator) send(i int) {
	c.out = append(c.out, Output{Kind: Send, Part: i, Request: c.request(c.parts[i])})
}

func (c *Coordinator) request(p part) Request {
	commit := c.outcome.Status == Committed
	switch {
	case c.phase == preparing:
		m := Prepare{Txn: c.plan.Txn, Keys: p.keys, TS: c.plan.TS}
		if p.anchor && c.plan.Protocol == OneRound {
			m.Promises, m.Floating = c.keys, c.plan.Floating
		}
		return m
	case c.phase == forgetting:
		return Forget{Txn: c.plan.Txn}
	case p.anchor:
		m := Decide{Txn: c.plan.Txn, Keys: p.keys, Commit: commit, TS: c.outcome.TS, Reason: c.outcome.Reason}
		if commit {
			m.Promises = c.keys
		}
		return m
	default:
		return Resolve{Txn: c.plan.Txn, Keys: p.keys, Commit: commit, TS: c.outcome.TS}
	}
}

func (c *Coordinator) got(i int, reply Reply) {
	p := &c.parts[i]
	if p.retired {
		return
	}
	switch r := reply.(type) {
	case PrepareReply:
		if c.phase == preparing {
			c.answered(p, r)
		}
	case DecideReply:
		switch c.phase {
		case committing, aborting:
			c.told(p, r.Outcome)
		case resolving:
			c.agree(r.Outcome)
			p.resolved = true
			c.proceed()
		}
	case ResolveReply:
		if c.phase == resolving {
			p.resolved = true
			c.proceed()
		}
	case ForgetReply:
		if c.phase == forgetting {
			c.finish()
		}
	default:
		panic(fmt.Sprintf("commit: a coordinator got %v", reply))
	}
}

// answered takes the answer to a Prepare.
func (c *Coordinator) answered(p *part, r PrepareReply) {
	switch r.Answer {
	case Prepared:
		p.prepared = true
		c.latest = max(c.latest, r.TS)
		if !slices.ContainsFunc(c.parts, func(p part) bool { return !p.retired && !p.prepared }) {
			c.prepared()
		}
	case Done:
		c.resolve(Outcome{Status: Committed, TS: r.TS})
	case Refused:
		if r.Final && r.Clean {
			p.resolved = true // nothing is there, and nothing will be
		}
		c.abort(r.Reason, r.Final)
	case Blocked:
		// It stays unprepared, and is sent again with the next Retry.
	}
}

// prepared: all parts are. It is committed, or is so if its anchor agrees.
func (c *Coordinator) prepared() {
	ts := max(c.latest, c.plan.TS)
	if ts > c.plan.TS && !c.plan.Floating {
		// Recovery would find this and abort, so that only this coordinator, with an
		// explicit decision, can commit now.
		c.phase = refreshing
		c.out = append(c.out, Output{Kind: Refresh, TS: ts})
		return
	}
	c.commit(ts, c.plan.Protocol == OneRound)
}

// commit asks the anchor to commit it, which it has if it is certain.
func (c *Coordinator) commit(ts hlc.Timestamp, certain bool) {
	c.phase, c.outcome = committing, Outcome{Status: Committed, TS: ts}
	if certain {
		c.ack(c.outcome)
	}
	c.resend()
}

func (c *Coordinator) refreshed(ok bool) {
	if !ok {
		c.abort(RefreshFailed, true)
		return
	}
	c.commit(c.latest, false)
}

func (c *Coordinator) giveUp(why Reason) {
	switch c.phase {
	case preparing:
		c.abort(why, false)
	case refreshing:
		c.abort(why, true)
	}
	// Otherwise the decision is out, and only the anchor can tell what it is.
}

// abort aborts. certain: nobody else can commit it.
func (c *Coordinator) abort(why Reason, certain bool) {
	o := Outcome{Status: Aborted, Reason: why}
	if certain || c.plan.Protocol == TwoPhase {
		// In two phases nobody but this coordinator ever commits.
		c.resolve(o)
		return
	}
	c.phase, c.outcome = aborting, o
	c.resend()
}

// told takes the word of the anchor, which has resolved its part with it.
func (c *Coordinator) told(p *part, o Outcome) {
	c.agree(o)
	if o.Status == Expired && c.acked {
		// Its record has been forgotten, so that it is as it was said to be.
		o = c.outcome
	}
	p.resolved = true
	if o.Status == Aborted && c.outcome.Status == Aborted {
		o.Reason = c.outcome.Reason // its own, if others had another
	}
	c.resolve(o)
}

// agree panics if the anchor says otherwise than somebody was told.
func (c *Coordinator) agree(o Outcome) {
	was := c.outcome
	switch {
	case o.Status == Pending || o.Status == Staging: // a decision leaves none like that
	case o.Status == Expired || was.Status == Expired:
		return
	case o.Status == was.Status:
		if o.TS == was.TS {
			return
		}
	case !c.acked:
		return // it was only wanted
	}
	panic(fmt.Sprintf("commit: %v: the anchor says %v, and the coordinator, %v, %v", c.plan.Txn, o, c.phase, was))
}

// resolve has a certain outcome carried out.
func (c *Coordinator) resolve(o Outcome) {
	c.phase, c.outcome = resolving, o
	if !c.acked {
		c.ack(o)
	}
	c.resend()
	c.proceed()
}

func (c *Coordinator) ack(o Outcome) {
	c.acked = true
	c.out = append(c.out, Output{Kind: Ack, Outcome: o})
}

// proceed ends the resolving when nothing is left to be resolved.
func (c *Coordinator) proceed() {
	switch {
	case slices.ContainsFunc(c.parts, func(p part) bool { return !p.retired && !p.resolved }):
	case c.outcome.Status == Committed:
		c.phase = forgetting
		c.resend()
	default:
		c.finish()
	}
}

func (c *Coordinator) finish() {
	c.phase = finished
	c.out = append(c.out, Output{Kind: Finished})
}

// check returns an error that names what is wrong.
func (c *Coordinator) check() error {
	anchors := 0
	for i, p := range c.parts {
		switch {
		case p.retired:
			continue
		case p.anchor:
			anchors++
		}
		if c.phase > resolving && !p.resolved {
			return fmt.Errorf("commit: %v, and part %d is not resolved", c.phase, i)
		}
		if (c.phase == refreshing || c.phase == committing) && !p.prepared {
			return fmt.Errorf("commit: %v, and part %d is not prepared", c.phase, i)
		}
	}
	switch {
	case anchors != 1:
		return fmt.Errorf("commit: %d parts have the anchor", anchors)
	case c.acked && (c.phase == preparing || c.phase == refreshing || c.phase == aborting):
		return fmt.Errorf("commit: acknowledged %v while %v", c.outcome, c.phase)
	case !c.acked && c.phase >= resolving:
		return fmt.Errorf("commit: %v, and not acknowledged", c.phase)
	case c.outcome.Status == Committed && c.outcome.TS < c.plan.TS:
		return fmt.Errorf("commit: %v before %v", c.outcome, c.plan.TS)
	}
	return nil
}

func (c *Coordinator) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %v", c.plan.Protocol, c.phase)
	if c.phase >= committing {
		fmt.Fprintf(&b, " %v", c.outcome)
	}
	for i, p := range c.parts {
		if p.retired {
			continue
		}
		fmt.Fprintf(&b, " %d:%s", i, strings.Join(p.keys, ","))
		switch {
		case p.resolved:
			b.WriteString(":resolved")
		case p.prepared:
			b.WriteString(":prepared")
		}
	}
	return b.String()
}
