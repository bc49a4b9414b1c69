package cluster_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
)

// TestClusterUnderFaults has nodes crash, come back, be cut off, drain and take that
// back, while shards are made and clients write to all of them. Throughout, what any
// node knows is sound and only moves on, and no shard has two leases. In the end,
// when all is healed, every shard has its replicas on live nodes, and everything that
// was acknowledged is there. PHANTOM_SEED repeats the schedule of faults, though not
// how goroutines interleave.
func TestClusterUnderFaults(t *testing.T) {
	nodes, length := 7, 4*time.Second
	switch {
	case harness.CurrentMode() == harness.ModeStandard:
		nodes, length = 20, 60*time.Second
	case testing.Short():
		length = time.Second
	}
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	c := newChaos(t, nodes, seed)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() { c.write(ctx, i) })
	}
	work.Go(func() { c.watch(ctx) })
	work.Go(func() { c.watchLeases(ctx) })
	for began := time.Now(); time.Since(began) < length; {
		c.disturb()
		time.Sleep(time.Duration(c.rng.Int64N(int64(200 * time.Millisecond))))
	}
	c.heal()
	c.settle()
	stop()
	work.Wait()
	c.verify()
}

// chaos is a cluster and what is known of it for sure.
type chaos struct {
	t    *testing.T
	l    *cluster.Local
	rng  *rand.Rand
	down map[int]bool
	cut  consensus.NodeID
	log  []string

	mu     sync.Mutex
	nodes  []*cluster.Node // guarded by mu; those that are up
	shards []meta.ShardID  // guarded by mu
	acked  map[int]written // guarded by mu; by client and shard
}

type written struct {
	shard meta.ShardID
	key   string
	value uint64
}

func newChaos(t *testing.T, nodes int, seed uint64) *chaos {
	l := boot(t, nodes, func(o *cluster.LocalOptions) {
		lan(o)
		o.Network = transport.NetworkOptions{Seed: seed, Default: transport.Link{Delay: 100 * time.Microsecond, Jitter: 100 * time.Microsecond}}
	})
	c := &chaos{t: t, l: l, rng: rand.New(rand.NewPCG(seed, 3)), down: map[int]bool{}, acked: map[int]written{}}
	c.up()
	c.shards = create(t, l, 6)
	return c
}

func (c *chaos) up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = c.l.Nodes()
}

func (c *chaos) some() ([]*cluster.Node, []meta.ShardID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes), slices.Clone(c.shards)
}

func (c *chaos) note(format string, args ...any) { c.log = append(c.log, fmt.Sprintf(format, args...)) }

// disturb does one thing. A minority of nodes at most is away at a time: with two of
// seven down or cut off each group of three has one replica in danger at most, or two
// for as long as nobody is repaired, and waits.
func (c *chaos) disturb() {
	victim := 1 + c.rng.IntN(len(c.l.Dirs()))
	switch kind := c.rng.IntN(6); {
	case c.down[victim]:
		c.note("start %d", victim)
		c.start(victim)
	case kind == 0 && len(c.down) < 2:
		c.note("crash %d", victim)
		c.l.Crash(victim)
		c.down[victim] = true
		c.up()
	case kind == 1 && c.cut == 0 && len(c.down) == 0:
		c.cut = c.l.Node(victim).ID()
		c.note("cut off node %d", c.cut)
		var others []consensus.NodeID
		for _, n := range c.l.Nodes() {
			if n.ID() != c.cut {
				others = append(others, n.ID())
			}
		}
		c.l.Network().Partition([]consensus.NodeID{c.cut}, others)
	case kind == 2 && c.cut != 0:
		c.note("heal")
		c.mend()
	case kind == 3:
		c.drain(victim)
	case kind == 4:
		if len(c.down) > 0 { // or draws that start a node are rare
			for i := range c.down {
				c.note("start %d", i)
				c.start(i)
				break
			}
		}
	}
}

// drain has a node give up what it has, or takes that back.
func (c *chaos) drain(victim int) {
	ctx, cancel := context.WithTimeout(c.t.Context(), 300*time.Millisecond)
	defer cancel()
	n := c.l.Node(victim)
	s, _ := n.View()
	at, ok := s.Node(n.ID())
	if !ok {
		return
	}
	var err error
	if at.Draining {
		err = n.Recommission(ctx, n.ID())
	} else {
		err = n.Decommission(ctx, n.ID())
	}
	c.note("draining of node %d, %v before: %v", n.ID(), at.Draining, err)
}

func (c *chaos) start(i int) {
	require.NoError(c.t, c.l.Start(within(c.t, time.Minute), i))
	delete(c.down, i)
	c.up()
}

// mend ends a partition. A node that was declared dead meanwhile has stopped, and is
// started again.
func (c *chaos) mend() {
	c.l.Network().Heal()
	c.cut = 0
}

// heal ends all faults.
func (c *chaos) heal() {
	c.mend()
	for i := range c.down {
		c.start(i)
	}
}

// settle waits until every node that stopped by itself is up again, and all shards
// are as they are to be.
func (c *chaos) settle() {
	deadline := time.Now().Add(time.Minute)
	for {
		calm := true
		for i := range len(c.l.Dirs()) {
			n := c.l.Node(i + 1)
			if n.Err() != nil {
				require.ErrorIs(c.t, n.Err(), meta.ErrEpoch, "node %d", n.ID())
				c.l.Crash(i + 1)
				c.down[i+1] = true
				c.start(i + 1)
				calm = false
				continue
			}
			s, _ := n.View()
			at, ok := s.Node(n.ID())
			if ok && at.Draining {
				ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
				_ = n.Recommission(ctx, n.ID()) // again in the next round
				cancel()
			}
			calm = calm && ok && !at.Draining && live(len(c.l.Dirs()))(s) && settled(s)
		}
		if calm {
			return
		}
		if time.Now().After(deadline) {
			dump(c.t, c.l)
			c.t.Fatalf("nothing settles after\n%v", c.log)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// write writes ever larger numbers under keys of its own.
func (c *chaos) write(ctx context.Context, client int) {
	key := fmt.Sprint("client", client)
	for value := uint64(1); ctx.Err() == nil; value++ {
		nodes, shards := c.some()
		which := int(value) % len(shards)
		command := consensus.Command{Data: kv.EncodePut(nil, []byte(key), binary.BigEndian.AppendUint64(nil, value))}
		for _, n := range nodes {
			g := consensus.GroupID(shards[which])
			if n.Host().Leader(g).Node != n.ID() {
				continue
			}
			try, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			_, err := n.Host().Propose(try, g, command)
			cancel()
			if err == nil {
				c.mu.Lock()
				c.acked[client*1000+which] = written{shards[which], key, value}
				c.mu.Unlock()
				break
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// watch looks at what every node knows.
func (c *chaos) watch(ctx context.Context) {
	last := map[consensus.NodeID]*meta.State{}
	for ctx.Err() == nil {
		nodes, _ := c.some()
		for _, n := range nodes {
			s, _ := n.View()
			if s.Cluster == 0 {
				continue
			}
			if err := s.Check(); err != nil {
				c.t.Errorf("node %d: %v", n.ID(), err)
				return
			}
			if before := last[n.ID()]; before != nil && before.Index <= s.Index {
				if err := onward(before, s); err != nil {
					c.t.Errorf("node %d, from index %d to %d: %v", n.ID(), before.Index, s.Index, err)
					return
				}
			}
			last[n.ID()] = s
		}
		time.Sleep(time.Millisecond)
	}
}

// onward wants nothing of a state to go back in a later one.
func onward(before, after *meta.State) error {
	for _, n := range before.Nodes() {
		now, ok := after.Node(n.ID)
		switch {
		case !ok && !after.Removed(n.ID):
			return fmt.Errorf("node %d is not there and was not removed", n.ID)
		case ok && now.Epoch < n.Epoch:
			return fmt.Errorf("node %d under epoch %d after %d", n.ID, now.Epoch, n.Epoch)
		case ok && n.Condition == meta.Dead && now.Epoch == n.Epoch && now.Condition != meta.Dead:
			return fmt.Errorf("node %d is %v after its death under epoch %d", n.ID, now.Condition, n.Epoch)
		}
	}
	for _, sh := range before.Shards() {
		now, ok := after.Shard(sh.ID)
		if !ok || now.Version < sh.Version || now.Generation < sh.Generation {
			return fmt.Errorf("%v after %v", now, sh)
		}
	}
	return nil
}

// watchLeases looks for two leases of one shard at one moment: one that is held
// before and after another one was.
func (c *chaos) watchLeases(ctx context.Context) {
	for ctx.Err() == nil {
		nodes, shards := c.some()
		for _, id := range append(shards, meta.MetaShard) {
			g := consensus.GroupID(id)
			for _, a := range nodes {
				first, ok := a.Host().Lease(g)
				if !ok {
					continue
				}
				for _, b := range nodes {
					if b == a {
						continue
					}
					other, held := b.Host().Lease(g)
					if again, still := a.Host().Lease(g); held && still && again.Term == first.Term {
						c.t.Errorf("shard %d: leases of node %d in term %d and node %d in term %d", id, a.ID(), first.Term, b.ID(), other.Term)
						return
					}
				}
			}
		}
		time.Sleep(time.Millisecond)
	}
}

// verify reads back what was acknowledged, at every replica's leader.
func (c *chaos) verify() {
	require.NotEmpty(c.t, c.acked, "no client got anything done")
	for _, w := range c.acked {
		require.Eventually(c.t, func() bool {
			for _, n := range c.l.Nodes() {
				g := consensus.GroupID(w.shard)
				if n.Host().Leader(g).Node != n.ID() || n.Host().ReadIndex(within(c.t, time.Second), g) != nil {
					continue
				}
				sm, err := n.Host().Machine(g)
				require.NoError(c.t, err)
				value, ok := sm.(*kv.Machine).Get([]byte(w.key))
				require.True(c.t, ok, "shard %d lost %s", w.shard, w.key)
				require.GreaterOrEqual(c.t, binary.BigEndian.Uint64(value), w.value, "shard %d: %s went back", w.shard, w.key)
				return true
			}
			return false
		}, 20*time.Second, time.Millisecond, "shard %d has no leader", w.shard)
	}
	c.t.Logf("%d faults and changes, %d keys", len(c.log), len(c.acked))
}
