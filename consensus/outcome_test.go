package consensus_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// TestOutcomesAreNeverConfused has clients propose without sessions, many of
// them giving up early, while leaders are deposed, transferred, removed,
// closed and crashed. In the end every command that was acknowledged is there
// once, every one that was rejected is not, and every end was one of three.
func TestOutcomesAreNeverConfused(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	a := newArena(t, arenaSetup{nodes: 4, groups: 3, seed: seed})
	l := newLedger()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	work, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	for i := range 16 {
		c := newLedgerClient(a, l, seed, i, "k")
		c.hasty = 20
		c.patience = 20 * time.Second // then it ends by what happens to the leader
		wg.Go(func() { c.run(work) })
	}
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	d := &disturber{a: a, mover: &mover{a: a, rng: rand.New(rand.NewPCG(seed, 12))}, rng: rand.New(rand.NewPCG(seed, 11))}
	for done := 0; done < rounds; {
		require.NoError(t, ctx.Err())
		if d.disturb(ctx) {
			done++
		}
		time.Sleep(time.Duration(d.rng.IntN(30)) * time.Millisecond)
	}
	require.True(t, a.accept(ctx), "no progress")
	stop()
	wg.Wait()
	l.checkAll(a)
	n := l.counts()
	t.Logf("%d applied, %d rejected, %d unknown; disturbed %v", n[applied], n[certainlyNot], n[cannotTell], d.done)
	for _, end := range n {
		require.NotZero(t, end, "some end was never seen: %v", n)
	}
}

// A disturber does to leaders what ends the proposals under way.
type disturber struct {
	a     *arena
	mover *mover
	rng   *rand.Rand
	done  [5]int
}

// disturb is false if no leader could be found.
func (d *disturber) disturb(ctx context.Context) bool {
	g := consensus.GroupID(1 + d.rng.IntN(d.a.setup.groups))
	h, st, ok := d.a.leads(ctx, g)
	if !ok {
		return false
	}
	t, n, what := d.a.tb, d.a.nodes[h.Node()-1], d.rng.IntN(len(d.done))
	d.done[what]++
	switch what {
	case 0:
		d.mover.transfer(ctx, g, h, st)
	case 1: // deposed behind its back
		d.a.isolate(uint64(n.id), true)
		time.Sleep(time.Duration(d.rng.IntN(400)) * time.Millisecond)
		d.a.isolate(uint64(n.id), false)
	case 2:
		require.NoError(t, d.a.stop(n))
		require.NoError(t, d.a.start(n))
	case 3:
		require.NoError(t, d.a.Crash(uint64(n.id)))
		require.NoError(t, d.a.Restart(uint64(n.id)))
	case 4: // its replica goes, another comes
		d.replace(ctx, g, st)
	}
	return true
}

// replace removes the leader of a group, and adds a learner elsewhere when
// there is none.
func (d *disturber) replace(ctx context.Context, g consensus.GroupID, st consensus.Status) {
	if st.Joint {
		return
	}
	if len(st.Learners) == 0 {
		d.mover.add(ctx, g, st)
		return
	}
	l := st.Learners[0]
	if d.a.at(l.Node) == nil || st.Match[l.Replica]+5 < st.Commit {
		return
	}
	steps := []consensus.ChangeStep{{Kind: consensus.Promote, Member: l}}
	for _, v := range st.Voters {
		if v.Replica == st.Replica {
			steps = append(steps, consensus.ChangeStep{Kind: consensus.Remove, Member: v})
		}
	}
	_ = d.mover.change(ctx, g, steps...)
}
