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
	h := &held{s: s, txn: w.txn.Key}
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
	if h.guard, err = s.latches.Acquire(ctx, want); err != nil {
		h.release()
		return nil, err
	}
	return h, nil
}

// A base is what a write stands on.
type base struct {
	at    hlc.Timestamp // the lowest timestamp that it may have
	wrote hlc.Timestamp // when it was carried out already, 0: it was not
}

// base finds out at which timestamp writes can be made. It refuses those that others
// have been ahead of.
func (s *seat) base(w *writeRequest) (b base, err error) {
	r, err := s.store.Reader()
	if err != nil {
		return b, err
	}
	b.at = max(w.at, s.store.State().Closed.Next())
	for i := range w.writes {
		wr := &w.writes[i]
		latest, wrote, err := r.Latest(wr.Key, w.txn.Key)
		switch {
		case err != nil:
			return b, errors.Join(err, r.Close())
		case wrote != 0:
			b.wrote = wrote
			return b, r.Close()
		case w.alone && wr.Kind != mvcc.Add && latest.TS > w.read:
			return b, errors.Join(&Refusal{Reason: Conflict, Key: wr.Key, By: latest.Writer, TS: latest.TS}, r.Close())
		}
		b.at = max(b.at, s.reads.Max(wr.Key, w.txn.Key).Next())
		if wr.Kind != mvcc.Add {
			b.at = max(b.at, latest.TS.Next())
		}
	}
	return b, r.Close()
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
	for range maxTries {
		if err := s.notAborted(w.txn); err != nil {
			return 0, err
		}
		b, err := s.base(w)
		if err != nil || b.wrote != 0 {
			return b.wrote, err
		}
		if w.rigid && b.at > w.at {
			return 0, &Refusal{Reason: pushed, TS: b.at}
		}
		if err := s.check(w.txn.Key, w.spans, w.read, b.at); err != nil {
			return 0, err
		}
		hd := s.header()
		hd.Writer, hd.TS, hd.Float = w.txn.Key, b.at, !w.rigid && len(w.spans) == 0
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
		if err := refusalBy(a, w); err != nil {
			return 0, err
		}
		return max(b.at, a.TS), nil
	}
	return 0, &Refusal{Reason: Conflict, Key: w.writes[0].Key, TS: w.at}
}

// refusalBy turns a verdict into what a client is told.
func refusalBy(a mvcc.Answer, w *writeRequest) error {
	key := ""
	if i := slices.IndexFunc(w.writes, func(w mvcc.Write) bool { return w.Kind == mvcc.Add }); i >= 0 {
		key = w.writes[i].Key
	}
	switch a.Verdict {
	case mvcc.Done:
		return nil
	case mvcc.Fenced:
		return &Refusal{Reason: Fenced}
	case mvcc.Expired:
		return &Refusal{Reason: Expired}
	case mvcc.OutOfRange:
		return &Refusal{Reason: OutOfRange, Key: key}
	case mvcc.NoCounter:
		return &Refusal{Reason: NoCounter, Key: key}
	}
	return fmt.Errorf("txn: a command was %v", a.Verdict)
}

// notAborted refuses what is done for a transaction that others had aborted.
func (s *seat) notAborted(txn id.Txn) error {
	rec, err := s.store.Record(txn)
	if err == nil && rec != nil && rec.Status == mvcc.Aborted {
		err = &Refusal{Reason: Recovered}
	}
	return err
}

func (p *Participant) serveWrite(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	w, err := parseWrite(q.Body)
	if err != nil {
		return nil, err
	}
	if err := p.observe(w.at); err != nil {
		return nil, err
	}
	var ts hlc.Timestamp
	if w.mode == modeCommit {
		ts, err = s.commit(ctx, &w)
	} else {
		ts, err = s.prepare(ctx, &w)
	}
	if err != nil {
		return answer(nil, err)
	}
	return appendTS([]byte{said}, ts), nil
}
