package mvcc

import (
	"cmp"
	"maps"
	"math"
	"math/big"
	"slices"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A model is a store that is slow and obvious: it keeps what was written at each key, and
// adds it up for whoever reads.
type model struct {
	lease             uint64
	closed, threshold hlc.Timestamp
	reads             hlc.Timestamp
	fences            map[uint64]uint64
	protected         map[uint64]Protection
	events            map[string][]event
	intents           map[string][]*Intent
	records           map[id.Txn]*Record
	bars              map[id.Txn]bool // the anchor is the key
}

// An event is a write that took effect.
type event struct {
	ts     hlc.Timestamp
	writer id.Key
	w      Write
}

func newModel() *model {
	return &model{
		fences: map[uint64]uint64{}, protected: map[uint64]Protection{}, events: map[string][]event{},
		intents: map[string][]*Intent{}, records: map[id.Txn]*Record{}, bars: map[id.Txn]bool{},
	}
}

// versions are those of a key, the latest first: one for each timestamp at which
// something was written, and the sum of what was up to there.
func (m *model) versions(key string) (list []Version) {
	events := slices.Clone(m.events[key])
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.ts, b.ts) })
	before := Version{Deleted: true}
	for _, e := range events {
		v := Version{TS: e.ts, Writer: e.writer}
		switch e.w.Kind {
		case Put:
			v.Value = e.w.Value
		case Delete:
			v.Deleted = true
		case Add:
			n, _ := Counter(&before)
			v.Added, v.Value = true, AppendCounter(nil, n+e.w.Delta)
			if before.TS == e.ts {
				v.Writer, v.Others = before.Writer, append(slices.Clone(before.Others), e.writer)
			}
		}
		if before.TS == e.ts {
			list = list[:len(list)-1]
		}
		list, before = append(list, v), v
	}
	slices.Reverse(list)
	return list
}

// at is the version that a timestamp sees, and the timestamp of the latest one above it
// and up to a horizon.
func (m *model) at(key string, at, horizon hlc.Timestamp) (v Version, above hlc.Timestamp) {
	for _, v := range m.versions(key) {
		if v.TS <= at {
			return v, above
		}
		if v.TS <= horizon {
			above = max(above, v.TS)
		}
	}
	return v, above
}

func (m *model) keys() []string { return slices.Sorted(maps.Keys(m.events)) }

// run does a command, of which Apply must say and do the same.
func (m *model) run(h Header, ops []op) Answer {
	if v := m.refusal(&h, ops); v.Verdict != Done {
		return v
	}
	answer, adds := Answer{}, slices.ContainsFunc(ops, func(o op) bool { return writes(&o) && o.write.Kind == Add })
	if adds {
		if answer = m.judgeAdds(&h, ops); answer.Verdict != Done {
			return answer
		}
	}
	for i := range ops {
		m.do(&h, &ops[i])
	}
	m.closed, m.reads = max(m.closed, h.Closed), max(m.reads, h.Reads)
	return answer
}

func writes(o *op) bool { return o.kind == opWrite || o.kind == opLay }

func (m *model) refusal(h *Header, ops []op) Answer {
	if h.Lease != 0 && h.Lease != m.lease {
		return Answer{Verdict: Unleased}
	}
	if !h.Writer.Zero() {
		if fenced, ok := m.fences[h.Writer.Node]; ok && h.Writer.Epoch <= fenced {
			return Answer{Verdict: Fenced}
		}
		if h.Writer.Start <= m.threshold {
			return Answer{Verdict: Expired}
		}
	}
	for i := range ops {
		switch o := &ops[i]; {
		case o.kind == opLead && o.n < m.lease:
			return Answer{Verdict: Unleased}
		case o.kind == opThreshold && !m.mayGoUp(o.ts):
			return Answer{Verdict: Protected}
		case o.kind == opProtect && o.ts < m.threshold:
			return Answer{Verdict: Expired}
		}
	}
	if slices.ContainsFunc(ops, func(o op) bool { return writes(&o) }) && h.TS <= m.closed {
		return Answer{TooLow, m.closed}
	}
	return Answer{}
}

func (m *model) mayGoUp(ts hlc.Timestamp) bool {
	for _, p := range m.protected {
		if p.TS < ts {
			return false
		}
	}
	return ts <= m.closed
}

// oldest is the timestamp of an intent below which there is none.
func (m *model) oldest() hlc.Timestamp {
	ts := hlc.Max
	for _, list := range m.intents {
		for _, i := range list {
			ts = min(ts, i.TS)
		}
	}
	return ts
}

func (m *model) judgeAdds(h *Header, ops []op) Answer {
	floor := hlc.Timestamp(0)
	for i := range ops {
		o := &ops[i]
		if !writes(o) || o.write.Kind != Add {
			continue
		}
		n := int64(0)
		for j, v := range m.versions(o.write.Key) {
			c, ok := Counter(&v)
			if j == 0 && !ok {
				return Answer{Verdict: NoCounter}
			}
			if j == 0 {
				n = c
			}
			if o.kind == opWrite || !v.Added {
				floor = max(floor, v.TS)
			}
		}
		if !m.fits(h.Writer, &o.write, n) {
			return Answer{Verdict: OutOfRange}
		}
	}
	switch {
	case floor < h.TS:
		return Answer{}
	case !h.Float:
		return Answer{TooLow, floor}
	}
	h.TS = floor + 1
	return Answer{TS: h.TS}
}

// fits tries out the worst outcome of all that is under way, in numbers without end.
func (m *model) fits(writer id.Key, w *Write, n int64) bool {
	worst := new(big.Int).Add(big.NewInt(n), big.NewInt(w.Delta))
	for _, i := range m.intents[w.Key] {
		if i.Txn.Key != writer && i.Write.Kind == Add && (i.Write.Delta < 0) == (w.Delta < 0) {
			worst.Add(worst, big.NewInt(i.Write.Delta))
		}
	}
	if w.Delta < 0 {
		return worst.Cmp(big.NewInt(max(w.Min, math.MinInt64+1))) >= 0
	}
	return worst.Cmp(big.NewInt(min(w.Max, math.MaxInt64-1))) <= 0
}

func (m *model) do(h *Header, o *op) {
	key := o.write.Key
	switch o.kind {
	case opWrite:
		m.events[key] = append(m.events[key], event{h.TS, h.Writer, o.write})
	case opLay:
		m.lift(h.Writer, key)
		m.intents[key] = append(m.intents[key], &Intent{Txn: id.Txn{Key: h.Writer, Anchor: string(o.anchor)}, TS: h.TS, Write: o.write})
	case opResolve:
		if i := m.lift(o.txn.Key, key); i != nil && o.ts > 0 {
			m.events[key] = append(m.events[key], event{o.ts, o.txn.Key, i.Write})
		}
	case opBar:
		m.bars[id.Txn{Key: o.txn.Key, Anchor: key}] = true
	case opRecord:
		m.records[o.record.Txn] = o.record
	case opForget:
		delete(m.records, o.txn)
	case opLead:
		m.lease = o.n
	case opFence:
		m.fences[o.n] = max(m.fences[o.n], o.m)
	case opThreshold:
		m.threshold = max(m.threshold, o.ts)
	case opProtect:
		m.protected[o.n] = Protection{o.ts, hlc.Timestamp(o.m)}
	case opUnprotect:
		delete(m.protected, o.n)
	}
}

// lift takes an intent away, nil if there is none.
func (m *model) lift(txn id.Key, key string) (out *Intent) {
	m.intents[key] = slices.DeleteFunc(m.intents[key], func(i *Intent) bool {
		if i.Txn.Key == txn {
			out = i
		}
		return out == i
	})
	if len(m.intents[key]) == 0 {
		delete(m.intents, key)
	}
	return out
}
