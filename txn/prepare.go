package txn

import (
	"context"
	"errors"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/latch"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// prepare lays the intents of what a transaction writes here, and its record with
// modeStage, in one step. It returns the lowest timestamp at which they can be
// committed. It may be asked again.
func (s *seat) prepare(ctx context.Context, w *writeRequest) (hlc.Timestamp, error) {
	h, err := s.acquire(ctx, w)
	if err != nil {
		return 0, err
	}
	ts, err := s.lay(w)
	if err == nil {
		h.keys = nil // they stay, for the intents
	}
	h.release()
	return ts, err
}

// lay lays intents, under latches and locks.
func (s *seat) lay(w *writeRequest) (hlc.Timestamp, error) {
	asked := w.at // the record's, whatever this shard needs
	for range maxTries {
		if ts, err := s.laid(w); ts != 0 || err != nil {
			return ts, err
		}
		b, err := s.base(w)
		if err != nil {
			return 0, err
		}
		if b.wrote != 0 {
			return 0, &Refusal{Reason: already, TS: b.wrote}
		}
		if err := s.check(w.txn.Key, w.spans, w.read, b.at); err != nil {
			return 0, err
		}
		if err := s.own(w); err != nil {
			return 0, refusalOf(err)
		}
		hd := s.header()
		hd.Writer, hd.TS = w.txn.Key, b.at
		c := mvcc.AppendHeader(make([]byte, 0, 128+64*len(w.writes)), &hd)
		for i := range w.writes {
			c = mvcc.AppendLay(c, w.txn.Anchor, &w.writes[i])
		}
		if w.mode == modeStage {
			c = mvcc.AppendRecord(c, &mvcc.Record{Txn: w.txn, Status: mvcc.Staging, TS: asked, Float: !w.rigid, Promised: w.promised})
		}
		a, err := s.propose(c)
		if err != nil {
			return 0, err
		}
		if a.Verdict != mvcc.TooLow {
			return b.at, refusalBy(a, w)
		}
		w.at = max(w.at, a.TS.Next())
	}
	return 0, &Refusal{Reason: Conflict, Key: w.writes[0].Key, TS: w.at}
}

// laid returns the timestamp of intents that are there already, and refuses those that
// must not be laid any more.
func (s *seat) laid(w *writeRequest) (hlc.Timestamp, error) {
	if w.txn.Anchor == w.writes[0].Key || s.span.Contains(w.txn.Anchor) {
		if err := s.notAborted(w.txn); err != nil {
			return 0, err
		}
	}
	ts, there := hlc.Timestamp(0), 0
	for i := range w.writes {
		barred, err := s.store.Barred(w.txn.Key, w.writes[i].Key)
		if err != nil {
			return 0, err
		}
		if barred {
			return 0, &Refusal{Reason: Recovered, Key: w.writes[i].Key}
		}
		for _, in := range s.store.Intents(w.writes[i].Key) {
			if in.Txn.Key == w.txn.Key {
				there++
				ts = max(ts, in.TS)
			}
		}
	}
	if there < len(w.writes) {
		return 0, nil
	}
	return ts, nil
}

// own has the locks stand for intents that are about to be laid.
func (s *seat) own(w *writeRequest) error {
	for i := range w.writes {
		if err := s.locks.Prepare(w.txn.Key, lockMode(w.writes[i].Kind), w.writes[i].Key); err != nil {
			return err
		}
	}
	return nil
}

// A keyState is what recovery finds at a key.
type keyState byte

const (
	keyPrevented keyState = iota // no intent, and never will be
	keyPresent                   // an intent, that may be committed at ts or later
	keyApplied                   // a version at ts
)

// prevent finds out what of a transaction is at keys, and sees to it that nothing comes
// where there is nothing.
func (s *seat) prevent(ctx context.Context, txn id.Txn, keys []string) (states []keyState, stamps []hlc.Timestamp, err error) {
	// Those of its requests that wait for locks will find out.
	s.locks.Abort(txn.Key, &lock.WoundedError{Owner: txn.Key, Key: keys[0]})
	guard, err := s.latches.Acquire(ctx, points(keys))
	if err != nil {
		return nil, nil, err
	}
	defer guard.Release()
	r, err := s.store.Reader()
	if err != nil {
		return nil, nil, err
	}
	h := s.header()
	c := mvcc.AppendHeader(nil, &h)
	barred := false
	for _, key := range keys {
		state, ts := keyPrevented, hlc.Timestamp(0)
		for _, in := range s.store.Intents(key) {
			if in.Txn.Key == txn.Key {
				state, ts = keyPresent, in.TS
			}
		}
		if state == keyPrevented {
			_, wrote, err := r.Latest(key, txn.Key)
			if err != nil {
				return nil, nil, errors.Join(err, r.Close())
			}
			if wrote != 0 {
				state, ts = keyApplied, wrote
			} else {
				barred = true
				c = mvcc.AppendBar(c, txn.Key, key)
			}
		}
		states, stamps = append(states, state), append(stamps, ts)
	}
	if err := r.Close(); err != nil {
		return nil, nil, err
	}
	if barred {
		if a, err := s.propose(c); err != nil || a.Verdict != mvcc.Done {
			return nil, nil, errors.Join(err, refusalBy(a, &writeRequest{}))
		}
	}
	return states, stamps, s.holds()
}

func points(keys []string) []latch.Want {
	want := make([]latch.Want, len(keys))
	for i, key := range keys {
		want[i] = latch.Point(key, latch.Write)
	}
	return want
}

// A finding is what the shard of the anchor knows of a transaction.
type finding struct {
	status   mvcc.Status // 0: nothing
	expired  bool        // nothing, and it may have been forgotten
	ts       hlc.Timestamp
	float    bool
	promised []string
}

// find looks a transaction up at its anchor. The caller has a latch on that.
func (s *seat) find(txn id.Txn) (finding, error) {
	rec, err := s.store.Record(txn)
	if err != nil {
		return finding{}, err
	}
	if rec != nil {
		return finding{status: rec.Status, ts: rec.TS, float: rec.Float, promised: rec.Promised}, nil
	}
	r, err := s.store.Reader()
	if err != nil {
		return finding{}, err
	}
	_, wrote, err := r.Latest(txn.Anchor, txn.Key)
	if err = errors.Join(err, r.Close()); err != nil {
		return finding{}, err
	}
	if wrote != 0 {
		return finding{status: mvcc.Committed, ts: wrote}, nil
	}
	return finding{expired: txn.Start <= s.store.State().Threshold}, nil
}

// query finds out how a transaction stands. One of which nothing is known is aborted,
// if force says so, so that the answer stays true.
func (s *seat) query(ctx context.Context, txn id.Txn, force bool) (finding, error) {
	if force {
		s.locks.Abort(txn.Key, &lock.WoundedError{Owner: txn.Key, Key: txn.Anchor})
	}
	guard, err := s.latches.Acquire(ctx, points([]string{txn.Anchor}))
	if err != nil {
		return finding{}, err
	}
	defer guard.Release()
	f, err := s.find(txn)
	if err != nil || f.status != 0 || f.expired || !force {
		return f, errors.Join(err, s.holds())
	}
	return s.record(txn, 0, nil, false)
}

// decide ends a transaction: it is committed at ts, or aborted if that is zero, unless
// it has ended already. It returns how it has.
func (s *seat) decide(ctx context.Context, txn id.Txn, ts hlc.Timestamp, promised []string) (finding, error) {
	guard, err := s.latches.Acquire(ctx, points([]string{txn.Anchor}))
	if err != nil {
		return finding{}, err
	}
	defer guard.Release()
	f, err := s.find(txn)
	switch {
	case err != nil:
		return f, err
	case f.status == mvcc.Committed || f.status == mvcc.Aborted:
		return f, s.holds()
	case f.expired:
		return f, s.holds()
	}
	return s.record(txn, ts, promised, f.status == 0)
}

// record makes the record that ends a transaction, and ends its intents in this shard in
// the same step. fresh says that there is none that it replaces.
func (s *seat) record(txn id.Txn, ts hlc.Timestamp, promised []string, fresh bool) (finding, error) {
	h := s.header()
	rec := &mvcc.Record{Txn: txn, Status: mvcc.Aborted}
	if ts != 0 {
		rec.Status, rec.TS, rec.Promised = mvcc.Committed, ts, promised
		if fresh {
			h.Writer = txn.Key // not if it was fenced, or is too old
		}
	}
	c := mvcc.AppendRecord(mvcc.AppendHeader(nil, &h), rec)
	var keys []string
	for _, in := range s.store.IntentsOf(txn.Key) {
		keys = append(keys, in.Write.Key)
		c = mvcc.AppendResolve(c, txn.Key, in.Write.Key, ts)
	}
	a, err := s.propose(c)
	if err == nil {
		err = refusalBy(a, &writeRequest{})
	}
	if err != nil {
		return finding{}, err
	}
	s.locks.Release(txn.Key, keys...)
	return finding{status: rec.Status, ts: ts, promised: promised}, nil
}

// resolve ends a transaction's intents at keys: they are versions at ts, or nothing if
// that is zero. The transaction has ended that way.
func (s *seat) resolve(txn id.Key, ts hlc.Timestamp, keys []string, forget *id.Txn) error {
	h := s.header()
	c := mvcc.AppendHeader(make([]byte, 0, 64+48*len(keys)), &h)
	for _, key := range keys {
		c = mvcc.AppendResolve(c, txn, key, ts)
	}
	if forget != nil {
		c = mvcc.AppendForget(c, *forget)
	}
	a, err := s.propose(c)
	if err == nil {
		err = refusalBy(a, &writeRequest{})
	}
	if err != nil {
		return err
	}
	s.locks.Release(txn, keys...)
	return nil
}
