package txn

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// commitParts commits what a transaction writes in several shards.
func (t *Tx) commitParts(ctx context.Context, parts []*share, at hlc.Timestamp) (hlc.Timestamp, error) {
	c := &committer{t: t, c: t.c, txn: t.id, at: at, parts: parts, protocol: t.protocol}
	for _, p := range parts {
		for i := range p.writes {
			c.promised = append(c.promised, p.writes[i].Key)
		}
	}
	spans := t.readSpans()
	if t.level == Snapshot {
		c.alone, spans = len(spans) > 0, nil
	}
	for _, p := range parts {
		p.spans, spans = within(p.home, spans)
	}
	// What is read where nothing is written must be known to be the same before
	// anybody can find all that is promised.
	if len(spans) > 0 {
		if err := t.recheck(ctx, spans, at); err != nil {
			return 0, err
		}
	}
	c.rigid = t.level != Snapshot && t.readsMore()
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

// A committer coordinates the commit of one transaction.
type committer struct {
	t        *Tx
	c        *Client
	txn      id.Txn
	protocol Protocol
	at       hlc.Timestamp
	rigid    bool
	alone    bool
	parts    []*share // the first has the anchor
	promised []string

	asked atomic.Bool // the anchor's shard was asked more than once: the first may arrive yet
}

// run prepares all parts, and goes on by what comes of it.
func (c *committer) run(ctx context.Context) (hlc.Timestamp, error) {
	stamps := make([]hlc.Timestamp, len(c.parts))
	errs := make([]error, len(c.parts))
	each(len(c.parts), func(i int) { stamps[i], errs[i] = c.prepare(ctx, i) })
	at := c.at
	var no *Refusal
	for i, err := range errs {
		at = max(at, stamps[i])
		if err != nil {
			var n *Refusal
			if errors.As(err, &n) && n.Reason == already {
				return c.committed(n.TS)
			}
			if !errors.As(err, &no) {
				no = &Refusal{Reason: Recovered}
			}
		}
	}
	if no != nil {
		return c.abort(ctx, no, errs[0])
	}
	if c.protocol == OneRound && (!c.rigid || at == c.at) {
		return c.committed(at)
	}
	if c.rigid && at > c.at {
		if err := c.t.recheck(ctx, c.t.readSpans(), at); err != nil {
			if !errors.As(err, &no) {
				no = &Refusal{Reason: Recovered}
			}
			return c.abort(ctx, no, nil)
		}
	}
	return c.decide(ctx, at)
}

// prepare has one part prepared.
func (c *committer) prepare(ctx context.Context, i int) (hlc.Timestamp, error) {
	w := &writeRequest{
		txn: c.txn, mode: modePrepare, at: c.at, read: c.t.at, rigid: c.rigid, alone: c.alone, spans: c.parts[i].spans, writes: c.parts[i].writes,
	}
	if i == 0 && c.protocol == OneRound {
		w.mode, w.promised = modeStage, c.promised
	}
	span := cover(w.writes)
	for _, sp := range w.spans {
		span = union(span, sp)
	}
	body := w.encode()
	for began := time.Now(); ; {
		b, err := c.c.n.CallSpan(ctx, serviceWrite, span, body)
		switch {
		case err == nil:
			r := read(b)
			if err := r.verdict(serviceWrite); err != nil {
				return 0, err
			}
			ts := r.ts()
			return ts, r.end(serviceWrite)
		case errors.Is(err, cluster.ErrSplit):
			// The transaction begins anew, with the shards that there are now.
			return 0, &Refusal{Reason: Conflict, Key: w.writes[0].Key}
		case !errors.Is(err, consensus.ErrUnknown) || ctx.Err() != nil || time.Since(began) > c.c.o.Patience:
			return 0, err
		}
		if i == 0 {
			c.asked.Store(true)
		}
		pause(ctx, time.Millisecond)
	}
}

// committed goes on with a transaction that is committed, whoever asks.
func (c *committer) committed(ts hlc.Timestamp) (hlc.Timestamp, error) {
	c.t.finishing = true
	c.c.p.live.set(c.txn.Key, standing{standsCommitted, ts})
	c.c.p.work.Go(func() { c.finish(ts) })
	return ts, nil
}

// finish makes the record say that the transaction is committed, and then has the
// intents ended.
func (c *committer) finish(ts hlc.Timestamp) {
	p := c.c.p
	defer p.live.drop(c.txn.Key)
	f, err := p.decide(p.life, c.txn, ts, c.promised)
	if err != nil || f.status != mvcc.Committed {
		return // whoever meets an intent finds out
	}
	p.resolveAll(p.life, c.txn, ts, c.promised)
}

// decide has the anchor's shard say that the transaction is committed at ts.
func (c *committer) decide(ctx context.Context, ts hlc.Timestamp) (hlc.Timestamp, error) {
	f, err := c.c.p.decide(ctx, c.txn, ts, c.promised)
	switch {
	case err != nil && !errors.As(err, new(*Refusal)):
		return c.c.settle(ctx, c.txn, err)
	case err != nil:
		var no *Refusal
		errors.As(err, &no)
		return c.abort(ctx, no, err)
	case f.status == mvcc.Committed:
		c.t.finishing = true
		c.c.p.live.set(c.txn.Key, standing{standsCommitted, f.ts})
		c.c.p.work.Go(func() {
			defer c.c.p.live.drop(c.txn.Key)
			c.c.p.resolveAll(c.c.p.life, c.txn, f.ts, c.promised)
		})
		return f.ts, nil
	}
	c.dropIntents()
	return 0, &Refusal{Reason: Recovered}
}

// abort ends the transaction, unless others have committed it. anchor is what the
// part with the anchor said.
func (c *committer) abort(ctx context.Context, no *Refusal, anchor error) (hlc.Timestamp, error) {
	var said *Refusal
	if c.protocol == OneRound && (c.asked.Load() || !errors.As(anchor, &said)) {
		// There is a record, or may come to be one.
		f, err := c.c.p.decide(ctx, c.txn, 0, nil)
		if err != nil {
			return c.c.settle(ctx, c.txn, err)
		}
		if f.status == mvcc.Committed {
			return c.committed(f.ts)
		}
	}
	c.dropIntents()
	return 0, no
}

// dropIntents ends the intents of a transaction that was aborted.
func (c *committer) dropIntents() {
	p := c.c.p
	c.t.finishing = true
	p.live.set(c.txn.Key, standing{state: standsAborted})
	p.work.Go(func() {
		defer p.live.drop(c.txn.Key)
		p.resolveAll(p.life, c.txn, 0, c.promised)
	})
}

// decide has the anchor's shard end a transaction, and returns how it has.
func (p *Participant) decide(ctx context.Context, txn id.Txn, ts hlc.Timestamp, promised []string) (f finding, err error) {
	body := (&endRequest{txn: txn, ts: ts, keys: promised}).encode()
	err = p.persist(ctx, func() error {
		b, err := p.node.Load().Call(ctx, serviceDecide, txn.Anchor, body)
		if err == nil {
			f, err = parseFinding(serviceDecide, b)
		}
		return err
	})
	return f, err
}

// persist calls fn until it returns something else than that nobody knows: what it does
// can be done again.
func (p *Participant) persist(ctx context.Context, fn func() error) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := fn()
		if err == nil || !errors.Is(err, consensus.ErrUnknown) || ctx.Err() != nil || p.life.Err() != nil {
			return err
		}
		pause(ctx, wait)
	}
}

// resolveAll ends the intents of a transaction at keys in all shards, and then has its
// record forgotten.
func (p *Participant) resolveAll(ctx context.Context, txn id.Txn, ts hlc.Timestamp, keys []string) {
	n := p.node.Load()
	var byShard [][]string
	place := map[uint64]int{}
	for _, key := range keys {
		at, _ := n.Locate(key)
		i, ok := place[uint64(at.Shard)]
		if !ok {
			i = len(byShard)
			place[uint64(at.Shard)], byShard = i, append(byShard, nil)
		}
		byShard[i] = append(byShard[i], key)
	}
	errs := make([]error, len(byShard))
	each(len(byShard), func(i int) { errs[i] = p.resolve(ctx, txn, ts, byShard[i], false) })
	if ts != 0 && errors.Join(errs...) == nil {
		_ = p.resolve(ctx, txn, ts, []string{txn.Anchor}, true) // or whoever comes to it later
	}
}

// resolve ends intents at keys of one shard, or of several if that was split.
func (p *Participant) resolve(ctx context.Context, txn id.Txn, ts hlc.Timestamp, keys []string, forget bool) error {
	n := p.node.Load()
	body := (&endRequest{txn: txn, ts: ts, force: forget, keys: keys}).encode()
	err := p.persist(ctx, func() error {
		_, err := n.CallSpan(ctx, serviceResolve, coverKeys(keys), body)
		return err
	})
	if errors.Is(err, cluster.ErrSplit) {
		for _, key := range keys {
			if err := p.resolve(ctx, txn, ts, []string{key}, forget); err != nil {
				return err
			}
		}
		return nil
	}
	return err
}
