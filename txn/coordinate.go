package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// commitsAtOnce bounds the transactions of several shards that a node is committing, or
// has committed and not resolved yet.
const commitsAtOnce = 4096

// commitParts commits what a transaction writes in several shards.
func (t *Tx) commitParts(ctx context.Context, parts []*share, ts hlc.Timestamp) (hlc.Timestamp, error) {
	c := &committer{t: t, p: t.c.p, parts: parts, alone: t.level == Snapshot && len(t.points)+len(t.spans) > 0}
	spans := t.readSpans()
	if t.level == Snapshot {
		spans = nil
	}
	plan := commit.Plan{Txn: t.id, Protocol: t.protocol, TS: ts, Floating: t.level == Snapshot || !t.readsMore()}
	for _, p := range parts {
		p.spans, spans = within(p.home, spans)
		plan.Parts = append(plan.Parts, p.keys())
	}
	// What is read where nothing is written must be known to be the same before
	// anybody can find all that is promised.
	if len(spans) > 0 {
		if err := t.recheck(ctx, spans, ts); err != nil {
			return 0, err
		}
	}
	m, err := commit.NewCoordinator(plan)
	if err != nil {
		return 0, err
	}
	c.plan, c.m = plan, m
	return c.run(ctx)
}

// readsMore reports whether the transaction has read what it does not write.
func (t *Tx) readsMore() bool {
	if len(t.spans) > 0 {
		return true
	}
	for key := range t.points {
		if _, ok := t.writes[key]; !ok {
			return true
		}
	}
	return false
}

// A committer drives the coordinator of one transaction.
type committer struct {
	t     *Tx
	p     *Participant
	m     *commit.Coordinator
	plan  commit.Plan
	alone bool
	parts []*share // of the coordinator's parts

	answers chan answered
	out     int       // answers that are still to come
	late    time.Time // when the first was not known, from which patience counts
	why     *Refusal  // the first

	acked, over bool
	outcome     commit.Outcome
	refresh     hlc.Timestamp // to which the coordinator waits for what was read to be refreshed
}

// An answered is what came of a request to a part.
type answered struct {
	part    int
	n       int  // of the part's requests
	prepare bool // what it was
	reply   commit.Reply
	err     error
}

// run returns when it is certain how the transaction ends, and has the rest done.
func (c *committer) run(ctx context.Context) (hlc.Timestamp, error) {
	select {
	case c.p.commits <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %w", consensus.ErrRejected, context.Cause(ctx))
	case <-c.p.life.Done():
		return 0, errClosed
	}
	c.t.finishing = true
	c.answers = make(chan answered, 2*len(c.parts))
	c.do(ctx, c.m.Step(commit.Input{Kind: commit.Begin}))
	err := c.drive(ctx, func() bool { return c.acked })
	o, why := c.outcome, c.why
	c.p.work.Go(c.finish)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", consensus.ErrUnknown, err)
	case o.Status == commit.Committed:
		return o.TS, nil
	case o.Status == commit.Expired:
		return 0, ErrOutcomeExpired
	case why == nil:
		return 0, &Refusal{Reason: reasons[o.Reason]}
	}
	return 0, why
}

// finish has done what is left when the client knows how the transaction ended.
func (c *committer) finish() {
	defer func() { <-c.p.commits }()
	defer c.p.live.drop(c.plan.Txn.Key)
	_ = c.drive(c.p.life, func() bool { return c.over })
	for ; c.out > 0; c.out-- {
		<-c.answers
	}
}

// drive goes on until something is so, or ctx ends.
func (c *committer) drive(ctx context.Context, until func() bool) error {
	for !until() {
		select {
		case a := <-c.answers:
			c.out--
			c.take(ctx, a)
		case <-ctx.Done():
			c.do(c.p.life, c.m.Step(commit.Input{Kind: commit.GiveUp, Reason: commit.Deadline}))
			if until() {
				return nil
			}
			return context.Cause(ctx)
		case <-c.p.life.Done():
			return errClosed
		}
	}
	return nil
}

// do does what the coordinator wants.
func (c *committer) do(ctx context.Context, outs []commit.Output) {
	for _, o := range outs {
		switch o.Kind {
		case commit.Send:
			c.send(ctx, o.Part, o.Request)
		case commit.Refresh:
			c.refresh = o.TS
		case commit.Ack:
			c.acked, c.outcome = true, o.Outcome
			st := standing{state: standsAborted}
			if o.Outcome.Status == commit.Committed {
				st = standing{standsCommitted, o.Outcome.TS}
			}
			c.p.live.set(c.plan.Txn.Key, st)
		case commit.Finished:
			c.over = true
		}
	}
	if at := c.refresh; at != 0 {
		c.refresh = 0
		err := c.t.recheck(ctx, c.t.readSpans(), at)
		c.blame(err)
		c.do(ctx, c.m.Step(commit.Input{Kind: commit.Refreshed, OK: err == nil}))
	}
}

// blame keeps the first refusal, for the client.
func (c *committer) blame(err error) {
	var no *Refusal
	if errors.As(err, &no) && c.why == nil {
		c.why = no
	}
}

// send sends a request to a part. What is said before the client knows how it ends is
// said for as long as the client waits.
func (c *committer) send(ctx context.Context, part int, m commit.Request) {
	if c.acked {
		ctx = c.p.life
	}
	p := c.parts[part]
	p.sent++
	c.out++
	a := answered{part: part, n: p.sent}
	prepare, ok := m.(commit.Prepare)
	if a.prepare = ok; ok {
		p.prepares++
	}
	go func() {
		if ok {
			a.reply, a.err = c.prepare(ctx, p, &prepare)
		} else {
			a.reply, a.err = c.p.tell(ctx, m)
		}
		if a.err != nil && !errors.As(a.err, new(*Refusal)) {
			pause(ctx, min(time.Millisecond<<min(a.n, 6), 50*time.Millisecond)) // before it is asked again
		}
		c.answers <- a
	}()
}

// prepare has a part prepared.
func (c *committer) prepare(ctx context.Context, p *share, m *commit.Prepare) (commit.Reply, error) {
	w := &writeRequest{
		txn: m.Txn, mode: modePrepare, at: m.TS, read: c.t.at, rigid: !c.plan.Floating, alone: c.alone, spans: p.spans, writes: p.writes,
	}
	if len(m.Promises) > 0 {
		w.mode, w.promised = modeStage, m.Promises
	}
	span := cover(w.writes)
	for _, sp := range w.spans {
		span = union(span, sp)
	}
	end := c.t.asks(w.writes[0].Key)
	b, err := c.t.c.n.CallSpan(ctx, serviceWrite, span, w.encode())
	end()
	if err != nil {
		return nil, err
	}
	return parsePrepared(b)
}

// take tells the coordinator what came of a request.
func (c *committer) take(ctx context.Context, a answered) {
	p := c.parts[a.part]
	var no *Refusal
	switch {
	case a.prepare && errors.As(a.err, &no):
		c.blame(no)
		// Of one that was asked once, and has answered, nothing is to come any more.
		final := no.final || !no.laid && p.prepares == 1
		a.reply = commit.PrepareReply{Answer: commit.Refused, Reason: commit.Conflict, Final: final, Clean: !no.laid}
	case a.err == nil:
	case a.n < p.sent:
		return // it was asked something else since
	case errors.Is(a.err, cluster.ErrSplit):
		c.resplit(ctx, a.part)
		return
	default:
		c.again(ctx, a)
		return
	}
	c.do(ctx, c.m.Step(commit.Input{Kind: commit.Got, Part: a.part, Reply: a.reply}))
}

// again has a part asked again that has not answered.
func (c *committer) again(ctx context.Context, a answered) {
	if c.p.life.Err() != nil {
		return
	}
	if c.late.IsZero() {
		c.late = time.Now()
	}
	in := commit.Input{Kind: commit.Unknown, Part: a.part}
	if !c.acked && time.Since(c.late) > c.t.c.o.Patience {
		c.late = time.Now()
		c.do(ctx, c.m.Step(commit.Input{Kind: commit.GiveUp, Reason: commit.Deadline}))
	}
	c.do(ctx, c.m.Step(in))
}

// resplit divides a part whose keys are in several shards by now.
func (c *committer) resplit(ctx context.Context, i int) {
	old := c.parts[i]
	list, spans := c.t.split(old.writes), old.spans
	var keys [][]string
	for _, p := range list {
		p.prepares = old.prepares
		p.spans, spans = within(p.home, spans)
		keys = append(keys, p.keys())
	}
	c.parts = append(c.parts, list...)
	var err error
	if len(spans) > 0 && !c.acked {
		err = c.t.recheck(ctx, spans, c.plan.TS)
		c.blame(err)
	}
	if err != nil {
		// Before anything is asked of the new parts: with all of it there, others might
		// commit it.
		c.do(ctx, c.m.Step(commit.Input{Kind: commit.GiveUp, Reason: commit.RefreshFailed}))
	}
	c.do(ctx, c.m.Resplit(i, keys))
}

// keys are those that a share writes.
func (p *share) keys() []string {
	list := make([]string, len(p.writes))
	for i := range p.writes {
		list[i] = p.writes[i].Key
	}
	return list
}
