package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
)

// shardsPerNode is how many shards a cluster of a benchmark has for each node.
const shardsPerNode = 3

// fill makes the shards of a cluster that has none, and returns them.
func (c *bench) fill(b *testing.B) []meta.ShardID {
	b.Helper()
	return c.fillWith(b, shardsPerNode*c.nodes)
}

func (c *bench) fillWith(b *testing.B, shards int) []meta.ShardID {
	b.Helper()
	ids := make([]meta.ShardID, shards)
	errs := make([]error, shards)
	var work sync.WaitGroup
	for i := range shards {
		span := meta.Span{Start: fmt.Sprintf("%06d", i), End: fmt.Sprintf("%06d", i+1)}
		work.Go(func() {
			ids[i], errs[i] = c.Node(i%c.nodes+1).CreateShard(b.Context(), cluster.ShardSpec{Span: span})
		})
	}
	work.Wait()
	for _, err := range errs {
		require.NoError(b, err)
	}
	require.NoError(b, c.ready(b.Context()))
	return ids
}

// write has every shard answer a command once, wherever its leader is.
func (c *bench) write(ctx context.Context, ids []meta.ShardID) error {
	errs := make([]error, len(ids))
	var work sync.WaitGroup
	for i, id := range ids {
		work.Go(func() { errs[i] = c.writeOne(ctx, id) })
	}
	work.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *bench) writeOne(ctx context.Context, id meta.ShardID) error {
	command := kv.EncodePut(nil, []byte("k"), make([]byte, 128))
	for {
		for _, n := range c.Nodes() {
			g := consensus.GroupID(id)
			if n.Host().Leader(g).Node != n.ID() {
				continue
			}
			try, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			err := propose(try, n, id, command)
			cancel()
			if err == nil {
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("shard %d does not answer: %w", id, ctx.Err())
		}
		time.Sleep(time.Millisecond)
	}
}

// A foreground load writes to all shards in turn until it is stopped.
type foreground struct {
	stop func()
	done atomic.Int64
}

func (c *bench) load(ctx context.Context, ids []meta.ShardID, clients int) *foreground {
	ctx, cancel := context.WithCancel(ctx)
	f := new(foreground)
	var work sync.WaitGroup
	for i := range clients {
		work.Go(func() {
			for k := i; ctx.Err() == nil; k += clients {
				if c.writeOne(ctx, ids[k%len(ids)]) == nil {
					f.done.Add(1)
				}
			}
		})
	}
	f.stop = func() { cancel(); work.Wait() }
	return f
}

// rate is how many commands a second the load got answered during f.
func (f *foreground) rate(during func() error) (perSecond float64, took time.Duration, err error) {
	before, began := f.done.Load(), time.Now()
	err = during()
	took = time.Since(began)
	return float64(f.done.Load()-before) / took.Seconds(), took, err
}

// BenchmarkJoin asks how long it takes from the start of a new node until it has its
// share of all replicas and nothing is under way, while 20 clients write; dip is how
// much of their throughput that costs.
//
//	go test -run='^$' -bench=Join -count=10 ./cluster
func BenchmarkJoin(b *testing.B) {
	nodes := harness.Nodes()
	b.Run(harness.Name("nodes", nodes), func(b *testing.B) {
		c := bootBench(b, nodes, "none", nil)
		ids := c.fill(b)
		load := c.load(b.Context(), ids, harness.Clients())
		defer load.stop()
		harness.Events(b, harness.Spec{Counters: c.counters}, func(int) (harness.Event, error) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			whole, _, _ := load.rate(func() error { time.Sleep(50 * time.Millisecond); return nil })
			var moved int
			rate, took, err := load.rate(func() (err error) {
				moved, err = c.join(ctx)
				return err
			})
			if err != nil {
				return harness.Event{}, err
			}
			if err := c.leave(ctx); err != nil {
				return harness.Event{}, err
			}
			return harness.Event{Took: took, Values: map[string]float64{"moves": float64(moved), "dip": max(0, 1-rate/whole)}}, nil
		})
	})
}

// join starts one more node and waits until it has its share. It returns how many
// replicas it got.
func (c *bench) join(ctx context.Context) (int, error) {
	if err := c.Add(ctx); err != nil {
		return 0, err
	}
	n := c.Node(c.nodes + 1)
	share := 3 * shardsPerNode * c.nodes / (c.nodes + 1)
	s, err := n.Await(ctx, func(s *meta.State) bool { return settled(s) && held(s, n.ID()) >= share-1 })
	if err != nil {
		return 0, err
	}
	return held(s, n.ID()), nil
}

// held counts the replicas of a node.
func held(s *meta.State, id consensus.NodeID) (count int) {
	for _, sh := range s.Shards() {
		if _, ok := sh.On(id); ok {
			count++
		}
	}
	return count
}

// leave has the last node give up what it holds, and removes it.
func (c *bench) leave(ctx context.Context) error {
	n := c.Node(c.nodes + 1)
	first := c.Node(1)
	if err := first.Decommission(ctx, n.ID()); err != nil {
		return err
	}
	return c.removed(ctx, n.ID())
}

// removed waits until a node holds nothing, removes it, and ends the last one.
func (c *bench) removed(ctx context.Context, id consensus.NodeID) error {
	first := c.Node(1)
	if _, err := first.Await(ctx, func(s *meta.State) bool {
		for _, sh := range s.Shards() {
			if _, ok := sh.On(id); ok {
				return false
			}
		}
		return len(s.Moves()) == 0
	}); err != nil {
		return err
	}
	if err := first.Remove(ctx, id); err != nil {
		return err
	}
	return c.end(c.nodes+1, c.Drop)
}

// BenchmarkDecommission asks how long it takes until a node has given up all its
// replicas and is removed, while 20 clients write; dip is how much of their throughput
// that costs.
//
//	go test -run='^$' -bench=Decommission -count=10 ./cluster
func BenchmarkDecommission(b *testing.B) {
	benchLeaving(b, func(ctx context.Context, c *bench) (map[string]float64, error) { return nil, c.leave(ctx) })
}

// BenchmarkRemoveDead asks the same of a node that crashes, with the time until it is
// known to be dead.
//
//	go test -run='^$' -bench=RemoveDead -count=10 ./cluster
func BenchmarkRemoveDead(b *testing.B) {
	benchLeaving(b, func(ctx context.Context, c *bench) (map[string]float64, error) {
		id, began := c.Node(c.nodes+1).ID(), time.Now()
		c.crash(c.nodes + 1)
		if _, err := c.Node(1).Await(ctx, is(id, meta.Dead)); err != nil {
			return nil, err
		}
		found := map[string]float64{"detect-ns": float64(time.Since(began))}
		if err := c.Node(1).Decommission(ctx, id); err != nil {
			return nil, err
		}
		return found, c.removed(ctx, id)
	})
}

// benchLeaving measures how the last node of 21 leaves.
func benchLeaving(b *testing.B, leave func(context.Context, *bench) (map[string]float64, error)) {
	nodes := harness.Nodes()
	b.Run(harness.Name("nodes", nodes), func(b *testing.B) {
		c := bootBench(b, nodes, "none", nil)
		ids := c.fill(b)
		load := c.load(b.Context(), ids, harness.Clients())
		defer load.stop()
		harness.Events(b, harness.Spec{Counters: c.counters}, func(int) (harness.Event, error) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			moved, err := c.join(ctx)
			if err != nil {
				return harness.Event{}, err
			}
			whole, _, _ := load.rate(func() error { time.Sleep(50 * time.Millisecond); return nil })
			values := map[string]float64{"moves": float64(moved)}
			rate, took, err := load.rate(func() error {
				more, err := leave(ctx, c)
				maps.Copy(values, more)
				return err
			})
			values["dip"] = max(0, 1-rate/whole)
			return harness.Event{Took: took, Values: values}, err
		})
	})
}

// BenchmarkDetect asks how long it takes until a node is known to be suspect
// (suspect-ns) and dead, to the whole cluster: one that crashed, one that is cut off
// from all others, and one whose workers stand still, so that it hears and does
// nothing. PHANTOM_MATRIX=full adds one that crashes on a machine where others compete
// for every processor (starved). false-dead and false-fence are how many other nodes
// were declared dead or took themselves for one that stands still.
//
//	go test -run='^$' -bench=Detect -count=10 ./cluster
func BenchmarkDetect(b *testing.B) {
	nodes := harness.Nodes()
	causes := []string{"crash", "partition", "stall"}
	if harness.Full() {
		causes = append(causes, "starved")
	}
	for _, cause := range causes {
		b.Run(harness.Name("nodes", nodes, "cause", cause), func(b *testing.B) {
			stalls := make([]stall, nodes)
			c := bootBench(b, nodes, "none", func(o *cluster.LocalOptions) {
				profileLAN(o)
				if cause == "stall" {
					apart(b, o, stalls)
				}
			})
			ids := c.fill(b)
			load := c.load(b.Context(), ids, 1) // or no worker would notice that it stands still
			defer load.stop()
			b.Cleanup(func() {
				for i := range stalls {
					stalls[i].end()
				}
			})
			// Nothing gets warm by a death, and one takes seconds.
			harness.Events(b, harness.Spec{Counters: c.counters, Warmup: -1}, func(i int) (harness.Event, error) {
				ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
				defer cancel()
				_, at, err := c.leader(ctx)
				if err != nil {
					return harness.Event{}, err
				}
				victim := (at+i%(nodes-1))%nodes + 1 // never the one that watches
				if cause == "starved" {
					defer starve(1)()
				}
				e, err := c.detect(ctx, at, victim, func() {
					switch cause {
					case "crash", "starved":
						c.crash(victim)
					case "partition":
						c.cutOff(victim)
					case "stall":
						stalls[victim-1].begin()
					}
				})
				if err != nil {
					return e, err
				}
				// A node that was declared dead stops, and is started again.
				c.Network().Heal()
				stalls[victim-1].end()
				if c.Node(victim) != nil {
					c.crash(victim)
				}
				return e, c.back(ctx, victim)
			})
		})
	}
}

// detect measures until the others know that a victim is dead.
func (c *bench) detect(ctx context.Context, at, victim int, cause func()) (harness.Event, error) {
	id, observer := c.Node(victim).ID(), c.Node(at)
	fences := c.fences(id)
	began := time.Now()
	cause()
	if _, err := observer.Await(ctx, func(s *meta.State) bool { return is(id, meta.Suspect)(s) || is(id, meta.Dead)(s) }); err != nil {
		return harness.Event{}, err
	}
	suspected := time.Since(began)
	for _, n := range c.Nodes() {
		if n.ID() == id {
			continue
		}
		if _, err := n.Await(ctx, is(id, meta.Dead)); err != nil {
			return harness.Event{}, err
		}
	}
	e := harness.Event{Took: time.Since(began), Values: map[string]float64{"suspect-ns": float64(suspected), "false-dead": 0}}
	s, _ := observer.View()
	for _, n := range s.Nodes() {
		if n.Condition == meta.Dead && n.ID != id {
			e.Values["false-dead"]++
		}
	}
	e.Values["false-fence"] = float64(c.fences(id) - fences)
	return e, nil
}

// fences is how often nodes, other than one, took themselves for standing still.
func (c *bench) fences(other consensus.NodeID) (sum uint64) {
	for _, n := range c.Nodes() {
		if n.ID() != other {
			sum += n.Host().Stats().Stalls
		}
	}
	return sum
}

// cutOff parts a node from all others.
func (c *bench) cutOff(victim int) {
	id := c.Node(victim).ID()
	var others []consensus.NodeID
	for _, n := range c.Nodes() {
		if n.ID() != id {
			others = append(others, n.ID())
		}
	}
	c.Network().Partition([]consensus.NodeID{id}, others)
}

// A stall has a node's worker stand still, in the store of a shard.
type stall struct{ until atomic.Pointer[chan struct{}] }

// A stalling store is one that a stall can begin in.
type stallingStore struct {
	*kv.Machine
	s *stall
}

func (m stallingStore) Apply(b *consensus.Batch, results []consensus.Result) error {
	if c := m.s.until.Load(); c != nil {
		<-*c
	}
	return m.Machine.Apply(b, results)
}

func (s *stall) begin() { s.until.Store(new(make(chan struct{}))) }

func (s *stall) end() {
	if c := s.until.Swap(nil); c != nil {
		close(*c)
	}
}

// apart gives every node a pool of its own, that can be stalled.
func apart(b *testing.B, o *cluster.LocalOptions, stalls []stall) {
	pools := make([]*consensus.Pool, len(stalls))
	for i := range pools {
		var err error
		pools[i], err = consensus.NewPool(consensus.PoolOptions{Workers: 1})
		require.NoError(b, err)
	}
	b.Cleanup(func() {
		for i := range pools {
			pools[i].Close()
		}
	})
	inner := o.Node
	o.Node = func(i int, o *cluster.Options) {
		inner(i, o)
		o.Pool = pools[i-1]
		o.Stores = kvStores(func(m *kv.Machine) shard.Store { return stallingStore{m, &stalls[i-1]} })
	}
}

// back starts a node again and waits until all is as it was.
func (c *bench) back(ctx context.Context, i int) error {
	if err := c.Start(ctx, i); err != nil {
		return err
	}
	if err := c.Node(i).Joined(ctx); err != nil {
		return err
	}
	return c.ready(ctx)
}

// BenchmarkFailover asks how long it takes from the loss of a node that leads shards
// until every shard answers again.
//
//	go test -run='^$' -bench=Failover -count=10 ./cluster
func BenchmarkFailover(b *testing.B) {
	nodes := harness.Nodes()
	b.Run(harness.Name("nodes", nodes), func(b *testing.B) {
		c := bootBench(b, nodes, "none", profileLAN)
		ids := c.fill(b)
		harness.Events(b, harness.Spec{Counters: c.counters}, func(i int) (harness.Event, error) {
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			defer cancel()
			if err := c.write(ctx, ids); err != nil {
				return harness.Event{}, err
			}
			victim := c.mostLeaders(ids)
			began := time.Now()
			c.crash(victim)
			if err := c.write(ctx, ids); err != nil {
				return harness.Event{}, err
			}
			took := time.Since(began)
			return harness.Event{Took: took}, c.back(ctx, victim)
		})
	})
}

// mostLeaders returns the node that leads most of the shards.
func (c *bench) mostLeaders(ids []meta.ShardID) (most int) {
	best := -1
	for i := range c.nodes {
		n, leads := c.Node(i+1), 0
		for _, id := range ids {
			if n.Host().Leader(consensus.GroupID(id)).Node == n.ID() {
				leads++
			}
		}
		if leads > best {
			best, most = leads, i+1
		}
	}
	return most
}
