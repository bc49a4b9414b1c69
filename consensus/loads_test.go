package consensus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// The loads of replicas say which groups do the work, and who leads them.
func TestLoads(t *testing.T) {
	c := boot(t, setup{groups: 2, workers: 1})
	for i := range 2000 {
		c.put(t.Context(), 1, fmt.Sprint("k", i), "v")
	}
	c.put(t.Context(), 2, "k", "v")
	leaders := map[consensus.GroupID]int{}
	for i, h := range c.hosts {
		loads := map[consensus.GroupID]consensus.Load{}
		require.Eventually(t, func() bool {
			h.Loads(func(g consensus.GroupID, l consensus.Load) { loads[g] = l })
			return loads[1].Commands == 2000 && loads[2].Commands == 1
		}, 20*time.Second, time.Millisecond, "node %d", i+1)
		for g, l := range loads {
			if l.Leads {
				leaders[g]++
			}
		}
		require.Greater(t, loads[1].Worked, loads[2].Worked)
	}
	require.Equal(t, map[consensus.GroupID]int{1: 1, 2: 1}, leaders)
}
