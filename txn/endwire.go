package txn

import (
	"context"
	"encoding/binary"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// What a shard's leader is asked about the end of transactions.
const (
	serviceDecide  = "txn.decide"
	serviceQuery   = "txn.query"
	servicePrevent = "txn.prevent"
	serviceResolve = "txn.resolve"
)

// An endRequest is about the end of a transaction.
type endRequest struct {
	txn   id.Txn
	ts    hlc.Timestamp // of the commit, 0: it is aborted
	force bool          // query: abort it, if nothing is known; resolve: forget the record
	keys  []string
}

func (e *endRequest) encode() []byte {
	b := codec.AppendBool(appendTS(e.txn.Append(nil), e.ts), e.force)
	return appendKeys(b, e.keys)
}

func parseEnd(service string, b []byte) (e endRequest, err error) {
	r := read(b)
	e = endRequest{txn: r.txn(), ts: r.ts(), force: r.Bool(), keys: r.keys()}
	return e, r.end(service)
}

func (f *finding) encode() []byte {
	b := codec.AppendBool([]byte{said, byte(f.status)}, f.expired)
	return appendKeys(codec.AppendBool(appendTS(b, f.ts), f.float), f.promised)
}

func parseFinding(service string, b []byte) (f finding, err error) {
	r := read(b)
	if err := r.verdict(service); err != nil {
		return f, err
	}
	f = finding{status: mvcc.Status(r.Byte()), expired: r.Bool(), ts: r.ts(), float: r.Bool(), promised: r.keys()}
	return f, r.end(service)
}

func (p *Participant) serveDecide(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	e, err := parseEnd(serviceDecide, q.Body)
	if err != nil {
		return nil, err
	}
	f, err := s.decide(ctx, e.txn, e.ts, e.keys)
	return answer(f.encode(), err)
}

func (p *Participant) serveQuery(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	e, err := parseEnd(serviceQuery, q.Body)
	if err != nil {
		return nil, err
	}
	f, err := s.query(ctx, e.txn, e.force)
	return answer(f.encode(), err)
}

func (p *Participant) servePrevent(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	e, err := parseEnd(servicePrevent, q.Body)
	if err != nil {
		return nil, err
	}
	states, stamps, err := s.prevent(ctx, e.txn, e.keys)
	if err != nil {
		return answer(nil, err)
	}
	b := binary.AppendUvarint([]byte{said}, uint64(len(states)))
	for i := range states {
		b = appendTS(append(b, byte(states[i])), stamps[i])
	}
	return b, nil
}

func parsePrevented(b []byte) (states []keyState, stamps []hlc.Timestamp, err error) {
	r := read(b)
	if err := r.verdict(servicePrevent); err != nil {
		return nil, nil, err
	}
	for n := r.Count(maxKeys); n > 0 && !r.Bad; n-- {
		states, stamps = append(states, keyState(r.Byte())), append(stamps, r.ts())
	}
	return states, stamps, r.end(servicePrevent)
}

func (p *Participant) serveResolve(_ context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	e, err := parseEnd(serviceResolve, q.Body)
	if err != nil {
		return nil, err
	}
	var forget *id.Txn
	if e.force {
		forget = &e.txn
	}
	if err := s.resolve(e.txn.Key, e.ts, e.keys, forget); err != nil {
		return answer(nil, err)
	}
	return []byte{said}, nil
}
