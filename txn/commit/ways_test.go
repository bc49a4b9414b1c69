package commit

import "fmt"

// visit is called with each way on, and what is wrong with it.
type visit func(what string, next state, err error)

// ways visits all states that follow s. What leads to them has a name if it is wanted.
func (w *world) ways(s state, named bool, v visit) {
	name := func(format string, args ...any) string {
		if !named {
			return ""
		}
		return fmt.Sprintf(format, args...)
	}
	for i, id := range s.mail {
		if id == 0 {
			break
		}
		if i > 0 && id == s.mail[i-1] {
			continue
		}
		e, rest := w.envelopes.list[id], s
		rest.drop(i)
		if e.req != nil && !e.bounced {
			w.deliveries(rest, id, func(what string, next state, err error) { v(name("%v%s", e, what), next, err) })
		} else {
			w.arrivals(rest, id, name, v)
		}
		if e.refresh || e.bounced {
			continue
		}
		if s.left.double > 0 {
			next := s
			next.left.double--
			next.post(id)
			v(name("double %v", e), next, nil)
		}
		if s.left.lose > 0 && e.actor != nobody {
			next := rest
			next.left.lose--
			v(name("lose %v", e), next, nil)
		}
	}
	for a, m := range s.actors {
		if m != 0 {
			w.mishaps(s, a, name, v)
		}
	}
	for i := range w.sc.shards {
		w.changes(s, i, name, v)
	}
	for t := range w.sc.txns {
		w.starts(s, t, name, v)
	}
}

// naming gives a name to what leads to a state, if one is wanted.
type naming func(format string, args ...any) string

// arrivals visits what can come of what reaches an actor.
func (w *world) arrivals(s state, id ident, name naming, v visit) {
	e := w.envelopes.list[id]
	take := func(in Input, what string) {
		next := s
		in.Part = int(e.part)
		err := w.step(&next, int(e.actor), in, id)
		v(name("%v%s", e, what), next, err)
	}
	switch {
	case e.bounced:
		take(Input{Kind: bounced}, "")
	case e.refresh:
		take(Input{Kind: Refreshed, OK: true}, ", done")
		take(Input{Kind: Refreshed}, ", failed")
	default:
		take(Input{Kind: Got, Reply: e.reply}, "")
	}
}

// deliveries visits what can come of a request.
func (w *world) deliveries(s state, id ident, v visit) {
	key := evalKey{shard: s.shards[w.envelopes.list[id].shard], envelope: id}
	evaluate := func(s state, what string) evalResult {
		r := w.evaluate(key)
		err := w.deliver(&s, id, r)
		v(what, s, err)
		return r
	}
	if r := evaluate(s, ""); !r.laid {
		return
	}
	if s.left.push > 0 {
		next := s
		next.left.push--
		key.push = true
		evaluate(next, ", pushed")
		key.push = false
	}
	if s.left.wound > 0 {
		next := s
		next.left.wound--
		key.wound = true
		evaluate(next, ", wounded")
	}
}

// mishaps visits what can happen to an actor.
func (w *world) mishaps(s state, a int, name naming, v visit) {
	if w.silent(&s, a) {
		next := s
		err := w.step(&next, a, Input{Kind: Retry}, 0)
		v(name("%d sends again", a), next, err)
	}
	if a >= len(w.sc.txns) {
		return
	}
	if s.left.crash > 0 {
		next := s
		next.left.crash--
		next.crashed[a] = true
		w.leave(&next, a)
		v(name("%d crashes", a), next, nil)
	}
	if s.left.giveUp > 0 {
		next := s
		next.left.giveUp--
		err := w.step(&next, a, Input{Kind: GiveUp, Reason: Deadline}, 0)
		v(name("%d gives up", a), next, err)
	}
}

// changes visits what can happen to a shard.
func (w *world) changes(s state, i int, name naming, v visit) {
	sh := w.shards.list[s.shards[i]]
	if s.left.fence > 0 && !sh.Fenced {
		next, sh := s, sh.clone()
		next.left.fence--
		sh.Fenced = true
		next.shards[i] = w.shard(sh)
		v(name("shard %d fences transaction 1", i), next, nil)
	}
	if s.left.split > 0 && !sh.Split && len(sh.Keys) > 1 {
		next, sh := s, sh.clone()
		next.left.split--
		sh.Split = true
		next.shards[i] = w.shard(sh)
		v(name("shard %d splits", i), next, nil)
	}
	if s.left.move == 0 || sh.Moved {
		return
	}
	sh = sh.clone()
	s.left.move--
	sh.move()
	s.shards[i] = w.shard(sh)
	for t, plan := range w.sc.txns {
		if sh.cell(plan.Txn.Anchor) != nil {
			h := w.histories.list[s.history[t]]
			h.moved = true
			s.history[t] = w.past(h)
		}
	}
	v(name("shard %d moves its edge", i), s, nil)
}

// silent says whether nothing of an actor is under way, so that it must send again.
func (w *world) silent(s *state, actor int) bool {
	for _, id := range s.mail {
		if id != 0 && int(w.envelopes.list[id].actor) == actor {
			return false
		}
	}
	return true
}

// starts visits the recoveries of a transaction that may begin: where somebody found
// an intent, or a record that somebody has to care for.
func (w *world) starts(s state, t int, name naming, v visit) {
	if w.sc.patient && !s.crashed[t] || w.recovering(&s) >= w.sc.together {
		return
	}
	slot := -1
	for k := range w.sc.recoveries {
		if a := len(w.sc.txns) + t*w.sc.recoveries + k; s.actors[a] == 0 {
			slot = a
		}
	}
	if slot < 0 {
		return
	}
	intents, record := w.remains(&s, t)
	found := singly(intents)
	if record == Staging || record == Committed {
		found = append(found, nil)
	}
	for _, keys := range found {
		next := s
		next.actors[slot] = w.machine(fork(NewRecovery(w.sc.txns[t].Txn, Hint{Keys: keys, Abort: Abandoned})))
		err := w.step(&next, slot, Input{Kind: Begin}, 0)
		v(name("%d recovers transaction %d, found %v", slot, t+1, keys), next, err)
	}
}

// recovering is how many recoveries there are.
func (w *world) recovering(s *state) (n int) {
	for _, m := range s.actors[len(w.sc.txns):] {
		if m != 0 {
			n++
		}
	}
	return n
}

// remains are the intents of a transaction, and the status of its record.
func (w *world) remains(s *state, t int) (intents []string, record Status) {
	for i := range w.sc.shards {
		for _, c := range w.shards.list[s.shards[i]].Keys {
			if c.Of[t].Intent != 0 {
				intents = append(intents, c.Name)
			}
			record = max(record, c.Of[t].Record.Status)
		}
	}
	return intents, record
}
