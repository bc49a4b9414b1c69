package mvcc

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// Apply implements consensus.StateMachine.
func (s *Store) Apply(b *consensus.Batch, results []consensus.Result) error {
	return s.change(b, func(a *applier) error {
		for i, c := range b.Commands {
			answer, err := a.run(c)
			if err != nil {
				return err
			}
			results[i].Data = answer.encode()
		}
		if b.ResultRows != nil {
			return a.hostRows(b.ResultRows(results))
		}
		return nil
	})
}

// change applies b, whose commands fn runs. After an error of what is done here the
// store is closed: what it has in memory is not what Pebble has.
func (s *Store) change(b *consensus.Batch, fn func(*applier) error) (err error) {
	if err := s.e.enter(); err != nil {
		return err
	}
	defer s.e.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	applied := s.applied.Load()
	switch {
	case !s.open:
		return fmt.Errorf("mvcc: shard %d: apply at index %d: %w", s.id, b.Index, ErrClosed)
	case b.Index <= applied:
		return fmt.Errorf("mvcc: shard %d: apply at index %d: %d is applied already", s.id, b.Index, applied)
	}
	a := &s.apply
	a.begin(s)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("mvcc: shard %d: apply at index %d: %w", s.id, b.Index, err), a.batch.Close())
			s.forget()
		}
	}()
	if err := a.hostRows(b.Rows); err != nil {
		return err
	}
	if err := fn(a); err != nil {
		return err
	}
	return a.commit(b.Index, b.Term)
}

// An applier applies one batch. All of it is in the hands of whoever holds the store's
// mu, so readers of what is in memory see what Pebble has, and nothing else.
type applier struct {
	s       *Store
	batch   *pebble.Batch
	state   State
	changed bool // whether state is another than the store's
	ops     []op
	staged  []staged
	buf     []byte
	value   []byte
	changes []Change
	watched bool
}

// An op is one thing that a command does. Its bytes are the command's.
type op struct {
	kind   byte
	write  Write
	anchor []byte
	txn    id.Txn // but for opResolve and opBar without an anchor
	record *Record
	ts     hlc.Timestamp
	n, m   uint64
}

// staged is a version that the batch has and Pebble has not. Its bytes are a command's.
type staged struct {
	key string
	v   Version
}

func (a *applier) begin(s *Store) {
	a.s, a.batch, a.state, a.changed = s, s.e.db.NewBatch(), *s.state.Load(), false
	clear(a.staged)
	a.staged, a.changes, a.watched = a.staged[:0], nil, len(s.observers) > 0
}

// commit hands the batch to Pebble, and what is in memory to readers.
func (a *applier) commit(index, term uint64) error {
	s := a.s
	p := positionOf(&a.state, index, term)
	a.set(appendKey(a.buf[:0], s.shard, tableRows, string([]byte{rowPosition})), p.encode())
	if err := s.e.lives(); err != nil {
		return err
	}
	if err := a.batch.Commit(pebble.NoSync); err != nil {
		return err
	}
	if err := a.batch.Close(); err != nil {
		return err
	}
	if a.changed {
		next := a.state
		s.state.Store(&next)
	}
	s.term = term
	s.applied.Store(index)
	for _, o := range s.observers {
		o.see(index, a.changes)
	}
	return nil
}

// set stages a row. The batch copies key and value; key is kept as scratch.
func (a *applier) set(key, value []byte) {
	a.buf = key
	_ = a.batch.Set(key, value, nil) // fails only on a batch that was committed
}

func (a *applier) unset(key []byte) {
	a.buf = key
	_ = a.batch.Delete(key, nil) // likewise
}

// hostRows stages rows of the Host.
func (a *applier) hostRows(rows []consensus.Row) error {
	for _, r := range rows {
		if len(r.Key) >= MaxKeyBytes || len(r.Value) > MaxValueBytes {
			return fmt.Errorf("row with a key of %d and a value of %d bytes, expected at most %d and %d", len(r.Key), len(r.Value), MaxKeyBytes-1, MaxValueBytes)
		}
		key := appendKey(a.buf[:0], a.s.shard, tableRows, string(rowHost)+string(r.Key))
		if r.Value == nil {
			a.unset(key)
		} else {
			a.set(key, r.Value)
		}
	}
	return nil
}

// ownRow stages a row of the store.
func (a *applier) ownRow(row string, value []byte) {
	key := appendKey(a.buf[:0], a.s.shard, tableRows, row)
	if value == nil {
		a.unset(key)
	} else {
		a.set(key, value)
	}
}

// run runs one command. An error is one of the store, and not of the command.
func (a *applier) run(command []byte) (Answer, error) {
	r := reader{b: command}
	h := r.header()
	a.ops = a.ops[:0]
	for len(r.b) > 0 && !r.bad {
		a.ops = append(a.ops, r.op())
	}
	if r.bad {
		return Answer{Verdict: Malformed}, nil
	}
	answer, err := a.judge(&h)
	if err != nil || answer.Verdict != Done {
		return answer, err
	}
	for i := range a.ops {
		if err := a.do(&h, &a.ops[i]); err != nil {
			return answer, err
		}
	}
	if h.Closed > a.state.Closed || h.Reads > a.state.Reads {
		a.state.Closed, a.state.Reads, a.changed = max(a.state.Closed, h.Closed), max(a.state.Reads, h.Reads), true
	}
	return answer, nil
}

// op reads one thing that a command does.
func (r *reader) op() (o op) {
	o.kind = r.byte()
	switch o.kind {
	case opWrite:
		o.write = r.write()
	case opLay:
		o.anchor = r.text(MaxKeyBytes)
		o.write = r.write()
	case opResolve:
		o.txn.Key = r.txnKey()
		o.write.Key = string(r.text(MaxKeyBytes))
		o.ts = r.timestamp()
	case opBar:
		o.txn.Key = r.txnKey()
		o.write.Key = string(r.text(MaxKeyBytes))
	case opRecord:
		o.record = r.record()
	case opForget:
		o.txn = r.txn()
	case opLead, opUnprotect:
		o.n = r.uvarint()
	case opFence:
		o.n, o.m = r.uvarint(), r.uvarint()
	case opThreshold:
		o.ts = r.timestamp()
	case opProtect:
		o.n, o.ts, o.m = r.uvarint(), r.timestamp(), uint64(r.timestamp())
	default:
		r.fail()
	}
	return o
}

// judge says whether a command is to be carried out, and at which timestamp. It may
// raise that of the header.
func (a *applier) judge(h *Header) (Answer, error) {
	st := &a.state
	switch {
	case h.Lease != 0 && h.Lease != st.Lease:
		return Answer{Verdict: Unleased}, nil
	case h.Writer.Zero():
	case st.Fenced(h.Writer.Node, h.Writer.Epoch):
		return Answer{Verdict: Fenced}, nil
	case h.Writer.Start <= st.Threshold:
		return Answer{Verdict: Expired}, nil
	}
	writes, adds := false, false
	for i := range a.ops {
		o := &a.ops[i]
		if o.kind == opWrite || o.kind == opLay {
			writes = true
			adds = adds || o.write.Kind == Add
		}
		if v := a.judgeOp(h, o); v != Done {
			return Answer{Verdict: v}, nil
		}
	}
	if writes && h.TS <= st.Closed {
		return Answer{TooLow, st.Closed}, nil
	}
	if !adds {
		return Answer{}, nil
	}
	return a.judgeAdds(h)
}

func (a *applier) judgeOp(h *Header, o *op) Verdict {
	st := &a.state
	switch o.kind {
	case opWrite, opLay:
		if h.Writer.Zero() {
			return Malformed
		}
	case opRecord:
		if o.record.Status == Staging && h.Writer != o.record.Txn.Key {
			return Malformed
		}
	case opLead:
		if o.n < st.Lease {
			return Unleased
		}
	case opThreshold:
		if !st.mayRise(o.ts) {
			return Protected
		}
	case opProtect:
		if o.ts < st.Threshold {
			return Expired
		}
	}
	return Done
}

// do carries out a part of a command.
func (a *applier) do(h *Header, o *op) error {
	s, st := a.s, &a.state
	switch o.kind {
	case opWrite:
		return a.write(h, o)
	case opLay:
		i := &Intent{Txn: id.Txn{Key: h.Writer, Anchor: string(o.anchor)}, TS: h.TS, Write: o.write}
		i.Write.Value = append([]byte(nil), o.write.Value...)
		s.lay(i)
		a.set(appendOf(a.buf[:0], s.shard, tableIntents, i.Write.Key, h.Writer), i.encode())
	case opResolve:
		return a.resolve(o)
	case opBar:
		s.bars++
		a.set(appendOf(a.buf[:0], s.shard, tableBars, o.write.Key, o.txn.Key), nil)
	case opRecord:
		s.record(o.record)
		a.set(appendOf(a.buf[:0], s.shard, tableRecords, o.record.Txn.Anchor, o.record.Txn.Key), o.record.append(nil))
	case opForget:
		delete(s.records, o.txn.Key)
		a.unset(appendOf(a.buf[:0], s.shard, tableRecords, o.txn.Anchor, o.txn.Key))
	default:
		a.doState(st, o)
	}
	return nil
}

// doState carries out what changes the state alone.
func (a *applier) doState(st *State, o *op) {
	a.changed = true
	switch o.kind {
	case opLead:
		st.Lease = o.n
	case opThreshold:
		st.Threshold = max(st.Threshold, o.ts)
	case opFence:
		next := *st
		next.fences = nil
		next.join(&State{fences: st.fences})
		set(&next.fences, o.n, max(o.m, st.fences[o.n]))
		*st = next
		a.ownRow(numbered(rowFence, o.n), encode64(next.fences[o.n]))
	case opProtect, opUnprotect:
		next := *st
		next.protected = nil
		next.join(&State{protected: st.protected})
		*st = next
		if o.kind == opUnprotect {
			delete(st.protected, o.n)
			a.ownRow(numbered(rowProtect, o.n), nil)
			return
		}
		p := Protection{o.ts, hlc.Timestamp(o.m)}
		set(&st.protected, o.n, p)
		a.ownRow(numbered(rowProtect, o.n), p.encode())
	}
}

// version stages a version.
func (a *applier) version(key string, v *Version) {
	a.value = appendVersionValue(a.value[:0], v)
	a.set(appendVersion(a.buf[:0], a.s.shard, key, v.TS), a.value)
	if len(a.s.counters) > 0 {
		delete(a.s.counters, key)
	}
	a.staged = append(a.staged, staged{key, *v})
	if a.watched {
		c := Change{Key: key, Version: *v}
		c.Value = append([]byte(nil), v.Value...)
		a.changes = append(a.changes, c)
	}
}

// write stages a version of the header's writer.
func (a *applier) write(h *Header, o *op) error {
	w := &o.write
	if w.Kind == Add {
		return a.add(w.Key, h.TS, h.Writer, w.Delta)
	}
	a.version(w.Key, &Version{TS: h.TS, Writer: h.Writer, Deleted: w.Kind == Delete, Value: w.Value})
	return nil
}

// resolve ends an intent.
func (a *applier) resolve(o *op) error {
	s, key := a.s, o.write.Key
	i := s.intent(o.txn.Key, key)
	if i == nil {
		return nil
	}
	s.lift(i)
	a.unset(appendOf(a.buf[:0], s.shard, tableIntents, key, o.txn.Key))
	w := &i.Write
	switch {
	case o.ts == 0:
		return nil
	case w.Kind == Add:
		return a.add(key, o.ts, o.txn.Key, w.Delta)
	}
	a.version(key, &Version{TS: o.ts, Writer: o.txn.Key, Deleted: w.Kind == Delete, Value: w.Value})
	return nil
}
