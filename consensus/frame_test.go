package consensus_test

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// generations watches the frames from one node to another: the generations of
// the promises in them, in the order in which they were first seen, and how many
// frames there were.
func (m *manual) generations(from, to consensus.NodeID) (gens *[]uint64, frames *int) {
	gens, frames = new([]uint64), new(int)
	m.lose = func(p transport.Pending) bool {
		if p.From != from || p.To != to || kindOf(p) != "Frame" {
			return false
		}
		*frames++
		if gen := consensus.Numbers(p.Message)[4]; gen != 0 && (len(*gens) == 0 || (*gens)[len(*gens)-1] != gen) {
			*gens = append(*gens, gen)
		}
		return false
	}
	return gens, frames
}

func adding(id consensus.ReplicaID, node consensus.NodeID) consensus.ChangeStep {
	return consensus.ChangeStep{Kind: consensus.AddVoter, Member: consensus.Member{Replica: id, Node: node}}
}

// A node that shares no group any more is forgotten on both sides, and no frame
// goes to it. When it comes back it is promised something that it was never
// promised before: a binding of the time before must mean nothing.
func TestNodesAreForgotten(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		gens, frames := m.generations(1, 3)
		m.elect(1)
		m.tick(2)
		require.Len(t, *gens, 1)
		require.Equal(t, []consensus.NodeID{2, 3}, m.host(1).Peers())
		m.reconfigure(1, removing(3))
		m.tick(5)
		require.Empty(t, m.host(3).Groups())
		require.Equal(t, []consensus.NodeID{2, 3}, m.host(1).Peers(), "the promise holds")
		m.tick(12)
		require.Equal(t, []consensus.NodeID{2}, m.host(1).Peers())
		require.Equal(t, []consensus.NodeID{1}, m.host(2).Peers())
		require.Empty(t, m.host(3).Peers())
		*frames = 0
		m.tick(10)
		require.Zero(t, *frames, "frames to a forgotten node")
		m.host(1).Unreachable(3)
		require.Equal(t, []consensus.NodeID{2}, m.host(1).Peers())

		require.NoError(t, m.host(3).Create(1, 4, consensus.Initial{}))
		m.reconfigure(1, adding(4, 3))
		m.until("replica 4", func() bool { return m.status(3).Applied == m.status(1).Applied && m.host(3).Bound(1) })
		m.tick(2)
		require.Equal(t, []consensus.NodeID{2, 3}, m.host(1).Peers())
		require.Equal(t, []consensus.NodeID{1, 2}, m.host(3).Peers())
		require.Len(t, *gens, 2)
		require.NotEqual(t, (*gens)[0], (*gens)[1], "the same generation in the same epoch")
	})
}

// Two groups name a node: it stays until the second is gone.
func TestNodesAreCountedByGroup(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		for _, v := range m.voters() {
			require.NoError(t, m.host(v.Node).Create(2, v.Replica, consensus.Initial{Voters: m.voters()}))
		}
		m.elect(1)
		for id := consensus.NodeID(2); id <= 3; id++ {
			require.NoError(t, m.host(id).Destroy(1))
		}
		require.NoError(t, m.host(1).Destroy(2))
		m.tick(20)
		require.Equal(t, []consensus.NodeID{2, 3}, m.host(1).Peers())
		require.NoError(t, m.host(1).Destroy(1))
		m.tick(20)
		require.Equal(t, []consensus.NodeID{2, 3}, m.host(1).Peers(), "they still name it")
		for id := consensus.NodeID(2); id <= 3; id++ {
			require.NoError(t, m.host(id).Destroy(2))
		}
		m.tick(20)
		for id := consensus.NodeID(1); id <= 3; id++ {
			require.Empty(t, m.host(id).Peers())
		}
	})
}

// Frames of nodes that nobody here names fill no memory, and cost the nodes that
// somebody names nothing.
func TestStrangersAreBounded(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.liars = true
		m.elect(1)
		const extra = 100
		for id := range consensus.NodeID(consensus.MaxStrangers + extra) {
			m.host(1).Receive(1000+id, []transport.Message{consensus.Frame(1, 1, 0, 0, 0)})
		}
		require.Len(t, m.host(1).Peers(), 2+consensus.MaxStrangers)
		require.Equal(t, uint64(extra), m.host(1).Stats().Refused)
		m.tick(5)
		require.Equal(t, []consensus.NodeID{1}, m.holders())
		m.tick(10)
		require.Equal(t, []consensus.NodeID{2, 3}, m.host(1).Peers(), "silent strangers")
		m.host(1).Receive(999, []transport.Message{consensus.Frame(1, 1, 0, 0, 0)})
		require.Len(t, m.host(1).Peers(), 3, "room again")
	})
}

// A frame is taken whole or not at all.
func TestMalformedFramesAreRefused(t *testing.T) {
	stepwise(t, manualOptions{}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.crash(3)
		good := consensus.Frame(2, 1, 0, 0, 0)
		wrong := map[string][]byte{"nothing": nil, "trailing byte": append(append([]byte(nil), good.Payload...), 0)}
		for n := range good.Payload {
			m.refuses(t, "cut short", good.Payload[:n])
		}
		version := append([]byte(nil), good.Payload...)
		version[0]++
		wrong["version"] = version
		for name, payload := range wrong {
			m.refuses(t, name, payload)
		}
		require.Zero(t, m.happened("2 suspects"))
		m.host(2).Receive(1, []transport.Message{good}) // as from the next life of node 1
		m.settle()
		require.Equal(t, 1, m.happened("2 suspects"))
	})
}

func (m *manual) refuses(t *testing.T, name string, payload []byte) {
	t.Helper()
	m.liars = true
	before := m.host(2).Stats().Refused
	msg := consensus.Frame(2, 1, 0, 0, 0)
	msg.Payload = payload
	m.host(2).Receive(1, []transport.Message{msg})
	m.settle()
	require.Equal(t, before+1, m.host(2).Stats().Refused, name)
}

// Nodes may differ in how long they promise: the shorter promise counts.
func TestTheShorterPromiseCounts(t *testing.T) {
	for name, short := range map[string]consensus.NodeID{"leader": 1, "follower": 2} {
		t.Run(name, func(t *testing.T) {
			o := func(o *consensus.Options) {
				if o.Node == short {
					o.LeaseDuration = 4 * manualTick
				}
			}
			stepwise(t, manualOptions{replicas: 2, nodes: 2, host: o}, func(t *testing.T, m *manual) {
				m.elect(1)
				l, ok := m.host(1).Lease(1)
				require.True(t, ok)
				require.Greater(t, l.Until, m.now)
				require.LessOrEqual(t, l.Until, m.now+4*manualTick)
				m.isolate(1)
				for range 8 {
					m.now += manualTick / 2
					if len(m.holders()) > 0 {
						require.True(t, m.host(2).Bound(1), "a lease that nobody supports, at %v", m.now)
					}
				}
				require.Empty(t, m.holders())
			})
		})
	}
}

// A courier attaches what it is told to and books what arrives.
type courier struct {
	attach  func(to consensus.NodeID) []byte
	arrived []string
}

func (c *courier) Attach(to consensus.NodeID, buf []byte) []byte {
	return append(buf, c.attach(to)...)
}

func (c *courier) Arrived(from consensus.NodeID, epoch uint64, payload []byte) {
	c.arrived = append(c.arrived, fmt.Sprintf("%d.%d %s", from, epoch, payload))
}

// What one node attaches arrives at the node it was meant for, with the sender's
// epoch; what is too large is refused whole, and the frame itself is not.
func TestFramesCarryPayloads(t *testing.T) {
	var couriers [4]*courier
	var log strings.Builder
	o := func(o *consensus.Options) {
		from := o.Node
		couriers[from] = &courier{attach: func(to consensus.NodeID) []byte { return fmt.Append(nil, from, ">", to) }}
		o.Frames = couriers[from]
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		m.untilAsleep(1, 2, 3)
		couriers[2].arrived = nil
		m.tick(1)
		require.Equal(t, []string{"1.1 1>2", "3.1 3>2"}, couriers[2].arrived)
		m.crash(3)
		m.restart(3)
		m.tick(1)
		require.Equal(t, []string{"1.1 1>2", "3.2 3>2"}, couriers[2].arrived[2:])

		for _, size := range []int{consensus.MaxFramePayload, consensus.MaxFramePayload + 1, 0} {
			couriers[1].attach = func(consensus.NodeID) []byte { return make([]byte, size) }
			couriers[2].arrived = nil
			m.tick(20, 1, 2)
			n := 0
			for _, s := range couriers[2].arrived {
				if strings.HasPrefix(s, "1.1 ") {
					require.Len(t, s, len("1.1 ")+consensus.MaxFramePayload)
					n++
				}
			}
			require.Equal(t, size == consensus.MaxFramePayload, n == 20, "%d of %d bytes", n, size)
			require.Equal(t, size != consensus.MaxFramePayload, n == 0, "%d of %d bytes", n, size)
			require.Equal(t, []consensus.NodeID{1}, m.holders(), "the frames themselves came")
		}
		require.Equal(t, uint64(40), m.host(1).Stats().PayloadsRefused, "20 frames to each of two nodes")
		require.Equal(t, 2, strings.Count(log.String(), "payload of a frame refused"), "once per node")

		// Nor is too large a payload taken, or one twice, or one that is late.
		couriers[2].arrived, m.liars = nil, true
		refused := m.host(2).Stats().Refused
		later := uint64(m.now) + 10
		m.host(2).Receive(1, []transport.Message{
			consensus.Frame(1, later, 0, 0, 0, make([]byte, consensus.MaxFramePayload+1)...),
			consensus.Frame(1, later, 0, 0, 0, 'a'), consensus.Frame(1, later, 0, 0, 0, 'a'), consensus.Frame(1, later-1, 0, 0, 0, 'b'),
		})
		require.Equal(t, refused+1, m.host(2).Stats().Refused)
		require.Equal(t, []string{"1.1 a"}, couriers[2].arrived)
	})
}

// Frames of one node that come over several connections at once are told one by
// one, in order.
func TestPayloadsArriveInOrder(t *testing.T) {
	const senders, frames = 4, 4000
	var last uint64
	var within atomic.Int32
	h := &addressee{arrived: func(payload []byte) {
		assert.Equal(t, int32(1), within.Add(1), "two at once")
		sent := binary.LittleEndian.Uint64(payload)
		assert.Greater(t, sent, last)
		runtime.Gosched()
		last = sent
		within.Add(-1)
	}}
	stepwise(t, manualOptions{host: func(o *consensus.Options) { o.Frames = h }}, func(t *testing.T, m *manual) {
		host := m.host(2)
		var next atomic.Uint64
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range frames / senders {
					sent := next.Add(1)
					host.Receive(1, []transport.Message{consensus.Frame(1, sent, 0, 0, 0, binary.LittleEndian.AppendUint64(nil, sent)...)})
				}
			})
		}
		wg.Wait()
		require.NotZero(t, last)
	})
}

type addressee struct{ arrived func([]byte) }

func (h *addressee) Attach(_ consensus.NodeID, buf []byte) []byte { return buf }

func (h *addressee) Arrived(_ consensus.NodeID, _ uint64, payload []byte) { h.arrived(payload) }
