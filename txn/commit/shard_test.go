package commit

import (
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// shard is the replicated state of a shard of the model. Everything in it is a value,
// so that it is copied by clone and compared by how it is printed.
type shard struct {
	Fenced bool // the node of the first transaction is fenced
	Moved  bool // the edge is above all starts
	Split  bool // its keys live apart
	Keys   []cell
}

// cell is a key, by what each transaction has there, and the records that it anchors.
type cell struct {
	Name   string
	Newest hlc.Timestamp // of its versions
	Of     [2]trace
}

type trace struct {
	Intent, Applied hlc.Timestamp
	Buried          bool
	Record          Record
}

// edge is above the starts of all transactions of the model.
const edge hlc.Timestamp = 5

// pushed is how far reads push an intent.
const pushed hlc.Timestamp = 5

func (s shard) clone() shard {
	s.Keys = slices.Clone(s.Keys)
	return s
}

func (s shard) cell(key string) *cell {
	for i := range s.Keys {
		if s.Keys[i].Name == key {
			return &s.Keys[i]
		}
	}
	return nil
}

// local is what a leader of s knows for a request of transaction t of the scene.
func (s shard) local(sc *scene, t int, keys []string) Local {
	plan := sc.txns[t]
	l := Local{Fenced: s.Fenced && t == 0}
	if s.Moved {
		l.Edge = edge
	}
	apart := s.Split && len(keys) > 0 && !slices.Contains(keys, plan.Txn.Anchor)
	if c := s.cell(plan.Txn.Anchor); c != nil && !apart {
		l.Record, l.Anchored = c.Of[t].Record, c.Of[t].Applied
	}
	for _, key := range keys {
		c := s.cell(key)
		mine, other := c.Of[t], 1-t
		k := Key{Intent: mine.Intent, Applied: mine.Applied, Buried: mine.Buried, Conflict: c.Newest > plan.TS}
		if c.Of[other].Intent != 0 {
			k.Holder = sc.txns[other].Txn
		}
		l.Keys = append(l.Keys, k)
	}
	return l
}

// move moves the edge of the window, and drops what it lets go.
func (s *shard) move() {
	s.Moved = true
	for i := range s.Keys {
		for t := range s.Keys[i].Of {
			o := &s.Keys[i].Of[t]
			o.Buried, o.Applied = false, 0
			if o.Record.Status == Aborted {
				o.Record = Record{}
			}
		}
	}
}

// A fact is something that happened to a transaction and that nothing may contradict.
type fact struct {
	kind factKind
	ts   hlc.Timestamp
	key  string
}

type factKind uint8

const (
	committedFact factKind = iota // the record says so
	abortedFact                   // the record says so
	appliedFact                   // a version was made
	droppedFact                   // an intent was removed
	forgottenFact                 // the record of a committed one went
)

// apply carries out an effect. It returns what happened, and complains about what
// must never happen in a shard.
func (s *shard) apply(sc *scene, t int, e Effect) (facts []fact, err error) {
	if e.Put.Status != Pending || e.Forget {
		c := s.cell(sc.txns[t].Txn.Anchor)
		if c == nil {
			return nil, fmt.Errorf("a record where the anchor does not live: %v", e.Put)
		}
		if facts, err = s.record(&c.Of[t].Record, t, e); err != nil {
			return nil, err
		}
	}
	for _, key := range e.Lay {
		c := s.cell(key)
		o := &c.Of[t]
		switch {
		case o.Intent != 0 || o.Applied != 0 || o.Buried:
			return nil, fmt.Errorf("an intent at %s, where there was %+v", key, *o)
		case c.Of[1-t].Intent != 0:
			return nil, fmt.Errorf("an intent at %s beside another", key)
		case s.Moved, s.Fenced && t == 0:
			return nil, fmt.Errorf("an intent at %s, fenced=%t moved=%t", key, s.Fenced, s.Moved)
		}
		o.Intent = e.LayTS
	}
	for _, key := range e.Commit {
		c := s.cell(key)
		o := &c.Of[t]
		if o.Intent == 0 || o.Buried || o.Intent > e.CommitTS {
			return nil, fmt.Errorf("a version at %s ts=%v from %+v", key, e.CommitTS, *o)
		}
		o.Intent, o.Applied = 0, e.CommitTS
		if s.Moved {
			o.Applied = 0
		}
		c.Newest = max(c.Newest, e.CommitTS)
		facts = append(facts, fact{kind: appliedFact, ts: e.CommitTS, key: key})
	}
	for _, key := range e.Drop {
		s.cell(key).Of[t].Intent = 0
		facts = append(facts, fact{kind: droppedFact, key: key})
	}
	for _, key := range e.Bury {
		o := &s.cell(key).Of[t]
		if o.Intent != 0 || o.Applied != 0 {
			return nil, fmt.Errorf("a tombstone at %s, where there was %+v", key, *o)
		}
		o.Buried = true
	}
	return facts, nil
}

func (s *shard) record(r *Record, t int, e Effect) ([]fact, error) {
	from, to := r.Status, e.Put.Status
	*r = e.Put
	switch {
	case e.Forget && from == Committed:
		return []fact{{kind: forgottenFact}}, nil
	case from == Pending && (s.Moved || s.Fenced && t == 0):
		return nil, fmt.Errorf("a record of one that may begin nothing: %v", e.Put)
	case from == Pending && to == Staging:
		return nil, nil
	case (from == Pending || from == Staging) && to == Committed:
		return []fact{{kind: committedFact, ts: e.Put.TS}}, nil
	case (from == Pending || from == Staging) && to == Aborted:
		return []fact{{kind: abortedFact}}, nil
	}
	return nil, fmt.Errorf("a record that was %v and became %v", from, to)
}

// evaluate gives a request to the production functions.
func evaluate(req Request, l Local, ts hlc.Timestamp) (Effect, Reply) {
	switch m := req.(type) {
	case Prepare:
		return both(l.Prepare(m, ts))
	case Decide:
		return both(l.Decide(m))
	case Resolve:
		return both(l.Resolve(m))
	case Prevent:
		return both(l.Prevent(m))
	case Query:
		return both(l.Query(m))
	case Forget:
		return both(l.Forget(m))
	}
	panic(fmt.Sprintf("request %v", req))
}

func both[R Reply](e Effect, r R) (Effect, Reply) { return e, r }

// about are the transaction and the keys of a request.
func about(req Request) (seq uint64, keys []string) {
	switch m := req.(type) {
	case Prepare:
		return m.Txn.Seq, m.Keys
	case Decide:
		return m.Txn.Seq, m.Keys
	case Resolve:
		return m.Txn.Seq, m.Keys
	case Prevent:
		return m.Txn.Seq, m.Keys
	case Query:
		return m.Txn.Seq, nil
	case Forget:
		return m.Txn.Seq, nil
	}
	panic(fmt.Sprintf("request %v", req))
}
