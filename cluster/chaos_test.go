package cluster_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
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
// back, and shards split and merge, while clients write and read all over, by clocks
// that are off and go wrong. Throughout,
// what any node knows is sound and only moves on, no shard has two leases, and nobody
// reads less than was acknowledged or more than was written. In the end, when all is
// healed, every shard has its replicas on live nodes, and everything that was
// acknowledged is there. PHANTOM_SEED repeats the schedule of faults, though not how
// goroutines interleave.
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
	for i := range chaosClients {
		work.Go(func() { c.write(ctx, i) })
		work.Go(func() { c.read(ctx, i) })
	}
	work.Go(func() { c.reshape(ctx) })
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
	seed uint64
	rng  *rand.Rand
	down map[int]bool
	cut  consensus.NodeID
	log  []string

	mu        sync.Mutex
	nodes     []*cluster.Node      // guarded by mu; those that are up
	registers map[string]*register // guarded by mu; by key
	reads     int                  // guarded by mu
	reshaped  int                  // guarded by mu
}

// A register is a key that one client writes ever larger numbers to.
type register struct{ begun, acked uint64 }

const (
	chaosClients = 4
	chaosShards  = 6
)

func newChaos(t *testing.T, nodes int, seed uint64) *chaos {
	said := &lastWords{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the last that was logged:\n%s", said)
		}
	})
	l := boot(t, nodes, func(o *cluster.LocalOptions) {
		lan(o)
		inner := o.Node
		o.Node = func(i int, o *cluster.Options) {
			inner(i, o)
			lanHost, clock := o.Consensus, wrongClock(seed, i)
			o.Consensus = func(c *consensus.Options) {
				lanHost(c)
				c.Clock = clock
			}
			o.Logger = slog.New(slog.NewTextHandler(said, &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		o.Network = transport.NetworkOptions{Seed: seed, Default: transport.Link{Delay: 100 * time.Microsecond, Jitter: 100 * time.Microsecond}}
	})
	c := &chaos{t: t, l: l, seed: seed, rng: rand.New(rand.NewPCG(seed, 3)), down: map[int]bool{}, registers: map[string]*register{}}
	for client := range chaosClients {
		for i := range keysOfClient {
			c.registers[chaosKey(client, i)] = &register{}
		}
	}
	c.up()
	create(t, l, chaosShards)
	return c
}

// A skewed clock is off, and goes wrong.
type skewedClock struct {
	start   time.Time
	base    time.Duration // of Mono
	offset  time.Duration // of Wall
	perTime float64       // how fast it goes
}

func (c skewedClock) gone() time.Duration {
	return time.Duration(float64(time.Since(c.start)) * c.perTime)
}
func (c skewedClock) Mono() time.Duration { return c.base + c.gone() }
func (c skewedClock) Wall() time.Time     { return c.start.Add(c.offset + c.gone()) }

// wrongClock is the clock of a node: off by up to a minute, and faster or slower by up
// to almost half of the drift that leases allow for between two nodes.
func wrongClock(seed uint64, node int) skewedClock {
	rng := rand.New(rand.NewPCG(seed, uint64(node)<<8))
	return skewedClock{
		start: time.Now(), base: time.Duration(rng.Int64N(int64(time.Hour))),
		offset: time.Duration((2*rng.Float64() - 1) * float64(time.Minute)), perTime: 0.996 + 0.008*rng.Float64(),
	}
}

// lastWords keeps the end of a log.
type lastWords struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

func (l *lastWords) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text = append(l.text, b...); len(l.text) > 64<<10 {
		l.text = append([]byte(nil), l.text[32<<10:]...)
	}
	return len(b), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func (c *chaos) up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = c.l.Nodes()
}

func (c *chaos) some() []*cluster.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
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

// keysOfClient is how many registers a client has, over all shards.
const keysOfClient = 2 * chaosShards

// chaosKey is between the keys where shards begin, and where they are split.
func chaosKey(client, i int) string { return fmt.Sprintf("%06d.%d.%d", i/2, i%2*5, client) }

// write writes ever larger numbers to a client's registers, through any node.
func (c *chaos) write(ctx context.Context, client int) {
	rng := rand.New(rand.NewPCG(c.seed, uint64(client)+10))
	for value := uint64(1); ctx.Err() == nil; value++ {
		key := chaosKey(client, rng.IntN(keysOfClient))
		next := binary.BigEndian.AppendUint64(nil, value)
		c.mu.Lock()
		var last []byte
		if v := c.registers[key].acked; v > 0 {
			last = binary.BigEndian.AppendUint64(nil, v)
		}
		c.registers[key].begun = value
		c.mu.Unlock()
		// A swap, so that an attempt of which nobody has heard takes nothing back
		// when it works at last.
		answer, err := c.certain(ctx, rng, "do", key, kv.EncodeCompareAndSwap(nil, []byte(key), last, next))
		if err != nil {
			return
		}
		o, err := kv.ParseOutcome(answer)
		if err != nil || !o.Done && !bytes.Equal(o.Value, next) {
			c.t.Errorf("%s was to go from %x to %x and was %x, %v", key, last, next, o.Value, err)
			return
		}
		c.mu.Lock()
		c.registers[key].acked = value
		c.mu.Unlock()
	}
}

// certain asks any node until it has an answer. What it asks may be done twice.
func (c *chaos) certain(ctx context.Context, rng *rand.Rand, service, key string, body []byte) ([]byte, error) {
	for {
		nodes := c.some()
		try, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		answer, err := nodes[rng.IntN(len(nodes))].Call(try, service, key, body)
		cancel()
		if err == nil || ctx.Err() != nil {
			return answer, err
		}
		if !errors.Is(err, consensus.ErrUnknown) && !errors.Is(err, consensus.ErrRejected) {
			c.t.Errorf("%s of %s: %v", service, key, err)
			return nil, err
		}
		pauseFor(ctx, time.Millisecond)
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// read reads registers of all clients, through any node.
func (c *chaos) read(ctx context.Context, reader int) {
	rng := rand.New(rand.NewPCG(c.seed, uint64(reader)+20))
	for ctx.Err() == nil {
		key := chaosKey(rng.IntN(chaosClients), rng.IntN(keysOfClient))
		if c.readOne(ctx, rng, key) != nil {
			return
		}
		pauseFor(ctx, 100*time.Microsecond)
	}
}

func (c *chaos) readOne(ctx context.Context, rng *rand.Rand, key string) error {
	c.mu.Lock()
	low := c.registers[key].acked
	c.mu.Unlock()
	answer, err := c.certain(ctx, rng, "get", key, []byte(key))
	if err != nil {
		return err
	}
	value := uint64(0)
	if answer[0] == 1 {
		value = binary.BigEndian.Uint64(answer[1:])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	if high := c.registers[key].begun; value < low || value > high {
		c.t.Errorf("%s was read as %d: %d was acknowledged before, %d begun behind", key, value, low, high)
	}
	return nil
}

// reshape splits and merges shards.
func (c *chaos) reshape(ctx context.Context) {
	rng := rand.New(rand.NewPCG(c.seed, 4))
	for ctx.Err() == nil {
		nodes := c.some()
		n := nodes[rng.IntN(len(nodes))]
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		var err error
		if s, _ := n.View(); rng.IntN(2) == 0 && len(s.Shards()) > 2 {
			list := s.Shards()
			err = n.Merge(try, list[1+rng.IntN(len(list)-1)].ID)
		} else {
			_, err = n.Split(try, fmt.Sprintf("%06d.5", rng.IntN(chaosShards)))
		}
		cancel()
		if err == nil {
			c.mu.Lock()
			c.reshaped++
			c.mu.Unlock()
		}
		pauseFor(ctx, time.Duration(rng.Int64N(int64(50*time.Millisecond))))
	}
}

// watch looks at what every node knows.
func (c *chaos) watch(ctx context.Context) {
	last := map[consensus.NodeID]*meta.State{}
	for ctx.Err() == nil {
		nodes := c.some()
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
		if !ok && after.Merged(sh.ID) {
			continue
		}
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
		nodes := c.some()
		s, _ := nodes[0].View()
		for _, sh := range s.Shards() {
			id, g := sh.ID, consensus.GroupID(sh.ID)
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

// verify reads back what was acknowledged.
func (c *chaos) verify() {
	require.Positive(c.t, c.reads, "no client read anything")
	if !testing.Short() {
		require.Positive(c.t, c.reshaped, "no shard was split or merged")
	}
	acked := 0
	for key, r := range c.registers {
		if r.acked > 0 {
			acked++
		}
		require.NoError(c.t, c.readOne(within(c.t, 20*time.Second), c.rng, key), "key %s", key)
	}
	require.Positive(c.t, acked, "no client got anything done")
	c.t.Logf("%d faults and changes, %d splits and merges, %d of %d keys written, %d reads", len(c.log), c.reshaped, acked, len(c.registers), c.reads)
}
