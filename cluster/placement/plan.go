package placement

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Options are the limits of a plan. A zero field selects its default.
type Options struct {
	// Count is how far the replicas and leaders of a node may be off its share, as
	// a part of that, before balancing begins. Less than one replica is never off.
	// Default: 0.05.
	Count float64
	// Load is the same of operations, CPU and bytes. Default: 0.1.
	Load float64
	// Settle is how far balancing goes, as a part of Count and Load: less than 1, so
	// that it does not begin again at once. Default: 0.5.
	Settle float64
	// PerNode bounds the copies that a node takes at once, those that it gives up
	// at once and, by four times as many, the transfers of leadership.
	// Default: 4.
	PerNode int
	// MaxMoves bounds a plan. Default: no bound.
	MaxMoves int
	_        struct{}
}

func (o *Options) validate() error {
	o.Count, o.Load = cmp.Or(o.Count, 0.05), cmp.Or(o.Load, 0.1)
	o.Settle, o.PerNode = cmp.Or(o.Settle, 0.5), cmp.Or(o.PerNode, 4)
	o.MaxMoves = cmp.Or(o.MaxMoves, math.MaxInt)
	for _, f := range []struct {
		what  string
		value float64
	}{{"count", o.Count}, {"load", o.Load}, {"settle", o.Settle}} {
		if !(f.value > 0 && f.value < 1) {
			return fmt.Errorf("placement: options: %s of %v: want more than 0 and less than 1", f.what, f.value)
		}
	}
	if o.PerNode < 0 || o.MaxMoves < 0 {
		return fmt.Errorf("placement: options: %d moves a node, %d in all: want 1 or more", o.PerNode, o.MaxMoves)
	}
	return nil
}

// A Result is a plan: at most one move of each shard, in the order in which they
// matter. When they are done, there may be more to do.
type Result struct {
	Moves []Move
	// Short are the shards for whose repair there was no node, or none that had
	// time.
	Short []ShardID
	// Before and After say how even the loads are now and would be.
	Before, After Evenness
}

// Plan says what to move. It returns an error, and no moves, if the state or the
// options are wrong.
func Plan(s State, o Options) (Result, error) {
	if err := o.validate(); err != nil {
		return Result{}, err
	}
	b, err := newBoard(s, o)
	if err != nil {
		return Result{}, err
	}
	p := planner{board: b}
	p.Before = b.evenness()
	p.repair()
	p.spreadOut()
	p.balance()
	b.measure() // there may be more or fewer replicas
	p.After = b.evenness()
	return p.Result, nil
}

// A planner makes moves on a board and notes them.
type planner struct {
	*board
	Result
}

// full reports whether the plan has all the moves that it may.
func (p *planner) full() bool { return len(p.Moves) >= p.o.MaxMoves }

func (p *planner) move(kind Kind, shard, from, to int, why string) {
	m := Move{Kind: kind, Shard: p.shards[shard].ID, Why: why}
	if from >= 0 {
		m.From = p.nodes[from].ID
	}
	if to >= 0 {
		m.To = p.nodes[to].ID
	}
	p.do(kind, shard, from, to)
	p.Moves = append(p.Moves, m)
}

// repair gives every shard the replicas that it wants, on nodes that may have
// them. Those that have lost most come first.
func (p *planner) repair() {
	order := make([]int, 0, len(p.shards))
	alive := make([]int, len(p.shards))
	for i := range p.shards {
		for _, n := range p.shards[i].on {
			if p.nodes[n].Condition != Dead {
				alive[i]++
			}
		}
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(alive[a]-p.shards[a].want(), alive[b]-p.shards[b].want())
	})
	for _, i := range order {
		if p.full() {
			return
		}
		if !p.shards[i].locked {
			p.repairOne(i)
		}
	}
}

func (p *planner) repairOne(shard int) {
	g := &p.shards[shard]
	wrong, why := p.wrong(g)
	switch {
	case wrong >= 0 && len(g.on) > g.want():
		p.drop(shard, wrong, why)
	case wrong >= 0:
		if g.leader == wrong && p.handOver(shard, why) {
			return
		}
		if to := p.target(g, wrong); to >= 0 {
			p.move(Swap, shard, wrong, to, why)
		} else {
			p.Short = append(p.Short, g.ID)
		}
	case len(g.on) < g.want():
		if to := p.target(g, -1); to >= 0 {
			p.move(Add, shard, -1, to, fmt.Sprintf("%d of %d replicas", len(g.on), g.want()))
		} else {
			p.Short = append(p.Short, g.ID)
		}
	case len(g.on) > g.want():
		p.drop(shard, p.spare(g), fmt.Sprintf("%d of %d replicas", len(g.on), g.want()))
	}
}

// wrong returns the place of a shard's replica that must go, the dead before the
// others, and why; -1 if there is none.
func (p *planner) wrong(g *group) (place int, why string) {
	place = -1
	for _, n := range g.on {
		switch c := p.nodes[n].Condition; {
		case c == Dead:
			return n, "dead"
		case c == Draining:
			place, why = n, "drain"
		case place < 0 && !p.allowed(g, n):
			place, why = n, "not allowed there"
		}
	}
	return place, why
}

// drop removes a replica, and has the leader hand over first if it is its.
func (p *planner) drop(shard, from int, why string) {
	if p.shards[shard].leader == from && p.handOver(shard, why) {
		return
	}
	p.move(Remove, shard, from, -1, why)
}

// handOver gives leadership to the replica for which it costs least, and reports
// whether there was one. A dead leader hands over nothing.
func (p *planner) handOver(shard int, why string) bool {
	g := &p.shards[shard]
	from, best, least := g.leader, -1, math.Inf(1)
	if p.nodes[from].Condition == Dead {
		return false
	}
	for _, n := range g.on {
		if n == from || p.nodes[n].Condition != Live || !p.allowed(g, n) {
			continue
		}
		if c := p.nodes[n].cost(&g.full, 1); c < least {
			best, least = n, c
		}
	}
	if best < 0 {
		return false
	}
	p.move(Lead, shard, from, best, why)
	return true
}

// target returns where a replica should go, in the place of the one on without
// if that is not -1: as far from the others as can be, then where it costs least.
func (p *planner) target(g *group, without int) int {
	best, far, least := -1, -1.0, math.Inf(1)
	for n := range p.nodes {
		if !p.nodes[n].takes(&p.o) || slices.Contains(g.on, n) || !p.allowed(g, n) {
			continue
		}
		s, c := p.spread(g, without, n), p.nodes[n].cost(&g.part, 1)
		if s > far+even || s > far-even && c < least {
			best, far, least = n, s, c
		}
	}
	return best
}

// even is how little two sums of distances differ that are equal but for rounding.
const even = 1e-9

// spare returns the replica that a shard can do without: one on a suspect node, then
// one without which the others stay as far apart as can be, then the one whose node
// has most relief. It is not the leader.
func (p *planner) spare(g *group) int {
	best, far, least := -1, -1.0, math.Inf(1)
	for _, n := range g.on {
		if n == g.leader {
			continue
		}
		s, c := p.spread(g, n, -1), p.nodes[n].cost(&g.part, -1)
		if p.nodes[n].Condition == Suspect {
			s += float64(len(g.on) * len(g.on)) // more than any distance
		}
		if s > far+even || s > far-even && c < least {
			best, far, least = n, s, c
		}
	}
	return best
}

// spreadOut moves replicas to nodes that are further from the others, the one
// that gains most.
func (p *planner) spreadOut() {
	if p.flat {
		return
	}
	for i := range p.shards {
		g := &p.shards[i]
		if g.locked || p.full() {
			continue
		}
		from, to, most := -1, -1, p.spread(g, -1, -1)+even
		for _, n := range g.on {
			if n == g.leader || p.nodes[n].out >= p.o.PerNode {
				continue
			}
			if t := p.target(g, n); t >= 0 {
				if s := p.spread(g, n, t); s > most {
					from, to, most = n, t, s+even
				}
			}
		}
		if to >= 0 {
			p.move(Swap, i, from, to, "further apart")
		}
	}
}
