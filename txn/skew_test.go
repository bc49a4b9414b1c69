package txn_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

const skewBound = 100 * time.Millisecond

// clocks are the wall clocks of a world's nodes, node i's at i-1: how far each is from
// the process's.
type clocks struct {
	at     [16]atomic.Int64
	silent atomic.Bool // nobody says what time it is
}

func (c *clocks) set(node int, d time.Duration) { c.at[node-1].Store(int64(d)) }

func (c *clocks) joined(o *cluster.Options) {
	const clock = "txn.clock"
	inner := o.NodeServices[clock]
	o.NodeServices[clock] = func(ctx context.Context, from consensus.NodeID, b []byte) ([]byte, error) {
		if c.silent.Load() {
			return nil, errors.New("silent")
		}
		return inner(ctx, from, b)
	}
}

// boot boots a world that goes by the clocks.
func (c *clocks) boot(t *testing.T, nodes, shards int) *world {
	o := worldOptions{nodes: nodes, shards: shards, joined: c.joined, participant: func(node int, o *txn.Options) {
		clock, err := hlc.NewClock(func() time.Time { return steady().Add(time.Duration(c.at[node-1].Load())) }, skewBound)
		require.NoError(t, err)
		o.Clock = clock
	}}
	o.local.Network.Seed = harness.Seed()
	o.local.Node = func(_ int, o *cluster.Options) { lan(o) }
	return boot(t, o)
}

// fenced waits until a node serves nothing, or serves.
func (w *world) fenced(node int, want bool) error {
	w.t.Helper()
	c, err := w.client(node, txn.ClientOptions{}), error(nil)
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		var tx *txn.Tx
		if tx, err = c.Begin(w.t.Context(), txn.TxOptions{}); err == nil {
			tx.Rollback(w.t.Context())
		}
		if errors.Is(err, txn.ErrSkewed) == want {
			return err
		}
	}
	w.t.Fatalf("node %d: %v, %+v", node, err, w.parts[node-1].Offsets())
	return nil
}

// putBy writes a key by a client on a node.
func (w *world) putBy(node int, key string) error {
	return w.client(node, txn.ClientOptions{}).Run(within(w.t, 5*time.Second), txn.TxOptions{}, func(tx *txn.Tx) error { return tx.Put(key, []byte(key)) })
}

// leads waits until a node leads the shard of a key.
func (w *world) leads(node int, key string) *cluster.Replica {
	w.t.Helper()
	n := w.Node(node)
	at, ok := n.Locate(key)
	require.True(w.t, ok)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		r, err := n.Replica(at.Shard)
		require.NoError(w.t, err)
		if _, ok := r.Holds(); ok {
			return r
		}
		for _, m := range at.Members {
			if l, _ := w.leader(key); m.Node == n.ID() && l != n {
				_ = l.Host().Transfer(within(w.t, time.Second), consensus.GroupID(at.Shard), m.Replica)
			}
		}
	}
	w.t.Fatalf("node %d does not come to lead the shard of %q", node, key)
	return nil
}

// Clocks that are apart by the bound, and no more, cost no level anything.
func TestClocksWithinTheBound(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	rng := rand.New(rand.NewPCG(seed, 11))
	var c clocks
	// No more than two of the others are far from any, so that none is against a majority.
	skews := []time.Duration{0, 0, 0, skewBound, skewBound}
	skews[2] = skewBound/4 + time.Duration(rng.Int64N(int64(skewBound/2)))
	rng.Shuffle(len(skews), func(i, j int) { skews[i], skews[j] = skews[j], skews[i] })
	for i, d := range skews {
		c.set(i+1, d)
	}
	w := c.boot(t, 5, 4)
	m := &mixer{w: w, keys: 8, options: txn.TxOptions{Set: true, Level: txn.Strict, Protocol: txn.Protocol(seed % 2)}}
	m.run(8, 2*time.Second)
	m.readAll(t)
	m.check(isolation.StrictSerializable)
	for i := range skews {
		v := w.parts[i].Offsets()
		require.False(t, v.Fence(), "%+v", v)
		require.Equal(t, 4, v.Known)
	}
}

// A node whose clock is wrong serves nothing until it is right, and others go on.
func TestWrongClockFences(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	var c clocks
	w := c.boot(t, 3, 1)
	victim := 1 + int(seed%3)
	r := w.leads(victim, "00")
	require.NoError(t, w.putBy(victim, "00"))
	open, err := w.client(victim, txn.ClientOptions{}).Begin(t.Context(), txn.TxOptions{})
	require.NoError(t, err)
	require.NoError(t, open.Put("01", nil))

	// It drifts, so that only the others can tell.
	off := skewBound * 99 / 100
	for d := time.Duration(0); d < off; d += skewBound / 50 {
		c.set(victim, d)
		time.Sleep(20 * time.Millisecond)
	}
	err = w.fenced(victim, true)
	var skewed *txn.SkewedError
	require.ErrorAs(t, err, &skewed)
	require.ErrorIs(t, err, consensus.ErrRejected)
	require.ErrorIs(t, open.Commit(t.Context()), txn.ErrSkewed)
	require.Equal(t, skewBound, skewed.Bound)
	require.Contains(t, err.Error(), skewBound.String())
	for i := range 3 {
		if i+1 != victim {
			require.NoError(t, w.putBy(i+1, "00"))
		}
	}
	require.Eventually(t, func() bool { return !r.Leads() }, 5*time.Second, time.Millisecond, "it leads yet")

	c.set(victim, 0)
	require.NoError(t, w.fenced(victim, false))
	require.NoError(t, w.putBy(victim, "02"))
	w.leads(victim, "00")
	require.NoError(t, w.putBy(victim, "00"))
}

// A setter is a source of timestamps whose clock is set before it tells one.
type setter struct {
	hlc.Source
	set func()
}

func (s setter) Timestamp(ctx context.Context) (hlc.Timestamp, error) {
	s.set()
	return s.Source.Timestamp(ctx)
}

// Nothing goes by a clock that was set until others were asked about it, and whoever
// waits on a node whose clock is wrong waits no more.
func TestClockIsSet(t *testing.T) {
	var c clocks
	w := c.boot(t, 3, 0)
	shard, err := w.Node(1).CreateShard(within(t, 10*time.Second), cluster.ShardSpec{Want: 1})
	require.NoError(t, err)
	w.ids = append(w.ids, shard)
	leader, p := w.leader("00")
	victim := 1 + slices.Index(w.Nodes(), leader)
	r, err := leader.Replica(shard)
	require.NoError(t, err)
	require.NoError(t, p.Inherit(r))

	// Nobody else has the shard, so that the node leads it whatever its clock shows.
	other := w.client(1+victim%3, txn.ClientOptions{})
	holder, err := other.Begin(t.Context(), txn.TxOptions{})
	require.NoError(t, err)
	_, _, err = holder.GetForUpdate(t.Context(), "00")
	require.NoError(t, err)
	waiter, err := other.Begin(t.Context(), txn.TxOptions{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error, 1)
	go func() {
		_, _, err := waiter.GetForUpdate(ctx, "00")
		waited <- err
	}()
	require.Eventually(t, func() bool { return p.Waiting() == 1 }, 5*time.Second, time.Millisecond)

	// To be set in the middle of a call is no way around it.
	far := 16 * skewBound
	client, err := txn.NewClient(leader, p, txn.ClientOptions{Source: setter{p.Clock(), func() { c.set(victim, far) }}})
	require.NoError(t, err)
	_, err = client.Begin(t.Context(), txn.TxOptions{})
	require.ErrorIs(t, err, txn.ErrSkewed)
	now := p.Clock().Last()
	require.ErrorIs(t, p.Inherit(r), txn.ErrSkewed)
	left := id.Txn{Key: id.Key{Node: uint64(leader.ID()), Epoch: leader.Epoch(), Seq: 1 << 40, Start: now}, Anchor: "01"}
	require.ErrorIs(t, p.Leave(within(t, 5*time.Second), r, left, "01", now, true), txn.ErrSkewed)
	require.Eventually(t, func() bool { return p.Waiting() == 0 }, 5*time.Second, time.Millisecond, "it waits yet")
	cancel()
	require.Error(t, <-waited)
	waiter.Rollback(t.Context())
	holder.Rollback(t.Context())

	// Who refuses does not have the clock tell more.
	last := p.Clock().Last()
	require.NotNil(t, w.fenced(victim, true))
	require.Equal(t, last, p.Clock().Last())

	// It must hear that most are near, and not just nothing else.
	c.silent.Store(true)
	c.set(victim, 0)
	for range 40 {
		require.NotNil(t, w.fenced(victim, true))
		time.Sleep(20 * time.Millisecond)
	}
	c.silent.Store(false)

	// What it told meanwhile must not be ahead of what others may show.
	require.NoError(t, w.fenced(victim, false))
	require.LessOrEqual(t, p.Clock().Last().Sub(hlc.At(p.Clock().Wall())), skewBound)
	require.NoError(t, w.putBy(1+victim%3, "00"))
}

// Clocks that are set by more than the bound while transactions run make nobody lose
// what was committed.
func TestClocksJump(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	var c clocks
	w := c.boot(t, 5, 4)
	m := &mixer{w: w, keys: 8, faults: true, began: time.Now(), options: txn.TxOptions{Set: true, Protocol: txn.Protocol(seed % 2)}}
	f := &faults{w: w, rng: rand.New(rand.NewPCG(seed, 7)), down: map[int]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		work.Go(func() {
			for ctx.Err() == nil {
				m.one(within(t, 5*time.Second), f.client(rng), i, rng)
				time.Sleep(time.Millisecond) // a node that serves nothing says so at once
			}
		})
	}
	for time.Since(m.began) < 2*time.Second {
		// Two of five at most, so that there is a majority which is right.
		c.set(1+f.rng.IntN(2), time.Duration(f.rng.Int64N(int64(8*skewBound)))-4*skewBound)
		f.transfer(within(t, time.Second))
		time.Sleep(time.Duration(f.rng.Int64N(int64(200 * time.Millisecond))))
	}
	for i := range 2 {
		c.set(i+1, 0)
		require.NoError(t, w.fenced(i+1, false))
	}
	before := m.counts[isolation.Committed].Load()
	require.Eventually(t, func() bool { return m.counts[isolation.Committed].Load() > before+20 }, 10*time.Second, time.Millisecond)
	stop()
	work.Wait()
	m.readAll(t)
	m.check(isolation.Serializable)
}

// A node whose clock is wrong when it begins again serves nothing from the beginning.
func TestWrongClockFromTheBeginning(t *testing.T) {
	var c clocks
	w := c.boot(t, 3, 0)
	for _, i := range []int{2, 3} {
		w.crash(i)
		c.set(i, 16*skewBound)
		require.NoError(t, w.start(within(t, 20*time.Second), i))
		_, err := w.client(i, txn.ClientOptions{}).Begin(within(t, 10*time.Second), txn.TxOptions{})
		require.ErrorIs(t, err, txn.ErrSkewed)
		c.set(i, 0)
		require.NoError(t, w.fenced(i, false))
	}
}
