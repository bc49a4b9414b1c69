package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// coverKeys is the span of all keys.
func coverKeys(keys []string) meta.Span {
	return meta.Span{Start: slices.Min(keys), End: slices.Max(keys) + "\x00"}
}

// outcome finds out how a transaction has ended, and ends it if it has not.
func (p *Participant) outcome(ctx context.Context, txn id.Txn) (Outcome, error) {
	n := p.node.Load()
	body := (&endRequest{txn: txn, force: true}).encode()
	var f finding
	err := p.persist(ctx, func() error {
		b, err := n.Call(ctx, serviceQuery, txn.Anchor, body)
		if err == nil {
			f, err = parseFinding(serviceQuery, b)
		}
		return err
	})
	if err != nil {
		return Outcome{}, err
	}
	if f.status == mvcc.Staging {
		if f, err = p.recover(ctx, txn, f); err != nil {
			return Outcome{}, err
		}
	}
	switch {
	case f.status == mvcc.Committed:
		return Outcome{Committed: true, TS: f.ts}, nil
	case f.expired:
		return Outcome{}, fmt.Errorf("txn: outcome of %v: %w", txn, ErrOutcomeExpired)
	}
	return Outcome{}, nil
}

// recover ends a transaction whose record is staging: it is committed if all that it
// promised is there, and otherwise never will be.
func (p *Participant) recover(ctx context.Context, txn id.Txn, f finding) (finding, error) {
	at, commit := f.ts, true
	for keys := f.promised; len(keys) > 0; {
		home, _ := p.node.Load().Locate(keys[0])
		some := slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return !home.Span.Contains(k) })
		if len(some) == 0 {
			some = keys[:1]
		}
		states, stamps, err := p.prevent(ctx, txn, some)
		if errors.Is(err, cluster.ErrSplit) {
			continue
		}
		if err != nil {
			return finding{}, err
		}
		for i, s := range states {
			switch {
			case s == keyApplied:
				return p.decide(ctx, txn, stamps[i], f.promised) // it was committed at that
			case s == keyPrevented, !f.float && stamps[i] > f.ts:
				commit = false
			}
			at = max(at, stamps[i])
		}
		keys = slices.DeleteFunc(slices.Clone(keys), func(k string) bool { return slices.Contains(some, k) })
	}
	if !commit {
		at = 0
	}
	return p.decide(ctx, txn, at, f.promised)
}

// prevent asks one shard what of a transaction is at keys.
func (p *Participant) prevent(ctx context.Context, txn id.Txn, keys []string) (states []keyState, stamps []hlc.Timestamp, err error) {
	body := (&endRequest{txn: txn, keys: keys}).encode()
	err = p.persist(ctx, func() error {
		b, err := p.node.Load().CallSpan(ctx, servicePrevent, coverKeys(keys), body)
		if err == nil {
			states, stamps, err = parsePrevented(b)
		}
		return err
	})
	if err == nil && len(states) != len(keys) {
		err = fmt.Errorf("txn: %s: %d answers to %d keys", servicePrevent, len(states), len(keys))
	}
	return states, stamps, err
}

// recoverHere ends a transaction that others have waited for long enough, and its
// intents here.
func (s *seat) recoverHere(p *push) {
	o, err := s.p.outcome(s.life, p.txn)
	if err != nil && !errors.Is(err, ErrOutcomeExpired) {
		s.p.o.Logger.Debug("txn: recover", "txn", p.txn, "err", err)
		return
	}
	// One that is forgotten has no intents that were committed: they go first.
	ts := hlc.Timestamp(0)
	if o.Committed {
		ts = o.TS
	}
	var keys []string
	for _, i := range s.store.IntentsOf(p.txn.Key) {
		keys = append(keys, i.Write.Key)
	}
	if len(keys) == 0 {
		return
	}
	if err := s.resolve(p.txn.Key, ts, keys, nil); err != nil {
		s.p.o.Logger.Debug("txn: recover", "txn", p.txn, "err", err)
	}
}
