package placement

import (
	"fmt"
	"slices"
)

// A NodeID names a node. Zero is none.
type NodeID uint64

// A ShardID names a shard. Zero is none.
type ShardID uint64

// A Condition is what may be done with a node.
type Condition int

// The conditions of a node.
const (
	Live     Condition = iota // keeps and takes replicas
	Suspect                   // keeps what it has and takes nothing
	Draining                  // gives up all it has
	Dead                      // has lost all it had
)

func (c Condition) String() string {
	return [...]string{"live", "suspect", "draining", "dead"}[c]
}

// A Node is a place for replicas.
type Node struct {
	ID        NodeID
	Condition Condition
	// Locality names the failure domains that the node is in, from the widest to
	// the narrowest: region, zone, rack. Two nodes share a domain if all names up
	// to it are equal.
	Locality []string
	// Capacity is the share of the load that the node is to take, in relation to
	// other nodes. Default: 1.
	Capacity float64
}

// Load is what a shard costs, over a time that all shards have in common.
type Load struct {
	Ops         float64 // operations a second, which its leader answers
	LeaderCPU   float64 // seconds of CPU a second on the leader's node
	FollowerCPU float64 // the same on each other replica's
	Bytes       float64 // stored, on each replica's node
}

// A Shard is a group of replicas on nodes.
type Shard struct {
	ID       ShardID
	Replicas []NodeID // on distinct nodes
	Leader   NodeID   // one of Replicas, or 0 where nobody leads
	Load     Load
	// Want is how many replicas it is to have. Default: 3.
	Want int
	// Require names domains: each replica's node must be in all of them.
	Require []string
}

// State is what a plan is made for.
type State struct {
	Nodes  []Node
	Shards []Shard
	// Pending are moves under way, in the order in which they were begun. Plan
	// takes them for done and moves their shards no further.
	Pending []Move
}

// A Kind says what a move does.
type Kind int

// The kinds of move.
const (
	Add    Kind = iota // a replica on To
	Remove             // the replica on From
	Swap               // one on To takes the place of that on From
	Lead               // leadership goes from From to To, which has a replica
)

func (k Kind) String() string { return [...]string{"add", "remove", "swap", "lead"}[k] }

// A Move changes one shard.
type Move struct {
	Kind     Kind
	Shard    ShardID
	From, To NodeID
	Why      string // for people
}

// String says a move as one would: "shard 7: swap 3 -> 5 (drain)".
func (m Move) String() string {
	return fmt.Sprintf("shard %d: %v %d -> %d (%s)", m.Shard, m.Kind, m.From, m.To, m.Why)
}

// Apply returns s with moves done, without Pending, and leaves s as it is. A
// leader whose replica goes away hands over to the replica in its place, or to the
// first that is left. It returns an error that names the first move that does not
// fit.
func Apply(s State, moves ...Move) (State, error) {
	s.Shards = slices.Clone(s.Shards)
	s.Pending = nil
	index := make(map[ShardID]int, len(s.Shards))
	for i, sh := range s.Shards {
		index[sh.ID] = i
	}
	for _, m := range moves {
		i, ok := index[m.Shard]
		if !ok {
			return State{}, fmt.Errorf("placement: %v: there is no such shard", m)
		}
		sh, err := s.Shards[i].apply(m)
		if err != nil {
			return State{}, fmt.Errorf("placement: %v: %w", m, err)
		}
		s.Shards[i] = sh
	}
	return s, nil
}

func (s Shard) apply(m Move) (Shard, error) {
	from, to := slices.Contains(s.Replicas, m.From), slices.Contains(s.Replicas, m.To)
	switch {
	case m.Kind != Add && !from:
		return s, fmt.Errorf("node %d has none of its replicas %v", m.From, s.Replicas)
	case (m.Kind == Add || m.Kind == Swap) && to:
		return s, fmt.Errorf("node %d has one of its replicas already", m.To)
	case m.Kind == Lead && !to:
		return s, fmt.Errorf("node %d has none of its replicas %v", m.To, s.Replicas)
	case m.Kind == Lead && s.Leader != m.From:
		return s, fmt.Errorf("node %d does not lead it, %d does", m.From, s.Leader)
	case m.To == 0 && m.Kind != Remove:
		return s, fmt.Errorf("node 0 is none")
	}
	if m.Kind == Lead {
		s.Leader = m.To
		return s, nil
	}
	s.Replicas = slices.Clone(s.Replicas)
	if m.Kind != Add {
		s.Replicas = slices.DeleteFunc(s.Replicas, func(n NodeID) bool { return n == m.From })
	}
	if m.Kind != Remove {
		s.Replicas = append(s.Replicas, m.To)
	}
	if m.Kind != Add && s.Leader == m.From {
		s.Leader = 0
		if m.Kind == Swap {
			s.Leader = m.To
		} else if len(s.Replicas) > 0 {
			s.Leader = s.Replicas[0]
		}
	}
	return s, nil
}

// Check returns an error that names what is wrong with s: an id that is zero or
// not unique, a replica on an unknown node or twice on one, a leader without a
// replica, a load or capacity that is negative or not a number.
func (s State) Check() error {
	nodes := make(map[NodeID]bool, len(s.Nodes))
	for _, n := range s.Nodes {
		switch {
		case n.ID == 0 || nodes[n.ID]:
			return fmt.Errorf("placement: node id %d: want one of its own, above 0", n.ID)
		case n.Condition < Live || n.Condition > Dead:
			return fmt.Errorf("placement: node %d: condition %d: want %d to %d", n.ID, int(n.Condition), int(Live), int(Dead))
		case !(n.Capacity >= 0 && n.Capacity <= maxLoad):
			return fmt.Errorf("placement: node %d: capacity %v: want 0 to %g", n.ID, n.Capacity, float64(maxLoad))
		}
		nodes[n.ID] = true
	}
	shards := make(map[ShardID]bool, len(s.Shards))
	for i := range s.Shards {
		sh := &s.Shards[i]
		if sh.ID == 0 || shards[sh.ID] {
			return fmt.Errorf("placement: shard id %d: want one of its own, above 0", sh.ID)
		}
		shards[sh.ID] = true
		if err := sh.check(nodes); err != nil {
			return fmt.Errorf("placement: shard %d: %w", sh.ID, err)
		}
	}
	return nil
}

// maxLoad bounds loads, so that their sums and squares stay finite.
const maxLoad = 1e30

func (s *Shard) check(nodes map[NodeID]bool) error {
	for i, n := range s.Replicas {
		if !nodes[n] {
			return fmt.Errorf("a replica on node %d, which is not one of the nodes", n)
		}
		if slices.Contains(s.Replicas[:i], n) {
			return fmt.Errorf("two replicas on node %d", n)
		}
	}
	if s.Leader != 0 && !slices.Contains(s.Replicas, s.Leader) {
		return fmt.Errorf("leader on node %d, which has no replica", s.Leader)
	}
	if s.Want < 0 {
		return fmt.Errorf("wants %d replicas", s.Want)
	}
	for _, v := range []float64{s.Load.Ops, s.Load.LeaderCPU, s.Load.FollowerCPU, s.Load.Bytes} {
		if !(v >= 0 && v <= maxLoad) {
			return fmt.Errorf("a load of %v: want 0 to %g", v, float64(maxLoad))
		}
	}
	return nil
}

// defaultWant is how many replicas a shard has that does not say.
const defaultWant = 3

func (s *Shard) want() int {
	if s.Want == 0 {
		return defaultWant
	}
	return s.Want
}
