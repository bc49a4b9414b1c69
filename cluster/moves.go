package cluster

import (
	"slices"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// A step is what a move needs next of its shard's leader.
type step struct {
	errand errand // of no shard: nothing now
	done   bool   // the move is at its end, or given up without a trace
	why    string // of waiting, for people
}

// adds says whether the step brings in a new replica.
func (s *step) adds() bool {
	return len(s.errand.Steps) > 0 && s.errand.Steps[0].Kind == consensus.AddLearner
}

func waitFor(why string) step { return step{why: why} }

// A scene is what the next step of a move depends on.
type scene struct {
	status consensus.Status // of the shard, at its leader
	// seen is what was committed when the shard was last looked at: a replica that
	// has it is one look behind at most.
	seen  uint64
	alive func(consensus.Member) bool
	// givenUp says that the node it goes to takes it no more.
	givenUp bool
}

func (s *scene) voter(n consensus.NodeID) (consensus.Member, bool) { return on(s.status.Voters, n) }

func (s *scene) learner(n consensus.NodeID) (consensus.Member, bool) {
	return on(s.status.Learners, n)
}

func on(list []consensus.Member, n consensus.NodeID) (consensus.Member, bool) {
	i := slices.IndexFunc(list, func(m consensus.Member) bool { return m.Node == n })
	if i < 0 {
		return consensus.Member{}, false
	}
	return list[i], true
}

// next says what a move needs next, from what the shard is alone: so it does not
// matter who made the steps before, or how often.
//
// A replica comes as a learner, gets its vote when it has what the others have, in
// the same joint change in which the one that leaves loses its own, and that one
// goes when it has none. No change is made after which the voters that live are not
// a majority.
func next(m *meta.Move, s scene) step {
	if s.status.Joint {
		return waitFor("joint configuration")
	}
	if m.Kind == meta.MoveRemove {
		return s.leave(m.From)
	}
	if _, votes := s.voter(m.To); votes {
		if m.Kind == meta.MoveSwap {
			return s.leave(m.From)
		}
		return step{done: true}
	}
	learner, learns := s.learner(m.To)
	switch {
	case s.givenUp && learns:
		return s.change(consensus.Remove, learner)
	case s.givenUp, !learns && s.status.Highest >= m.Replica: // by whoever carried it out before
		return step{done: true}
	case !learns:
		return s.change(consensus.AddLearner, consensus.Member{Replica: m.Replica, Node: m.To})
	case s.seen == 0 || s.status.Match[learner.Replica] < s.seen:
		return waitFor("the new replica catches up")
	}
	steps := []consensus.ChangeStep{{Kind: consensus.Promote, Member: learner}}
	// A leader that leaves hands over to another voter first, so there must be one.
	if old, votes := s.voter(m.From); votes && m.Kind == meta.MoveSwap && len(s.status.Voters) > 1 {
		steps = append(steps, consensus.ChangeStep{Kind: consensus.Demote, Member: old})
	}
	return s.safe(steps)
}

// leave takes a replica's vote, and then the replica.
func (s *scene) leave(n consensus.NodeID) step {
	if m, votes := s.voter(n); votes {
		return s.change(consensus.Demote, m)
	}
	if m, learns := s.learner(n); learns {
		return s.change(consensus.Remove, m)
	}
	return step{done: true}
}

func (s *scene) change(kind consensus.ChangeKind, m consensus.Member) step {
	return s.safe([]consensus.ChangeStep{{Kind: kind, Member: m}})
}

// safe wants a majority of the voters to live after a change. While the present ones
// have none, no change can be made anyway.
func (s *scene) safe(steps []consensus.ChangeStep) step {
	voters := slices.Clone(s.status.Voters)
	for _, c := range steps {
		switch c.Kind {
		case consensus.Promote, consensus.AddVoter:
			voters = append(voters, c.Member)
		case consensus.Demote, consensus.Remove:
			voters = slices.DeleteFunc(voters, func(m consensus.Member) bool { return m.Replica == c.Member.Replica })
		}
	}
	live := 0
	for _, m := range voters {
		if s.alive(m) {
			live++
		}
	}
	if live <= len(voters)/2 {
		return waitFor("too few voters would live")
	}
	return step{errand: errand{Shard: meta.ShardID(s.status.Group), Steps: steps}}
}
