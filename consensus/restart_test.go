package consensus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// crash stops node i as the loss of its process would.
func (c *cluster) crash(i int) {
	c.hosts[i].Crash()
	c.hosts[i] = nil
	if c.s.disk != "shared" {
		require.NoError(c.tb, c.disks[i].Close())
	}
}

// Every node crashes once while the others go on, and comes back with what it
// had; in the end all hold the same.
func TestRestart(t *testing.T) {
	for _, disk := range []string{"none", "sync", "shared"} {
		t.Run(disk, func(t *testing.T) {
			c := boot(t, setup{groups: 3, disk: disk, dir: t.TempDir()})
			n := 0
			write := func(count int) {
				for range count {
					for g := consensus.GroupID(1); g <= 3; g++ {
						c.put(t.Context(), g, fmt.Sprint("k", n), fmt.Sprint(n))
					}
					n++
				}
			}
			write(20)
			for i := range c.hosts {
				c.crash(i)
				write(20)
				c.start(i)
				write(5)
			}
			for i, h := range c.hosts {
				for g := consensus.GroupID(1); g <= 3; g++ {
					require.Eventually(t, func() bool { return h.ReadIndex(t.Context(), g) == nil }, 20*time.Second, time.Millisecond)
					for k := range n {
						v, ok := c.machine(i, g).Get([]byte(fmt.Sprint("k", k)))
						require.True(t, ok, "node %d group %d key %d of %d", i+1, g, k, n)
						require.Equal(t, fmt.Sprint(k), string(v))
					}
				}
			}
		})
	}
}
