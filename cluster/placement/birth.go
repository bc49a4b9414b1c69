package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Place chooses nodes for the replicas of a new shard: for each of them the less
// loaded of two that are drawn from those that lie furthest from the others. sh
// needs no Replicas; the first node returned is to lead. It returns an error if
// the state is wrong or has fewer live nodes that sh may be on than it wants.
func Place(s State, sh Shard, r *rand.Rand) ([]NodeID, error) {
	o := Options{PerNode: len(s.Shards) + len(s.Pending) + 1} // a new shard copies nothing
	if err := o.validate(); err != nil {
		return nil, err
	}
	sh.Replicas, sh.Leader = nil, 0
	if err := sh.check(nil); err != nil {
		return nil, fmt.Errorf("placement: new shard: %w", err)
	}
	b, err := newBoard(s, o)
	if err != nil {
		return nil, err
	}
	g := newGroup(&sh)
	var ids []NodeID
	for len(g.on) < sh.want() {
		free := b.furthestFrom(&g)
		if len(free) == 0 {
			return nil, fmt.Errorf("placement: new shard: %d live nodes that it may be on (%v): want %d", len(g.on), sh.Require, sh.want())
		}
		v := &g.part
		if len(g.on) == 0 {
			v = &g.full
		}
		n := free[r.IntN(len(free))]
		if other := free[r.IntN(len(free))]; b.nodes[other].cost(v, 1) < b.nodes[n].cost(v, 1) {
			n = other
		}
		g.on = append(g.on, n)
		ids = append(ids, b.nodes[n].ID)
	}
	return ids, nil
}

// furthestFrom returns the live places that a shard may be on, those of them that
// are as far from its replicas as can be.
func (b *board) furthestFrom(g *group) (list []int) {
	far := -1.0
	for n := range b.nodes {
		if b.nodes[n].Condition != Live || slices.Contains(g.on, n) || !b.allowed(g, n) {
			continue
		}
		s := b.spread(g, -1, n)
		if s > far+even {
			far, list = s, list[:0]
		}
		if s > far-even {
			list = append(list, n)
		}
	}
	return list
}
