package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// each calls fn for 0 to n-1, at once.
func each(n int, fn func(i int)) {
	var work sync.WaitGroup
	for i := 1; i < n; i++ {
		work.Go(func() { fn(i) })
	}
	if n > 0 {
		fn(0)
	}
	work.Wait()
}

// fail turns a shard's no into the end of the transaction, and leaves other errors.
func (t *Tx) fail(ctx context.Context, err error) error {
	var no *Refusal
	if !errors.As(err, &no) {
		return err
	}
	t.Rollback(ctx)
	return t.aborted(no)
}

// aborted is what a client is told of a shard's no. Its next transaction is to see what
// this one did not: what was written behind a seat that was just taken is ahead of clocks,
// and would be in the way of each that comes until they show it.
func (t *Tx) aborted(no *Refusal) error {
	t.c.saw(no.TS)
	return &AbortedError{t.id.Key, *no}
}

// Rollback gives the transaction up. It did nothing, and never will. After Commit or
// Rollback it does nothing.
func (t *Tx) Rollback(ctx context.Context) {
	if t.ended != nil {
		return
	}
	t.ended = ErrEnded
	t.unlock(ctx)
}

// final returns what the transaction writes, by key and each key once.
func (t *Tx) final() []mvcc.Write {
	list := make([]mvcc.Write, 0, len(t.writes))
	for _, i := range t.writes {
		list = append(list, t.list[i])
	}
	slices.SortFunc(list, func(a, b mvcc.Write) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// Commit commits the transaction. It ends in one of three ways: committed, with a nil
// error; aborted, with an *AbortedError, or an error that wraps consensus.ErrRejected if
// ctx ended before anybody heard of it; and with an *UnknownError if ctx ended before
// anybody could say, or before all would see what a strict transaction wrote. Then it may be called again, as often as it takes: the transaction
// is carried out once, or never.
func (t *Tx) Commit(ctx context.Context) error {
	if t.unknown {
		return t.commitAgain(ctx)
	}
	if err := t.usable("commit"); err != nil {
		return err
	}
	writes := t.final()
	if len(writes) == 0 {
		t.ended = ErrEnded
		t.unlock(ctx)
		return nil
	}
	t.id = t.ID() // which somebody may ask for already
	t.c.p.live.set(t.id.Key, standing{state: standsOpen})
	ts, err := t.commit(ctx, writes)
	t.ended = ErrEnded
	t.unlock(ctx)
	var no *Refusal
	switch {
	case errors.As(err, &no):
		return t.aborted(no)
	case errors.Is(err, ErrOutcomeExpired) || errors.Is(err, consensus.ErrRejected) && !errors.Is(err, consensus.ErrUnknown):
		return fmt.Errorf("txn: commit of %v: %w", t.id, err)
	case err != nil:
		t.unknown = true
		return &UnknownError{t.id, err}
	}
	return t.wait(ctx, ts)
}

// commitAgain finds out how a commit ended that nobody knew of.
func (t *Tx) commitAgain(ctx context.Context) error {
	o, err := t.c.Outcome(ctx, t.id)
	if errors.Is(err, consensus.ErrUnknown) {
		return &UnknownError{t.id, err}
	}
	if err != nil {
		return err
	}
	if !o.Committed {
		t.unknown = false
		return &AbortedError{t.id.Key, Refusal{Reason: Recovered}}
	}
	return t.wait(ctx, o.TS)
}

// wait ends a commit at a timestamp: that of a strict transaction when every clock is past
// it. If ctx ends before, there may be somebody who begins and does not see it.
func (t *Tx) wait(ctx context.Context, ts hlc.Timestamp) error {
	t.c.saw(ts)
	t.unknown = false
	if t.level != Strict {
		return nil
	}
	if err := t.c.past(ctx, ts); err != nil {
		t.unknown = true
		return &UnknownError{t.id, fmt.Errorf("it is committed, and not every clock is past it: %w", err)}
	}
	return nil
}

// commit commits writes, and returns at which timestamp.
func (t *Tx) commit(ctx context.Context, writes []mvcc.Write) (hlc.Timestamp, error) {
	floor := t.at
	for try := 1; ; try++ {
		at, err := t.c.now(ctx)
		if err != nil {
			return 0, err
		}
		ts, err := t.commitOnce(ctx, writes, max(at, floor))
		var no *Refusal
		switch {
		case errors.Is(err, cluster.ErrSplit) && ctx.Err() == nil: // a shard is another since
		case errors.As(err, &no) && no.Reason == pushed && try < maxTries:
			floor = max(floor, no.TS)
		default:
			return ts, err
		}
	}
}

// commitOnce tries to commit at a timestamp or later. After cluster.ErrSplit and a
// refusal nothing was done.
func (t *Tx) commitOnce(ctx context.Context, writes []mvcc.Write, at hlc.Timestamp) (hlc.Timestamp, error) {
	parts := t.split(writes)
	if len(parts) > 1 {
		return t.commitParts(ctx, parts, at)
	}
	w := &writeRequest{txn: t.id, at: at, read: t.at, writes: writes}
	span := cover(writes)
	if t.level == Snapshot {
		w.alone = len(t.points)+len(t.spans) > 0
	} else {
		home, _ := t.c.n.Locate(writes[0].Key)
		var away []meta.Span
		w.spans, away = within(home.Span, t.readSpans())
		for _, sp := range w.spans {
			span = union(span, sp)
		}
		if len(away) > 0 {
			if err := t.recheck(ctx, away, at); err != nil {
				return 0, err
			}
			w.rigid = true
		}
	}
	end := t.asks(writes[0].Key)
	b, err := t.c.n.CallSpan(ctx, serviceWrite, span, w.encode())
	end()
	if errors.Is(err, consensus.ErrUnknown) {
		return t.c.settle(ctx, t.id, err)
	}
	if err != nil {
		return 0, err
	}
	r := read(b)
	if err := r.verdict(serviceWrite); err != nil {
		return 0, err
	}
	ts := r.ts()
	return ts, r.end(serviceWrite)
}

// cover is the span of all writes.
func cover(writes []mvcc.Write) meta.Span {
	return meta.Span{Start: writes[0].Key, End: writes[len(writes)-1].Key + "\x00"}
}

// union is the smallest span that has both.
func union(a, b meta.Span) meta.Span {
	a.Start = min(a.Start, b.Start)
	if b.End == "" || a.End != "" && b.End > a.End {
		a.End = b.End
	}
	return a
}

// within divides spans into what is in another span, and what is not.
func within(home meta.Span, spans []meta.Span) (in, out []meta.Span) {
	for _, sp := range spans {
		if sp.Start < home.Start {
			left := sp
			if sp.End == "" || sp.End > home.Start {
				left.End, sp.Start = home.Start, home.Start
			} else {
				sp.Start = sp.End
			}
			out = append(out, left)
		}
		if home.End != "" && (sp.End == "" || sp.End > home.End) {
			right := sp
			if sp.Start < home.End {
				right.Start, sp.End = home.End, home.End
			} else {
				sp.End = sp.Start
			}
			out = append(out, right)
		}
		if sp.Start != sp.End || sp.End == "" && sp.Start == "" {
			in = append(in, sp)
		}
	}
	return in, out
}

// A share is what a transaction writes in one shard.
type share struct {
	shard  meta.ShardID
	home   meta.Span
	writes []mvcc.Write
	spans  []meta.Span // what it has read there
	// sent are the requests that were sent about it, and prepares those of them that
	// were to prepare it.
	sent, prepares int
}

// split divides writes among shards.
func (t *Tx) split(writes []mvcc.Write) (list []*share) {
	for i := range writes {
		at, _ := t.c.n.Locate(writes[i].Key)
		j := slices.IndexFunc(list, func(s *share) bool { return s.shard == at.Shard })
		if j < 0 {
			j, list = len(list), append(list, &share{shard: at.Shard, home: at.Span})
		}
		list[j].writes = append(list[j].writes, writes[i])
	}
	return list
}
