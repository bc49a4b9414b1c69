package txn

import (
	"context"
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/latch"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A writeRequest has a shard write, or promise to, what a transaction writes in it.
type writeRequest struct {
	txn  id.Txn
	mode writeMode
	// at is the timestamp that the commit should have, and read the one at which the
	// transaction has read. rigid says that the commit can have no later one without
	// another look at what was read.
	at, read hlc.Timestamp
	rigid    bool
	// alone says that nobody else may have written since read what is written here.
	alone bool
	// spans were read, and must be the same at the timestamp of the commit.
	spans    []meta.Span
	writes   []mvcc.Write // by key, no key twice
	promised []string     // with modeStage
}

// A writeMode is what comes of the writes.
type writeMode byte

const (
	modeCommit  writeMode = iota // versions: the transaction is committed
	modePrepare                  // intents
	modeStage                    // intents, and the record
)

// A held is what a request has while it is evaluated.
type held struct {
	s     *seat
	guard latch.Guard
	txn   id.Key
	keys  []string // at which it has taken locks that end with it
}

func (h *held) release() {
	// Locks that stand for intents stay.
	h.keys = slices.DeleteFunc(h.keys, func(key string) bool { return h.s.intent(h.txn, key) != nil })
	h.guard.Release()
	if len(h.keys) > 0 {
		h.s.locks.Release(h.txn, h.keys...)
	}
}

// acquire takes the locks and latches that a write needs.
func (s *seat) acquire(ctx context.Context, w *writeRequest) (*held, error) {
	var add, other []string
	want := make([]latch.Want, 0, len(w.writes)+len(w.spans)+1)
	for i := range w.writes {
		k := w.writes[i].Kind
		if k == mvcc.Add {
			add = append(add, w.writes[i].Key)
		} else {
			other = append(other, w.writes[i].Key)
		}
		want = append(want, latch.Point(w.writes[i].Key, latchMode(k)))
	}
	for _, sp := range w.spans {
		if sp == point(sp.Start) {
			want = append(want, latch.Point(sp.Start, latch.Read))
		} else {
			want = append(want, latch.Span(sp.Start, sp.End, latch.Read))
		}
	}
	if s.span.Contains(w.txn.Anchor) && !slices.Contains(w.keys(), w.txn.Anchor) {
		want = append(want, latch.Point(w.txn.Anchor, latch.Write)) // it was another shard's when the parts were made
	}
	h := &held{s: s, txn: w.txn.Key}
	defer s.chase(ctx, w.txn.Key)()
	for mode, keys := range map[lock.Mode][]string{lock.Add: add, lock.Exclusive: other} {
		if len(keys) == 0 {
			continue
		}
		if err := s.locks.AcquireAll(ctx, w.txn.Key, keys, mode); err != nil {
			h.release()
			return nil, refusalOf(err)
		}
		h.keys = append(h.keys, keys...)
	}
	var err error
	if h.guard, err = s.latches.Acquire(ctx, want); err == nil {
		err = s.freeAll(w)
	}
	if err != nil {
		h.release()
		return nil, err
	}
	return h, nil
}

// freeAll is free of all that is written.
func (s *seat) freeAll(w *writeRequest) error {
	for i := range w.writes {
		if err := s.free(w.txn.Key, w.writes[i].Key, w.writes[i].Kind == mvcc.Add); err != nil {
			return err
		}
	}
	return nil
}

// free refuses a key where others have intents that do not go with what a transaction
// wants there, which is to add or to be alone. Who was wounded between its locks and its
// latches has lost the locks, and the one who has them since may have laid intents
// already.
func (s *seat) free(txn id.Key, key string, add bool) error {
	for _, in := range s.store.Intents(key) {
		if in.Txn.Key != txn && !(add && in.Write.Kind == mvcc.Add) {
			s.pushTxn(in.Txn, txn)
			return &Refusal{Reason: Wounded, Key: key, By: in.Txn.Key}
		}
	}
	return nil
}

// maxTries bounds how often a write is evaluated anew because its timestamp was too
// low when it came to be carried out.
const maxTries = 16

// commit carries out all that a transaction writes, at once: it is committed when it
// is applied. It returns at which timestamp.
func (s *seat) commit(ctx context.Context, w *writeRequest) (hlc.Timestamp, error) {
	h, err := s.acquire(ctx, w)
	if err != nil {
		return 0, err
	}
	defer h.release()
	keys := w.keys()
	for range maxTries {
		l, err := s.look(w.txn, keys)
		if err != nil {
			return 0, err
		}
		if ts, err := w.settled(&l); ts != 0 || err != nil {
			return ts, err
		}
		at := s.floor(w, &l)
		if w.rigid && at > w.at {
			return 0, &Refusal{Reason: pushed, TS: at}
		}
		if err := s.check(w.txn.Key, w.spans, w.read, at); err != nil {
			return 0, err
		}
		hd := s.header()
		hd.Writer, hd.TS, hd.Float = w.txn.Key, at, !w.rigid && len(w.spans) == 0
		if len(w.spans) > 0 {
			hd.Reads = s.ahead(at)
		}
		c := mvcc.AppendHeader(make([]byte, 0, 64+32*len(w.writes)), &hd)
		for i := range w.writes {
			c = mvcc.AppendWrite(c, &w.writes[i])
		}
		a, err := s.propose(c)
		if err != nil {
			return 0, err
		}
		if a.Verdict == mvcc.TooLow {
			w.at = max(w.at, a.TS.Next())
			if w.rigid {
				return 0, &Refusal{Reason: pushed, TS: w.at}
			}
			continue
		}
		if err := s.refusal(a, w); err != nil {
			return 0, err
		}
		return max(at, a.TS), nil
	}
	return 0, &Refusal{Reason: Conflict, Key: w.writes[0].Key, TS: w.at}
}

// refusal turns a verdict about writes into what a client is told.
func (s *seat) refusal(a mvcc.Answer, w *writeRequest) error {
	if a.Verdict == mvcc.OutOfRange {
		return s.outOfRange(w)
	}
	return refusalBy(a, w.writes)
}

// outOfRange says at which counter an addition would be out of range, whatever comes of
// those that others have under way. If there is none, it is those that are in the way:
// they may have been committed already, and soon tell.
func (s *seat) outOfRange(w *writeRequest) error {
	var met *mvcc.Intent
	var sole []mvcc.Write
	var keys []string
	for i := range w.writes {
		wr := &w.writes[i]
		if wr.Kind != mvcc.Add {
			continue
		}
		others := slices.DeleteFunc(slices.Clone(s.store.Intents(wr.Key)), func(in *mvcc.Intent) bool { return in.Txn.Key == w.txn.Key })
		if len(others) == 0 {
			sole, keys = append(sole, *wr), append(keys, wr.Key)
			continue
		}
		met = others[0]
		for _, in := range others {
			s.pushTxn(in.Txn, w.txn.Key)
		}
	}
	l, err := s.look(w.txn, keys) // behind the intents, so that none is missed
	if err != nil {
		return err
	}
	for i := range sole {
		if l.Keys[i].Intent != 0 {
			continue // its own stands already
		}
		if n, ok := mvcc.Counter(&l.latest[i]); !ok || !inRange(n, &sole[i]) {
			return &Refusal{Reason: OutOfRange, Key: sole[i].Key}
		}
	}
	if met == nil {
		return &Refusal{Reason: Conflict, Key: w.writes[0].Key} // they have ended since
	}
	return &Refusal{Reason: Conflict, Key: met.Write.Key, By: met.Txn.Key, TS: met.TS}
}

// inRange says whether an addition keeps a counter on the near side of its bound.
func inRange(n int64, w *mvcc.Write) bool {
	sum := n + w.Delta
	if w.Delta < 0 {
		return sum < n && sum >= w.Min
	}
	return sum >= n && sum <= w.Max
}

// refusalBy turns a verdict into what a client is told.
func refusalBy(a mvcc.Answer, writes []mvcc.Write) error {
	key := ""
	if i := slices.IndexFunc(writes, func(w mvcc.Write) bool { return w.Kind == mvcc.Add }); i >= 0 {
		key = writes[i].Key
	}
	switch a.Verdict {
	case mvcc.Done:
		return nil
	case mvcc.Fenced:
		return &Refusal{Reason: Fenced}
	case mvcc.Expired:
		return &Refusal{Reason: Expired}
	case mvcc.NoCounter:
		return &Refusal{Reason: NoCounter, Key: key}
	}
	return fmt.Errorf("txn: a command was %v", a.Verdict)
}

// settled returns when writes have been carried out already, 0 if they have not, and
// refuses those that must not be.
func (w *writeRequest) settled(l *sight) (hlc.Timestamp, error) {
	if l.Record.Status == commit.Aborted {
		return 0, &Refusal{Reason: Recovered}
	}
	for i := range l.Keys {
		if ts := l.Keys[i].Applied; ts != 0 {
			return ts, nil
		}
	}
	if no := w.contested(l); no != nil {
		return 0, no
	}
	return 0, nil
}

func (w *writeRequest) keys() []string {
	list := make([]string, len(w.writes))
	for i := range w.writes {
		list[i] = w.writes[i].Key
	}
	return list
}

func (p *Participant) serveWrite(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	w, err := parseWrite(q.Body)
	if err != nil {
		return nil, err
	}
	if err := p.observe(w.at); err != nil {
		return nil, err
	}
	if w.mode != modeCommit {
		return s.servePrepare(ctx, &w)
	}
	ts, err := s.commit(ctx, &w)
	return answer(appendTS([]byte{said}, ts), err)
}
