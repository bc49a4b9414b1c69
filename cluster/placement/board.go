package placement

import (
	"math"
	"slices"
)

// The loads that are balanced.
const (
	replicas = iota
	leaders
	ops
	cpu
	bytes
	dims
)

// A vector is an amount of each load.
type vector [dims]float64

// A board is a State by index, with what each node has. Moves are made on it as
// they are planned.
type board struct {
	o      Options
	nodes  []place
	shards []group
	apart  [][]float64 // how far apart two nodes are, 0 to 1
	flat   bool        // no node has a locality
}

// A place is a node on a board.
type place struct {
	Node
	has  vector
	fair vector // its share
	// to makes an amount a distance in tolerances: 1 / (fair * tolerance), and of
	// replicas and leaders at most 1. It is 0
	// for loads that nobody has, which then count for nothing.
	to         vector
	in, out    int   // copies under way to and from it
	transfers  int   // leaderships planned away from it or to it
	led, holds []int // shards that it leads, and that it follows
}

// takes reports whether a node may get another replica.
func (p *place) takes(o *Options) bool { return p.Condition == Live && p.in < o.PerNode }

// A group is a shard on a board.
type group struct {
	*Shard
	on     []int // places of its replicas
	leader int   // -1: none
	full   vector
	part   vector // of a follower
	locked bool   // a move of it is under way or planned
}

func newBoard(s State, o Options) (*board, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	now, err := Apply(s, s.Pending...)
	if err != nil {
		return nil, err
	}
	if err := now.Check(); err != nil {
		return nil, err
	}
	b := &board{o: o, nodes: make([]place, len(now.Nodes)), shards: make([]group, len(now.Shards))}
	index := make(map[NodeID]int, len(now.Nodes))
	for i, n := range now.Nodes {
		index[n.ID] = i
		b.nodes[i].Node = n
	}
	moving := make(map[ShardID]bool, len(s.Pending))
	for _, m := range s.Pending {
		moving[m.Shard] = true
		b.charge(m.Kind, index[m.From], index[m.To])
	}
	for i := range now.Shards {
		b.place(i, &now.Shards[i], index, moving[now.Shards[i].ID])
	}
	b.measure()
	b.compare()
	return b, nil
}

// place puts a shard on the board.
func (b *board) place(i int, s *Shard, index map[NodeID]int, locked bool) {
	b.shards[i] = newGroup(s)
	g := &b.shards[i]
	g.locked = locked
	for _, id := range s.Replicas {
		n := index[id]
		g.on = append(g.on, n)
		if id == s.Leader {
			g.leader = n
			b.nodes[n].led = append(b.nodes[n].led, i)
		} else {
			b.nodes[n].holds = append(b.nodes[n].holds, i)
		}
		b.nodes[n].has.add(g.weight(n), 1)
	}
}

func newGroup(s *Shard) group {
	return group{
		Shard: s, leader: -1,
		part: vector{replicas: 1, cpu: s.Load.FollowerCPU, bytes: s.Load.Bytes},
		full: vector{replicas: 1, leaders: 1, ops: s.Load.Ops, cpu: s.Load.LeaderCPU, bytes: s.Load.Bytes},
	}
}

// weight is what a shard costs a place that has a replica of it.
func (g *group) weight(n int) *vector {
	if g.leader == n {
		return &g.full
	}
	return &g.part
}

// leadership is what it costs a replica more to lead.
func (g *group) leadership() vector {
	v := g.full
	v.add(&g.part, -1)
	return v
}

// measure computes the shares. Places that are to be empty have none.
func (b *board) measure() {
	var total vector
	capacity := 0.0
	for i := range b.nodes {
		p := &b.nodes[i]
		total.add(&p.has, 1)
		capacity += p.capacity()
	}
	tolerance := vector{b.o.Count, b.o.Count, b.o.Load, b.o.Load, b.o.Load}
	for i := range b.nodes {
		p := &b.nodes[i]
		for d := range dims {
			p.fair[d] = total[d] * p.capacity() / max(capacity, math.SmallestNonzeroFloat64)
			if slack := p.fair[d] * tolerance[d]; slack > 0 {
				if d <= leaders {
					slack = max(slack, 1)
				}
				p.to[d] = 1 / slack
			}
		}
	}
}

// capacity is what part of the load a node is to have, in relation to others.
func (p *place) capacity() float64 {
	switch {
	case p.Condition > Suspect:
		return 0
	case p.Capacity == 0:
		return 1
	}
	return p.Capacity
}

// compare computes how far apart nodes are.
func (b *board) compare() {
	b.flat = true
	for i := range b.nodes {
		b.flat = b.flat && len(b.nodes[i].Locality) == 0
	}
	b.apart = make([][]float64, len(b.nodes))
	all := make([]float64, len(b.nodes)*len(b.nodes))
	for i := range b.nodes {
		b.apart[i] = all[i*len(b.nodes) : (i+1)*len(b.nodes)]
		for j := range b.nodes {
			b.apart[i][j] = apart(b.nodes[i].Locality, b.nodes[j].Locality)
		}
	}
}

// apart is 1 for nodes that share no domain, and less by the part of the names
// that they have in common.
func apart(a, b []string) float64 {
	n := max(len(a), len(b))
	if n == 0 {
		return 0
	}
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	return float64(n-same) / float64(n)
}

// spread is how far apart the replicas of a shard are, all pairs together, if
// the one on without were on with; -1 stands for none.
func (b *board) spread(g *group, without, with int) (sum float64) {
	if b.flat {
		return 0
	}
	for i, n := range g.on {
		if n == without {
			continue
		}
		if with >= 0 {
			sum += b.apart[n][with]
		}
		for _, other := range g.on[:i] {
			if other != without {
				sum += b.apart[n][other]
			}
		}
	}
	return sum
}

// allowed reports whether a shard may have a replica on a place.
func (b *board) allowed(g *group, n int) bool {
	for _, domain := range g.Require {
		if !slices.Contains(b.nodes[n].Locality, domain) {
			return false
		}
	}
	return true
}

// distance is how far an amount of a load is from the share of a place, in
// tolerances: above 0 is too much. Replicas and leaders cannot be cut, so that up to
// one of them more or less is no distance.
func (p *place) distance(d int, amount float64) float64 {
	by := amount - p.fair[d]
	if d <= leaders && by >= -1-even && by <= 1+even {
		return 0
	}
	return by * p.to[d]
}

// cost is how much further off its share a place is when it gets times v: what
// the square of its distance grows by.
func (p *place) cost(v *vector, times float64) (sum float64) {
	for d := range dims {
		if p.to[d] > 0 {
			before, after := p.distance(d, p.has[d]), p.distance(d, p.has[d]+times*v[d])
			sum += (after - before) * (after + before)
		}
	}
	return sum
}

func (v *vector) add(w *vector, times float64) {
	for d := range dims {
		v[d] += times * w[d]
	}
}

// do makes a move as Apply does, charges it to its nodes and locks its shard.
// Places are by index, and those that a kind of move does not have are -1.
func (b *board) do(kind Kind, shard, from, to int) {
	g := &b.shards[shard]
	g.locked = true
	b.charge(kind, from, to)
	for _, n := range g.on {
		b.lift(shard, n)
	}
	if kind == Swap || kind == Remove {
		g.on = slices.DeleteFunc(g.on, func(n int) bool { return n == from })
	}
	if kind == Swap || kind == Add {
		g.on = append(g.on, to)
	}
	switch {
	case kind == Lead, kind == Swap && g.leader == from:
		g.leader = to
	case kind == Remove && g.leader == from:
		g.leader = -1
		if len(g.on) > 0 {
			g.leader = g.on[0]
		}
	}
	for _, n := range g.on {
		b.lay(shard, n)
	}
}

// lift takes a replica's load off a place, lay puts it there.
func (b *board) lift(shard, n int) {
	p, g := &b.nodes[n], &b.shards[shard]
	p.has.add(g.weight(n), -1)
	other := func(s int) bool { return s == shard }
	p.led, p.holds = slices.DeleteFunc(p.led, other), slices.DeleteFunc(p.holds, other)
}

func (b *board) lay(shard, n int) {
	p, g := &b.nodes[n], &b.shards[shard]
	p.has.add(g.weight(n), 1)
	if g.leader == n {
		p.led = append(p.led, shard)
	} else {
		p.holds = append(p.holds, shard)
	}
}

// charge counts a move to what its nodes do at once.
func (b *board) charge(kind Kind, from, to int) {
	if kind == Lead {
		b.nodes[from].transfers++
		b.nodes[to].transfers++
		return
	}
	if kind != Remove {
		b.nodes[to].in++
	}
	if kind == Swap {
		b.nodes[from].out++
	}
}
