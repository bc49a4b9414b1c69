package consensus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// When one node leads everything the loads must show it, though all nodes apply
// the same.
func TestLoadsShowWhoLeads(t *testing.T) {
	const groups = 4
	c := boot(t, setup{groups: groups, disk: "none", net: "sim"})
	work := c.served()
	loads := work.loads(groups)
	require.Equal(t, make([]int64, len(c.hosts)), loads())
	first := c.hosts[0]
	for g := range consensus.GroupID(groups) {
		c.lead(t, g+1, first)
		_, err := first.Propose(t.Context(), g+1, consensus.Command{Data: putOf("k", 10)})
		require.NoError(t, err)
		work.by(first)
	}
	require.Equal(t, []int64{groups, 0, 0}, loads())
	require.Eventually(t, func() bool {
		return c.hosts[0].Stats().Applied == c.hosts[2].Stats().Applied
	}, 10*time.Second, time.Millisecond)

	work.by(c.hosts[2])
	require.Equal(t, []int64{groups, 0, 1}, loads())
	require.Nil(t, c.served().loads(1), "one group has no spread")
}

// lead moves a group's leader to h.
func (c *cluster) lead(t *testing.T, g consensus.GroupID, h *consensus.Host) {
	t.Helper()
	l := c.leader(g)
	if l == h {
		return
	}
	for _, m := range c.members(g) {
		if m.Node == h.Node() {
			require.NoError(t, l.Transfer(t.Context(), g, m.Replica))
		}
	}
	require.Eventually(t, func() bool { _, ok := h.Lease(g); return ok }, 10*time.Second, time.Millisecond)
}
