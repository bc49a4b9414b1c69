package isolation

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// ErrMalformed says that a history is not one that can be checked.
var ErrMalformed = errors.New("isolation: malformed history")

// An analysis is a history on its way to a verdict.
type analysis struct {
	txns   []Txn
	counts []bool // transactions that committed, as far as anybody can tell
	keys   map[string]int32
	places []*place
	edges  []edge
	nodes  int // transactions, and those behind them that stand for many
	report *Report
}

// direct notes an anomaly of one transaction.
func (a *analysis) direct(name Name, txn int32, why string, args ...any) {
	if a.report.room(name) {
		a.report.Anomalies = append(a.report.Anomalies, Anomaly{Name: name, Txn: int(txn), Why: fmt.Sprintf(why, args...)})
	}
}

// index notes who wrote what.
func (a *analysis) index() error {
	for i := range a.txns {
		t := &a.txns[i]
		if t.Outcome > Aborted || t.Outcome != Unknown && t.End < t.Begin {
			return fmt.Errorf("%w: T%d: %v", ErrMalformed, i, t)
		}
		for j := range t.Ops {
			o := &t.Ops[j]
			if o.Kind > Read {
				return fmt.Errorf("%w: T%d: %v", ErrMalformed, i, o)
			}
			p, err := a.place(o)
			if err != nil {
				return err
			}
			if o.Kind != Append && o.Kind != Write {
				continue
			}
			if other, ok := p.writes[o.Value]; ok || o.Value == 0 {
				return fmt.Errorf("%w: T%d: %v: expected a value above 0 that nobody else writes, as T%d does", ErrMalformed, i, o, other.txn)
			}
			if own := p.of(int32(i)); len(own) > 0 {
				p.writes[own[len(own)-1]] = write{txn: int32(i)}
			} else if !p.list {
				p.first[int32(i)] = o.Value
			}
			p.writes[o.Value] = write{txn: int32(i), final: true}
			p.own = append(p.own, o.Value)
		}
	}
	return nil
}

// settle finds who committed: also those of unknown outcome of whom somebody who
// committed has read.
func (a *analysis) settle() {
	a.counts = make([]bool, len(a.txns))
	var queue []int32
	count := func(i int32) {
		if !a.counts[i] && a.txns[i].Outcome != Aborted {
			a.counts[i] = true
			queue = append(queue, i)
		}
	}
	for i := range a.txns {
		if a.txns[i].Outcome == Committed {
			count(int32(i))
		}
	}
	for _, p := range a.places {
		for _, v := range p.order {
			if w, ok := p.writes[v]; ok {
				count(w.txn)
			}
		}
	}
	for len(queue) > 0 {
		t := &a.txns[queue[0]]
		queue = queue[1:]
		for i := range t.Ops {
			o := &t.Ops[i]
			p := a.places[a.keys[o.Key]]
			switch o.Kind {
			case Read:
				if w, ok := p.writes[o.Value]; ok {
					count(w.txn)
				}
			case ReadList:
				for _, v := range o.List {
					if w, ok := p.writes[v]; ok {
						count(w.txn)
					}
				}
			}
		}
	}
}

// A seen value is what a transaction read of others' writes to a key.
type seen struct {
	txn   int32
	value uint64   // 0: nothing, or the empty list
	list  []uint64 // of a list
}

// reads returns what each transaction saw of others, by key, and reports those that do
// not see themselves.
func (a *analysis) reads() [][]seen {
	all := make([][]seen, len(a.places))
	for _, p := range a.places {
		p.mine = -1
	}
	for i := range a.txns {
		if !a.counts[i] {
			continue
		}
		t := &a.txns[i]
		a.report.Txns++
		a.report.Ops += len(t.Ops)
		for j := range t.Ops {
			o := &t.Ops[j]
			k := a.keys[o.Key]
			own := a.places[k].of(int32(i))
			switch o.Kind {
			case Append, Write:
				a.places[k].own = append(own, o.Value)
			case ReadList:
				if list, ok := a.others(own, o, int32(i)); ok {
					s := seen{txn: int32(i), list: list}
					if len(list) > 0 {
						s.value = list[len(list)-1]
					}
					all[k] = append(all[k], s)
				}
			case Read:
				switch n := len(own) - 1; {
				case n < 0:
					all[k] = append(all[k], seen{txn: int32(i), value: o.Value})
				case own[n] != o.Value:
					a.direct(Internal, int32(i), "reads %s as %d after it wrote %d", o.Key, o.Value, own[n])
				}
			}
		}
	}
	return all
}

// others cuts what a transaction itself has appended off what it read.
func (a *analysis) others(own []uint64, o *Op, txn int32) ([]uint64, bool) {
	cut := len(o.List) - len(own)
	if cut < 0 || !slices.Equal(o.List[cut:], own) {
		a.direct(Internal, txn, "reads %s as %v after it appended %v", o.Key, brief(o.List), brief(own))
		return nil, false
	}
	return o.List[:cut], true
}

// source reports a read of what nobody wrote, nobody committed, or its writer overwrote,
// and says whether it was written at all.
func (a *analysis) source(p *place, s *seen, value uint64, last bool) bool {
	w, ok := p.writes[value]
	switch {
	case !ok:
		a.direct(GarbageRead, s.txn, "reads %d of %s, which nobody wrote", value, p.name)
	case w.txn == s.txn:
		a.direct(Internal, s.txn, "reads %d of %s before it writes that itself", value, p.name)
	case a.txns[w.txn].Outcome == Aborted:
		a.direct(G1a, s.txn, "reads %d of %s, which T%d wrote, that aborted", value, p.name, w.txn)
	case last && !w.final:
		a.direct(G1b, s.txn, "reads %d of %s, which T%d wrote over itself", value, p.name, w.txn)
	}
	return ok
}

// orderList takes the order of a list's elements from the longest read, of which all
// others must be the beginning.
func (a *analysis) orderList(p *place, reads []seen) {
	var longest *seen
	for i := range reads {
		if longest == nil || len(reads[i].list) > len(longest.list) {
			longest = &reads[i]
		}
	}
	if longest == nil {
		return
	}
	p.order = longest.list
	for i := range reads {
		s := &reads[i]
		if n := len(s.list); !slices.Equal(s.list, p.order[:n]) {
			at := 0
			for s.list[at] == p.order[at] {
				at++
			}
			a.direct(IncompatibleOrder, s.txn, "reads %s as %v, and T%d as %v: at %d there is %d, and %d", p.name, brief(s.list), longest.txn, brief(p.order), at, s.list[at], p.order[at])
			s.list, s.value = nil, math.MaxUint64 // says nothing of dependencies
		}
	}
	p.at = make(map[uint64]int32, len(p.order))
	for i, v := range p.order {
		if before, twice := p.at[v]; twice {
			a.direct(DuplicateElements, longest.txn, "reads %d twice in %s, %v: at %d and at %d", v, p.name, brief(p.order), before, i)
		}
		p.at[v] = int32(i)
	}
}

// orderRegister takes the order of a register's values from what the history was told,
// and else from transactions that read one value and wrote the next.
func (a *analysis) orderRegister(p *place, told []uint64, reads []seen) error {
	if told != nil {
		p.order, p.at = told, make(map[uint64]int32, len(told))
		for i, v := range told {
			if _, ok := p.at[v]; ok || v == 0 {
				return fmt.Errorf("%w: key %s: value %d in the order of its values: expected each once, above 0", ErrMalformed, p.name, v)
			}
			p.at[v] = int32(i)
		}
		return nil
	}
	p.next = map[uint64][]uint64{}
	for _, s := range reads {
		first := p.first[s.txn]
		if first == 0 || slices.Contains(p.next[s.value], first) {
			continue
		}
		if other := p.next[s.value]; len(other) > 0 {
			a.direct(LostUpdate, s.txn, "reads %s as %d and writes %d, as T%d reads that and writes %d", p.name, s.value, first, p.writes[other[0]].txn, other[0])
		}
		p.next[s.value] = append(p.next[s.value], first)
	}
	return nil
}

// depend adds an edge between transactions.
func (a *analysis) depend(from, to int32, kind kind, key int32) {
	if from != to {
		a.edges = append(a.edges, edge{from, to, key, kind})
	}
}

// stand adds a node that stands for what many have in common.
func (a *analysis) stand() int32 {
	a.nodes++
	return int32(a.nodes - 1)
}

// ordered adds the edges of a key whose values have an order.
func (a *analysis) ordered(k int32, p *place, reads []seen) {
	writer := func(i int) (int32, bool) {
		w, ok := p.writes[p.order[i]]
		return w.txn, ok && a.counts[w.txn]
	}
	last := int32(-1)
	for i := range p.order {
		w, ok := writer(i)
		if ok && last >= 0 {
			a.depend(last, w, ww, k)
		}
		if ok {
			last = w
		}
	}
	// What nobody read comes behind, in an order that nobody knows.
	var unread []int32
	for v, w := range p.writes {
		if _, ok := p.at[v]; !ok && a.counts[w.txn] && p.list {
			unread = append(unread, w.txn)
		}
	}
	slices.Sort(unread)
	unread = slices.Compact(unread)
	wrote := func(txn int32) bool { _, ok := slices.BinarySearch(unread, txn); return ok }
	behind := int32(-1)
	if len(unread) > 0 {
		behind = a.stand()
		for _, w := range unread {
			a.edges = append(a.edges, edge{behind, w, k, pass})
		}
		if last >= 0 && !wrote(last) {
			a.edges = append(a.edges, edge{last, behind, k, ww})
		}
	}
	tail := int32(-1) // who read all that anybody did, and appended what nobody read
	for _, s := range reads {
		at := -1
		if s.value != 0 {
			i, ok := p.at[s.value]
			if !ok {
				continue
			}
			at = int(i)
			if w, ok := writer(at); ok {
				a.depend(w, s.txn, wr, k)
			}
		}
		// The next that somebody else wrote; what one wrote oneself follows by ww.
		if at+1 < len(p.order) {
			if w, ok := writer(at + 1); ok {
				a.depend(s.txn, w, rw, k)
			}
		} else if behind >= 0 && !wrote(s.txn) {
			a.edges = append(a.edges, edge{s.txn, behind, k, rw})
		} else if behind >= 0 && tail >= 0 && tail != s.txn {
			a.direct(LostUpdate, s.txn, "reads %d values of %s and appends another one, as T%d does", at+1, p.name, tail)
		} else if behind >= 0 {
			tail = s.txn
		}
	}
}

// unordered adds the edges of a register of which only some orders are known.
func (a *analysis) unordered(k int32, p *place, reads []seen) {
	for v, list := range p.next {
		w, wrote := p.writes[v]
		for _, n := range list {
			if next := p.writes[n]; wrote && a.counts[w.txn] {
				a.depend(w.txn, next.txn, ww, k)
			}
		}
	}
	for i, s := range reads {
		// Whichever value was there first, somebody wrote the other one in between.
		if i > 0 && reads[i-1].txn == s.txn && reads[i-1].value != s.value {
			a.direct(GSingle, s.txn, "reads %s as %d and as %d", p.name, reads[i-1].value, s.value)
		}
		if w, ok := p.writes[s.value]; ok && a.counts[w.txn] {
			a.depend(w.txn, s.txn, wr, k)
		}
		for _, n := range p.next[s.value] {
			a.depend(s.txn, p.writes[n].txn, rw, k)
		}
	}
}

// realtime adds the order of what had ended before something else began.
func (a *analysis) realtime() {
	var ended []int32
	for i := range a.txns {
		if a.counts[i] && a.txns[i].Outcome == Committed {
			ended = append(ended, int32(i))
		}
	}
	slices.SortFunc(ended, func(x, y int32) int { return int(a.txns[x].End - a.txns[y].End) })
	ends := make([]time.Duration, len(ended))
	marks := make([]int32, len(ended))
	for i, t := range ended {
		ends[i], marks[i] = a.txns[t].End, a.stand()
		a.edges = append(a.edges, edge{t, marks[i], -1, rt})
		if i > 0 {
			a.edges = append(a.edges, edge{marks[i-1], marks[i], -1, pass})
		}
	}
	for i := range a.txns {
		if !a.counts[i] {
			continue
		}
		if n, _ := slices.BinarySearch(ends, a.txns[i].Begin); n > 0 {
			a.edges = append(a.edges, edge{marks[n-1], int32(i), -1, pass})
		}
	}
}
