package lock

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/id"
)

// chase carries the probes of an initiator round a graph of who waits for whom, and
// returns the cycle that one of them finds.
func chase(graph map[int][]int, initiator int) []id.Key {
	seen := map[id.Key]bool{}
	for probes := []Probe{NewProbe(txn(initiator))}; len(probes) > 0; probes = probes[1:] {
		at := probes[0].At()
		if seen[at] {
			continue
		}
		seen[at] = true
		var waitsFor []id.Key
		for _, i := range graph[int(at.Seq)] {
			waitsFor = append(waitsFor, txn(i))
		}
		next, cycle := probes[0].Step(waitsFor)
		if cycle != nil {
			return cycle
		}
		probes = append(probes, next...)
	}
	return nil
}

// Whoever is in a cycle finds it, and all choose the same victim; nobody else does.
func TestProbe(t *testing.T) {
	graph := map[int][]int{1: {2, 7}, 2: {9}, 9: {4}, 4: {1, 8}, 5: {1}, 7: {8}, 6: {6}}
	for _, i := range []int{1, 2, 9, 4} {
		cycle := chase(graph, i)
		require.Len(t, cycle, 4)
		require.Equal(t, txn(i), cycle[0])
		require.ElementsMatch(t, []id.Key{txn(1), txn(2), txn(9), txn(4)}, cycle)
		require.Equal(t, txn(9), Victim(cycle))
	}
	for _, i := range []int{5, 7, 8} {
		require.Empty(t, chase(graph, i))
	}
}

// A cycle that the initiator is not in does not keep its probes alive, and a path does
// not grow without bounds.
func TestProbesEnd(t *testing.T) {
	p := Probe{Path: []id.Key{txn(1), txn(2), txn(3)}}
	next, cycle := p.Step([]id.Key{txn(2), txn(4)})
	require.Empty(t, cycle)
	require.Equal(t, []Probe{{Path: []id.Key{txn(1), txn(2), txn(3), txn(4)}}}, next)

	graph := map[int][]int{}
	for i := range MaxPath {
		graph[i] = []int{(i + 1) % MaxPath}
	}
	require.Len(t, chase(graph, 0), MaxPath, "the longest that is found")
	p = NewProbe(txn(0))
	for i := range MaxPath - 1 {
		next, _ := p.Step([]id.Key{txn(i + 1)})
		require.Len(t, next, 1)
		p = next[0]
	}
	next, cycle = p.Step([]id.Key{txn(MaxPath)})
	require.Empty(t, next)
	require.Empty(t, cycle)
}

// A deadlock over two tables, of which each sees one half.
func TestProbeOverTables(t *testing.T) {
	a, b := newTable(t, Options{Policy: Detect}), newTable(t, Options{Policy: Detect})
	now(t, a, 1, "k", Exclusive)
	now(t, b, 2, "k", Exclusive)
	first, second := later(t, b, 1, "k", Shared), later(t, a, 2, "k", Shared)
	p := NewProbe(txn(2))
	var cycle []id.Key
	for cycle == nil {
		var next []Probe
		next, cycle = p.Step(append(a.WaitsFor(p.At()), b.WaitsFor(p.At())...))
		require.Less(t, len(next), 2)
		if len(next) == 1 {
			p = next[0]
		}
	}
	err := &DeadlockError{Victim: Victim(cycle), Cycle: cycle}
	require.Equal(t, []id.Key{txn(2), txn(1)}, cycle)
	require.True(t, a.Abort(err.Victim, err))
	require.True(t, b.Abort(err.Victim, err))
	require.Equal(t, err, result(t, second))
	require.NoError(t, result(t, first))
}
