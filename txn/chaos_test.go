package txn_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// lan has nodes that find each other missing soon.
func lan(o *cluster.Options) {
	o.Consensus = func(c *consensus.Options) {
		c.TickInterval, c.HeartbeatTicks, c.ElectionTicks, c.LeaseDuration = 20*time.Millisecond, 1, 4, 80*time.Millisecond
	}
	o.Interval = 20 * time.Millisecond
}

// crash stops a node as the end of its process would, and start starts it again.
func (w *world) crash(i int) {
	w.Crash(i)
	w.parts[i-1].Close()
}

func (w *world) start(ctx context.Context, i int) error {
	if err := w.Start(ctx, i); err != nil {
		return err
	}
	w.parts[i-1].Serve(w.Node(i))
	return nil
}

// Transactions keep apart while nodes crash and are cut off, shards split, merge and move,
// and clocks differ by as much as they may.
func TestTransactionsUnderFaults(t *testing.T) {
	nodes, length := 20, 5*time.Second
	switch {
	case harness.CurrentMode() == harness.ModeStandard:
		length = 60 * time.Second
	case testing.Short():
		nodes, length = 5, 2*time.Second
	case raceEnabled:
		nodes = 5 // more of them do not get to answer each other in time
	}
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	o := worldOptions{nodes: nodes, shards: 4, participant: func(node int, o *txn.Options) {
		d := time.Duration(rand.New(rand.NewPCG(seed, uint64(1000+node))).Int64N(int64(hlc.DefaultBound * 3 / 4)))
		clock, err := hlc.NewClock(func() time.Time { return steady().Add(d) }, 0)
		require.NoError(t, err)
		o.Clock = clock
	}}
	o.local.Network.Seed = seed
	o.local.Node = func(_ int, o *cluster.Options) { lan(o) }
	w := boot(t, o)
	m := &mixer{w: w, keys: 12, faults: true, began: time.Now(), options: txn.TxOptions{Set: true, Protocol: txn.Protocol(seed % 2)}}
	f := &faults{w: w, rng: rand.New(rand.NewPCG(seed, 7)), down: map[int]bool{}}
	b := &bank{t: t, accounts: 20, pairs: 5}
	b.found(within(t, 20*time.Second), w.client(1, txn.ClientOptions{}))
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		work.Go(func() {
			for ctx.Err() == nil {
				if c := f.client(rng); c != nil {
					m.one(within(t, 20*time.Second), c, i, rng)
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for i := range 4 {
		rng := rand.New(rand.NewPCG(seed, uint64(100+i)))
		work.Go(func() {
			for ctx.Err() == nil {
				if c := f.client(rng); c != nil {
					b.work(within(t, 20*time.Second), c, rng)
				} else {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for time.Since(m.began) < length {
		f.disturb(t)
		time.Sleep(time.Duration(f.rng.Int64N(int64(200 * time.Millisecond))))
	}
	f.heal(t)
	before := m.counts[isolation.Committed].Load()
	deadline := time.Now().Add(40 * time.Second)
	for m.counts[isolation.Committed].Load() < before+50 {
		if time.Now().After(deadline) {
			w.dump()
			t.Fatal("nobody commits any more")
		}
		f.restart(t)
		time.Sleep(10 * time.Millisecond)
	}
	stop()
	work.Wait()
	m.readAll(t)
	m.check(isolation.Serializable)
	b.audit(within(t, 20*time.Second), w.client(1, txn.ClientOptions{}), latest)
	t.Logf("%d movements, %d audits, %d falls", b.moved.Load(), b.audited.Load(), b.fell.Load())
	require.NotZero(t, b.moved.Load()*b.audited.Load()*b.fell.Load())
}

// readAll records what is there in the end.
func (m *mixer) readAll(t *testing.T) {
	c := m.w.client(1, txn.ClientOptions{})
	h := isolation.Txn{Client: 1000, Begin: time.Since(m.began), Outcome: isolation.Committed}
	ctx := within(t, 20*time.Second)
	err := c.Run(ctx, txn.TxOptions{}, func(tx *txn.Tx) error {
		h.Ops = nil
		for i := range m.keys {
			b, _, err := tx.Get(ctx, m.key(i))
			if err != nil {
				return err
			}
			h.Ops = append(h.Ops, isolation.Op{Kind: isolation.ReadList, Key: m.key(i), List: listOf(b)})
		}
		return nil
	})
	if err != nil {
		m.w.dump()
	}
	require.NoError(t, err)
	h.End = time.Since(m.began)
	m.history.Add(h)
}

// faults are what happens to a world.
type faults struct {
	w   *world
	rng *rand.Rand
	mu  sync.RWMutex
	// down are the nodes that are not up; guarded by mu.
	down map[int]bool
	cut  bool
}

// client returns a client on a node that is up.
func (f *faults) client(rng *rand.Rand) *txn.Client {
	f.mu.RLock()
	defer f.mu.RUnlock()
	i := 1 + rng.IntN(len(f.w.Dirs()))
	if f.down[i] {
		return nil
	}
	return f.w.client(i, txn.ClientOptions{})
}

// disturb does one thing to the world.
func (f *faults) disturb(t *testing.T) {
	nodes := len(f.w.Dirs())
	victim := 1 + f.rng.IntN(nodes)
	ctx := within(t, 20*time.Second)
	switch f.rng.IntN(5) {
	case 0:
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.down[victim] {
			require.NoError(t, f.w.start(ctx, victim))
			delete(f.down, victim)
		} else if len(f.down) < (nodes-1)/2-1 || len(f.down) == 0 {
			f.down[victim] = true
			f.w.crash(victim)
		}
	case 1:
		if f.cut = !f.cut; !f.cut {
			f.w.Network().Heal()
			return
		}
		f.mu.RLock()
		defer f.mu.RUnlock()
		for _, n := range f.w.Nodes() {
			if v := f.w.Node(victim); v != nil && n != v {
				f.w.Network().Cut(n.ID(), v.ID())
				f.w.Network().Cut(v.ID(), n.ID())
			}
		}
	case 2:
		f.split(ctx)
	case 3:
		f.merge(ctx)
	case 4:
		f.transfer(ctx)
	}
}

func (f *faults) up() *cluster.Node {
	list := f.w.Nodes()
	return list[f.rng.IntN(len(list))]
}

// split, merge and transfer may fail for what happens to nodes meanwhile.
func (f *faults) split(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	_, _ = f.up().Split(ctx, fmt.Sprintf("%02d", f.rng.IntN(100)))
}

func (f *faults) merge(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	n := f.up()
	if at, ok := n.Locate(fmt.Sprintf("%02d", f.rng.IntN(100))); ok {
		_ = n.Merge(ctx, at.Shard)
	}
}

func (f *faults) transfer(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	n := f.up()
	if at, ok := n.Locate(fmt.Sprintf("%02d", f.rng.IntN(100))); ok && len(at.Members) > 0 {
		to := at.Members[f.rng.IntN(len(at.Members))]
		_ = n.Host().Transfer(ctx, consensus.GroupID(at.Shard), to.Replica)
	}
}

// heal ends all faults.
func (f *faults) heal(t *testing.T) {
	f.w.Network().Heal()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.down {
		require.NoError(t, f.w.start(within(t, 20*time.Second), i))
	}
	clear(f.down)
}

// restart starts the nodes again that were taken for dead, and have stopped.
func (f *faults) restart(t *testing.T) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.w.Dirs() {
		if f.w.Node(i+1).Err() != nil {
			f.w.crash(i + 1)
			require.NoError(t, f.w.start(within(t, 20*time.Second), i+1))
		}
	}
}
