package txn

import (
	"context"
	"errors"
	"slices"

	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/latch"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A sight is what a seat knows of a transaction, and of keys, while it has their latches.
type sight struct {
	commit.Local
	latest []mvcc.Version // of the keys, by whomever
}

// look looks at a transaction and at keys. The caller has their latches, and that of the
// anchor if it lives here.
func (s *seat) look(txn id.Txn, keys []string) (l sight, err error) {
	st := s.store.State()
	l.Edge, l.Fenced = st.Threshold.Next(), st.Fenced(txn.Node, txn.Epoch)
	l.Keys, l.latest = make([]commit.Key, len(keys)), make([]mvcc.Version, len(keys))
	var r *mvcc.Reader
	defer func() {
		if r != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	latest := func(key string) (v mvcc.Version, wrote hlc.Timestamp, err error) {
		if r == nil {
			if r, err = s.store.Reader(); err != nil {
				return v, 0, err
			}
		}
		return r.Latest(key, txn.Key)
	}
	for i, key := range keys {
		k := &l.Keys[i]
		if in := s.intent(txn.Key, key); in != nil {
			k.Intent = in.TS
			continue // so there is no version of it, and it was not buried
		}
		if l.latest[i], k.Applied, err = latest(key); err != nil {
			return l, err
		}
		if k.Buried, err = s.store.Barred(txn.Key, key); err != nil {
			return l, err
		}
		if key == txn.Anchor {
			l.Anchored = k.Applied
		}
	}
	if !s.span.Contains(txn.Anchor) {
		return l, nil
	}
	rec, err := s.store.Record(txn)
	switch {
	case err != nil:
	case rec != nil:
		l.Record = commit.Record{Status: commit.Status(rec.Status), TS: rec.TS, Floating: rec.Float, Keys: rec.Promised}
		if rec.Status == mvcc.Aborted {
			l.Record.Reason = commit.Prevented // which is not kept
		}
	case !slices.Contains(keys, txn.Anchor):
		_, l.Anchored, err = latest(txn.Anchor)
	}
	return l, err
}

// intent is that of a transaction at a key, nil if it has none.
func (s *seat) intent(txn id.Key, key string) *mvcc.Intent {
	for _, in := range s.store.Intents(key) {
		if in.Txn.Key == txn {
			return in
		}
	}
	return nil
}

// wants are the latches of whoever may change what there is at keys, and the record of a
// transaction if that lives here.
func (s *seat) wants(txn id.Txn, keys []string) []latch.Want {
	list := make([]latch.Want, 0, len(keys)+1)
	for _, key := range keys {
		list = append(list, latch.Point(key, latch.Write))
	}
	if s.span.Contains(txn.Anchor) && !slices.Contains(keys, txn.Anchor) {
		list = append(list, latch.Point(txn.Anchor, latch.Write))
	}
	return list
}

// judge looks at a transaction and at keys, and has carried out what fn says.
func (s *seat) judge(ctx context.Context, txn id.Txn, keys []string, fn func(commit.Local) commit.Effect) error {
	guard, err := s.latches.Acquire(ctx, s.wants(txn, keys))
	if err != nil {
		return err
	}
	defer guard.Release()
	for {
		l, err := s.look(txn, keys)
		if err != nil {
			return err
		}
		e := fn(l.Local)
		if e.Empty() {
			return s.holds()
		}
		h := s.header()
		if e.Put.Status == commit.Committed && l.Record.Status == commit.Pending {
			h.Writer = txn.Key // not if it was fenced in between, or is too old by now
		}
		a, err := s.propose(appendEffect(mvcc.AppendHeader(make([]byte, 0, 256), &h), txn, &e))
		switch {
		case err == nil && (a.Verdict == mvcc.Fenced || a.Verdict == mvcc.Expired):
			continue // which stays, and is seen now
		case err == nil:
			err = refusalBy(a, nil)
		}
		if err == nil {
			s.locks.Release(txn.Key, slices.Concat(e.Commit, e.Drop)...)
		}
		return err
	}
}

// appendEffect appends what an effect has, but for the intents that it lays.
func appendEffect(b []byte, txn id.Txn, e *commit.Effect) []byte {
	for _, key := range e.Commit {
		b = mvcc.AppendResolve(b, txn.Key, key, e.CommitTS)
	}
	for _, key := range e.Drop {
		b = mvcc.AppendResolve(b, txn.Key, key, 0)
	}
	for _, key := range e.Bury {
		b = mvcc.AppendBar(b, txn.Key, key)
	}
	if r := &e.Put; r.Status != commit.Pending {
		b = mvcc.AppendRecord(b, &mvcc.Record{Txn: txn, Status: mvcc.Status(r.Status), TS: r.TS, Float: r.Floating, Promised: r.Keys})
	}
	if e.Forget {
		b = mvcc.AppendForget(b, txn)
	}
	return b
}

// floor is the lowest timestamp at which writes can be made, whatever they are asked to
// have.
func (s *seat) floor(w *writeRequest, l *sight) hlc.Timestamp {
	at := max(w.at, s.store.State().Closed.Next())
	for i := range w.writes {
		wr := &w.writes[i]
		at = max(at, s.reads.Max(wr.Key, w.txn.Key).Next())
		if wr.Kind != mvcc.Add {
			at = max(at, l.latest[i].TS.Next())
		}
	}
	return at
}

// contested refuses writes that others have been ahead of.
func (w *writeRequest) contested(l *sight) *Refusal {
	if !w.alone {
		return nil
	}
	for i := range w.writes {
		if v := &l.latest[i]; w.writes[i].Kind != mvcc.Add && v.TS > w.read && l.Keys[i].Intent == 0 {
			return &Refusal{Reason: Conflict, Key: w.writes[i].Key, By: v.Writer, TS: v.TS}
		}
	}
	return nil
}
