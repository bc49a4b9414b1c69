package isolation

import "slices"

// A kind is what an edge says. pass is a part of an edge that goes on: it belongs to
// the edge that led to the node that it begins at.
type kind uint8

const (
	pass kind = 1 << iota
	ww
	wr
	rw
	rt
)

var kindNames = map[kind]string{ww: "ww", wr: "wr", rw: "rw", rt: "rt"}

// An edge is between two nodes: transactions, or nodes behind those that stand for
// what many have in common.
type edge struct {
	from, to int32
	key      int32 // -1: none
	kind     kind
}

// A graph holds edges by where they begin.
type graph struct {
	nodes int
	edges []edge  // sorted by from
	first []int32 // of the edges of each node, with one more at the end
}

func newGraph(nodes int, edges []edge) *graph {
	slices.SortFunc(edges, func(a, b edge) int {
		if a.from != b.from {
			return int(a.from) - int(b.from)
		}
		return int(a.to) - int(b.to)
	})
	g := &graph{nodes: nodes, edges: edges, first: make([]int32, nodes+1)}
	for _, e := range edges {
		g.first[e.from+1]++
	}
	for i := range nodes {
		g.first[i+1] += g.first[i]
	}
	return g
}

// components numbers the strongly connected components of the part of the graph that
// has edges of some kinds (Tarjan, 1972), without recursion. Nodes that are one by
// themselves have -1.
func (g *graph) components(kinds kind) (of []int32, count int32) {
	of = make([]int32, g.nodes)
	low, index := make([]int32, g.nodes), make([]int32, g.nodes) // index 0: not seen
	next := make([]int32, g.nodes)                               // the edge to look at
	open := make([]bool, g.nodes)
	var stack, path []int32
	clock := int32(0)
	for i := range of {
		of[i] = -1
	}
	for root := range int32(g.nodes) {
		if index[root] != 0 {
			continue
		}
		path = append(path, root)
		for len(path) > 0 {
			n := path[len(path)-1]
			if index[n] == 0 {
				clock++
				index[n], low[n], next[n], open[n] = clock, clock, g.first[n], true
				stack = append(stack, n)
			}
			down := false
			for ; next[n] < g.first[n+1]; next[n]++ {
				e := g.edges[next[n]]
				if e.kind&kinds == 0 {
					continue
				}
				if index[e.to] == 0 {
					path = append(path, e.to)
					down = true
					break
				}
				if open[e.to] {
					low[n] = min(low[n], low[e.to])
				}
			}
			if down {
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				up := path[len(path)-1]
				low[up] = min(low[up], low[n])
			}
			if low[n] != index[n] {
				continue
			}
			at := len(stack) - 1
			for stack[at] != n {
				at--
			}
			if n != stack[len(stack)-1] {
				for _, m := range stack[at:] {
					of[m] = count
				}
				count++
			}
			for _, m := range stack[at:] {
				open[m] = false
			}
			stack = stack[:at]
		}
	}
	return of, count
}

// A search looks for short ways in a graph, again and again.
type search struct {
	g     *graph
	came  []int32 // by which edge, where seen is the round's
	seen  []int32
	round int32
	queue []int32
	// work is how many edges may still be looked at.
	work int
}

// wayBack returns the shortest cycle that begins with an edge and goes on by edges of
// some kinds within a component, or none. A way that is only there if more edges are
// looked at than are left is not found.
func (s *search) wayBack(by int32, kinds kind, of []int32) []int32 {
	first := s.g.edges[by]
	s.round++
	s.queue = append(s.queue[:0], first.to)
	s.seen[first.to], s.came[first.to] = s.round, by
	for len(s.queue) > 0 && s.work > 0 {
		n := s.queue[0]
		s.queue = s.queue[1:]
		for i := s.g.first[n]; i < s.g.first[n+1]; i++ {
			s.work--
			e := s.g.edges[i]
			if e.kind&kinds == 0 || of[e.to] != of[first.from] || s.seen[e.to] == s.round {
				continue
			}
			s.seen[e.to], s.came[e.to] = s.round, i
			if e.to == first.from {
				return s.cycle(by)
			}
			s.queue = append(s.queue, e.to)
		}
	}
	return nil
}

// cycle reads the way back from where it began.
func (s *search) cycle(by int32) []int32 {
	first := s.g.edges[by]
	var list []int32
	for n := first.from; ; {
		i := s.came[n]
		list = append(list, i)
		if i == by {
			break
		}
		n = s.g.edges[i].from
	}
	slices.Reverse(list)
	return list
}
