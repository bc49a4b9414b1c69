package commit

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// sends adds requests to what a machine does.
func sends(out []Output, part int, m Request) []Output {
	return append(out, Output{Kind: Send, Part: part, Request: m})
}

// does reports whether there is such an output.
func does(out []Output, is func(Output) bool) bool { return slices.ContainsFunc(out, is) }

func asks[M Request](out []Output) bool {
	return does(out, func(o Output) bool { _, ok := o.Request.(M); return ok })
}

// forgets is a mutation in which shards that get an M do not see something.
func forgets[M Request](name string, blind func(*Local)) mutation {
	return mutation{name: name, before: func(req Request, l *Local) {
		if _, ok := req.(M); ok {
			blind(l)
		}
	}}
}

// omits is a mutation in which shards that get an M do not do something.
func omits[M Request](name string, undo func(*Effect)) mutation {
	return mutation{name: name, after: func(req Request, _ Local, e *Effect, r Reply) Reply {
		if _, ok := req.(M); ok {
			undo(e)
		}
		return r
	}}
}

// says is a mutation in which a reply is another one.
func says[R Reply](name string, change func(R) R) mutation {
	return mutation{name: name, after: func(_ Request, _ Local, _ *Effect, r Reply) Reply {
		if was, ok := r.(R); ok {
			return change(was)
		}
		return r
	}}
}

// coordinates is a mutation of coordinators.
func coordinates(name string, f func(c *Coordinator, in Input, out []Output) []Output) mutation {
	return mutation{name: name, stepped: func(m machine, in Input, out []Output) []Output {
		if c, ok := m.(*Coordinator); ok {
			return f(c, in, out)
		}
		return out
	}}
}

// recovers is a mutation of recoveries.
func recovers(name string, f func(r *Recovery, in Input, out []Output) []Output) mutation {
	return mutation{name: name, stepped: func(m machine, in Input, out []Output) []Output {
		if r, ok := m.(*Recovery); ok {
			return f(r, in, out)
		}
		return out
	}}
}

func final(why Reason) func(PrepareReply) PrepareReply {
	return func(r PrepareReply) PrepareReply {
		if r.Answer == Refused && r.Reason == why {
			r.Final, r.Clean = true, false
		}
		return r
	}
}

var (
	resolvesEarly = coordinates("resolve before the record is committed", func(c *Coordinator, _ Input, out []Output) []Output {
		if c.phase == committing && asks[Decide](out) {
			out = sends(out, 1, Resolve{Txn: c.plan.Txn, Keys: b, Commit: true, TS: c.outcome.TS})
		}
		return out
	})
	acksEarly = coordinates("acknowledge before the record is committed", func(c *Coordinator, _ Input, out []Output) []Output {
		if c.phase == committing && asks[Decide](out) && !c.acked {
			c.ack(c.outcome)
			out = append(out, c.out[len(c.out)-1])
		}
		return out
	})
	forgetsEarly = coordinates("forget before all is resolved", func(c *Coordinator, _ Input, out []Output) []Output {
		if c.outcome.Status == Committed && asks[Resolve](out) {
			out = sends(out, 0, Forget{Txn: c.plan.Txn})
		}
		return out
	})
	// The Prepare has been made, so that the record is not floating.
	floats = coordinates("take pushed intents for good", func(c *Coordinator, _ Input, out []Output) []Output {
		c.plan.Floating = true
		return out
	})
	abandons = coordinates("give up without asking the anchor", func(c *Coordinator, in Input, out []Output) []Output {
		if in.Kind == GiveUp && c.phase == aborting {
			c.ack(c.outcome)
			out = append(out, c.out[len(c.out)-1])
		}
		return out
	})
	asksOnce = coordinates("send nothing again", func(_ *Coordinator, in Input, out []Output) []Output {
		if in.Kind == Retry {
			return nil
		}
		return out
	})
	believesOne = recovers("commit when one shard has answered", func(r *Recovery, in Input, out []Output) []Output {
		if m, ok := in.Reply.(PreventReply); ok && r.stage == preventing {
			for i := range r.answered {
				r.answered[i] = true
			}
			out = append(slices.Clone(out), r.Step(Input{Kind: Got, Reply: m})...)
		}
		return out
	})
)

// mutations are what TestMutations breaks, in a scene, and what is then found first.
var mutations = []struct {
	mutation
	in   *scene
	want string
}{
	{resolvesEarly, alone("", OneRound, false, 1, budget{}), "before the record said so"},
	{acksEarly, alone("", TwoPhase, false, 1, budget{}), "it was committed ts=0.000000+10, and now is aborted"},
	{forgetsEarly, alone("", OneRound, false, 1, budget{}), "not all intents are resolved"},
	{floats, alone("", OneRound, false, 1, budget{push: 1}), "it was committed ts=0.000000+15, and now is aborted"},
	{abandons, alone("", OneRound, false, 1, budget{giveUp: 1}), "and now is"},
	{asksOnce, alone("", TwoPhase, false, 1, budget{lose: 1}), "no way leads"},
	{believesOne, alone("", OneRound, false, 1, budget{}), "and now is"},
	{says("take a pushed intent of a record that does not float for good", func(r QueryReply) QueryReply {
		r.Record.Floating = true
		return r
	}), alone("", OneRound, false, 1, budget{push: 1}), "and now is"},
	{says("take a refusal by the lock table for final", final(Wounded)),
		alone("", OneRound, false, 1, budget{wound: 1, double: 1}), "and now is committed"},
	{says("take a refusal below the edge for final", final(TooOld)),
		alone("", OneRound, false, 1, budget{move: 1, double: 1}), "and now is"},
	{says("take a part that is refused for clean", func(r PrepareReply) PrepareReply {
		r.Clean = r.Clean || r.Answer == Refused
		return r
	}), alone("", TwoPhase, false, 1, budget{double: 1}), "left intents [a]"},
	{says("take an expired one for aborted", func(r QueryReply) QueryReply {
		if r.Record.Status == Expired {
			r.Record.Status = Aborted
		}
		return r
	}), alone("", OneRound, false, 1, budget{move: 1}), "and now is aborted"},
	{forgets[Query]("abort a staging record outright", func(l *Local) {
		if l.Record.Status == Staging {
			l.Record = Record{}
		}
	}), alone("", OneRound, false, 1, budget{}), "it was committed ts=0.000000+10, and now is aborted"},
	{forgets[Query]("query without looking at versions", func(l *Local) { l.Anchored = 0 }),
		alone("", OneRound, false, 1, budget{}), "and now is aborted"},
	{forgets[Decide]("decide without looking at versions", func(l *Local) { l.Anchored = 0 }),
		alone("", OneRound, false, 1, budget{double: 1}), "left intents [], record committed"},
	{forgets[Decide]("decide what is decided", func(l *Local) {
		if l.Record.Status != Pending {
			l.Record.Status = Staging
		}
	}), alone("", TwoPhase, false, 1, budget{}), "that was aborted and became"},
	{forgets[Decide]("decide below the edge", func(l *Local) { l.Edge = 0 }),
		alone("", TwoPhase, false, 1, budget{move: 1}), "may begin nothing"},
	{forgets[Decide]("decide for a fenced one without a record", func(l *Local) { l.Fenced = false }),
		alone("", TwoPhase, false, 1, budget{fence: 1}), "may begin nothing"},
	{forgets[Prepare]("prepare though fenced", func(l *Local) { l.Fenced = false }),
		alone("", TwoPhase, false, 1, budget{fence: 1}), "fenced=true"},
	{forgets[Prepare]("prepare below the edge", func(l *Local) { l.Edge = 0 }),
		alone("", OneRound, false, 1, budget{move: 1}), "may begin nothing"},
	{forgets[Prepare]("prepare what was applied", func(l *Local) {
		for i := range l.Keys {
			l.Keys[i].Applied = 0
		}
	}), alone("", OneRound, false, 1, budget{double: 1}), "an intent at b, where there was"},
	{forgets[Prepare]("prepare over a tombstone", func(l *Local) {
		for i := range l.Keys {
			l.Keys[i].Buried = false
		}
	}), alone("", OneRound, false, 1, budget{}), "an intent at b, where there was"},
	{forgets[Prepare]("prepare over an aborted record", func(l *Local) { l.Record = Record{} }),
		alone("", OneRound, false, 1, budget{crash: 1}), "aborted and became staging"},
	{omits[Prevent]("leave no tombstones when preventing", func(e *Effect) { e.Bury = nil }),
		alone("", OneRound, false, 1, budget{}), "and now is aborted"},
	{omits[Resolve]("leave no tombstones when aborting", func(e *Effect) { e.Bury = nil }),
		alone("", TwoPhase, false, 1, budget{giveUp: 1}), "left intents [b]"},
	{omits[Query]("call it aborted and write no record", func(e *Effect) { e.Put = Record{} }),
		alone("", TwoPhase, false, 1, budget{}), "it was aborted ts=0.000000+0, and now is committed"},
}

// TestMutations breaks the protocol in one place after the other, and wants each to be
// found: what the explorer would not see it does not prove.
func TestMutations(t *testing.T) {
	for _, v := range mutations {
		t.Run(v.name, func(t *testing.T) {
			v.in.broken = v.mutation
			r := explore(v.in, 3_000_000)
			require.ErrorContains(t, r.err, v.want, "%v", r)
			t.Logf("%v", r)
			if testing.Short() || raceEnabled {
				return
			}
			v.in.broken = mutation{}
			require.NoError(t, explore(v.in, 3_000_000).err, "unbroken")
		})
	}
}
