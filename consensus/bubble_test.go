package consensus_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// slow is a cluster whose disks and wires take their time, on a clock that
// moves only when nobody has anything to do. A goroutine that waits for either
// while it holds a mutex stops that clock for ever.
func slow(s setup) setup {
	s.link = transport.Link{Delay: 2 * time.Millisecond, Jitter: time.Millisecond, Loss: 0.005, Duplicate: 0.005, Reorder: 0.005}
	s.seed, s.workers, s.marshal = 1, 2, true
	s.raftlog = func(o *raftlog.Options) {
		o.Inline = false
		o.Delay = func(bytes int, sync bool) time.Duration {
			d := time.Duration(bytes) * 10 * time.Nanosecond
			if sync {
				d += 5 * time.Millisecond
			}
			return d
		}
	}
	return s
}

// lose crashes the node that leads g, and returns its place.
func (c *cluster) lose(g consensus.GroupID) int {
	i := int(c.leader(g).Node() - 1)
	c.crash(i)
	return i
}

func TestBubbleFailover(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("asyncapply=%v", async), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := boot(t, slow(setup{groups: 3, options: func(o *consensus.Options) { o.AsyncApply = async }}))
				start := time.Now()
				for round := range 6 {
					for g := consensus.GroupID(1); g <= 3; g++ {
						c.put(t.Context(), g, fmt.Sprint("k", round), fmt.Sprint(g))
					}
					down := c.lose(consensus.GroupID(round%3 + 1))
					for g := consensus.GroupID(1); g <= 3; g++ {
						c.put(t.Context(), g, "last", fmt.Sprint(round))
					}
					time.Sleep(time.Duration(round) * time.Second)
					c.start(down)
				}
				require.Less(t, time.Since(start), time.Minute, "of the bubble's own time")
				for g := consensus.GroupID(1); g <= 3; g++ {
					for i, h := range c.hosts {
						require.NoError(t, h.ReadIndex(t.Context(), g))
						require.Equal(t, 7, c.machine(i, g).Len())
						v, _ := c.machine(i, g).Get([]byte("last"))
						require.Equal(t, "5", string(v))
					}
				}
			})
		})
	}
}

// A partition of the leader, with clients that never stop.
func TestBubblePartitionUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := boot(t, slow(setup{}))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan int)
		const clients = 8
		for i := range clients {
			go func() {
				n := 0
				for ; ctx.Err() == nil; n++ {
					for _, h := range c.hosts {
						call, end := context.WithTimeout(ctx, time.Second)
						_, _ = h.Propose(call, 1, put(fmt.Sprint(i), fmt.Sprint(n)))
						_ = h.ReadIndex(call, 1)
						end()
					}
				}
				done <- n
			}()
		}
		for range 5 {
			l := c.leader(1)
			term := c.term(l)
			c.wire.Partition([]consensus.NodeID{l.Node()}, c.others(l))
			require.Eventually(t, func() bool {
				for _, h := range c.hosts {
					if h != l {
						if lease, ok := h.Lease(1); ok && lease.Term > term {
							return true
						}
					}
				}
				return false
			}, time.Minute, 10*time.Millisecond)
			time.Sleep(3 * time.Second)
			c.wire.Heal()
			time.Sleep(3 * time.Second)
		}
		cancel()
		for range clients {
			require.NotZero(t, <-done)
		}
		for _, h := range c.hosts {
			require.NoError(t, h.ReadIndex(t.Context(), 1))
		}
		for i := range clients {
			want, ok := c.machine(0, 1).Get([]byte(fmt.Sprint(i)))
			require.True(t, ok)
			for n := range c.hosts {
				got, _ := c.machine(n, 1).Get([]byte(fmt.Sprint(i)))
				require.Equal(t, string(want), string(got))
			}
		}
	})
}

func (c *cluster) term(h *consensus.Host) uint64 {
	st, err := h.Status(1)
	require.NoError(c.tb, err)
	return st.Term
}

// A group sleeps for minutes, keeps its leader and its lease, sends nothing,
// and wakes; then its leader's node is lost while it sleeps.
func TestBubbleSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := slow(setup{groups: 4})
		s.link.Loss, s.link.Duplicate, s.link.Reorder = 0, 0, 0
		c := boot(t, s)
		for g := consensus.GroupID(1); g <= 4; g++ {
			c.put(t.Context(), g, "k", "v")
		}
		time.Sleep(time.Minute)
		leaders := map[consensus.GroupID]*consensus.Host{}
		for g := consensus.GroupID(1); g <= 4; g++ {
			leaders[g] = c.leader(g)
			for _, h := range c.hosts {
				st, err := h.Status(g)
				require.NoError(t, err)
				require.True(t, st.Asleep, "group %d", g)
			}
		}
		before := c.sent()
		const idle = 5 * time.Minute
		time.Sleep(idle)
		frames := uint64(idle/(50*time.Millisecond)) * 6
		require.InDelta(t, frames, c.sent()-before, float64(frames)/100, "one frame per pair and tick")
		for g := consensus.GroupID(1); g <= 4; g++ {
			require.Same(t, leaders[g], c.leader(g))
			c.put(t.Context(), g, "k", "w")
		}
		time.Sleep(time.Minute)
		down := c.lose(1)
		for g := consensus.GroupID(1); g <= 4; g++ {
			c.put(t.Context(), g, "k", "x")
		}
		c.start(down)
		time.Sleep(time.Minute)
		for i, h := range c.hosts {
			for g := consensus.GroupID(1); g <= 4; g++ {
				require.NoError(t, h.ReadIndex(t.Context(), g))
				v, _ := c.machine(i, g).Get([]byte("k"))
				require.Equal(t, "x", string(v))
			}
		}
	})
}

// sent counts the messages of all nodes.
func (c *cluster) sent() uint64 {
	var n uint64
	for _, tr := range c.nets {
		out, _ := tr.Stats().Total()
		n += out.Messages
	}
	return n
}

// A snapshot that is paced for seconds, while the log moves on.
func TestBubbleSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := boot(t, slow(setup{options: func(o *consensus.Options) {
			o.LogTailBytes, o.SnapshotBytesPerSecond = 32<<10, 64<<10
		}}))
		l := c.leader(1)
		away := int(c.others(l)[0] - 1)
		c.crash(away)
		for i := range 200 {
			c.put(t.Context(), 1, fmt.Sprint("k", i), strings.Repeat("v", 1000))
		}
		c.start(away)
		start := time.Now()
		for i := range 50 {
			c.put(t.Context(), 1, fmt.Sprint("k", i), strings.Repeat("w", 1000))
		}
		require.NoError(t, c.hosts[away].ReadIndex(t.Context(), 1))
		require.Equal(t, 200, c.machine(away, 1).Len())
		require.NotZero(t, c.hosts[away].Stats().SnapshotsReceived)
		require.Greater(t, time.Since(start), time.Second, "200 KB at 64 KiB/s take seconds of the bubble's time")
	})
}
