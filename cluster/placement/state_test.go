package placement_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/placement"
)

func threeNodes(change func(*placement.State)) placement.State {
	s := placement.State{
		Nodes:  []placement.Node{{ID: 1}, {ID: 2}, {ID: 3}},
		Shards: []placement.Shard{{ID: 9, Replicas: []placement.NodeID{1, 2, 3}, Leader: 1}},
	}
	change(&s)
	return s
}

func TestWrongStates(t *testing.T) {
	for want, change := range map[string]func(*placement.State){
		"node id 0: want one of its own":                  func(s *placement.State) { s.Nodes[0].ID = 0 },
		"node id 2: want one of its own":                  func(s *placement.State) { s.Nodes[0].ID = 2 },
		"node 1: condition 4: want 0 to 3":                func(s *placement.State) { s.Nodes[0].Condition = 4 },
		"node 1: capacity -1: want 0 to":                  func(s *placement.State) { s.Nodes[0].Capacity = -1 },
		"node 1: capacity NaN":                            func(s *placement.State) { s.Nodes[0].Capacity = math.NaN() },
		"shard id 0":                                      func(s *placement.State) { s.Shards[0].ID = 0 },
		"shard id 9: want one of its own":                 func(s *placement.State) { s.Shards = append(s.Shards, s.Shards[0]) },
		"shard 9: a replica on node 4":                    func(s *placement.State) { s.Shards[0].Replicas[2] = 4 },
		"shard 9: two replicas on node 2":                 func(s *placement.State) { s.Shards[0].Replicas[2] = 2 },
		"shard 9: leader on node 8, which has no replica": func(s *placement.State) { s.Shards[0].Leader = 8 },
		"shard 9: wants -1 replicas":                      func(s *placement.State) { s.Shards[0].Want = -1 },
		"shard 9: a load of -3: want 0 to":                func(s *placement.State) { s.Shards[0].Load.Bytes = -3 },
		"shard 9: a load of +Inf":                         func(s *placement.State) { s.Shards[0].Load.Ops = math.Inf(1) },
		"shard 8: add 0 -> 1 (): there is no such shard":  func(s *placement.State) { s.Pending = []placement.Move{{Shard: 8, To: 1}} },
		"shard 9: add 0 -> 1 (): node 1 has one of its":   func(s *placement.State) { s.Pending = []placement.Move{{Shard: 9, To: 1}} },
		"shard 9: a replica on node 5":                    func(s *placement.State) { s.Pending = []placement.Move{{Shard: 9, To: 5}} },
		"shard 9: swap 7 -> 5 (): node 7 has none of its": func(s *placement.State) {
			s.Pending = []placement.Move{{Kind: placement.Swap, Shard: 9, From: 7, To: 5}}
		},
		"shard 9: swap 1 -> 0 (): node 0 is none": func(s *placement.State) { s.Pending = []placement.Move{{Kind: placement.Swap, Shard: 9, From: 1}} },
		"shard 9: lead 1 -> 5 (): node 5 has none of its": func(s *placement.State) {
			s.Pending = []placement.Move{{Kind: placement.Lead, Shard: 9, From: 1, To: 5}}
		},
		"shard 9: lead 2 -> 3 (): node 2 does not lead it,": func(s *placement.State) {
			s.Pending = []placement.Move{{Kind: placement.Lead, Shard: 9, From: 2, To: 3}}
		},
	} {
		s := threeNodes(change)
		_, err := placement.Plan(s, placement.Options{})
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "placement: ")
		_, err = placement.Measure(s)
		require.ErrorContains(t, err, want)
		_, err = placement.LowerBound(s, 0.05)
		require.ErrorContains(t, err, want)
		_, err = placement.Place(s, placement.Shard{ID: 10}, newRand(1))
		require.ErrorContains(t, err, want)
	}
	for want, o := range map[string]placement.Options{
		"count of 1: want more than 0 and less than 1": {Count: 1},
		"load of -1": {Load: -1}, "settle of NaN": {Settle: math.NaN()}, "-1 moves a node": {PerNode: -1}, "-2 in all": {MaxMoves: -2},
	} {
		_, err := placement.Plan(threeNodes(func(*placement.State) {}), o)
		require.ErrorContains(t, err, want)
	}
}

func TestApply(t *testing.T) {
	s := threeNodes(func(s *placement.State) { s.Nodes = append(s.Nodes, placement.Node{ID: 4}, placement.Node{ID: 5}) })
	for _, c := range []struct {
		moves    []placement.Move
		replicas []placement.NodeID
		leader   placement.NodeID
	}{
		{nil, []placement.NodeID{1, 2, 3}, 1},
		{[]placement.Move{{Kind: placement.Add, To: 4}}, []placement.NodeID{1, 2, 3, 4}, 1},
		{[]placement.Move{{Kind: placement.Swap, From: 1, To: 4}}, []placement.NodeID{2, 3, 4}, 4},
		{[]placement.Move{{Kind: placement.Remove, From: 1}}, []placement.NodeID{2, 3}, 2},
		{[]placement.Move{{Kind: placement.Lead, From: 1, To: 3}, {Kind: placement.Swap, From: 1, To: 5}}, []placement.NodeID{2, 3, 5}, 3},
	} {
		for i := range c.moves {
			c.moves[i].Shard = 9
		}
		after, err := placement.Apply(s, c.moves...)
		require.NoError(t, err)
		require.Equal(t, c.replicas, after.Shards[0].Replicas)
		require.Equal(t, c.leader, after.Shards[0].Leader)
		require.Equal(t, []placement.NodeID{1, 2, 3}, s.Shards[0].Replicas, "what was handed in is as it was")
	}
}
