package txn

import (
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/id"
)

// What a shard's leader is asked about the end of a transaction: all requests of package
// commit but Prepare, which has values to carry.
const serviceEnd = "txn.end"

// The kinds of request, the first byte of one.
const (
	endDecide = iota
	endQuery
	endPrevent
	endResolve
	endForget
)

func encodeEnd(m commit.Request) []byte {
	b := make([]byte, 1, 128)
	switch m := m.(type) {
	case commit.Decide:
		b[0] = endDecide
		b = appendTS(codec.AppendBool(m.Txn.Append(b), m.Commit), m.TS)
		return append(appendKeys(appendKeys(b, m.Keys), m.Promises), byte(m.Reason))
	case commit.Query:
		b[0] = endQuery
		return append(m.Txn.Append(b), byte(m.Abort))
	case commit.Prevent:
		b[0] = endPrevent
		return appendKeys(m.Txn.Append(b), m.Keys)
	case commit.Resolve:
		b[0] = endResolve
		return appendKeys(appendTS(codec.AppendBool(m.Txn.Append(b), m.Commit), m.TS), m.Keys)
	case commit.Forget:
		b[0] = endForget
		return m.Txn.Append(b)
	}
	panic(fmt.Sprintf("txn: no message for %T", m))
}

func parseEnd(b []byte) (m commit.Request, err error) {
	r := read(b)
	kind := r.Byte()
	txn := r.txn()
	switch kind {
	case endDecide:
		m = commit.Decide{Txn: txn, Commit: r.Bool(), TS: r.ts(), Keys: r.keys(), Promises: r.keys(), Reason: r.reason()}
	case endQuery:
		m = commit.Query{Txn: txn, Abort: r.reason()}
	case endPrevent:
		m = commit.Prevent{Txn: txn, Keys: r.keys()}
	case endResolve:
		m = commit.Resolve{Txn: txn, Commit: r.Bool(), TS: r.ts(), Keys: r.keys()}
	case endForget:
		m = commit.Forget{Txn: txn}
	default:
		r.Fail()
	}
	if err = r.end(serviceEnd); err != nil {
		return nil, err
	}
	if _, keys, anchored := about(m); len(keys) == 0 && !anchored {
		return nil, fmt.Errorf("txn: %s: %v without keys", serviceEnd, m)
	}
	return m, nil
}

func (r *reader) reason() commit.Reason {
	n := commit.Reason(r.Byte())
	if n > commit.Rollback {
		r.Fail()
	}
	return n
}

func appendRecord(b []byte, r commit.Record) []byte {
	b = appendTS(append(b, byte(r.Status), byte(r.Reason)), r.TS)
	return appendKeys(codec.AppendBool(b, r.Floating), r.Keys)
}

func (r *reader) record() commit.Record {
	rec := commit.Record{Status: commit.Status(r.Byte()), Reason: r.reason(), TS: r.ts(), Floating: r.Bool(), Keys: r.keys()}
	if rec.Status > commit.Expired {
		r.Fail()
	}
	return rec
}

func encodeEnded(m commit.Reply) []byte {
	b := make([]byte, 1, 64)
	b[0] = said
	switch m := m.(type) {
	case commit.DecideReply:
		return appendRecord(b, commit.Record{Status: m.Outcome.Status, TS: m.Outcome.TS, Reason: m.Outcome.Reason})
	case commit.QueryReply:
		return appendRecord(b, m.Record)
	case commit.PreventReply:
		b = binary.AppendUvarint(b, uint64(len(m.Keys)))
		for _, k := range m.Keys {
			b = appendTS(append(b, byte(k.What)), k.TS)
		}
	}
	return b
}

// parseEnded reads the reply to a request.
func parseEnded(to commit.Request, b []byte) (m commit.Reply, err error) {
	r := read(b)
	if err := r.verdict(serviceEnd); err != nil {
		return nil, err
	}
	switch to := to.(type) {
	case commit.Decide:
		rec := r.record()
		m = commit.DecideReply{Outcome: commit.Outcome{Status: rec.Status, TS: rec.TS, Reason: rec.Reason}}
	case commit.Query:
		m = commit.QueryReply{Record: r.record()}
	case commit.Prevent:
		m = r.found(to.Keys)
	case commit.Resolve:
		m = commit.ResolveReply{Keys: to.Keys}
	case commit.Forget:
		m = commit.ForgetReply{}
	}
	return m, r.end(serviceEnd)
}

func (r *reader) found(keys []string) commit.PreventReply {
	m := commit.PreventReply{Keys: make([]commit.Found, len(keys))}
	if n := r.Count(maxKeys); n != len(keys) {
		r.Fail()
		return m
	}
	for i, key := range keys {
		m.Keys[i] = commit.Found{Key: key, What: commit.Finding(r.Byte()), TS: r.ts()}
		if m.Keys[i].What > commit.Applied {
			r.Fail()
		}
	}
	return m
}

// about is the transaction that a request is about, and the keys at which it is asked of
// a shard, without the anchor if that is all.
func about(m commit.Request) (txn id.Txn, keys []string, anchored bool) {
	switch m := m.(type) {
	case commit.Decide:
		return m.Txn, m.Keys, true
	case commit.Query:
		return m.Txn, nil, true
	case commit.Prevent:
		return m.Txn, m.Keys, false
	case commit.Resolve:
		return m.Txn, m.Keys, false
	case commit.Forget:
		return m.Txn, nil, true
	}
	panic(fmt.Sprintf("txn: no message for %T", m))
}
