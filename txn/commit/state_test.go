package commit

import (
	"fmt"
	"slices"
)

// An ident names something that was met before: the same thing has the same one.
type ident = uint16

// pool gives out ids. Zero is nothing.
type pool[T any] struct {
	ids  map[string]ident
	list []T
}

func (p *pool[T]) id(v T, text string) ident {
	if p.ids == nil {
		p.ids, p.list = map[string]ident{}, make([]T, 1)
	}
	if i, ok := p.ids[text]; ok {
		return i
	}
	i := ident(len(p.list))
	if i == 0 {
		panic("too many ids")
	}
	p.ids[text] = i
	p.list = append(p.list, v)
	return i
}

const (
	maxActors = 6 // two coordinators, and two recoveries of each
	maxShards = 3
	maxMail   = 20
)

// state is one of a world, made of ids, so that it is small and compares as it is.
type state struct {
	actors  [maxActors]ident // zero: there is none
	shards  [maxShards]ident
	history [2]ident
	crashed [2]bool // coordinators
	left    budget
	mail    [maxMail]ident // in order, a message for each time that it is under way
}

func (s *state) drop(i int) {
	copy(s.mail[i:], s.mail[i+1:])
	s.mail[maxMail-1] = 0
	s.sortMail()
}

func (s *state) post(list ...ident) {
	for _, id := range list {
		i := slices.Index(s.mail[:], 0)
		if i < 0 {
			panic("more mail than a state holds")
		}
		s.mail[i] = id
	}
	s.sortMail()
}

// sortMail puts nothing last, so that mail ends at the first zero.
func (s *state) sortMail() {
	slices.SortFunc(s.mail[:], func(a, b ident) int { return int(a-1) - int(b-1) })
}

// world explores a scene. What machines and shards do is looked up if they have been
// seen doing it before, so that production code runs once for each thing that it can
// meet, and not for each state.
type world struct {
	sc        *scene
	machines  pool[machine]
	shards    pool[shard]
	envelopes pool[envelope]
	histories pool[history]
	stepped   map[stepKey]stepResult
	evaluated map[evalKey]evalResult
}

type stepKey struct {
	actor             int
	machine, envelope ident
	kind              InputKind
	ok                bool
}

type stepResult struct {
	machine ident // zero: it has finished
	send    []ident
	acks    []Outcome
	err     error
}

type evalKey struct {
	shard, envelope ident
	push            bool
	wound           bool
}

type evalResult struct {
	shard ident
	reply ident
	facts []fact
	laid  bool // whether a push or a wound makes a difference
	err   error
}

func newWorld(sc *scene) *world {
	return &world{sc: sc, stepped: map[stepKey]stepResult{}, evaluated: map[evalKey]evalResult{}}
}

// txn is the transaction of an actor.
func (w *world) txn(actor int) int {
	if n := len(w.sc.txns); actor >= n {
		return (actor - n) / w.sc.recoveries
	}
	return actor
}

func (w *world) machine(m machine) ident { return w.machines.id(m, fmt.Sprintf("%#v", m)) }
func (w *world) shard(s shard) ident     { return w.shards.id(s, fmt.Sprintf("%#v", s)) }
func (w *world) past(h history) ident    { return w.histories.id(h, fmt.Sprintf("%#v", h)) }
func (w *world) envelope(e envelope) ident {
	return w.envelopes.id(e, fmt.Sprintf("%#v", e))
}

// first is the state in which all coordinators have begun.
func (w *world) first() (state, error) {
	s := state{left: w.sc.limits}
	for i, keys := range w.sc.shards {
		var sh shard
		for _, key := range keys {
			sh.Keys = append(sh.Keys, cell{Name: key})
		}
		s.shards[i] = w.shard(sh)
	}
	for t, plan := range w.sc.txns {
		s.history[t] = w.past(history{})
		c, err := NewCoordinator(plan)
		if err != nil {
			return s, err
		}
		s.actors[t] = w.machine(fork(c))
		if err := w.step(&s, t, Input{Kind: Begin}, 0); err != nil {
			return s, err
		}
	}
	return s, nil
}

// bounced is what a driver makes of it when a part has been split.
const bounced InputKind = 100

// step has an actor take an input.
func (w *world) step(s *state, actor int, in Input, from ident) error {
	key := stepKey{actor: actor, machine: s.actors[actor], envelope: from, kind: in.Kind, ok: in.OK}
	r, ok := w.stepped[key]
	if !ok {
		r = w.run(actor, s.actors[actor], in)
		w.stepped[key] = r
	}
	if r.err != nil {
		return r.err
	}
	s.actors[actor] = r.machine
	s.post(r.send...)
	if r.machine == 0 {
		w.leave(s, actor)
	}
	t := w.txn(actor)
	for _, o := range r.acks {
		h := w.histories.list[s.history[t]]
		if err := h.hears(o, actor < len(w.sc.txns)); err != nil {
			return fmt.Errorf("transaction %d: %d acknowledges %v: %w", t+1, actor, o, err)
		}
		s.history[t] = w.past(h)
	}
	return nil
}

// run lets production code take a step.
func (w *world) run(actor int, from ident, in Input) (r stepResult) {
	m := fork(w.machines.list[from])
	defer func() {
		if p := recover(); p != nil {
			r.err = fmt.Errorf("%d panics: %v", actor, p)
		}
	}()
	var out []Output
	if c, ok := m.(*Coordinator); ok && in.Kind == bounced {
		out = slices.Clone(c.Resplit(in.Part, singly(c.parts[in.Part].keys)))
	} else {
		out = slices.Clone(m.Step(in))
	}
	if f := w.sc.broken.stepped; f != nil {
		out = f(m, in, out)
	} else if err := m.check(); err != nil {
		return stepResult{err: err}
	}
	r.machine = w.machine(fork(m))
	for _, o := range out {
		switch o.Kind {
		case Send:
			for _, e := range w.sc.mail(int8(actor), o) {
				r.send = append(r.send, w.envelope(e))
			}
		case Refresh:
			r.send = append(r.send, w.envelope(envelope{actor: int8(actor), refresh: true}))
		case Ack:
			r.acks = append(r.acks, o.Outcome)
		case Finished:
			r.machine = 0
		}
	}
	return r
}

// leave takes an actor out. Its requests stay under way, and are nobody's.
func (w *world) leave(s *state, actor int) {
	s.actors[actor] = 0
	var keep []ident
	for _, id := range s.mail {
		if id == 0 {
			break
		}
		e := w.envelopes.list[id]
		if int(e.actor) != actor {
			keep = append(keep, id)
		} else if e.req != nil && !e.bounced {
			e.actor, e.part = nobody, 0
			keep = append(keep, w.envelope(e))
		}
	}
	clear(s.mail[:])
	s.post(keep...)
}

// deliver carries out what a shard makes of a request.
func (w *world) deliver(s *state, id ident, r evalResult) error {
	e := w.envelopes.list[id]
	if r.err != nil {
		return r.err
	}
	s.shards[e.shard] = r.shard
	if r.reply != 0 {
		s.post(r.reply)
	}
	seq, _ := about(e.req)
	t := int(seq) - 1
	h := w.histories.list[s.history[t]]
	for _, f := range r.facts {
		if err := h.note(w.sc, t, f); err != nil {
			return fmt.Errorf("transaction %d: %w", t+1, err)
		}
	}
	s.history[t] = w.past(h)
	return nil
}

func (w *world) evaluate(key evalKey) evalResult {
	if r, ok := w.evaluated[key]; ok {
		return r
	}
	e, sh := w.envelopes.list[key.envelope], w.shards.list[key.shard].clone()
	seq, keys := about(e.req)
	t := int(seq) - 1
	if sh.Split && len(keys) > 1 {
		r := evalResult{shard: key.shard}
		if e.bounced = true; e.actor != nobody {
			r.reply = w.envelope(e)
		}
		w.evaluated[key] = r
		return r
	}
	l := sh.local(w.sc, t, keys)
	if key.wound {
		l.Refuse = Wounded
	}
	ts := w.sc.txns[t].TS
	if key.push {
		ts += pushed
	}
	if f := w.sc.broken.before; f != nil {
		f(e.req, &l)
	} else if err := l.check(); err != nil {
		return evalResult{err: err}
	}
	effect, reply := evaluate(e.req, l, ts)
	if f := w.sc.broken.after; f != nil {
		reply = f(e.req, l, &effect, reply)
	}
	var r evalResult
	r.laid = len(effect.Lay) > 0
	if r.facts, r.err = sh.apply(w.sc, t, effect); r.err != nil {
		r.err = fmt.Errorf("shard %d: transaction %d: %v: %w", e.shard, seq, e.req, r.err)
	}
	r.shard = w.shard(sh)
	if e.actor != nobody {
		e.req, e.reply = nil, reply
		r.reply = w.envelope(e)
	}
	w.evaluated[key] = r
	return r
}
