package isolation

import "slices"

// How many edges the search looks at for each of the graph's.
const (
	workPerEdge = 50
	minWork     = 10_000_000
)

// Check looks for anomalies up to those that a level forbids. It returns an error that
// wraps ErrMalformed for what is no history, and else a report: Report.Err says whether
// the level held.
func Check(h *History, level Level) (*Report, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := &analysis{txns: h.txns, keys: map[string]int32{}, nodes: len(h.txns), report: &Report{Level: level}}
	if err := a.index(); err != nil {
		return nil, err
	}
	for key, order := range h.orders {
		if i, ok := a.keys[key]; ok {
			a.places[i].order = order // for settle
		}
	}
	a.settle()
	reads := a.reads()
	for k, p := range a.places {
		if err := a.know(int32(k), p, h.orders[p.name], reads[k]); err != nil {
			return nil, err
		}
	}
	kinds := pass | ww | wr | rw
	a.cycles(kinds)
	if level >= StrictSerializable && len(a.report.Violations()) == 0 {
		a.realtime()
		a.cycles(kinds | rt)
	}
	a.report.Edges = len(a.edges)
	return a.report, nil
}

// know adds what one key says.
func (a *analysis) know(k int32, p *place, told []uint64, reads []seen) error {
	if p.list {
		a.orderList(p, reads)
	} else if err := a.orderRegister(p, told, reads); err != nil {
		return err
	}
	for i := range reads {
		s := &reads[i]
		for j, v := range s.list {
			if !a.source(p, s, v, j == len(s.list)-1) {
				break
			}
		}
		if !p.list && s.value != 0 {
			a.source(p, s, s.value, true)
		}
	}
	if p.list || told != nil {
		a.ordered(k, p, reads)
	} else {
		a.unordered(k, p, reads)
	}
	return nil
}

// cycles looks for cycles of some kinds of edge, from the worst to the mildest, in each
// group of transactions that depend on each other both ways.
func (a *analysis) cycles(kinds kind) {
	g := newGraph(a.nodes, a.edges)
	of, count := g.components(kinds)
	if count == 0 {
		return
	}
	s := &search{g: g, came: make([]int32, g.nodes), seen: make([]int32, g.nodes), work: max(minWork, workPerEdge*len(g.edges))}
	dep := kinds &^ rw // what follows for certain
	within := func(e edge) bool { return of[e.from] >= 0 && of[e.from] == of[e.to] }
	found := map[int32]bool{}
	look := func(first, rest kind, name func(cycle []int32) Name) {
		sub, _ := g.components(first | rest)
		for i, e := range g.edges {
			if e.kind&first == 0 || !within(e) || found[of[e.from]] || sub[e.from] < 0 || sub[e.from] != sub[e.to] {
				continue
			}
			if cycle := s.wayBack(int32(i), rest, sub); cycle != nil {
				found[of[e.from]] = true
				a.add(g, name(cycle), cycle)
			}
		}
	}
	is := func(n Name) func([]int32) Name { return func([]int32) Name { return n } }
	look(ww, ww|rt&kinds|pass, is(G0))
	look(wr, dep, is(G1c))
	// One rw and a way back without any. The way is not in one component of its own,
	// so each rw is tried while there is work left.
	for i, e := range g.edges {
		if e.kind != rw || !within(e) || found[of[e.from]] || s.work <= 0 {
			continue
		}
		if cycle := s.wayBack(int32(i), dep, of); cycle != nil {
			found[of[e.from]] = true
			a.add(g, a.single(g, cycle), cycle)
		}
	}
	for c, cycle := range a.nonadjacent(g, of, kinds, found) {
		found[c] = true
		a.add(g, GNonadjacent, cycle)
	}
	s.work = max(minWork, workPerEdge*len(g.edges))
	look(rw, kinds, is(G2Item))
}

// single names a cycle with one rw.
func (a *analysis) single(g *graph, cycle []int32) Name {
	var txns []int32
	key := int32(-1)
	same := true
	for _, i := range cycle {
		e := g.edges[i]
		if int(e.from) < len(a.txns) {
			txns = append(txns, e.from)
		}
		same = same && (key < 0 || e.key == key)
		key = e.key
	}
	if same && key >= 0 && len(txns) == 2 && a.wrote(txns[0], key) && a.wrote(txns[1], key) && a.read(txns[0], key) && a.read(txns[1], key) {
		return LostUpdate
	}
	return GSingle
}

func (a *analysis) wrote(txn, key int32) bool { return a.did(txn, key, Append, Write) }
func (a *analysis) read(txn, key int32) bool  { return a.did(txn, key, ReadList, Read) }

func (a *analysis) did(txn, key int32, kinds ...OpKind) bool {
	return slices.ContainsFunc(a.txns[txn].Ops, func(o Op) bool { return o.Key == a.places[key].name && slices.Contains(kinds, o.Kind) })
}

// nonadjacent finds cycles with rw of which no two follow each other: cycles in a graph
// of each node twice, behind an rw and behind something else.
func (a *analysis) nonadjacent(g *graph, of []int32, kinds kind, found map[int32]bool) map[int32][]int32 {
	n := int32(g.nodes)
	var twice []edge
	var origin []int32
	for i, e := range g.edges {
		if e.kind&kinds == 0 || of[e.from] < 0 || of[e.from] != of[e.to] || found[of[e.from]] {
			continue
		}
		switch e.kind {
		case rw:
			twice = append(twice, edge{e.from, e.to + n, int32(i), rw})
		case pass: // goes on with what led here
			twice = append(twice, edge{e.from, e.to, int32(i), pass}, edge{e.from + n, e.to + n, int32(i), pass})
		default:
			twice = append(twice, edge{e.from, e.to, int32(i), e.kind}, edge{e.from + n, e.to, int32(i), e.kind})
		}
	}
	if len(twice) == 0 {
		return nil
	}
	d := newGraph(2*g.nodes, twice)
	sub, _ := d.components(kinds)
	s := &search{g: d, came: make([]int32, d.nodes), seen: make([]int32, d.nodes), work: max(minWork, workPerEdge*len(twice))}
	cycles := map[int32][]int32{}
	for i, e := range d.edges {
		group := of[e.from%n]
		if e.kind != rw || sub[e.from] < 0 || sub[e.from] != sub[e.to] || cycles[group] != nil {
			continue
		}
		if cycle := s.wayBack(int32(i), kinds, sub); cycle != nil {
			origin = origin[:0]
			for _, j := range cycle {
				origin = append(origin, d.edges[j].key)
			}
			cycles[group] = slices.Clone(origin)
		}
	}
	return cycles
}

// add reports a cycle, in terms of transactions.
func (a *analysis) add(g *graph, name Name, cycle []int32) {
	var steps []Step
	timed := false
	for _, i := range cycle {
		e := g.edges[i]
		if e.kind == pass {
			continue
		}
		timed = timed || e.kind == rt
		step := Step{Txn: int(e.from), Kind: kindNames[e.kind]}
		if e.key >= 0 && e.kind != rt {
			step.Key = a.places[e.key].name
		}
		steps = append(steps, step)
	}
	if timed {
		name = name.Realtime()
	}
	if a.report.room(name) {
		a.report.Anomalies = append(a.report.Anomalies, Anomaly{Name: name, Cycle: steps})
	}
}
