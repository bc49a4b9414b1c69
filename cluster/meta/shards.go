package meta

import (
	"slices"

	"github.com/phantomdb/phantomdb/consensus"
)

func (c *Create) run(t *turn) Answer {
	if a := t.checkCluster(0); a.code != 0 {
		return a
	}
	if id, ok := t.made.Get(c.Request); ok && c.Request != 0 {
		return done(uint64(id))
	}
	switch {
	case c.Request == 0 || c.Want == 0 || len(c.Nodes) == 0 || len(c.Nodes) > c.Want || !distinct(c.Nodes):
		return refuse(ErrInvalid, "shard of request %d on nodes %v, %d wanted: expected a request above 0, and distinct nodes, not more than wanted",
			c.Request, c.Nodes, c.Want)
	case c.Span.End != "" && c.Span.End <= c.Span.Start:
		return refuse(ErrInvalid, "span %v: expected an end behind its start", c.Span)
	case t.shards.Len() >= MaxShards:
		return refuse(ErrFull, "%d shards, at most %d", t.shards.Len(), MaxShards)
	}
	if there := t.In(c.Span); len(there) > 0 {
		return refuse(ErrOverlap, "%v: shard %d has %v", c.Span, there[0].ID, there[0].Span)
	}
	sh := &Shard{ID: ShardID(t.last.shard + 1), Span: c.Span, Want: c.Want, Require: c.Require, Request: c.Request}
	for _, id := range c.Nodes {
		n, ok := t.nodes.Get(id)
		if !ok || !n.takes() {
			return refuse(ErrNoNode, "node %d takes no replicas: it is not there, not live, or drains", id)
		}
		sh.Replicas++
		sh.Members = append(sh.Members, Member{Member: consensus.Member{Replica: sh.Replicas, Node: id}})
	}
	t.last.shard++
	t.putCluster()
	t.putShard(sh)
	return done(uint64(sh.ID))
}

// findShard returns a copy of a shard to change.
func (t *turn) findShard(id ShardID) (Shard, Answer) {
	if sh, ok := t.shards.Get(id); ok {
		return *sh, Answer{}
	}
	return Shard{}, refuse(ErrNoShard, "shard %d", id)
}

func (c *Report) run(t *turn) Answer {
	sh, a := t.findShard(c.Shard)
	switch {
	case a.code != 0:
		return a
	case c.Version == 0 || len(c.Members) == 0:
		return refuse(ErrInvalid, "report of shard %d with %d members, of version %d", sh.ID, len(c.Members), c.Version)
	case c.Version < sh.Version || c.Generation < sh.Generation || c.Version == sh.Version && c.Generation == sh.Generation:
		return done(uint64(sh.ID))
	}
	if a := t.checkMembers(&sh, c.Members); a.code != 0 {
		return a
	}
	if c.Generation > sh.Generation && sh.ID != MetaShard {
		for _, other := range t.In(c.Span) {
			if other.ID != sh.ID {
				return refuse(ErrOverlap, "report of shard %d with span %v: shard %d has %v", sh.ID, c.Span, other.ID, other.Span)
			}
		}
		sh.Span = c.Span
	}
	sh.Generation, sh.Version, sh.Members = c.Generation, c.Version, c.Members
	t.putShard(&sh)
	return done(uint64(sh.ID))
}

// checkMembers refuses members that no change of this state's could have led to.
func (t *turn) checkMembers(sh *Shard, list []Member) Answer {
	var nodes []consensus.NodeID
	var replicas []consensus.ReplicaID
	for _, m := range list {
		nodes, replicas = append(nodes, m.Node), append(replicas, m.Replica)
		if m.Replica > sh.Replicas {
			return refuse(ErrInvalid, "report of shard %d with replica %d: ids to %d were given out", sh.ID, m.Replica, sh.Replicas)
		}
		if _, ok := t.nodes.Get(m.Node); !ok {
			return refuse(ErrNoNode, "report of shard %d with a member on node %d", sh.ID, m.Node)
		}
	}
	if !distinct(nodes) || !distinct(replicas) {
		return refuse(ErrInvalid, "report of shard %d with members %v: expected distinct replicas on distinct nodes", sh.ID, list)
	}
	return Answer{}
}

func (c *Want) run(t *turn) Answer {
	sh, a := t.findShard(c.Shard)
	switch {
	case a.code != 0:
		return a
	case sh.Want == c.Want && slices.Equal(sh.Require, c.Require):
		return done(uint64(sh.ID))
	case c.Want == 0:
		return refuse(ErrInvalid, "shard %d is to have no replicas", sh.ID)
	}
	if takers := t.takers(); c.Want > takers && c.Want > sh.Want {
		return refuse(ErrTooFew, "shard %d is to have %d replicas, and %d nodes take any", sh.ID, c.Want, takers)
	}
	sh.Want, sh.Require = c.Want, c.Require
	t.putShard(&sh)
	return done(uint64(sh.ID))
}

func (c *Begin) run(t *turn) Answer {
	sh, a := t.findShard(c.Shard)
	if a.code != 0 {
		return a
	}
	if m, ok := t.moves.Get(sh.ID); ok {
		if m.Kind == c.Kind && m.From == c.From && m.To == c.To {
			return done(m.ID)
		}
		return refuse(ErrMoving, "shard %d: %v", sh.ID, m)
	}
	if a := t.checkMove(&sh, c); a.code != 0 {
		return a
	}
	t.last.move++
	t.putCluster()
	m := &Move{ID: t.last.move, Shard: sh.ID, Kind: c.Kind, From: c.From, To: c.To, Why: c.Why}
	if c.Kind != MoveRemove {
		sh.Replicas++
		m.Replica = sh.Replicas
		t.putShard(&sh)
	}
	t.setMove(m)
	t.changed(recordMove, uint64(sh.ID), m.append(nil))
	return done(m.ID)
}

func (t *turn) checkMove(sh *Shard, c *Begin) Answer {
	_, from := sh.On(c.From)
	_, to := sh.On(c.To)
	adds, removes := c.Kind == MoveAdd || c.Kind == MoveSwap, c.Kind == MoveRemove || c.Kind == MoveSwap
	n, ok := t.nodes.Get(c.To)
	switch {
	case !adds && !removes:
		return refuse(ErrInvalid, "shard %d: %v", sh.ID, c.Kind)
	case removes != (c.From != 0) || adds != (c.To != 0):
		return refuse(ErrInvalid, "shard %d: %v from node %d to node %d", sh.ID, c.Kind, c.From, c.To)
	case removes && !from:
		return refuse(ErrInvalid, "shard %d has no replica on node %d", sh.ID, c.From)
	case adds && to:
		return refuse(ErrInvalid, "shard %d has a replica on node %d already", sh.ID, c.To)
	case adds && (!ok || !n.takes()):
		return refuse(ErrNoNode, "node %d takes no replicas: it is not there, not live, or drains", c.To)
	case c.Kind == MoveRemove && len(sh.Members) == 1:
		return refuse(ErrInvalid, "shard %d would have no replica left", sh.ID)
	case adds && len(sh.Members) >= MaxMembers-1:
		return refuse(ErrFull, "shard %d has %d members, at most %d", sh.ID, len(sh.Members), MaxMembers-1)
	}
	return Answer{}
}

func (c *End) run(t *turn) Answer {
	m, ok := t.moves.Get(c.Shard)
	switch {
	case !ok || m.ID > c.Move:
		return done(c.Move) // ended before
	case m.ID != c.Move:
		return refuse(ErrMoving, "shard %d: %v, not %d", c.Shard, m, c.Move)
	}
	_ = t.unset(recordMove, uint64(c.Shard)) // fails for other kinds only
	t.changed(recordMove, uint64(c.Shard), nil)
	return done(c.Move)
}
