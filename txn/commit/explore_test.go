package commit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// over says whether nothing more needs to happen, and what is wrong then.
func (w *world) over(s *state) (bool, error) {
	if s.mail[0] != 0 || s.actors != [maxActors]ident{} {
		return false, nil
	}
	for t := range w.sc.txns {
		intents, record := w.remains(s, t)
		open := len(intents) > 0 || record == Staging || record == Committed
		h := w.histories.list[s.history[t]]
		switch {
		case open && s.crashed[t]:
			return false, nil // and a recovery will begin
		case open:
			return false, fmt.Errorf("transaction %d is over, and left intents %v, record %v", t+1, intents, record)
		case h.fate == Committed && h.applied != w.sc.all(t):
			return false, fmt.Errorf("transaction %d committed, and only %b of it was applied", t+1, h.applied)
		case h.acked == Pending && !s.crashed[t]:
			return false, fmt.Errorf("the client of transaction %d was told nothing", t+1)
		}
	}
	return true, nil
}

// explored is what came of an exploration.
type explored struct {
	states, ways, good int
	err                error
	story              []string // that leads to err
}

// A search visits states in the order of how far they are from the first.
type search struct {
	*world
	seen     map[state]uint32
	list     []state
	parents  []uint32
	found    int      // ways on
	from, to []uint32 // those of them on which nothing goes wrong
	good     []uint32
}

// explore visits every state of a scene, breadth first, and then asks whether from
// each of them there is a way on to a good end on which nothing more goes wrong.
func explore(sc *scene, limit int) explored {
	w := newWorld(sc)
	first, err := w.first()
	if err != nil {
		return explored{err: err}
	}
	x := &search{world: w, seen: map[state]uint32{first: 0}, list: []state{first}, parents: []uint32{0}}
	for i := uint32(0); int(i) < len(x.list); i++ {
		if last, err := x.expand(i); err != nil {
			return explored{states: len(x.list), err: err, story: append(x.story(i), last)}
		}
		if len(x.list) > limit {
			return explored{states: len(x.list), err: fmt.Errorf("more than %d states", limit)}
		}
	}
	r := explored{states: len(x.list), ways: x.found, good: len(x.good)}
	if i, ok := hangs(len(x.list), x.from, x.to, x.good); ok {
		r.err, r.story = fmt.Errorf("no way leads from here to a good end"), x.story(i)
	}
	return r
}

// expand visits what follows a state, and names the first thing that is wrong.
func (x *search) expand(i uint32) (last string, err error) {
	s := x.list[i]
	over, err := x.over(&s)
	switch {
	case err != nil:
		return "", err
	case over:
		x.good = append(x.good, i)
	}
	x.ways(s, false, func(_ string, next state, wrong error) {
		if err = cmp.Or(err, wrong); err != nil {
			return
		}
		j, ok := x.seen[next]
		if !ok {
			j = uint32(len(x.list))
			x.seen[next] = j
			x.list, x.parents = append(x.list, next), append(x.parents, i)
		}
		if x.found++; next.left == s.left {
			x.from, x.to = append(x.from, i), append(x.to, j)
		}
	})
	if err != nil {
		x.ways(s, true, func(what string, _ state, wrong error) {
			if wrong != nil && last == "" {
				last = what
			}
		})
	}
	return last, err
}

// hangs returns the first state from which no way leads to a good one.
func hangs(n int, from, to, good []uint32) (uint32, bool) {
	start := make([]uint32, n+1) // of the ways to a state, among all by where they lead
	for _, j := range to {
		start[j+1]++
	}
	for j := range n {
		start[j+1] += start[j]
	}
	by, next := make([]uint32, len(to)), slices.Clone(start)
	for k, j := range to {
		by[next[j]] = from[k]
		next[j]++
	}
	well := make([]bool, n)
	queue := slices.Clone(good)
	for _, j := range good {
		well[j] = true
	}
	for len(queue) > 0 {
		j := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, i := range by[start[j]:start[j+1]] {
			if !well[i] {
				well[i] = true
				queue = append(queue, i)
			}
		}
	}
	i := slices.Index(well, false)
	return uint32(max(i, 0)), i >= 0
}

// story tells how a state came about.
func (x *search) story(i uint32) (lines []string) {
	for ; i != 0; i = x.parents[i] {
		what, found := "", false
		x.ways(x.list[x.parents[i]], true, func(name string, next state, err error) {
			if err == nil && next == x.list[i] && !found {
				what, found = name, true
			}
		})
		lines = append(lines, what)
	}
	slices.Reverse(lines)
	return lines
}

func (r explored) String() string {
	if r.err == nil {
		return fmt.Sprintf("%d states, %d ways, %d good ends", r.states, r.ways, r.good)
	}
	return fmt.Sprintf("%v, after %d states:\n  %s", r.err, r.states, strings.Join(r.story, "\n  "))
}
