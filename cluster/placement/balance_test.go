package placement_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/placement"
)

// With 1,000 shards of lognormal load on up to 50 nodes no node has more than 5 %
// above its share of replicas and leaders, nor 10 % of the loads, and to get there
// from any of the usual changes takes at most 1.2 times the copies that no plan can
// do without.
func TestBalanceAndWhatItMoves(t *testing.T) {
	for _, n := range []int{5, 20, 50} {
		for seed := range uint64(4) {
			born := world(t, seed, n, 1000, nil)
			even, _ := settle(t, born, placement.Options{})
			requireEven(t, even, "%d nodes, seed %d", n, seed)
			for _, c := range causes {
				s := c.change(even)
				least, err := placement.LowerBound(s, 0.05)
				require.NoError(t, err)
				after, moves := settle(t, s, placement.Options{})
				requireEven(t, after, "%d nodes, seed %d, %s", n, seed, c.name)
				most := 1.2 * float64(least)
				if least == 0 { // loads need some where counts need none: one in fifty
					most = 60
				}
				require.LessOrEqual(t, float64(copies(moves)), most, "%d nodes, seed %d, %s: %d at least", n, seed, c.name, least)
			}
		}
	}
}

func requireEven(t *testing.T, s placement.State, msg string, args ...any) {
	t.Helper()
	e, err := placement.Measure(s)
	require.NoError(t, err)
	args = append([]any{msg}, args...)
	require.LessOrEqual(t, e.Replicas, 0.0501, args...)
	require.LessOrEqual(t, e.Leaders, 0.0501, args...)
	for _, load := range []float64{e.Ops, e.CPU, e.Bytes} {
		require.LessOrEqual(t, load, 0.1, args...)
	}
}

// What is within the tolerance is left alone, and so is what was just balanced,
// also when loads differ a little from what they were.
func TestBalanceRests(t *testing.T) {
	s, _ := settle(t, world(t, 1, 20, 1000, nil), placement.Options{Settle: 0.2})
	r := newRand(7)
	for range 20 {
		s.Shards = slices.Clone(s.Shards)
		for i := range s.Shards {
			l := &s.Shards[i].Load
			for _, v := range []*float64{&l.Ops, &l.LeaderCPU, &l.FollowerCPU, &l.Bytes} {
				*v *= 0.99 + 0.02*r.Float64()
			}
		}
		plan, err := placement.Plan(s, placement.Options{})
		require.NoError(t, err)
		require.Empty(t, plan.Moves)
	}
}

// A node of twice the capacity gets twice as much.
func TestCapacity(t *testing.T) {
	s := world(t, 1, 10, 1000, nil)
	node(&s, 4).Capacity = 2
	s, _ = settle(t, s, placement.Options{})
	for id, n := range counts(s) {
		fair := 3000.0 / 11
		if id == 4 {
			fair *= 2
		}
		require.InEpsilon(t, fair, n, 0.051, "node %d", id)
	}
}

// Where each node leads as many as it should and one has the heavy ones, two nodes
// exchange leaders.
func TestLeadersAreExchanged(t *testing.T) {
	s := placement.State{Nodes: []placement.Node{{ID: 1}, {ID: 2}}}
	for i := range 20 {
		sh := placement.Shard{ID: placement.ShardID(i + 1), Replicas: []placement.NodeID{1, 2}, Leader: 1, Want: 2}
		if sh.Load.Ops = 30; i >= 10 {
			sh.Leader, sh.Load.Ops = 2, 10
		}
		s.Shards = append(s.Shards, sh)
	}
	s, moves := settle(t, s, placement.Options{})
	require.Zero(t, copies(moves))
	e, err := placement.Measure(s)
	require.NoError(t, err)
	require.LessOrEqual(t, e.Ops, 0.1, "%v", moves)
	require.LessOrEqual(t, e.Leaders, 0.1001, "one of ten")
}

// Plans keep to their bounds, and go on where the last one ended.
func TestPlansAreBounded(t *testing.T) {
	s := world(t, 2, 20, 500, nil)
	node(&s, 5).Condition = placement.Dead
	o := placement.Options{PerNode: 1, MaxMoves: 3}
	r, err := placement.Plan(s, o)
	require.NoError(t, err)
	require.Len(t, r.Moves, 3)
	// What is under way is charged, and its shards are left alone.
	s.Pending = r.Moves
	busy := map[placement.NodeID]bool{}
	for _, m := range s.Pending {
		busy[m.To] = true
	}
	o.MaxMoves = 0
	more, err := placement.Plan(s, o)
	require.NoError(t, err)
	require.NotEmpty(t, more.Moves)
	checkPlan(t, s, o, more)
	for _, m := range more.Moves {
		if m.Kind == placement.Swap {
			require.False(t, busy[m.To], "%v: its node has a copy under way", m)
		}
	}
	require.NotEmpty(t, more.Short, "there are more shards to repair than nodes that have time")
	o.PerNode = 4
	even, _ := settle(t, s, o)
	require.NotContains(t, counts(even), placement.NodeID(5))
}

// The lower bound of what is even is nothing, of a node that must go what it has,
// of one that joins what it lacks.
func TestLowerBound(t *testing.T) {
	s, _ := settle(t, world(t, 3, 10, 300, nil), placement.Options{}) // 90 replicas a node
	bound := func(s placement.State) int {
		n, err := placement.LowerBound(s, 0.05)
		require.NoError(t, err)
		return n
	}
	require.Zero(t, bound(s))
	has := counts(s)[3]
	for _, c := range []placement.Condition{placement.Draining, placement.Dead} {
		gone := s
		node(&gone, 3).Condition = c
		require.Equal(t, has, bound(gone))
	}
	joined := s
	joined.Nodes = append(slices.Clone(s.Nodes), placement.Node{ID: 11})
	require.Equal(t, 78, bound(joined), "900/11 = 81.8, less 5 %")
	_, err := placement.LowerBound(s, 2)
	require.ErrorContains(t, err, "count of 2")
}
