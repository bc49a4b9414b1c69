package txn

import (
	"encoding/binary"
	"fmt"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// What a shard's leader is asked.
const (
	serviceGet    = "txn.get"
	serviceScan   = "txn.scan"
	serviceLock   = "txn.lock"
	serviceCheck  = "txn.check"
	serviceWrite  = "txn.write"
	serviceUnlock = "txn.unlock"
)

// What a coordinator's node is asked.
const serviceStatus = "txn.status"

func appendTS(b []byte, ts hlc.Timestamp) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(ts))
}

// A reader reads messages.
type reader struct{ codec.Reader }

func read(b []byte) *reader { return &reader{codec.Read(b)} }

func (r *reader) ts() hlc.Timestamp { return hlc.Timestamp(r.Uint64()) }

func (r *reader) key() string { return r.Text(mvcc.MaxKeyBytes) }

func (r *reader) txnKey() id.Key {
	k, rest, err := id.CutKey(r.Rest)
	if err != nil {
		r.Fail()
		return id.Key{}
	}
	r.Rest = rest
	return k
}

func (r *reader) txn() id.Txn {
	t, rest, err := id.Cut(r.Rest)
	if err != nil {
		r.Fail()
		return id.Txn{}
	}
	r.Rest = rest
	return t
}

func (r *reader) end(service string) error {
	if err := r.End(); err != nil {
		return fmt.Errorf("txn: %s: message is %w", service, err)
	}
	return nil
}

// A look is what is common to reads: who reads, at which timestamp, and up to which
// one there must be nothing that it does not see.
type look struct {
	txn     id.Key
	at      hlc.Timestamp
	horizon hlc.Timestamp // 0: at
}

func (l *look) append(b []byte) []byte { return appendTS(appendTS(l.txn.Append(b), l.at), l.horizon) }

func (r *reader) look() look { return look{txn: r.txnKey(), at: r.ts(), horizon: r.ts()} }

type getRequest struct {
	look
	key string
}

func (g *getRequest) encode() []byte { return codec.AppendText(g.append(nil), g.key) }

func parseGet(b []byte) (g getRequest, err error) {
	r := read(b)
	g.look, g.key = r.look(), r.key()
	return g, r.end(serviceGet)
}

type scanRequest struct {
	look
	span  meta.Span
	limit int // of rows, 0: none
}

func (s *scanRequest) encode() []byte {
	b := codec.AppendText(codec.AppendText(s.append(nil), s.span.Start), s.span.End)
	return binary.AppendUvarint(b, uint64(s.limit))
}

func parseScan(b []byte) (s scanRequest, err error) {
	r := read(b)
	s.look, s.span, s.limit = r.look(), meta.Span{Start: r.key(), End: r.key()}, int(r.Uvarint())
	return s, r.end(serviceScan)
}

type lockRequest struct {
	look
	key  string
	mode lock.Mode
}

func (l *lockRequest) encode() []byte {
	return append(codec.AppendText(l.append(nil), l.key), byte(l.mode))
}

func parseLock(b []byte) (l lockRequest, err error) {
	r := read(b)
	l.look, l.key, l.mode = r.look(), r.key(), lock.Mode(r.Byte())
	if l.mode < lock.Shared || l.mode > lock.Exclusive {
		r.Fail()
	}
	return l, r.end(serviceLock)
}

// A checkRequest asks whether what a transaction has read is the same at a later
// timestamp, and keeps it so.
type checkRequest struct {
	txn       id.Key
	after, at hlc.Timestamp
	spans     []meta.Span
}

func appendSpans(b []byte, spans []meta.Span) []byte {
	b = binary.AppendUvarint(b, uint64(len(spans)))
	for _, s := range spans {
		b = codec.AppendText(codec.AppendText(b, s.Start), s.End)
	}
	return b
}

func (r *reader) spans() (list []meta.Span) {
	for n := r.Count(maxSpans); n > 0 && !r.Bad; n-- {
		list = append(list, meta.Span{Start: r.key(), End: r.key()})
	}
	return list
}

func (c *checkRequest) encode() []byte {
	return appendSpans(appendTS(appendTS(c.txn.Append(nil), c.after), c.at), c.spans)
}

func parseCheck(b []byte) (c checkRequest, err error) {
	r := read(b)
	c = checkRequest{txn: r.txnKey(), after: r.ts(), at: r.ts(), spans: r.spans()}
	return c, r.end(serviceCheck)
}

// The first byte of an answer.
const (
	said    = iota // what was asked follows
	refused        // why not follows
	tooOld         // what is kept follows
)

func appendTooOld(b []byte, e *TooOldError) []byte {
	return appendTS(appendTS(binary.BigEndian.AppendUint64(append(b, tooOld), e.Shard), e.At), e.Threshold)
}

// maxText bounds what a refusal tells people.
const maxText = 1 << 10

// appendRefusal is an answer that says no.
func appendRefusal(b []byte, r *Refusal) []byte {
	b = append(b, refused, byte(r.Reason))
	b = appendTS(codec.AppendText(r.By.Append(b), r.Key), r.TS)
	b = codec.AppendText(b, r.Text)
	return codec.AppendBool(codec.AppendBool(b, r.final), r.laid)
}

// verdict reads the first byte of an answer, and why there is none.
func (r *reader) verdict(service string) error {
	switch r.Byte() {
	case said:
		return nil
	case refused:
		why := &Refusal{Reason: Reason(r.Byte()), By: r.txnKey(), Key: r.key(), TS: r.ts(), Text: r.Text(maxText), final: r.Bool(), laid: r.Bool()}
		if err := r.end(service); err != nil {
			return err
		}
		return why
	case tooOld:
		old := &TooOldError{Shard: r.Uint64(), At: r.ts(), Threshold: r.ts()}
		if err := r.end(service); err != nil {
			return err
		}
		return old
	}
	r.Fail()
	return r.end(service)
}

// appendVersion appends a version as a reader is told it.
func appendVersion(b []byte, v *mvcc.Version) []byte {
	b = codec.AppendBool(appendTS(b, v.TS), v.There())
	if !v.There() {
		return b
	}
	return codec.AppendBytes(b, v.Value)
}

// A Row is a key and what a transaction reads at it.
type Row struct {
	Key   string
	Value []byte
	// TS is when it was written.
	TS hlc.Timestamp
}

func (r *reader) version() (value []byte, ts hlc.Timestamp, there bool) {
	ts, there = r.ts(), r.Bool()
	if there {
		value = append([]byte{}, r.Bytes(mvcc.MaxValueBytes)...)
	}
	return value, ts, there
}

func (w *writeRequest) encode() []byte {
	b := make([]byte, 0, 96+48*len(w.writes))
	b = append(w.txn.Append(b), byte(w.mode))
	b = appendTS(appendTS(b, w.at), w.read)
	b = codec.AppendBool(codec.AppendBool(b, w.rigid), w.alone)
	b = appendSpans(b, w.spans)
	b = binary.AppendUvarint(b, uint64(len(w.writes)))
	for i := range w.writes {
		b = mvcc.EncodeWrite(b, &w.writes[i])
	}
	return appendKeys(b, w.promised)
}

func appendKeys(b []byte, keys []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(keys)))
	for _, k := range keys {
		b = codec.AppendText(b, k)
	}
	return b
}

func (r *reader) keys() (list []string) {
	for n := r.Count(maxKeys); n > 0 && !r.Bad; n-- {
		list = append(list, r.key())
	}
	return list
}

func parseWrite(b []byte) (w writeRequest, err error) {
	r := read(b)
	w = writeRequest{txn: r.txn(), mode: writeMode(r.Byte()), at: r.ts(), read: r.ts(), rigid: r.Bool(), alone: r.Bool(), spans: r.spans()}
	for n := r.Count(maxKeys); n > 0 && !r.Bad; n-- {
		w.writes = append(w.writes, r.write())
	}
	if w.promised = r.keys(); w.mode > modeStage || len(w.writes) == 0 {
		r.Fail()
	}
	return w, r.end(serviceWrite)
}

func (r *reader) write() mvcc.Write {
	w, rest, err := mvcc.CutWrite(r.Rest)
	if err != nil {
		r.Fail()
		return w
	}
	r.Rest = rest
	w.Value = append([]byte(nil), w.Value...) // the message is valid during the call only
	return w
}
