package consensus_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// crashSeeds is how many seeds a crash test takes.
func crashSeeds() int {
	switch {
	case harness.CurrentMode() == harness.ModeStandard:
		return 200
	case testing.Short():
		return 2
	}
	return 6
}

// TestPowerLoss takes the power from a cluster at random moments, logs and
// machines together, and starts it again. Every acknowledged command is there,
// once, however often its client had to retry, and the replicas are equal.
func TestPowerLoss(t *testing.T) {
	for _, c := range []struct {
		name   string
		lose   string
		shared bool
	}{
		{"all nodes", "all", false},
		{"one node", "one", false},
		{"all nodes of a shared disk", "all", true},
		{"one node of a shared disk", "one", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range crashSeeds() {
				seed := harness.Seed() + uint64(i)
				t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
					t.Parallel()
					powerLoss(t, seed, c.lose, c.shared)
				})
			}
		})
	}
}

func powerLoss(t *testing.T, seed uint64, lose string, shared bool) {
	a := newArena(t, arenaSetup{nodes: 3, groups: 2, seed: seed, shared: shared, options: func(o *consensus.Options) {
		o.TickInterval = 3 * time.Millisecond
	}})
	l, rng := newLedger(), rand.New(rand.NewPCG(seed, 9))
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for i := range 4 {
		c := newLedgerClient(a, l, seed, i, "k")
		wg.Go(func() { c.settle(ctx, work) })
	}
	for range 3 {
		require.True(t, a.accept(ctx), "seed %d: no progress", seed)
		time.Sleep(time.Duration(rng.IntN(40_000)) * time.Microsecond) // the moment is the point
		if lose == "all" {
			a.powerLoss()
			for _, i := range rng.Perm(len(a.nodes)) {
				require.NoError(t, a.start(a.nodes[i]), "seed %d", seed)
			}
			continue
		}
		id := uint64(1 + rng.IntN(len(a.nodes)))
		require.NoError(t, a.Crash(id))
		time.Sleep(time.Duration(rng.IntN(40_000)) * time.Microsecond)
		require.NoError(t, a.Restart(id), "seed %d", seed)
	}
	require.True(t, a.accept(ctx), "seed %d: no progress", seed)
	stop()
	wg.Wait()
	l.checkAll(a)
	n := l.counts()
	require.NotZero(t, n[applied], "seed %d: nothing was acknowledged", seed)
	require.Zero(t, n[cannotTell], "seed %d: commands of sessions that were never settled", seed)
}

// TestCrashWhileSnapshotIsInstalled takes the power from a follower at one
// operation of its disk after another while it receives, stages and installs a
// snapshot, resets its log and goes on from there.
func TestCrashWhileSnapshotIsInstalled(t *testing.T) {
	seed := harness.Seed()
	a := newArena(t, arenaSetup{nodes: 3, groups: 1, seed: seed, options: func(o *consensus.Options) {
		o.TickInterval = 3 * time.Millisecond
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	l := newLedger()
	rng := rand.New(rand.NewPCG(seed, 10))
	crashes, step := 0, 1
	if testing.Short() {
		step = 7
	}
	for at := 1; at < 200; at += step {
		require.True(t, a.accept(ctx))
		victim := a.fallBehind(ctx, l, at)
		n := a.nodes[victim-1]
		before := n.Host().Stats().SnapshotsReceived
		n.disk.burn(at, rng)
		a.isolate(victim, false)
		last := a.lastIndex(ctx)
		require.Eventually(t, func() bool {
			st, err := n.Host().Status(1)
			return n.disk.isOff() || err == nil && st.Applied >= last
		}, 30*time.Second, time.Millisecond, "seed %d operation %d", seed, at)
		if !n.disk.dark() {
			if n.Host().Stats().SnapshotsReceived > before {
				break
			}
			continue // repaired from the log of another leader, which has kept more
		}
		crashes++
		require.NoError(t, a.Crash(victim))
		require.NoError(t, a.Restart(victim), "seed %d operation %d", seed, at)
		l.checkAll(a)
	}
	l.checkAll(a)
	require.GreaterOrEqual(t, crashes, 14/step, "the power was cut too rarely")
}

// fallBehind cuts a follower off until the log it needs is gone.
func (a *arena) fallBehind(ctx context.Context, l *ledger, round int) uint64 {
	a.tb.Helper()
	h, st, ok := a.leads(ctx, 1)
	for ; !ok; h, st, ok = a.leads(ctx, 1) {
		require.NoError(a.tb, ctx.Err())
	}
	victim := uint64(st.Voters[0].Node)
	if st.Voters[0].Node == h.Node() {
		victim = uint64(st.Voters[1].Node)
	}
	a.isolate(victim, true)
	c := newLedgerClient(a, l, a.setup.seed, 0, fmt.Sprint("k", round))
	for {
		require.NoError(a.tb, ctx.Err())
		c.ops++
		key := fmt.Sprintf("%s.%d.%0200d", c.life, c.ops, 0) // long, so that the log fills soon
		l.book(1, key, c.once(ctx, 1, key, time.Second))
		behind, err := a.nodes[victim-1].Host().Status(1)
		require.NoError(a.tb, err)
		if _, st, ok = a.leads(ctx, 1); ok && st.First > behind.Last+1 {
			return victim
		}
	}
}

// isolate cuts a node off, or ends that.
func (a *arena) isolate(victim uint64, off bool) {
	change := a.Heal
	if off {
		change = a.Cut
	}
	for _, n := range a.nodes {
		if id := uint64(n.id); id != victim {
			_ = change(id, victim)
			_ = change(victim, id)
		}
	}
}

// lastIndex is where the leader's log of group 1 ends.
func (a *arena) lastIndex(ctx context.Context) uint64 {
	for ctx.Err() == nil {
		if _, st, ok := a.leads(ctx, 1); ok {
			return st.Last
		}
	}
	a.tb.Fatal("no leader")
	return 0
}

// A machine that lost what it had promised to keep is noticed: the cluster
// above can tell a disk that forgets from one that does not.
func TestForgetfulDiskIsNoticed(t *testing.T) {
	a := newArena(t, arenaSetup{nodes: 3, groups: 1, seed: harness.Seed()})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	require.True(t, a.accept(ctx))
	l := newLedger()
	c := newLedgerClient(a, l, 1, 0, "k")
	for a.stats().truncations < 6 {
		require.NoError(t, ctx.Err())
		c.ops++
		key := fmt.Sprintf("%d.%0200d", c.ops, 0)
		l.book(1, key, c.once(ctx, 1, key, time.Second))
	}
	a.converged(1)
	n := a.nodes[0]
	require.NoError(t, a.stop(n))
	require.NoError(t, n.disk.RemoveAll(n.disk.PathJoin("kv", "1", "1")))
	err := a.start(n)
	require.ErrorContains(t, err, "entries between them are lost")
	require.NoError(t, n.log.Close())
}
