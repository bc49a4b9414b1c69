package tscache

import (
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A record is what is remembered of the reads of some keys. The zero record is of none.
type record struct {
	ts     hlc.Timestamp // the highest
	by     id.Key        // who read at it, or the zero Key for nobody in particular
	others hlc.Timestamp // the highest of all others. Invariant: others <= ts.
}

// add notes the reads of another record.
func (r *record) add(o record) {
	if o.ts <= r.ts {
		r.others = max(r.others, o.except(r.by))
		return
	}
	*r = record{ts: o.ts, by: o.by, others: max(o.others, r.except(o.by))}
}

// except is the highest timestamp of anybody but one transaction.
func (r *record) except(by id.Key) hlc.Timestamp {
	if r.by == by && !by.Zero() {
		return r.others
	}
	return r.ts
}
