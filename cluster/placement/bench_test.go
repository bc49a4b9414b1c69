package placement_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/harness"
)

// BenchmarkPlan asks what one plan costs for 1,000 shards of three replicas: when
// a node has joined, when one drains, when one is dead, when the leaders of a
// third of the nodes were lost, and when there is nothing to do.
//
//	go test -run='^$' -bench=Plan ./cluster/placement
func BenchmarkPlan(b *testing.B) {
	sizes := []int{50}
	if harness.Full() {
		sizes = []int{5, 20, 50}
	}
	for _, nodes := range harness.Axis("nodes", sizes...) {
		even, _ := settle(b, world(b, harness.Seed(), nodes, 1000, nil), placement.Options{})
		for _, c := range causes {
			b.Run(harness.Name("nodes", nodes, "shards", 1000, "cause", c.name), func(b *testing.B) {
				s := c.change(even)
				harness.Micro(b, func() error {
					_, err := placement.Plan(s, placement.Options{})
					return err
				})
			})
		}
	}
}

// BenchmarkPlace asks what it costs to choose the nodes of a new shard.
//
//	go test -run='^$' -bench=Place ./cluster/placement
func BenchmarkPlace(b *testing.B) {
	s := world(b, harness.Seed(), 50, 1000, zones(5))
	r := newRand(harness.Seed())
	b.Run(harness.Name("nodes", 50, "shards", 1000), func(b *testing.B) {
		harness.Micro(b, func() error {
			on, err := placement.Place(s, placement.Shard{ID: 1}, r)
			require.Len(b, on, 3)
			return err
		})
	})
}
