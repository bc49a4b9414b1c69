package consensus_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
)

// A mover hands leadership around and, with move set, replicas too. It is the
// only one to change configurations, and settles each change before the next.
type mover struct {
	a    *arena
	rng  *rand.Rand
	move bool
	done struct{ transfers, added, swapped, dropped int }
}

func (m *mover) run(ctx context.Context) {
	for ctx.Err() == nil {
		g := consensus.GroupID(1 + m.rng.IntN(m.a.setup.groups))
		if h, st, ok := m.a.leads(ctx, g); ok {
			if m.move && m.rng.IntN(3) > 0 {
				m.step(ctx, g, h, st)
			} else {
				m.transfer(ctx, g, h, st)
			}
		}
		time.Sleep(time.Duration(20+m.rng.IntN(60)) * time.Millisecond)
	}
}

func (m *mover) transfer(ctx context.Context, g consensus.GroupID, h *consensus.Host, st consensus.Status) {
	try, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	to := st.Voters[m.rng.IntN(len(st.Voters))]
	if h.Transfer(try, g, to.Replica) == nil && to.Replica != st.Replica {
		m.done.transfers++
	}
}

// step takes a group one change further: a fourth member as learner, then its
// vote against another's place.
func (m *mover) step(ctx context.Context, g consensus.GroupID, h *consensus.Host, st consensus.Status) {
	switch {
	case st.Joint:
	case len(st.Learners) == 0:
		m.add(ctx, g, st)
	default:
		l := st.Learners[0]
		if m.a.at(l.Node) == nil || st.Match[l.Replica]+5 < st.Commit {
			if m.rng.IntN(10) == 0 && m.change(ctx, g, consensus.ChangeStep{Kind: consensus.Remove, Member: l}) == nil {
				m.done.dropped++
			}
			return
		}
		out := st.Voters[m.rng.IntN(len(st.Voters))]
		if m.change(ctx, g, consensus.ChangeStep{Kind: consensus.Promote, Member: l}, consensus.ChangeStep{Kind: consensus.Remove, Member: out}) == nil {
			m.done.swapped++
		}
	}
}

// add brings up a replica on a node that has none.
func (m *mover) add(ctx context.Context, g consensus.GroupID, st consensus.Status) {
	var free []consensus.NodeID
	for _, n := range m.a.nodes {
		if !slices.ContainsFunc(st.Voters, func(v consensus.Member) bool { return v.Node == n.id }) {
			free = append(free, n.id)
		}
	}
	node := free[m.rng.IntN(len(free))]
	h := m.a.at(node)
	if h == nil {
		return
	}
	// Every change is settled, so what is there and no member was removed
	// while the node could not hear of it.
	if _, err := h.Machine(g); err == nil {
		_ = h.Destroy(g)
		return
	}
	member := consensus.Member{Node: node, Replica: consensus.ReplicaID(m.a.replicas[g].Add(1))}
	if h.Create(g, member.Replica, consensus.Initial{}) != nil {
		return // the node went down or still tidies up after an earlier replica
	}
	if m.change(ctx, g, consensus.ChangeStep{Kind: consensus.AddLearner, Member: member}) == nil {
		m.done.added++
	}
}

// change carries a change out at whoever leads, until its end is known.
func (m *mover) change(ctx context.Context, g consensus.GroupID, steps ...consensus.ChangeStep) error {
	c := consensus.Change{Request: m.rng.Uint64() | 1, Steps: steps}
	unknown := false
	for {
		h, _, ok := m.a.leads(ctx, g)
		if !ok {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue
		}
		try, cancel := context.WithTimeout(ctx, time.Second)
		err := h.Reconfigure(try, g, c)
		cancel()
		switch {
		case err == nil, ctx.Err() != nil:
			return err
		case errors.Is(err, consensus.ErrUnknown):
			unknown = true
		case errors.Is(err, consensus.ErrReconfiguring):
		case errors.Is(err, consensus.ErrInvalidChange) && unknown:
			return nil // it had been made
		case errors.Is(err, consensus.ErrInvalidChange):
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
