package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// A Fork is the state with which a group begins that comes out of another one: that
// of the other's machine at an entry that is its last for what the new group takes
// over. The entry must be of a command that stands alone, see Command.Alone, or
// replicas would not agree on the state before it.
//
// All replicas of the first group that apply the entry make one of the new group
// each, with the same id. It has the members of the first and knows of the same
// sessions, so that a retry of what the first group has applied is not applied again.
// Its log begins behind the entry's position: an index names one state of either
// group and no two, and sessions that are opened later have other names.
type Fork struct {
	// View is the machine before the entry. It may be closed when Create returns.
	View View
	// Index and Term are the entry's.
	Index, Term uint64
	// Write writes a machine at position at, with rows, and with what the new group
	// takes over, in the form that StateMachine.Stage reads.
	Write func(w io.Writer, at State) error
}

// config is that of the new group.
func (f *Fork) config(g GroupID, node NodeID, id ReplicaID) (*config, error) {
	c, err := decodeConfig(f.View.Row(rowConfig))
	if err != nil {
		return nil, fmt.Errorf("consensus: create group %d: fork: %w", g, err)
	}
	index, _ := f.View.Position()
	switch {
	case c.joint():
		return nil, fmt.Errorf("consensus: create group %d: fork at index %d, in a joint configuration", g, f.Index)
	case index >= f.Index:
		return nil, fmt.Errorf("consensus: create group %d: fork at index %d, of a view at %d, expected an earlier one", g, f.Index, index)
	case c.node(id) != node:
		return nil, fmt.Errorf("consensus: create group %d: replica %d on node %d is not among the members %v", g, id, node, c.members)
	}
	return c, nil
}

// seed gives an empty machine its first state, durably.
func (f *Fork) seed(ctx context.Context, sm StateMachine) (State, error) {
	at := State{Index: f.Index, Term: f.Term, Rows: f.View.State().Rows}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := f.Write(w, at)
		_ = w.CloseWithError(err) // never fails
		written <- err
	}()
	staged, err := sm.Stage(r)
	_ = r.CloseWithError(errors.New("the rest is not read"))
	if err = errors.Join(err, <-written); err != nil {
		if staged != nil {
			err = errors.Join(err, staged.Discard())
		}
		return State{}, err
	}
	if at = staged.State(); at.Index != f.Index || at.Term != f.Term {
		return State{}, errors.Join(fmt.Errorf("index %d term %d was written, expected %d, %d", at.Index, at.Term, f.Index, f.Term), staged.Discard())
	}
	return at, staged.Install(ctx)
}

// A Membership is who belongs to a group.
type Membership struct {
	Voters, Learners []Member
	Joint            bool
	// Index is that of the entry that made it: of two, the higher one is the later.
	Index uint64
}

// MembershipIn returns the members of a group that a view of its machine holds.
func MembershipIn(v View) (Membership, error) {
	c, err := decodeConfig(v.Row(rowConfig))
	if err != nil {
		return Membership{}, fmt.Errorf("consensus: %w", err)
	}
	return c.membership(), nil
}

func (c *config) membership() Membership {
	m := Membership{Joint: c.joint(), Index: c.index}
	for _, at := range c.members {
		if slices.Contains(c.conf.GetVoters(), uint64(at.Replica)) {
			m.Voters = append(m.Voters, at)
		} else {
			m.Learners = append(m.Learners, at)
		}
	}
	return m
}
