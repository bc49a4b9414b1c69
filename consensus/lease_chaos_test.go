package consensus_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// Whatever is lost, held back, paused, crashed, transferred and reconfigured,
// and however clocks drift within the bound: at most one node holds the lease
// (see checkLeases), and the machine of that one holds every acknowledged
// write. A seed replays its run exactly.
func TestLeaseIsSoundUnderFaults(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	leases := 0
	for seed := range uint64(seeds) {
		cryptotest.SetGlobalRandom(t, seed)
		synctest.Test(t, func(t *testing.T) {
			t.Logf("seed %d", seed)
			leases += newChaos(t, seed).run(120)
		})
	}
	require.Greater(t, leases, seeds*10, "steps at which somebody held the lease")
}

type chaos struct {
	t              *testing.T
	m              *manual
	rng            *rand.Rand
	tried          int // writes
	acked, refused atomic.Int64
	spent          consensus.ReplicaID // the highest id used
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{t: t, rng: rand.New(rand.NewPCG(seed, 1)), spent: 3}
	o := manualOptions{nodes: 5, replicas: 3, host: func(o *consensus.Options) {
		o.MaxDrift = 0.2
		// Mostly shorter than the lease, so that only promises stand in the way.
		o.ElectionTicks = 2 + c.rng.IntN(7)
		o.QuiesceTicks = 5 + c.rng.IntN(10)
		o.LogTailBytes = 600
	}}
	c.m = bootManual(t, o)
	return c
}

// run takes steps and returns after how many of them somebody held the lease.
func (c *chaos) run(steps int) (held int) {
	for range steps {
		c.step()
		c.check()
		held += len(c.m.holders())
	}
	// In the end all is well, and the group works.
	c.m.lose, c.m.hold = nil, nil
	c.m.wire.Heal()
	for _, n := range c.m.nodes {
		if n.host == nil {
			c.m.restart(n.id)
		}
	}
	acked, most := c.acked.Load(), int64(0)
	c.m.until("a write after all faults", func() bool {
		for _, n := range c.m.nodes {
			c.write(n.id)
		}
		c.check()
		return c.acked.Load() > acked
	})
	for _, n := range c.m.nodes {
		if len(n.host.Groups()) > 0 {
			most = max(most, c.count(n.id))
		}
	}
	require.GreaterOrEqual(c.t, most, c.acked.Load(), "every acknowledged write")
	require.LessOrEqual(c.t, most, int64(c.tried)-c.refused.Load(), "no rejected write")
	return held
}

// check wants the holder of the lease to have every acknowledged write.
func (c *chaos) check() {
	c.m.checkLeases()
	for _, id := range c.m.holders() {
		if n := c.count(id); n < c.acked.Load() {
			c.t.Fatalf("node %d holds the lease at %v and has %d of %d acknowledged writes\n%s",
				id, c.m.now, n, c.acked.Load(), c.m.trace.String()[max(0, c.m.trace.Len()-6000):])
		}
	}
}

// count is the number of writes in a node's machine.
func (c *chaos) count(id consensus.NodeID) int64 {
	sm, err := c.m.host(id).Machine(1)
	require.NoError(c.t, err)
	v, _ := sm.(*stallingMachine).Get([]byte("n"))
	n, _ := kv.Counter(v)
	return n
}

func (c *chaos) step() {
	m, rng := c.m, c.rng
	id := consensus.NodeID(rng.IntN(5) + 1)
	up := m.host(id) != nil
	switch n := rng.IntN(20); {
	case n < 6:
		m.tick(1 + rng.IntN(4))
	case n < 8: // the others pause
		m.tick(1+rng.IntN(6), id, consensus.NodeID(rng.IntN(5)+1))
	case n < 9: // all pause
		m.now += time.Duration(rng.IntN(300)) * time.Millisecond
	case n < 12:
		for i := range m.nodes {
			c.write(consensus.NodeID(i + 1))
		}
	case n < 13 && up:
		_ = m.host(id).Campaign(1)
	case n < 14 && up:
		m.transfer(id, consensus.ReplicaID(rng.IntN(int(c.spent))+1))
	case n < 15:
		c.power(id)
	case n < 16:
		m.node(id).clock.drift(1 + rng.Float64()/4)
	case n < 17:
		c.reconfigure(id)
	default:
		c.disturb(id)
	}
	m.settle()
}

// write adds one to a counter where somebody leads.
func (c *chaos) write(id consensus.NodeID) {
	h := c.m.host(id)
	if h == nil {
		return
	}
	if st, err := h.Status(1); err != nil || st.Role != "leader" {
		return
	}
	c.tried++
	c.m.call("write", func(ctx context.Context) error {
		_, err := h.Propose(ctx, 1, consensus.Command{Data: kv.EncodeAdd(nil, []byte("n"), 1)})
		if err == nil {
			c.acked.Add(1)
		} else if errors.Is(err, consensus.ErrRejected) {
			c.refused.Add(1)
		}
		return err
	})
	c.m.settle()
}

// power crashes a node, or brings one back; no more than one voter is down.
func (c *chaos) power(id consensus.NodeID) {
	for _, n := range c.m.nodes {
		if n.host == nil {
			c.m.restart(n.id)
			return
		}
	}
	c.m.crash(id)
}

// reconfigure asks a node, if it leads, for a change of the members: one comes
// if there are few, one goes if there are many, or two trade places at once.
func (c *chaos) reconfigure(id consensus.NodeID) {
	h := c.m.host(id)
	if h == nil {
		return
	}
	st, err := h.Status(1)
	if err != nil || st.Role != "leader" {
		return
	}
	var steps []consensus.ChangeStep
	if len(st.Voters) > 2 && c.rng.IntN(2) == 0 {
		gone := st.Voters[c.rng.IntN(len(st.Voters))]
		steps = append(steps, consensus.ChangeStep{Kind: consensus.Remove, Member: gone})
	}
	for _, n := range c.m.nodes {
		if n.host != nil && len(n.host.Groups()) == 0 && len(st.Voters) < 5 {
			c.spent++
			if n.host.Create(1, c.spent, consensus.Initial{}) == nil {
				steps = append(steps, consensus.ChangeStep{Kind: consensus.AddVoter, Member: consensus.Member{Replica: c.spent, Node: n.id}})
			}
			break
		}
	}
	if len(steps) > 0 {
		c.m.reconfigure(id, steps...)
	}
}

// disturb changes what the wire does.
func (c *chaos) disturb(id consensus.NodeID) {
	m, rng := c.m, c.rng
	chance := func(p float64) func(transport.Pending) bool {
		return func(transport.Pending) bool { return rng.Float64() < p }
	}
	switch rng.IntN(9) {
	case 0:
		m.lose = chance(0.2)
	case 6, 7: // the leader is silent, its node is not
		m.lose = dropping([]consensus.NodeID{id, consensus.NodeID(rng.IntN(5) + 1)}, "MsgHeartbeat", "MsgApp", "Release")
	case 8: // bindings and releases are late
		m.hold = dropping(nil, "Fortified", "Fortify", "MsgTimeoutNow", "Release", "Ask")
	case 1:
		m.hold = chance(0.5)
	case 2:
		m.isolate(id)
	case 3: // one way, and not the frames
		m.lose = func(p transport.Pending) bool { return p.To == id && kindOf(p) != "Frame" }
	case 4: // frames alone are lost
		m.lose = func(p transport.Pending) bool { return p.From == id && kindOf(p) == "Frame" }
	default:
		m.lose, m.hold = nil, nil
		m.wire.Heal()
	}
}
