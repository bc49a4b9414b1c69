package cluster

import (
	"context"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

// Beat sends a heartbeat and returns when it was taken.
func (n *Node) Beat(ctx context.Context, to consensus.NodeID) error {
	b, err := n.net.Call(ctx, to, serviceBeat, beat{epoch: n.host.Epoch()}.encode())
	if err == nil {
		_, err = decodePulse(b)
	}
	return err
}

// PlacementOf is a state as the planner sees it.
func PlacementOf(s *meta.State) placement.State { return placementOf(s) }

// Forked says whether the replica here of a shard is to be made with nothing, while a
// split is being carried out or not.
func (n *Node) Forked(sh *meta.Shard, pending bool) bool {
	if pending {
		n.forks.add(sh.ID, 1)
		defer n.forks.add(sh.ID, -1)
	}
	return n.forked(sh)
}

// Vouches says whether a heartbeat to this node is told that what it knows is the
// latest, and whether it was taken at all.
func (n *Node) Vouches() (latest, taken bool) {
	p := n.sentinel.hear(n.id.Node, beat{epoch: n.host.Epoch()})
	return p.verdict == pulseWell, p.leader == 0 && p.verdict != pulseStrange
}

// NewTerm has the node, which leads the meta group, find itself leading in another
// term, and reports whether it began to watch anew.
func (n *Node) NewTerm() bool {
	s := n.sentinel
	s.mu.Lock()
	before := s.detector
	s.term--
	s.mu.Unlock()
	s.tick()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.detector != before
}

// KeepReplicas brings the replicas here in line with what the node knows.
func (n *Node) KeepReplicas() {
	k := keeper{n: n, due: map[meta.ShardID]bool{}}
	k.turn(n.views.state.Load())
}

// Control changes a shard that this node leads.
func (n *Node) Control(ctx context.Context, id meta.ShardID, c *shard.Control) (*shard.Header, error) {
	return n.control(ctx, consensus.GroupID(id), c)
}
