package txn

import (
	"context"
	"errors"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

func (p *Participant) serveEnd(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	m, err := parseEnd(q.Body)
	if err != nil {
		return nil, err
	}
	reply, err := s.end(ctx, m)
	if err != nil {
		return answer(nil, err)
	}
	return encodeEnded(reply), nil
}

// end answers a request when what it changes is carried out: by one command, or by
// several if the log takes no such large one. What was laid at once may be too much to
// be ended at once, and must not stay for that.
func (s *seat) end(ctx context.Context, m commit.Request) (commit.Reply, error) {
	reply, err := s.endAtOnce(ctx, m)
	if !errors.Is(err, ErrTooLarge) {
		return reply, err
	}
	switch m := m.(type) {
	case commit.Decide:
		if len(m.Keys) > 0 {
			return s.endAfter(ctx, m)
		}
		if len(m.Promises) > 0 {
			m.Promises = nil // its coordinator knows them; who recovers it goes by intents
			return s.end(ctx, m)
		}
	case commit.Prevent:
		if len(m.Keys) > 1 {
			return s.halve(ctx, m, m.Keys)
		}
	case commit.Resolve:
		if len(m.Keys) > 1 {
			return s.halve(ctx, m, m.Keys)
		}
	}
	return nil, err
}

// endAfter decides, and ends the intents behind that as was decided.
func (s *seat) endAfter(ctx context.Context, m commit.Decide) (commit.Reply, error) {
	keys := m.Keys
	m.Keys = nil
	reply, err := s.end(ctx, m)
	if err != nil {
		return nil, err
	}
	o := reply.(commit.DecideReply).Outcome
	_, err = s.end(ctx, commit.Resolve{Txn: m.Txn, Keys: keys, Commit: o.Status == commit.Committed, TS: o.TS})
	return reply, err
}

// halve ends a request about keys by two about half of them.
func (s *seat) halve(ctx context.Context, m commit.Request, keys []string) (commit.Reply, error) {
	var replies [2]commit.Reply
	for i, some := range [][]string{keys[:len(keys)/2], keys[len(keys)/2:]} {
		var err error
		if replies[i], err = s.end(ctx, withKeys(m, some)); err != nil {
			return nil, err
		}
	}
	return join(replies[:]), nil
}

func (s *seat) endAtOnce(ctx context.Context, m commit.Request) (reply commit.Reply, err error) {
	switch m := m.(type) {
	case commit.Decide:
		if !m.Commit {
			s.give(m.Txn, m.Txn.Anchor)
		}
		err = s.judge(ctx, m.Txn, m.Keys, func(l commit.Local) (e commit.Effect) { e, reply = reply2(l.Decide(m)); return e })
	case commit.Query:
		if m.Abort != commit.NoReason {
			s.give(m.Txn, m.Txn.Anchor)
		}
		err = s.judge(ctx, m.Txn, nil, func(l commit.Local) (e commit.Effect) { e, reply = reply2(l.Query(m)); return e })
	case commit.Prevent:
		s.give(m.Txn, m.Keys[0])
		err = s.judge(ctx, m.Txn, m.Keys, func(l commit.Local) (e commit.Effect) { e, reply = reply2(l.Prevent(m)); return e })
	case commit.Resolve:
		if !m.Commit {
			s.give(m.Txn, m.Keys[0])
			err = s.judge(ctx, m.Txn, m.Keys, func(l commit.Local) (e commit.Effect) { e, reply = reply2(l.Resolve(m)); return e })
			break
		}
		// What is no intent any more is none that could come back: nobody needs to look.
		reply, err = commit.ResolveReply{Keys: m.Keys}, s.apply(m)
	case commit.Forget:
		reply, err = commit.ForgetReply{}, s.forget(m.Txn)
	}
	return reply, err
}

func reply2[R commit.Reply](e commit.Effect, r R) (commit.Effect, commit.Reply) { return e, r }

// give has those of a transaction's requests find out that wait for locks.
func (s *seat) give(txn id.Txn, key string) {
	s.locks.Abort(txn.Key, &lock.WoundedError{Owner: txn.Key, Key: key})
}

// apply makes versions of a transaction's intents at keys.
func (s *seat) apply(m commit.Resolve) error {
	h := s.header()
	e := commit.Effect{Commit: m.Keys, CommitTS: m.TS}
	c := appendEffect(mvcc.AppendHeader(make([]byte, 0, 64+64*len(m.Keys)), &h), m.Txn, &e)
	c = s.appendForgets(c)
	a, err := s.propose(c)
	if err == nil {
		err = refusalBy(a, nil)
	}
	if err != nil {
		return err // what was to be forgotten is found when it is tended
	}
	s.locks.Release(m.Txn.Key, m.Keys...)
	return nil
}

// forgetAtOnce is how many records are forgotten with a command of their own, if none
// comes that they can go with.
const forgetAtOnce = 128

// forget has the record of a transaction forgotten that is committed and resolved, with
// one of the next commands. It may stay, if the seat ends before: then it is tended.
func (s *seat) forget(txn id.Txn) error {
	rec, err := s.store.Record(txn)
	if err != nil || rec == nil || rec.Status != mvcc.Committed {
		return err
	}
	s.mu.Lock()
	s.done = append(s.done, txn)
	n := len(s.done)
	s.mu.Unlock()
	if n < forgetAtOnce {
		return nil
	}
	return s.forgetNow()
}

// appendForgets appends what is to be forgotten to a command that is carried out
// whatever it meets.
func (s *seat) appendForgets(b []byte) []byte {
	s.mu.Lock()
	list := s.done
	s.done = nil
	s.mu.Unlock()
	for _, txn := range list {
		b = mvcc.AppendForget(b, txn)
	}
	return b
}

// forgetNow has forgotten what is to be.
func (s *seat) forgetNow() error {
	h := s.header()
	b := mvcc.AppendHeader(nil, &h)
	n := len(b)
	if b = s.appendForgets(b); len(b) == n {
		return nil
	}
	a, err := s.propose(b)
	if err == nil {
		err = refusalBy(a, nil)
	}
	return err
}
