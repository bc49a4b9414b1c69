package meta

import (
	"fmt"

	"github.com/phantomdb/phantomdb/consensus"
)

// Check returns an error that names the first invariant that s breaks.
func (s *State) Check() error {
	for _, n := range s.Nodes() {
		if err := s.checkNode(n); err != nil {
			return fmt.Errorf("meta: node %d: %w", n.ID, err)
		}
	}
	if a, j := s.addresses.Len(), s.joined.Len(); a > s.nodes.Len() || j != s.nodes.Len() {
		return fmt.Errorf("meta: %d addresses and %d requests of %d nodes", a, j, s.nodes.Len())
	}
	last := Span{}
	for i, sh := range s.In(Span{}) {
		if i > 0 && last.Overlaps(sh.Span) {
			return fmt.Errorf("meta: spans %v and %v overlap", last, sh.Span)
		}
		last = sh.Span
	}
	if s.Cluster != 0 && s.spans.Len() != s.shards.Len()-1 {
		return fmt.Errorf("meta: %d spans of %d shards", s.spans.Len(), s.shards.Len())
	}
	for _, sh := range s.Shards() {
		if err := s.checkShard(sh); err != nil {
			return fmt.Errorf("meta: shard %d: %w", sh.ID, err)
		}
	}
	for _, m := range s.Moves() {
		sh, ok := s.shards.Get(m.Shard)
		if !ok || m.ID > s.last.move || m.Replica > sh.Replicas || uint64(m.Other) > s.last.shard {
			return fmt.Errorf("meta: %v of replica %d: no such shard, or ids that were not given out", m, m.Replica)
		}
	}
	return nil
}

func (s *State) checkNode(n *Node) error {
	switch at, _ := s.addresses.Get(n.Address); {
	case n.ID == 0 || uint64(n.ID) > s.last.node:
		return fmt.Errorf("ids to %d were given out", s.last.node)
	case (n.Epoch == 0) != (n.Condition == Joining) || (n.Address == "") != (n.Condition == Joining):
		return fmt.Errorf("%v under epoch %d at %q", n.Condition, n.Epoch, n.Address)
	case n.Address != "" && at != n.ID:
		return fmt.Errorf("%s is node %d's", n.Address, at)
	}
	return nil
}

func (s *State) checkShard(sh *Shard) error {
	var nodes []consensus.NodeID
	for _, m := range sh.Members {
		if _, ok := s.nodes.Get(m.Node); !ok {
			return fmt.Errorf("member on node %d, which is not there", m.Node)
		}
		if m.Replica > sh.Replicas {
			return fmt.Errorf("replica %d, where ids to %d were given out", m.Replica, sh.Replicas)
		}
		nodes = append(nodes, m.Node)
	}
	into, merging := s.moves.Get(sh.Into)
	switch at, _ := s.spans.Get(sh.Span.Start); {
	case sh.Into != 0 && (!merging || into.Kind != MoveMerge || into.Other != sh.ID):
		return fmt.Errorf("is being merged into shard %d, which does %v", sh.Into, into)
	case sh.ID == 0 || uint64(sh.ID) > s.last.shard:
		return fmt.Errorf("ids to %d were given out", s.last.shard)
	case len(nodes) == 0 || !distinct(nodes):
		return fmt.Errorf("members on nodes %v", nodes)
	case sh.ID != MetaShard && at != sh.ID:
		return fmt.Errorf("%v is shard %d's", sh.Span, at)
	}
	return nil
}
