package meta

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/phantomdb/phantomdb/consensus"
)

// A ShardID names a shard, and its Raft group. Zero is none.
type ShardID uint64

// MetaShard is the shard that holds what this package describes.
const MetaShard ShardID = 1

// The limits of what is kept.
const (
	MaxNodes         = 4096
	MaxShards        = 1 << 20
	MaxMembers       = 16
	MaxAddressBytes  = 255
	MaxLocality      = 8
	MaxLocalityBytes = 64
	MaxKeyBytes      = 4 << 10
	MaxWhyBytes      = 200
)

// A Condition says what the cluster thinks of a node.
type Condition uint8

// The conditions of a node.
const (
	Joining Condition = iota // has an id and never started
	Live
	Suspect // is not heard of
	Dead    // for this epoch for good
)

func (c Condition) String() string {
	if c > Dead {
		return fmt.Sprintf("condition %d", uint8(c))
	}
	return [...]string{"joining", "live", "suspect", "dead"}[c]
}

// A Node is what the cluster knows of one of its nodes.
type Node struct {
	ID        consensus.NodeID
	Address   string // empty before the first start
	Epoch     uint64 // of the latest start, 0 before the first
	Nonce     uint64 // of that start
	Condition Condition
	Told      uint64 // how often Condition was declared to be another
	Draining  bool   // gives up its replicas, and is to be removed
	Turns     uint64 // how often Draining has changed
	Profile
	// Request names the command by which it joined.
	Request uint64
}

// A Profile is what a node says of itself.
type Profile struct {
	// Locality names its failure domains, from the widest to the narrowest.
	Locality []string
	// Weight is its share of the load in relation to other nodes, in hundredths.
	// 0: 100.
	Weight uint64
	// Formats are the versions of the cluster's format that it can live with.
	Formats Range
}

// A Range is Min to Max, both included.
type Range struct{ Min, Max uint64 }

// Format is the version of what nodes of a cluster tell each other and keep. A
// cluster has the one that it was made with.
const Format = 1

// A Member is a replica of a shard.
type Member struct {
	consensus.Member
	Learner bool
}

func (m Member) String() string {
	if m.Learner {
		return fmt.Sprintf("%d@%d learns", m.Replica, m.Node)
	}
	return fmt.Sprintf("%d@%d", m.Replica, m.Node)
}

// A Span is the keys from Start on that are below End. An empty End is behind all
// keys.
type Span struct{ Start, End string }

// Overlaps says whether spans have a key in common.
func (s Span) Overlaps(o Span) bool {
	return (o.End == "" || s.Start < o.End) && (s.End == "" || o.Start < s.End)
}

// Contains says whether key is in the span.
func (s Span) Contains(key string) bool { return s.Start <= key && (s.End == "" || key < s.End) }

func (s Span) String() string {
	if s.End == "" {
		return fmt.Sprintf("[%q, end)", s.Start)
	}
	return fmt.Sprintf("[%q, %q)", s.Start, s.End)
}

// A Shard is what the cluster knows of one of its shards.
type Shard struct {
	ID   ShardID
	Span Span // of MetaShard: none
	// Generation counts the changes of the span.
	Generation uint64
	// Version grows with each change of the members: it is the index of the entry
	// that made it. 0: nobody has reported yet, and Members are those that the
	// shard begins with.
	Version uint64
	Members []Member
	// Want is how many replicas it is to have, Require the domains in which all of
	// them must be.
	Want    int
	Require []string
	// Replicas is the highest id of a replica that was ever given out.
	Replicas consensus.ReplicaID
	// Request names the command by which it was made. 0: it came out of Parent, by a
	// split after which both had generation Born.
	Request uint64
	Parent  ShardID
	Born    uint64
	// Into is the shard that it is being merged into, 0 if it is not.
	Into ShardID
}

// placements numbers what States of this process say of shards and moves.
var placements atomic.Uint64

// place notes that shards or moves are others now.
func (s *State) place() { s.Placed = placements.Add(1) }

// On returns the member on a node.
func (sh *Shard) On(n consensus.NodeID) (Member, bool) {
	for _, m := range sh.Members {
		if m.Node == n {
			return m, true
		}
	}
	return Member{}, false
}

// A MoveKind says what a move does.
type MoveKind uint8

// The kinds of move.
const (
	MoveAdd    MoveKind = iota + 1 // a replica on To
	MoveRemove                     // the one on From
	MoveSwap                       // one on To takes the place of that on From
	MoveSplit                      // what is not below Key becomes Other
	MoveMerge                      // Other, the next by span, goes into it
)

func (k MoveKind) String() string {
	if k < MoveAdd || k > MoveMerge {
		return fmt.Sprintf("move %d", uint8(k))
	}
	return [...]string{"add", "remove", "swap", "split", "merge"}[k-1]
}

// A Move is a change of a shard that is under way: of its members, or of its span.
type Move struct {
	ID       uint64
	Shard    ShardID
	Kind     MoveKind
	From, To consensus.NodeID
	Replica  consensus.ReplicaID // the new one's, 0 if there is none
	Key      string
	Other    ShardID
	Why      string // for people
}

func (m *Move) String() string {
	switch m.Kind {
	case MoveSplit:
		return fmt.Sprintf("move %d: shard %d: split at %q into %d (%s)", m.ID, m.Shard, m.Key, m.Other, m.Why)
	case MoveMerge:
		return fmt.Sprintf("move %d: shard %d: merge %d into it (%s)", m.ID, m.Shard, m.Other, m.Why)
	}
	return fmt.Sprintf("move %d: shard %d: %v %d -> %d (%s)", m.ID, m.Shard, m.Kind, m.From, m.To, m.Why)
}

// A State is all that a cluster knows of itself, at an index of the meta group's
// log. It is immutable, and so is what its methods return. The zero State is that of
// a cluster that was never made.
type State struct {
	Index   uint64
	Changed uint64 // the index of the latest change
	Cluster uint64 // the cluster's identity, 0 before Init
	Format  uint64

	// Placed is the same for two States of a process only if they have the same shards
	// and moves.
	Placed uint64

	last      counters
	nodes     btree.Map[consensus.NodeID, *Node]
	shards    btree.Map[ShardID, *Shard]
	moves     btree.Map[ShardID, *Move]
	addresses btree.Map[string, consensus.NodeID]
	joined    btree.Map[uint64, consensus.NodeID] // by request
	made      btree.Map[uint64, ShardID]          // by request
	spans     btree.Map[string, ShardID]          // by start
}

// counters are the highest ids that were given out.
type counters struct{ node, shard, move uint64 }

// freeze returns a copy that later changes do not reach.
func (s *State) freeze() *State {
	f := *s
	f.nodes, f.shards, f.moves = *s.nodes.IsoCopy(), *s.shards.IsoCopy(), *s.moves.IsoCopy()
	f.addresses, f.joined = *s.addresses.IsoCopy(), *s.joined.IsoCopy()
	f.made, f.spans = *s.made.IsoCopy(), *s.spans.IsoCopy()
	return &f
}

// Node returns a node.
func (s *State) Node(id consensus.NodeID) (*Node, bool) { return s.nodes.Get(id) }

// Nodes returns all nodes, by id.
func (s *State) Nodes() []*Node { return s.nodes.Values() }

// Removed says whether id was a node's that has been removed.
func (s *State) Removed(id consensus.NodeID) bool {
	_, ok := s.nodes.Get(id)
	return !ok && id != 0 && uint64(id) <= s.last.node
}

// Shard returns a shard.
func (s *State) Shard(id ShardID) (*Shard, bool) { return s.shards.Get(id) }

// Shards returns all shards, by id; the first is MetaShard.
func (s *State) Shards() []*Shard { return s.shards.Values() }

// Merged says whether id was a shard's that has gone into another one.
func (s *State) Merged(id ShardID) bool {
	if _, ok := s.shards.Get(id); ok || id == 0 || uint64(id) > s.last.shard {
		return false
	}
	merged := true
	s.moves.Scan(func(_ ShardID, m *Move) bool { // one that is split off is not there yet
		merged = m.Kind != MoveSplit || m.Other != id
		return merged
	})
	return merged
}

// Locate returns the shard whose span contains key.
func (s *State) Locate(key string) (*Shard, bool) {
	var found *Shard
	s.spans.Descend(key, func(_ string, id ShardID) bool {
		found, _ = s.shards.Get(id)
		return false
	})
	if found == nil || !found.Span.Contains(key) {
		return nil, false
	}
	return found, true
}

// In returns the shards whose spans overlap span, by their start.
func (s *State) In(span Span) []*Shard {
	from := span.Start
	if first, ok := s.Locate(span.Start); ok {
		from = first.Span.Start
	}
	var list []*Shard
	s.spans.Ascend(from, func(start string, id ShardID) bool {
		if span.End != "" && start >= span.End {
			return false
		}
		sh, _ := s.shards.Get(id)
		list = append(list, sh)
		return true
	})
	return list
}

// Move returns the move of a shard that is under way.
func (s *State) Move(id ShardID) (*Move, bool) { return s.moves.Get(id) }

// Moves returns the moves under way, in the order in which they were begun.
func (s *State) Moves() []*Move {
	list := s.moves.Values()
	slices.SortFunc(list, func(a, b *Move) int { return int(a.ID) - int(b.ID) })
	return list
}

// takers counts the nodes that could have a replica.
func (s *State) takers() (n int) {
	s.nodes.Scan(func(_ consensus.NodeID, node *Node) bool {
		if node.takes() {
			n++
		}
		return true
	})
	return n
}

// takes says whether a node may be given a replica.
func (n *Node) takes() bool { return n.Condition == Live && !n.Draining }
