package txn

import (
	"context"
	"errors"

	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// servePrepare lays the intents of what a transaction writes here, and its record with
// modeStage, in one step. It may be asked again.
func (s *seat) servePrepare(ctx context.Context, w *writeRequest) ([]byte, error) {
	reply, err := s.prepare(ctx, w)
	var no *Refusal
	if errors.As(err, &no) {
		no.laid = no.laid || s.laid(w)
		return appendRefusal(nil, no), nil
	}
	if err != nil {
		return nil, err
	}
	return appendTS([]byte{said, byte(reply.Answer)}, reply.TS), nil
}

// parsePrepared reads what servePrepare answered.
func parsePrepared(b []byte) (commit.PrepareReply, error) {
	r := read(b)
	if err := r.verdict(serviceWrite); err != nil {
		return commit.PrepareReply{}, err
	}
	reply := commit.PrepareReply{Answer: commit.Answer(r.Byte()), TS: r.ts()}
	if reply.Answer != commit.Prepared && reply.Answer != commit.Done {
		r.Fail()
	}
	return reply, r.end(serviceWrite)
}

func (s *seat) prepare(ctx context.Context, w *writeRequest) (commit.PrepareReply, error) {
	h, err := s.acquire(ctx, w)
	if err != nil {
		return commit.PrepareReply{}, err
	}
	reply, err := s.lay(w)
	h.release()
	return reply, err
}

// lay lays intents, under latches and locks.
func (s *seat) lay(w *writeRequest) (commit.PrepareReply, error) {
	m := commit.Prepare{Txn: w.txn, Keys: w.keys(), TS: w.at, Promises: w.promised, Floating: !w.rigid}
	for range maxTries {
		l, err := s.look(w.txn, m.Keys)
		if err != nil {
			return commit.PrepareReply{}, err
		}
		no := w.contested(&l)
		if no != nil {
			for i := range l.Keys {
				l.Keys[i].Conflict = l.Keys[i].Conflict || m.Keys[i] == no.Key
			}
		}
		e, reply := l.Prepare(m, s.floor(w, &l))
		switch {
		case reply.Answer == commit.Refused && reply.Reason == commit.Conflict:
			no.final, no.laid = reply.Final, !reply.Clean
			return reply, no
		case reply.Answer == commit.Refused:
			return reply, &Refusal{Reason: reasons[reply.Reason], final: reply.Final, laid: !reply.Clean}
		case e.Empty():
			return reply, s.holds()
		}
		if err := s.check(w.txn.Key, w.spans, w.read, e.LayTS); err != nil {
			return reply, err
		}
		a, err := s.proposeLay(w, &e)
		if err != nil {
			return reply, err
		}
		if a.Verdict != mvcc.TooLow {
			return reply, s.refusal(a, w)
		}
		w.at = max(w.at, a.TS.Next())
	}
	return commit.PrepareReply{}, &Refusal{Reason: Conflict, Key: w.writes[0].Key, TS: w.at}
}

// proposeLay proposes intents, and has the locks stand for them before.
func (s *seat) proposeLay(w *writeRequest, e *commit.Effect) (mvcc.Answer, error) {
	hd := s.header()
	hd.Writer, hd.TS = w.txn.Key, e.LayTS
	if len(w.spans) > 0 {
		hd.Reads = s.ahead(e.LayTS)
	}
	c := mvcc.AppendHeader(make([]byte, 0, 128+64*len(w.writes)), &hd)
	next := 0 // of e.Lay, whose keys are in the order of the writes
	for i := range w.writes {
		wr := &w.writes[i]
		if next == len(e.Lay) || e.Lay[next] != wr.Key {
			continue
		}
		next++
		if err := s.locks.Prepare(w.txn.Key, lockMode(wr.Kind), wr.Key); err != nil {
			return mvcc.Answer{}, refusalOf(err)
		}
		c = mvcc.AppendLay(c, w.txn.Anchor, wr)
	}
	return s.propose(appendEffect(c, w.txn, e))
}

// laid reports whether a transaction has an intent at any of the keys of a request.
func (s *seat) laid(w *writeRequest) bool {
	for i := range w.writes {
		if s.intent(w.txn.Key, w.writes[i].Key) != nil {
			return true
		}
	}
	return false
}

// reasons are those of package commit, as a client is told them.
var reasons = [...]Reason{
	commit.NoReason: Recovered, commit.Conflict: Conflict, commit.Busy: Conflict, commit.Wounded: Wounded, commit.Abandoned: Recovered,
	commit.Prevented: Recovered, commit.Fenced: Fenced, commit.TooOld: Expired, commit.RefreshFailed: Conflict, commit.Deadline: Unreached,
	commit.Rollback: RolledBack,
}
