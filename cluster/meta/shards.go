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
	for _, id := range t.leaderFirst(c.Nodes) {
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

// latestShards is how many shards leaderFirst looks at.
const latestShards = 256

// leaderFirst is nodes with the one in front that is in front of the fewest of the
// shards made last: it is the first to lead. Who proposes shards, many at once, knows
// nothing of the others that are on their way.
func (t *turn) leaderFirst(nodes []consensus.NodeID) []consensus.NodeID {
	first, looked := make([]int, len(nodes)), 0
	t.shards.Reverse(func(_ ShardID, sh *Shard) bool {
		if len(sh.Members) > 0 {
			if i := slices.Index(nodes, sh.Members[0].Node); i >= 0 {
				first[i]++
			}
		}
		looked++
		return looked < latestShards
	})
	least := 0
	for i, n := range first {
		if n < first[least] {
			least = i
		}
	}
	nodes = slices.Clone(nodes)
	nodes[0], nodes[least] = nodes[least], nodes[0]
	return nodes
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
	if c.Generation > sh.Generation && c.Span != sh.Span {
		if a := t.changeSpan(&sh, c); a.code != 0 {
			return a
		}
	}
	sh.Generation, sh.Version, sh.Members = c.Generation, c.Version, c.Members
	t.putShard(&sh)
	return done(uint64(sh.ID))
}

// changeSpan follows a split or merge that the shard's log has done.
func (t *turn) changeSpan(sh *Shard, c *Report) Answer {
	m, _ := t.moves.Get(sh.ID)
	switch {
	case m != nil && m.Kind == MoveSplit && c.Span == Span{sh.Span.Start, m.Key}:
		child := &Shard{
			ID: m.Other, Span: Span{m.Key, sh.Span.End}, Generation: c.Generation, Version: 1, Members: slices.Clone(c.Members),
			Want: sh.Want, Require: sh.Require, Replicas: sh.Replicas, Parent: sh.ID, Born: c.Generation,
		}
		sh.Span = c.Span
		t.putShard(sh) // before the child, which takes over a part of its span
		t.putShard(child)
		return Answer{}
	case m != nil && m.Kind == MoveMerge:
		right, ok := t.shards.Get(m.Other)
		if !ok || c.Span != (Span{sh.Span.Start, right.Span.End}) {
			break
		}
		_ = t.unset(recordShard, uint64(right.ID)) // fails for other kinds only
		t.changed(recordShard, uint64(right.ID), nil)
		t.endMove(right.ID)
		sh.Span = c.Span
		return Answer{}
	}
	return refuse(ErrInvalid, "report of shard %d with span %v: it has %v, and no move that would change that", sh.ID, c.Span, sh.Span)
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
		if m.Kind == c.Kind && m.From == c.From && m.To == c.To && m.Key == c.Key && (m.Other == c.Other || c.Other == 0) {
			return done(m.ID)
		}
		return refuse(ErrMoving, "shard %d: %v", sh.ID, m)
	}
	if sh.Into != 0 && (c.Kind == MoveSplit || c.Kind == MoveMerge) { // its members move towards the other's
		return refuse(ErrMoving, "shard %d is being merged into shard %d", sh.ID, sh.Into)
	}
	if left, ok := t.shards.Get(sh.Into); ok {
		_, away := left.On(c.From)
		if _, there := left.On(c.To); c.To != 0 && !there || c.From != 0 && away {
			return refuse(ErrMoving, "shard %d is being merged into shard %d, and its replicas move to where that one's are alone", sh.ID, sh.Into)
		}
	}
	check := t.checkMove
	switch c.Kind {
	case MoveSplit:
		check = t.checkSplit
	case MoveMerge:
		check = t.checkMerge
	}
	if a := check(&sh, c); a.code != 0 {
		return a
	}
	t.last.move++
	m := &Move{ID: t.last.move, Shard: sh.ID, Kind: c.Kind, From: c.From, To: c.To, Key: c.Key, Other: c.Other, Why: c.Why}
	switch c.Kind {
	case MoveAdd, MoveSwap:
		sh.Replicas++
		m.Replica = sh.Replicas
		t.putShard(&sh)
	case MoveSplit:
		t.last.shard++
		m.Other = ShardID(t.last.shard)
	case MoveMerge:
		right, _ := t.findShard(c.Other)
		right.Into = sh.ID
		t.putShard(&right)
	}
	t.putCluster()
	t.setMove(m)
	t.changed(recordMove, uint64(sh.ID), m.append(nil))
	return done(m.ID)
}

func (t *turn) checkSplit(sh *Shard, c *Begin) Answer {
	switch {
	case c.From != 0 || c.To != 0 || c.Other != 0:
		return refuse(ErrInvalid, "shard %d: split from node %d to node %d with shard %d", sh.ID, c.From, c.To, c.Other)
	case sh.ID == MetaShard || !sh.Span.Contains(c.Key) || c.Key == sh.Span.Start:
		return refuse(ErrInvalid, "shard %d: split at %q: expected a key within %v, behind its start", sh.ID, c.Key, sh.Span)
	case sh.Generation == 0:
		return refuse(ErrInvalid, "shard %d: split at %q: its first leader is not there yet", sh.ID, c.Key)
	case t.shards.Len() >= MaxShards:
		return refuse(ErrFull, "%d shards, at most %d", t.shards.Len(), MaxShards)
	}
	return Answer{}
}

func (t *turn) checkMerge(sh *Shard, c *Begin) Answer {
	right, a := t.findShard(c.Other)
	if a.code != 0 {
		return a
	}
	m, moving := t.moves.Get(right.ID)
	switch {
	case c.From != 0 || c.To != 0 || c.Key != "":
		return refuse(ErrInvalid, "shard %d: merge from node %d to node %d at %q", sh.ID, c.From, c.To, c.Key)
	case sh.ID == MetaShard || right.ID == MetaShard || sh.Span.End == "" || sh.Span.End != right.Span.Start:
		return refuse(ErrInvalid, "shard %d, %v: merge of shard %d, %v: expected one that begins where it ends", sh.ID, sh.Span, right.ID, right.Span)
	case sh.Generation == 0 || right.Generation == 0:
		return refuse(ErrInvalid, "shard %d: merge of shard %d: the first leader of one of them is not there yet", sh.ID, right.ID)
	case moving:
		return refuse(ErrMoving, "shard %d: %v", right.ID, m)
	}
	return Answer{}
}

func (t *turn) checkMove(sh *Shard, c *Begin) Answer {
	_, from := sh.On(c.From)
	_, to := sh.On(c.To)
	adds, removes := c.Kind == MoveAdd || c.Kind == MoveSwap, c.Kind == MoveRemove || c.Kind == MoveSwap
	n, ok := t.nodes.Get(c.To)
	switch {
	case !adds && !removes || c.Key != "" || c.Other != 0:
		return refuse(ErrInvalid, "shard %d: %v with key %q and shard %d", sh.ID, c.Kind, c.Key, c.Other)
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
	if right, ok := t.shards.Get(m.Other); ok && m.Kind == MoveMerge { // given up
		free := *right
		free.Into = 0
		t.putShard(&free)
	}
	t.endMove(c.Shard)
	return done(c.Move)
}

// endMove forgets a shard's move, if it has one.
func (t *turn) endMove(id ShardID) {
	if _, ok := t.moves.Get(id); ok {
		_ = t.unset(recordMove, uint64(id)) // fails for other kinds only
		t.changed(recordMove, uint64(id), nil)
	}
}
