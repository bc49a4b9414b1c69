package placement_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/placement"
)

// The less loaded of two keeps nodes much more even than chance does, which at 60
// replicas a node leaves one of 50 with half as much again.
func TestPlaceIsEven(t *testing.T) {
	for seed := range uint64(5) {
		e, err := placement.Measure(world(t, seed, 50, 1000, nil))
		require.NoError(t, err)
		require.Less(t, e.Replicas, 0.12)
		require.Less(t, e.Leaders, 0.2)
	}
}

// New shards lie in as many domains as can be, on live nodes that they may be on.
func TestPlaceKeepsToDomains(t *testing.T) {
	s := world(t, 1, 12, 200, zones(3))
	for _, sh := range s.Shards {
		seen := map[string]bool{}
		for _, id := range sh.Replicas {
			seen[s.Nodes[id-1].Locality[1]] = true
		}
		require.Len(t, seen, 3, "%v", sh.Replicas)
	}
	node(&s, 1).Condition = placement.Suspect
	for range 50 {
		on, err := placement.Place(s, placement.Shard{Want: 2, Require: []string{"zone0"}}, newRand(1))
		require.NoError(t, err)
		require.Len(t, on, 2)
		for _, id := range on {
			require.Equal(t, "zone0", s.Nodes[id-1].Locality[1])
			require.NotEqual(t, placement.NodeID(1), id)
		}
	}
	_, err := placement.Place(s, placement.Shard{Want: 4, Require: []string{"zone0"}}, newRand(1))
	require.ErrorContains(t, err, "placement: new shard: 3 live nodes that it may be on ([zone0]): want 4")
	_, err = placement.Place(s, placement.Shard{Want: -1}, newRand(1))
	require.ErrorContains(t, err, "wants -1 replicas")
}
