package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/latch"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// The limits of what is asked at once.
const (
	maxSpans     = 1 << 16
	maxKeys      = 1 << 20
	maxScanBytes = 4 << 20 // of what a scan returns before it says where to go on
)

// observe moves the node's clock on to a timestamp at which somebody reads or writes.
// One that no right clock shows is refused. A new seat on a node that is ahead by the
// bound writes the bound ahead of that, so whoever saw it has to come again.
func (p *Participant) observe(ts hlc.Timestamp) error {
	err := p.clock.Observe(ts)
	switch ahead := ts.Sub(hlc.At(p.clock.Wall())); {
	case err == nil:
		return nil
	case ahead <= 2*p.clock.Bound()+time.Millisecond:
		return fmt.Errorf("txn: %w: %w", consensus.ErrRejected, err)
	}
	return fmt.Errorf("txn: %w: %w", ErrFuture, err)
}

// point is the span of one key.
func point(key string) meta.Span { return meta.Span{Start: key, End: key + "\x00"} }

func (p *Participant) serveGet(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	g, err := parseGet(q.Body)
	if err != nil {
		return nil, err
	}
	if err := s.reach(g.at); err != nil {
		return nil, err
	}
	return answer(s.get(ctx, &g))
}

// answer turns into an answer why there is none, where its kind matters to a client on
// another node: an error of a handler arrives there as text.
func answer(b []byte, err error) ([]byte, error) {
	var no *Refusal
	var old *TooOldError
	switch {
	case errors.As(err, &no):
		return appendRefusal(nil, no), nil
	case errors.As(err, &old):
		return appendTooOld(nil, old), nil
	}
	return b, err
}

// get reads a key at a timestamp: the version that is there, when that was written, and
// when the latest was that is above it and not above the horizon.
func (s *seat) get(ctx context.Context, g *getRequest) ([]byte, error) {
	want := []latch.Want{latch.Point(g.key, latch.Read)}
	for {
		guard, err := s.latches.Acquire(ctx, want)
		if err != nil {
			return nil, err
		}
		seen, in, err := s.meet(&g.look, s.store.Intents(g.key))
		if in != nil || err != nil {
			guard.Release()
			if err == nil {
				err = s.await(ctx, in, g.txn)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		s.reads.Read(g.key, g.at, g.txn)
		b, err := s.readKey(g, seen)
		guard.Release()
		if err != nil {
			return nil, err
		}
		return b, s.holds()
	}
}

// readKey reads a key, of which seen is committed and not yet a version.
func (s *seat) readKey(g *getRequest, seen *mvcc.Version) ([]byte, error) {
	if err := s.readable(g.at); err != nil {
		return nil, err
	}
	r, err := s.store.Reader()
	if err != nil {
		return nil, err
	}
	v, above, err := r.Get(g.key, g.at, g.horizon)
	if seen != nil && seen.TS <= g.at && seen.TS > v.TS {
		v = *seen
	} else if seen != nil && seen.TS > g.at {
		above = max(above, seen.TS)
	}
	b := appendVersion(appendTS([]byte{said}, above), &v)
	return b, errors.Join(err, r.Close())
}

// readable refuses what was given up.
func (s *seat) readable(at hlc.Timestamp) error {
	if t := s.store.State().Threshold; at < t {
		return &TooOldError{Shard: uint64(s.r.Shard()), At: at, Threshold: t}
	}
	return nil
}

// meet looks at the intents of a key that somebody reads: it returns one that has to be
// waited for, or what one is that is known to be committed.
func (s *seat) meet(l *look, list []*mvcc.Intent) (seen *mvcc.Version, in *mvcc.Intent, err error) {
	for _, i := range list {
		if i.TS > max(l.at, l.horizon) || i.Txn.Key == l.txn {
			continue
		}
		ts, known := s.known(i.Txn.Key)
		switch {
		case !known || i.Write.Kind == mvcc.Add:
			return nil, i, nil
		case ts > max(l.at, l.horizon):
		default:
			seen = &mvcc.Version{TS: ts, Writer: i.Txn.Key, Deleted: i.Write.Kind == mvcc.Delete, Value: i.Write.Value}
		}
	}
	return seen, nil, nil
}

func (p *Participant) serveScan(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	g, err := parseScan(q.Body)
	if err != nil {
		return nil, err
	}
	if err := s.reach(g.at); err != nil {
		return nil, err
	}
	return answer(s.scan(ctx, &g))
}

// scan reads a span at a timestamp, or as much of it as goes into one answer.
func (s *seat) scan(ctx context.Context, g *scanRequest) ([]byte, error) {
	want := []latch.Want{latch.Span(g.span.Start, g.span.End, latch.Read)}
	for {
		guard, err := s.latches.Acquire(ctx, want)
		if err != nil {
			return nil, err
		}
		var in *mvcc.Intent
		s.store.IntentsIn(g.span.Start, g.span.End, func(i *mvcc.Intent) bool {
			if i.TS <= max(g.at, g.horizon) && i.Txn.Key != g.txn {
				if ts, known := s.known(i.Txn.Key); !known || ts <= max(g.at, g.horizon) {
					in = i
				}
			}
			return in == nil
		})
		if in != nil {
			guard.Release()
			if err := s.await(ctx, in, g.txn); err != nil {
				return nil, err
			}
			continue
		}
		b, err := s.readSpan(g)
		guard.Release()
		if err != nil {
			return nil, err
		}
		return b, s.holds()
	}
}

func (s *seat) readSpan(g *scanRequest) ([]byte, error) {
	if err := s.readable(g.at); err != nil {
		return nil, err
	}
	r, err := s.store.Reader()
	if err != nil {
		return nil, err
	}
	rows, n, next := []byte(nil), 0, ""
	above, err := r.Scan(g.span.Start, g.span.End, g.at, g.horizon, func(key string, v *mvcc.Version) bool {
		if n == g.limit && n > 0 || len(rows) >= maxScanBytes {
			next = key
			return false
		}
		n++
		rows = appendVersion(codec.AppendText(rows, key), v)
		return true
	})
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	read := g.span
	if next != "" {
		read.End = next
	}
	s.noteRead(read, g.at, g.txn)
	b := codec.AppendText(appendTS([]byte{said}, above), next)
	return append(b, rows...), nil
}

func (p *Participant) serveLock(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	g, err := parseLock(q.Body)
	if err != nil {
		return nil, err
	}
	if err := s.reach(g.at); err != nil {
		return nil, err
	}
	return answer(s.lock(ctx, &g))
}

// lock takes a lock and reads what is there then, which may be later than the
// transaction's snapshot: it is for that to say whether it can go by it.
func (s *seat) lock(ctx context.Context, g *lockRequest) ([]byte, error) {
	stop := s.chase(ctx, g.txn)
	err := s.locks.Acquire(ctx, g.txn, g.key, g.mode)
	stop()
	if err != nil {
		return nil, refusalOf(err)
	}
	guard, err := s.latches.Acquire(ctx, []latch.Want{latch.Point(g.key, latch.Read)})
	if err != nil {
		return nil, err
	}
	defer guard.Release()
	if err := s.free(g.txn, g.key, false); err != nil {
		return nil, err
	}
	r, err := s.store.Reader()
	if err != nil {
		return nil, err
	}
	v, _, err := r.Get(g.key, hlc.Max, 0)
	s.reads.Read(g.key, max(g.at, v.TS), g.txn)
	b := appendVersion(appendTS([]byte{said}, 0), &v)
	return b, errors.Join(err, r.Close(), s.holds())
}

// refusalOf turns what the lock table says into what a client is told.
func refusalOf(err error) error {
	var wounded *lock.WoundedError
	var died *lock.DieError
	var conflict *lock.ConflictError
	var deadlock *lock.DeadlockError
	switch {
	case errors.As(err, &wounded):
		return &Refusal{Reason: Wounded, Key: wounded.Key, By: wounded.By}
	case errors.As(err, &died):
		return &Refusal{Reason: Died, Key: died.Key, By: died.By}
	case errors.As(err, &conflict):
		return &Refusal{Reason: Conflict, Key: conflict.Key, By: conflict.Holder}
	case errors.As(err, &deadlock):
		return &Refusal{Reason: Deadlock}
	}
	return err
}

func (p *Participant) serveCheck(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	c, err := parseCheck(q.Body)
	if err != nil {
		return nil, err
	}
	if err := s.reach(c.at); err != nil {
		return nil, err
	}
	want := make([]latch.Want, len(c.spans))
	for i, sp := range c.spans {
		want[i] = latch.Span(sp.Start, sp.End, latch.Read)
	}
	guard, err := s.latches.Acquire(ctx, want)
	if err != nil {
		return nil, err
	}
	defer guard.Release()
	if err := s.check(c.txn, c.spans, c.after, c.at); err != nil {
		return answer(nil, err)
	}
	return []byte{said}, s.holds()
}

// noteRead has nobody write into a span that was read at a timestamp.
func (s *seat) noteRead(sp meta.Span, at hlc.Timestamp, by id.Key) {
	if sp == point(sp.Start) {
		s.reads.Read(sp.Start, at, by)
		return
	}
	s.reads.ReadSpan(sp.Start, sp.End, at, by)
}

// check refuses if what a transaction read at one timestamp is not the same at another.
// If it is, it stays so. The caller has latches on the spans.
func (s *seat) check(txn id.Key, spans []meta.Span, after, at hlc.Timestamp) error {
	for _, sp := range spans {
		var met *mvcc.Intent
		s.store.IntentsIn(sp.Start, sp.End, func(i *mvcc.Intent) bool {
			if i.Txn.Key != txn && i.TS <= at {
				if ts, known := s.known(i.Txn.Key); !known || ts <= at {
					met = i
				}
			}
			return met == nil
		})
		if met != nil {
			return &Refusal{Reason: Conflict, Key: met.Write.Key, By: met.Txn.Key, TS: met.TS}
		}
		s.noteRead(sp, at, txn)
	}
	r, err := s.store.Reader()
	if err != nil {
		return err
	}
	for _, sp := range spans {
		ts, err := r.Changed(sp.Start, sp.End, after, at, txn)
		if err == nil && ts != 0 {
			err = &Refusal{Reason: Conflict, Key: sp.Start, TS: ts}
		}
		if err != nil {
			return errors.Join(err, r.Close())
		}
	}
	return r.Close()
}
