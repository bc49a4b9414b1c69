package placement_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/placement"
)

// Each case is one shard among nodes 1 to 5, and the one move that it needs.
func TestRepair(t *testing.T) {
	const draining, dead, suspect = placement.Draining, placement.Dead, placement.Suspect
	type conditions = map[placement.NodeID]placement.Condition
	on := func(ids ...placement.NodeID) []placement.NodeID { return ids }
	for name, c := range map[string]struct {
		shard placement.Shard
		nodes conditions
		want  string // "" for none
		short bool
	}{
		"nothing":                {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, nil, "", false},
		"dead follower":          {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, conditions{3: dead, 4: suspect}, "swap 3 -> 5 (dead)", false},
		"dead leader":            {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, conditions{1: dead, 4: dead}, "swap 1 -> 5 (dead)", false},
		"dead before draining":   {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, conditions{2: draining, 3: dead, 4: dead}, "swap 3 -> 5 (dead)", false},
		"draining follower":      {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, conditions{3: draining, 4: draining}, "swap 3 -> 5 (drain)", false},
		"draining leader first":  {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, conditions{1: draining, 2: suspect}, "lead 1 -> 3 (drain)", false},
		"only draining replicas": {placement.Shard{Replicas: on(1), Leader: 1, Want: 1}, conditions{1: draining, 2: dead, 3: dead, 4: dead}, "swap 1 -> 5 (drain)", false},
		"too few":                {placement.Shard{Replicas: on(1, 2), Leader: 1}, conditions{3: dead, 4: dead}, "add 0 -> 5 (2 of 3 replicas)", false},
		"too many":               {placement.Shard{Replicas: on(1, 2, 3), Leader: 1, Want: 2}, conditions{2: suspect}, "remove 2 -> 0 (3 of 2 replicas)", false},
		"too many, one dead":     {placement.Shard{Replicas: on(1, 2, 3, 4), Leader: 1}, conditions{2: dead}, "remove 2 -> 0 (dead)", false},
		"too many, drain leads":  {placement.Shard{Replicas: on(1, 2, 3, 4), Leader: 1}, conditions{1: draining, 2: suspect, 3: suspect}, "lead 1 -> 4 (drain)", false},
		"nowhere":                {placement.Shard{Replicas: on(1, 2, 3), Leader: 1}, conditions{3: dead, 4: suspect, 5: draining}, "", true},
		"nowhere to add":         {placement.Shard{Replicas: on(1, 2), Leader: 1}, conditions{3: dead, 4: suspect, 5: draining}, "", true},
		"not allowed":            {placement.Shard{Replicas: on(1, 2, 3), Leader: 1, Require: []string{"odd"}}, nil, "swap 2 -> 5 (not allowed there)", false},
		"none allowed":           {placement.Shard{Replicas: on(1, 3, 5, 2), Want: 4, Leader: 1, Require: []string{"odd"}}, nil, "", true},
	} {
		s := placement.State{}
		for id := range placement.NodeID(5) {
			s.Nodes = append(s.Nodes, placement.Node{ID: id + 1, Condition: c.nodes[id+1], Locality: []string{[]string{"odd", "even"}[id%2]}})
		}
		c.shard.ID = 7
		s.Shards = []placement.Shard{c.shard}
		o := placement.Options{Count: 0.99, Load: 0.99} // no balancing of one shard
		r, err := placement.Plan(s, o)
		require.NoError(t, err, name)
		checkPlan(t, s, o, r)
		if c.want == "" {
			require.Empty(t, r.Moves, name)
		} else {
			require.NotEmpty(t, r.Moves, name)
			require.Equal(t, "shard 7: "+c.want, r.Moves[0].String(), name)
		}
		require.Equal(t, c.short, slices.Contains(r.Short, 7), name)
	}
}

// Those that have lost most are repaired first.
func TestTheMostEndangeredComeFirst(t *testing.T) {
	s := world(t, 1, 9, 90, nil)
	for _, id := range []placement.NodeID{1, 2, 3} {
		node(&s, id).Condition = placement.Dead
	}
	lost := func(id placement.ShardID) (n int) {
		for _, on := range s.Shards[id-1].Replicas {
			if on <= 3 {
				n++
			}
		}
		return n
	}
	r, err := placement.Plan(s, placement.Options{PerNode: 100})
	require.NoError(t, err)
	last := 3
	for _, m := range r.Moves {
		if m.Why == "dead" {
			require.LessOrEqual(t, lost(m.Shard), last, "%v", m)
			last = lost(m.Shard)
		}
	}
	require.Equal(t, 1, last)
}

// Replicas go to different zones, then to different racks, and no balancing brings
// them back together.
func TestReplicasAreSpreadOut(t *testing.T) {
	for _, domains := range []int{2, 3, 5} {
		s := world(t, 1, 30, 300, nil) // laid out without knowing of them
		for i := range s.Nodes {
			s.Nodes[i].Locality = zones(domains)(i)
		}
		s, _ = settle(t, s, placement.Options{})
		for _, sh := range s.Shards {
			seen, racks := map[string]int{}, map[string]bool{}
			for _, id := range sh.Replicas {
				l := s.Nodes[id-1].Locality
				seen[l[1]]++
				racks[l[2]] = true
			}
			require.Len(t, seen, min(domains, 3), "shard %d on %v", sh.ID, sh.Replicas)
			require.Len(t, racks, 3, "shard %d on %v", sh.ID, sh.Replicas)
		}
		e, err := placement.Measure(s)
		require.NoError(t, err)
		require.LessOrEqual(t, e.Replicas, 0.05)
		require.LessOrEqual(t, e.Leaders, 0.1001, "11 of 10")
	}
}

// Whatever happens to nodes and shards, plans fit the state, change nothing else,
// and end with every replica where it may be.
func TestPlansOfAnything(t *testing.T) {
	for seed := range uint64(60) {
		r := newRand(seed)
		n := 4 + r.IntN(12)
		s := world(t, seed, n, 1+r.IntN(120), []func(int) []string{nil, zones(3)}[seed%2])
		for i := range s.Nodes {
			if r.IntN(5) == 0 && i >= 3 { // three nodes are left in any case
				s.Nodes[i].Condition = placement.Condition(1 + r.IntN(3))
			}
		}
		for i := range s.Shards {
			scramble(r, &s.Shards[i])
		}
		kept := fmt.Sprintf("%+v", s)
		first, err := placement.Plan(s, placement.Options{})
		require.NoError(t, err)
		again, err := placement.Plan(s, placement.Options{})
		require.NoError(t, err)
		require.Equal(t, first, again, "seed %d: the same twice", seed)
		require.Equal(t, kept, fmt.Sprintf("%+v", s), "seed %d: the state is as it was", seed)

		s, _ = settle(t, s, placement.Options{})
		require.NoError(t, s.Check())
		for _, sh := range s.Shards {
			require.Len(t, sh.Replicas, cmp.Or(sh.Want, 3), "seed %d: shard %d", seed, sh.ID)
			for _, id := range sh.Replicas {
				require.LessOrEqual(t, s.Nodes[id-1].Condition, placement.Suspect, "seed %d: shard %d on %d", seed, sh.ID, id)
			}
		}
	}
}

func scramble(r *rand.Rand, sh *placement.Shard) {
	switch r.IntN(6) {
	case 0:
		sh.Leader = 0
	case 1:
		sh.Leader, sh.Replicas = sh.Replicas[1], sh.Replicas[:2]
	case 2:
		sh.Want = 1 + r.IntN(3)
	case 3:
		sh.Load = placement.Load{}
	}
}
