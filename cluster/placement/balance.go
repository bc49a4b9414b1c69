package placement

import "slices"

var dimNames = [dims]string{"replicas", "leaders", "operations", "CPU", "bytes"}

// A spot is a load of a place.
type spot struct{ place, dim int }

// A progress is what balancing knows of the spots: those that were beyond their
// tolerance are brought well within, others are left alone, and those that no move
// improves are given up.
type progress struct {
	begun, stuck map[spot]bool
	// waits is set once a spot has all the copies that its node may take at once.
	// What the others are to do shows when those are done: now they would give to
	// each other what that node is to have.
	waits bool
}

// balance makes moves while a place is further off than it may be, and then on
// until it is well within.
func (p *planner) balance() {
	g := progress{begun: map[spot]bool{}, stuck: map[spot]bool{}}
	for !p.full() {
		at, off := p.furthest(g)
		if at.place < 0 {
			return
		}
		c, waits := p.transferFor(at, off)
		if c.shard < 0 && !waits && !g.waits {
			if p.exchange(at) {
				continue
			}
			c = p.copyFor(at, off)
		}
		if c.shard < 0 {
			g.stuck[at] = true
			n := &p.nodes[at.place]
			g.waits = g.waits || off < 0 && n.in >= p.o.PerNode || off > 0 && n.out >= p.o.PerNode
			continue
		}
		p.move(c.kind, c.shard, c.from, c.to, "balance "+dimNames[at.dim])
	}
}

// furthest returns the spot that is furthest off among those to be worked at, of
// place -1 if there is none. Places that are to be empty are repair's.
func (p *planner) furthest(g progress) (at spot, off float64) {
	at.place = -1
	most := p.o.Settle
	for i := range p.nodes {
		n := &p.nodes[i]
		if n.Condition > Suspect {
			continue
		}
		for d := range dims {
			o, s := n.distance(d, n.has[d]), spot{i, d}
			far := max(o, -o)
			if far > 1 {
				g.begun[s] = true
			}
			if far > most && g.begun[s] && !g.stuck[s] {
				at, off, most = s, o, far
			}
		}
	}
	return at, off
}

// A candidate is a move and what it changes.
type candidate struct {
	kind            Kind
	shard, from, to int
	change          float64 // of the sum of squares, less is better
}

func (c *candidate) offer(kind Kind, shard, from, to int, change float64) {
	if change < c.change {
		*c = candidate{kind, shard, from, to, change}
	}
}

// enough is how much a move must improve to be worth it: rounding shall not move
// anything, nor what is a hundredth of a tolerance.
const enough = 1e-4

// none is the candidate that any worthwhile move is better than.
var none = candidate{shard: -1, change: -enough}

// leads reports whether it is leaders that have a load, or have most of it.
func (at spot) leads() bool { return at.dim != replicas && at.dim != bytes }

// transferFor returns the transfer of leadership that brings a place nearest to its
// share, shard -1 if there is none. waits says that one would help when others are
// done, and that nothing dearer should be tried before.
func (p *planner) transferFor(at spot, off float64) (now candidate, waits bool) {
	now, later := none, none
	switch {
	case !at.leads():
	case off > 0:
		p.leadsAway(at.place, &now, &later)
	default:
		p.leadsTo(at.place, &now, &later)
	}
	return now, now.shard < 0 && later.shard >= 0
}

// copyFor returns the swap that brings a place nearest to its share, shard -1 if
// there is none. Replicas that lead are moved only where no other helps.
func (p *planner) copyFor(at spot, off float64) candidate {
	c, n := none, at.place
	if off < 0 {
		p.swapsTo(n, &c)
	} else if p.swapsAway(n, p.nodes[n].holds, &c); c.shard < 0 {
		p.swapsAway(n, p.nodes[n].led, &c)
	}
	return c
}

// transfer is what it changes to move leadership.
func (p *planner) transfer(g *group, from, to int) float64 {
	more := g.leadership()
	return p.nodes[from].cost(&more, -1) + p.nodes[to].cost(&more, 1)
}

// offerLead offers a transfer, as one for later if a node has enough of them.
func (p *planner) offerLead(now, later *candidate, shard, from, to int) {
	if p.nodes[to].Condition != Live {
		return
	}
	if p.mayLead(from, to, 1) {
		later = now
	}
	later.offer(Lead, shard, from, to, p.transfer(&p.shards[shard], from, to))
}

// mayLead reports whether two nodes may have so many transfers more.
func (p *planner) mayLead(from, to, more int) bool {
	limit := 4*p.o.PerNode - more
	return p.nodes[to].Condition == Live && p.nodes[from].transfers <= limit && p.nodes[to].transfers <= limit
}

func (p *planner) leadsAway(n int, now, later *candidate) {
	for _, shard := range p.nodes[n].led {
		if p.shards[shard].locked {
			continue
		}
		for _, to := range p.shards[shard].on {
			if to != n {
				p.offerLead(now, later, shard, n, to)
			}
		}
	}
}

func (p *planner) leadsTo(n int, now, later *candidate) {
	for _, shard := range p.nodes[n].holds {
		if g := &p.shards[shard]; !g.locked && g.leader >= 0 {
			p.offerLead(now, later, shard, g.leader, n)
		}
	}
}

// exchange lets two nodes give each other the leadership of a shard, where neither
// alone may: each has the leaders that it is to have, and of one they are the heavy
// ones. It reports whether that helped.
func (p *planner) exchange(at spot) bool {
	n := at.place
	if !at.leads() || p.nodes[n].Condition != Live {
		return false
	}
	there, back := candidate{shard: -1, change: -enough}, -1
	for _, s := range p.nodes[n].led {
		if p.shards[s].locked {
			continue
		}
		for _, to := range p.shards[s].on {
			if to != n && p.mayLead(n, to, 2) {
				p.inReturn(s, n, to, &there, &back)
			}
		}
	}
	if there.shard < 0 {
		return false
	}
	why := "balance " + dimNames[at.dim]
	p.move(Lead, there.shard, n, there.to, why)
	p.move(Lead, back, there.to, n, why)
	return true
}

// inReturn offers the shards whose leadership n may get from the node to for that
// of a shard of its own.
func (p *planner) inReturn(shard, n, to int, there *candidate, back *int) {
	own := p.shards[shard].leadership()
	for _, other := range p.nodes[to].led {
		g := &p.shards[other]
		if g.locked || !slices.Contains(g.on, n) {
			continue
		}
		more, less := own, g.leadership()
		more.add(&less, -1)
		if change := p.nodes[n].cost(&more, -1) + p.nodes[to].cost(&more, 1); change < there.change {
			*there, *back = candidate{Lead, shard, n, to, change}, other
		}
	}
}

// swapsAway offers to move the replicas that a place has of some shards.
func (p *planner) swapsAway(n int, shards []int, best *candidate) {
	if p.nodes[n].out >= p.o.PerNode {
		return
	}
	for _, shard := range shards {
		g := &p.shards[shard]
		if g.locked {
			continue
		}
		relief := p.nodes[n].cost(g.weight(n), -1)
		for to := range p.nodes {
			if p.nodes[to].takes(&p.o) {
				p.offerSwap(best, shard, n, to, relief)
			}
		}
	}
}

func (p *planner) swapsTo(n int, best *candidate) {
	if !p.nodes[n].takes(&p.o) {
		return
	}
	for from := range p.nodes {
		f := &p.nodes[from]
		if from == n || f.out >= p.o.PerNode {
			continue
		}
		for _, shard := range f.holds {
			if g := &p.shards[shard]; !g.locked {
				p.offerSwap(best, shard, from, n, f.cost(&g.part, -1))
			}
		}
	}
}

// offerSwap offers a swap that puts no two replicas on one place, breaks no
// constraint and brings no replicas closer together.
func (p *planner) offerSwap(best *candidate, shard, from, to int, relief float64) {
	g := &p.shards[shard]
	change := relief + p.nodes[to].cost(g.weight(from), 1)
	if change >= best.change || slices.Contains(g.on, to) || !p.allowed(g, to) {
		return
	}
	if p.flat || p.spread(g, from, to) >= p.spread(g, -1, -1)-even {
		best.offer(Swap, shard, from, to, change)
	}
}
