package commit

import (
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A scene is what is explored: transactions, shards, and how often what may go wrong.
type scene struct {
	name   string
	txns   []Plan
	shards [][]string // their keys
	// recoveries is how many there may be of one transaction at a time. They begin
	// where an intent or a record that needs one is found: at any time, or with patient
	// only when the coordinator has crashed.
	recoveries int
	together   int // of all transactions
	patient    bool
	// How often reads push an intent, a lock is refused, a message is doubled or lost, a
	// coordinator crashes or gives up, a shard is fenced, moves its edge or is split.
	limits budget
	broken mutation
}

// A budget is how often something may still happen.
type budget struct{ push, wound, double, lose, crash, giveUp, fence, move, split uint8 }

// A mutation breaks something. A nil function breaks nothing.
type mutation struct {
	name string
	// before changes what a shard sees of a request, after what it does about it.
	before func(req Request, l *Local)
	after  func(req Request, l Local, e *Effect, r Reply) Reply
	// stepped changes what a machine did.
	stepped func(m machine, in Input, out []Output) []Output
}

// machine is what Coordinator and Recovery have in common.
type machine interface {
	Step(Input) []Output
	check() error
	fmt.Stringer
}

// fork copies a machine, without what it has handed out.
func fork(m machine) machine {
	switch m := m.(type) {
	case *Coordinator:
		c := *m
		c.parts, c.out = slices.Clone(m.parts), nil
		c.space.out, c.space.parts = [4]Output{}, [2]part{}
		return &c
	case *Recovery:
		r := *m
		r.answered, r.out = slices.Clone(m.answered), nil
		return &r
	}
	panic(fmt.Sprintf("machine %v", m))
}

// An envelope is a message under way. Those of nobody are of an actor that is gone,
// whom no reply reaches.
type envelope struct {
	actor   int8 // who sent the request, or gets the reply
	shard   int8
	part    int8
	refresh bool // to the actor, from its own driver
	bounced bool // the shard has been split, and has not looked at it
	req     Request
	reply   Reply
}

const nobody = -1

func (e envelope) String() string {
	switch {
	case e.refresh:
		return fmt.Sprintf("refresh for %d", e.actor)
	case e.bounced:
		return fmt.Sprintf("shard %d to %d: not all of this is mine: %v", e.shard, e.actor, e.req)
	case e.req != nil:
		return fmt.Sprintf("%d to shard %d: %v", e.actor, e.shard, e.req)
	}
	return fmt.Sprintf("shard %d to %d: %v", e.shard, e.actor, e.reply)
}

// history is what happened to a transaction, and is never taken back.
type history struct {
	fate     Status // Committed or Aborted, or Pending
	ts       hlc.Timestamp
	explicit bool   // its record said so, if committed
	acked    Status // what the client was told
	applied  uint8  // keys of the scene at which there was a version, by bit
	moved    bool   // the edge, at the anchor
}

// note takes a fact into a history.
func (h *history) note(sc *scene, t int, f fact) error {
	switch f.kind {
	case committedFact:
		h.explicit = true
		return h.ends(Outcome{Status: Committed, TS: f.ts})
	case abortedFact, droppedFact:
		return h.ends(Outcome{Status: Aborted})
	case appliedFact:
		bit := sc.bit(f.key)
		switch {
		case !h.explicit:
			return fmt.Errorf("a version at %s before the record said so", f.key)
		case h.applied&bit != 0:
			return fmt.Errorf("a second version at %s", f.key)
		}
		h.applied |= bit
		return h.ends(Outcome{Status: Committed, TS: f.ts})
	case forgottenFact:
		if h.applied != sc.all(t) {
			return fmt.Errorf("the record is forgotten, and not all intents are resolved")
		}
	}
	return nil
}

// ends takes what somebody says of how it ended.
func (h *history) ends(o Outcome) error {
	if h.fate != Pending && (h.fate != o.Status || h.ts != o.TS) {
		return fmt.Errorf("it was %v ts=%v, and now is %v ts=%v", h.fate, h.ts, o.Status, o.TS)
	}
	h.fate, h.ts = o.Status, o.TS
	return nil
}

// hears takes an Ack.
func (h *history) hears(o Outcome, client bool) error {
	if client {
		if h.acked != Pending {
			return fmt.Errorf("the client hears %v after %v", o, h.acked)
		}
		h.acked = o.Status
	}
	switch {
	case o.Status != Expired:
		o.Reason = NoReason
		return h.ends(o)
	case !h.moved:
		return fmt.Errorf("expired inside the window")
	}
	return nil
}

// bit is that of a key in history.applied.
func (sc *scene) bit(key string) uint8 {
	n := 0
	for _, keys := range sc.shards {
		if i := slices.Index(keys, key); i >= 0 {
			return 1 << (n + i)
		}
		n += len(keys)
	}
	panic("no such key: " + key)
}

func (sc *scene) all(t int) (mask uint8) {
	for _, keys := range sc.txns[t].Parts {
		for _, key := range keys {
			mask |= sc.bit(key)
		}
	}
	return mask
}

// lives is the shard of a key.
func (sc *scene) lives(key string) int8 {
	return int8(slices.IndexFunc(sc.shards, func(keys []string) bool { return slices.Contains(keys, key) }))
}

// mail divides what a machine sends among shards, as a driver does. It lets a
// recovery ask for each key alone where shards may be split, and does what a
// coordinator says, since that is told when a part has been divided.
func (sc *scene) mail(actor int8, o Output) (list []envelope) {
	seq, keys := about(o.Request)
	e := envelope{actor: actor, part: int8(o.Part), req: o.Request}
	switch o.Request.(type) {
	case Query, Forget, Decide:
		e.shard = sc.lives(sc.txns[seq-1].Txn.Anchor)
		return append(list, e)
	}
	for s, here := range sc.shards {
		here = slices.DeleteFunc(slices.Clone(here), func(k string) bool { return !slices.Contains(keys, k) })
		e.shard = int8(s)
		switch {
		case len(here) == 0:
		case sc.limits.split > 0 && int(actor) >= len(sc.txns):
			for i := range here {
				e.req = narrow(o.Request, here[i:i+1])
				list = append(list, e)
			}
		default:
			e.req = narrow(o.Request, here)
			list = append(list, e)
		}
	}
	return list
}

// narrow is the same request about these keys.
func narrow(req Request, keys []string) Request {
	switch m := req.(type) {
	case Prepare:
		m.Keys = keys
		return m
	case Prevent:
		m.Keys = keys
		return m
	case Resolve:
		m.Keys = keys
		return m
	}
	panic(fmt.Sprintf("request %v", req))
}

// singly divides keys.
func singly(keys []string) (list [][]string) {
	for i := range keys {
		list = append(list, keys[i:i+1])
	}
	return list
}
