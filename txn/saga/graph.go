package saga

import (
	"fmt"
	"hash/fnv"
	"slices"
)

// The limits of a definition.
const (
	maxSteps = 256
	maxName  = 256 // bytes
)

// A graph is a definition that was found good. Steps are known by their index.
type graph struct {
	name    string
	version uint32
	steps   []Step
	before  [][]int // the steps that a step names in After
	behind  [][]int // the steps that name it
	pivot   int     // -1: none
	final   []bool  // the pivot and what is behind it: nothing is taken back
	order   []int   // all steps, each behind those before it
	shape   uint64  // what must not change in a version
}

// Validate returns a *DefinitionError if no saga could be run by the definition.
func (d *Definition) Validate() error {
	_, err := compile(d)
	return err
}

func compile(d *Definition) (*graph, error) {
	g := &graph{name: d.Name, version: d.Version, steps: slices.Clone(d.Steps), pivot: -1}
	n := len(g.steps)
	g.before, g.behind, g.final = make([][]int, n), make([][]int, n), make([]bool, n)
	for _, find := range []func() (Flaw, string, string){g.names, g.actions, g.edges, g.cycle, g.decided, g.undone} {
		if flaw, step, other := find(); flaw != 0 {
			return nil, &DefinitionError{Name: d.Name, Version: d.Version, Flaw: flaw, Step: step, Other: other}
		}
	}
	h := fnv.New64a()
	for i := range g.steps {
		s := &g.steps[i]
		s.Retry, s.UndoRetry = s.Retry.withDefaults(), s.UndoRetry.withDefaults()
		fmt.Fprintf(h, "%q %q %v %v %v %v\n", s.Name, s.After, s.Pivot, s.NoUndo, s.Do.call != nil, s.Undo.call != nil)
	}
	g.shape = h.Sum64()
	return g, nil
}

// index returns the index of a step, -1 if there is none.
func (g *graph) index(name string) int {
	return slices.IndexFunc(g.steps, func(s Step) bool { return s.Name == name })
}

// names finds steps that cannot be told apart.
func (g *graph) names() (Flaw, string, string) {
	switch {
	case len(g.name) == 0 || len(g.name) > maxName:
		return BadName, "", ""
	case len(g.steps) == 0:
		return NoSteps, "", ""
	case len(g.steps) > maxSteps:
		return TooManySteps, g.steps[maxSteps].Name, ""
	}
	for i := range g.steps {
		switch name := g.steps[i].Name; {
		case len(name) == 0 || len(name) > maxName:
			return BadName, name, ""
		case g.index(name) != i:
			return DuplicateStep, name, ""
		}
	}
	return 0, "", ""
}

// actions finds steps that do nothing, or cannot be tried as they say.
func (g *graph) actions() (Flaw, string, string) {
	for i := range g.steps {
		s := &g.steps[i]
		if s.Do.none() {
			return NoAction, s.Name, ""
		}
		for _, r := range []Retry{s.Retry, s.UndoRetry} {
			if r.Initial < 0 || r.Max < 0 || r.Attempts < 0 || r.Deadline < 0 || r.Max != 0 && r.Max < r.Initial {
				return BadRetry, s.Name, ""
			}
		}
		if s.NoUndo && !s.Undo.none() {
			return UselessUndo, s.Name, ""
		}
	}
	return 0, "", ""
}

// edges finds out who comes before whom.
func (g *graph) edges() (Flaw, string, string) {
	for i := range g.steps {
		for _, name := range g.steps[i].After {
			j := g.index(name)
			if j < 0 {
				return UnknownDependency, g.steps[i].Name, name
			}
			if slices.Contains(g.before[i], j) {
				return DuplicateDependency, g.steps[i].Name, name
			}
			g.before[i], g.behind[j] = append(g.before[i], j), append(g.behind[j], i)
		}
	}
	return 0, "", ""
}

// cycle finds a step that comes before itself: what cannot be taken away, beginning
// with what depends on nothing (Kahn's algorithm).
func (g *graph) cycle() (Flaw, string, string) {
	left := make([]int, len(g.steps))
	var free []int
	for i := range g.steps {
		if left[i] = len(g.before[i]); left[i] == 0 {
			free = append(free, i)
		}
	}
	for done := 0; done < len(free); done++ {
		for _, j := range g.behind[free[done]] {
			if left[j]--; left[j] == 0 {
				free = append(free, j)
			}
		}
	}
	if g.order = free; len(free) == len(g.steps) {
		return 0, "", ""
	}
	// A step that only depends on a cycle is not in it: go up until one comes again.
	at := slices.IndexFunc(left, func(n int) bool { return n > 0 })
	for seen := map[int]bool{}; !seen[at]; {
		seen[at] = true
		at = g.before[at][slices.IndexFunc(g.before[at], func(j int) bool { return left[j] > 0 })]
	}
	return Cycle, g.steps[at].Name, ""
}

// reach marks what can be reached from a step over edges.
func reach(from int, edges [][]int, mark []bool) {
	for _, j := range edges[from] {
		if !mark[j] {
			mark[j] = true
			reach(j, edges, mark)
		}
	}
}

// decided finds the pivot, and what does not fit it.
func (g *graph) decided() (Flaw, string, string) {
	for i := range g.steps {
		if !g.steps[i].Pivot {
			continue
		}
		if g.pivot >= 0 {
			return SecondPivot, g.steps[i].Name, g.steps[g.pivot].Name
		}
		g.pivot = i
	}
	if g.pivot < 0 {
		return 0, "", ""
	}
	before := make([]bool, len(g.steps))
	reach(g.pivot, g.before, before)
	reach(g.pivot, g.behind, g.final)
	g.final[g.pivot] = true
	for i := range g.steps {
		s, pivot := &g.steps[i], g.steps[g.pivot].Name
		switch {
		case !g.final[i] && !before[i]:
			return BesidePivot, s.Name, pivot
		case g.final[i] && i != g.pivot && s.Retry.bounded():
			return NotRetriable, s.Name, pivot
		case g.final[i] && (!s.Undo.none() || s.NoUndo):
			return UselessUndo, s.Name, pivot
		}
	}
	return 0, "", ""
}

// undone finds steps that could not be taken back.
func (g *graph) undone() (Flaw, string, string) {
	for i := range g.steps {
		if s := &g.steps[i]; !g.final[i] && !s.NoUndo && s.Undo.none() {
			return NoUndo, s.Name, ""
		}
	}
	return 0, "", ""
}

// places returns where the rows of the steps lie, or nil if all lie at home.
func (g *graph) places(id ID, input []byte) ([]string, error) {
	var at []string
	for i := range g.steps {
		if g.steps[i].At == nil {
			continue
		}
		prefix := g.steps[i].At(input)
		if prefix == id.Home {
			continue
		}
		if len(prefix) > maxHome {
			return nil, &InputError{ID: id, Text: fmt.Sprintf("step %q is at a prefix of %d bytes, expected at most %d", g.steps[i].Name, len(prefix), maxHome)}
		}
		if at == nil {
			at = make([]string, len(g.steps))
			for j := range at {
				at[j] = id.Home
			}
		}
		at[i] = prefix
	}
	return at, nil
}
