package cluster_test

import (
	"context"
	"errors"
	"fmt"
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
)

// call asks until the outcome is known; the commands of these tests may be repeated.
func call(ctx context.Context, n *cluster.Node, service, key string, body []byte) ([]byte, error) {
	for {
		try, cancel := context.WithTimeout(ctx, time.Second)
		answer, err := n.Call(try, service, key, body)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, consensus.ErrUnknown) && !errors.Is(err, consensus.ErrRejected) {
			return answer, err
		}
	}
}

func write(ctx context.Context, n *cluster.Node, key, value string) error {
	_, err := call(ctx, n, "do", key, kv.EncodePut(nil, []byte(key), []byte(value)))
	return err
}

// read returns a key's value, empty if it has none.
func read(ctx context.Context, n *cluster.Node, key string) (string, error) {
	answer, err := call(ctx, n, "get", key, []byte(key))
	if err != nil || answer[0] == 0 {
		return "", err
	}
	return string(answer[1:]), nil
}

// all makes a shard of all keys.
func all(t testing.TB, l *cluster.Local) meta.ShardID {
	id, err := l.Node(1).CreateShard(within(t, time.Minute), cluster.ShardSpec{})
	require.NoError(t, err)
	await(t, l, "the shard", func(s *meta.State) bool { return len(s.Shards()) == 2 && settled(s) })
	return id
}

// Shards are split and merged, and whoever asks any node for a key gets to the shard
// that has it.
func TestSplitAndMerge(t *testing.T) {
	l := boot(t, 5, nil)
	first := all(t, l)
	ctx := within(t, time.Minute)
	for i := range 100 {
		require.NoError(t, write(ctx, l.Node(i%5+1), fmt.Sprintf("%02d", i), fmt.Sprint("v", i)))
	}
	ids := map[string]meta.ShardID{"": first}
	for _, at := range []string{"50", "25", "75", "60"} {
		id, err := l.Node(2).Split(ctx, at)
		require.NoError(t, err)
		again, err := l.Node(3).Split(ctx, at)
		require.NoError(t, err)
		require.Equal(t, id, again)
		ids[at] = id
	}
	_, err := l.Node(2).Split(ctx, "")
	require.NoError(t, err, "a shard begins there")
	check := func(generation string) {
		t.Helper()
		for i := range 100 {
			value, err := read(ctx, l.Node(i%5+1), fmt.Sprintf("%02d", i))
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint(generation, i), value)
		}
	}
	check("v")
	for i := range 100 {
		require.NoError(t, write(ctx, l.Node(i%5+1), fmt.Sprintf("%02d", i), fmt.Sprint("w", i)))
	}
	check("w")
	for at, id := range ids {
		r, ok := l.Node(4).Locate(at + "1")
		require.True(t, ok)
		require.Equal(t, id, r.Shard)
	}
	parts := l.Node(4).Parts(meta.Span{Start: "3", End: "61"})
	require.Len(t, parts, 3)
	require.Equal(t, meta.Span{Start: "3", End: "50"}, parts[0].Span)
	require.Equal(t, meta.Span{Start: "60", End: "61"}, parts[2].Span)
	_, err = l.Node(4).CallSpan(ctx, "get", meta.Span{Start: "3", End: "61"}, nil)
	require.ErrorIs(t, err, cluster.ErrSplit)

	require.NoError(t, l.Node(5).Merge(ctx, ids["50"])) // 60 into it
	require.NoError(t, l.Node(5).Merge(ctx, first))     // 25
	check("w")
	for i := range 100 {
		require.NoError(t, write(ctx, l.Node(i%5+1), fmt.Sprintf("%02d", i), fmt.Sprint("x", i)))
	}
	require.NoError(t, l.Node(5).Merge(ctx, first)) // 50
	require.NoError(t, l.Node(5).Merge(ctx, first)) // 75
	check("x")
	require.ErrorContains(t, l.Node(5).Merge(ctx, first), "no shard begins where it ends")
	require.ErrorIs(t, l.Node(5).Merge(ctx, ids["50"]), meta.ErrNoShard)
	await(t, l, "one shard", func(s *meta.State) bool { return len(s.Shards()) == 2 })
	require.Eventually(t, func() bool {
		for _, n := range l.Nodes() {
			if len(n.Host().Groups()) > 2 {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond, "replicas of merged shards stay")
	_, err = l.Node(1).Split(ctx, "50")
	require.NoError(t, err)
	check("x")
}

// Clients that count lose nothing and count nothing twice, while shards are split and
// merged under them.
func TestCountingAcrossSplitsAndMerges(t *testing.T) {
	l := boot(t, 3, nil)
	first := all(t, l)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var work sync.WaitGroup
	done := make([]int64, 8)
	for i := range done {
		work.Go(func() {
			key := fmt.Sprint(i)
			for ctx.Err() == nil {
				// Not repeated: each attempt counts once or is known not to.
				if _, err := l.Node(i%3+1).Call(t.Context(), "do", key, kv.EncodeAdd(nil, []byte(key), 1)); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				done[i]++
			}
		})
	}
	rounds := 0
	for ; ctx.Err() == nil; rounds++ {
		_, err := l.Node(1).Split(t.Context(), fmt.Sprint(1+rounds%6))
		require.NoError(t, err)
		require.NoError(t, l.Node(2).Merge(t.Context(), first))
	}
	work.Wait()
	require.Greater(t, rounds, 2)
	for i, want := range done {
		value, err := read(t.Context(), l.Node(1), fmt.Sprint(i))
		require.NoError(t, err)
		n, _ := kv.Counter([]byte(value))
		require.Equal(t, want, n, "client %d", i)
	}
	t.Logf("%d rounds, %v commands", rounds, done)
}

// When the replica of a frozen shard ends, what was proposed for the time before is
// known not to have happened, and of the rest nothing is known.
func TestProposalsAtTheEndOfAReplica(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%t", late), func(t *testing.T) {
			l := boot(t, 3, nil)
			id := all(t, l)
			require.NoError(t, write(within(t, time.Minute), l.Node(1), "k", "v"))
			at, cut := leaderOf(l, id)
			r, err := at.Replica(id)
			require.NoError(t, err)
			before := r.Header()
			h, err := at.Control(within(t, time.Minute), id, &shard.Control{Kind: shard.Freeze, Generation: before.Generation, Move: 1 << 40, Other: 99})
			require.NoError(t, err)
			generation := before.Generation
			if late {
				generation = h.Generation
			}
			cut()
			answer := make(chan error, 1)
			go func() {
				_, err := r.Propose(t.Context(), generation, consensus.Command{Data: kv.EncodePut(nil, []byte("k"), []byte("w"))})
				answer <- err
			}()
			require.Eventually(t, func() bool {
				st, err := at.Host().Status(consensus.GroupID(id))
				return err == nil && st.Last > h.Frozen
			}, time.Minute, time.Millisecond)
			require.NoError(t, at.Host().Destroy(consensus.GroupID(id)))
			err = <-answer
			if late {
				require.ErrorIs(t, err, consensus.ErrUnknown)
				return
			}
			var stale *shard.StaleError
			require.ErrorAs(t, err, &stale)
			require.Equal(t, h, stale.Header)
		})
	}
}

// leaderOf returns the node that leads a shard and what cuts it off.
func leaderOf(l *cluster.Local, id meta.ShardID) (leader *cluster.Node, cut func()) {
	var others []consensus.NodeID
	for _, n := range l.Nodes() {
		if n.Host().Leader(consensus.GroupID(id)).Node == n.ID() {
			leader = n
		} else {
			others = append(others, n.ID())
		}
	}
	return leader, func() { l.Network().Partition([]consensus.NodeID{leader.ID()}, others) }
}

// A replica of a shard that came out of another one is not made with nothing where that
// one's replica has yet to split, or is splitting.
func TestWhoMayBeginWithNothing(t *testing.T) {
	l := boot(t, 3, nil)
	first := all(t, l)
	id, err := l.Node(1).Split(within(t, time.Minute), "m")
	require.NoError(t, err)
	n := l.Node(1)
	s, _ := n.View()
	sh, ok := s.Shard(id)
	require.True(t, ok)
	require.Equal(t, first, sh.Parent)
	require.Eventually(t, func() bool { return n.Forked(sh, false) }, time.Minute, time.Millisecond)
	require.False(t, n.Forked(sh, true), "it is being made of what was split off")
	later := *sh
	later.Born++
	require.False(t, n.Forked(&later, false), "the split is not applied here")
	later.Parent = 99
	require.True(t, n.Forked(&later, false), "nothing here will split")
}

// headers are a shard's, at the nodes that are up.
func headers(l *cluster.Local, id meta.ShardID) (list []*shard.Header) {
	for _, n := range l.Nodes() {
		if r, err := n.Replica(id); err == nil {
			list = append(list, r.Header())
		}
	}
	return list
}

// follower returns a node that leads neither of two shards, nor the meta group.
func follower(t *testing.T, l *cluster.Local, a, b meta.ShardID) int {
	t.Helper()
	var at int
	require.Eventually(t, func() bool {
		for i, n := range l.Nodes() {
			leads := false
			for _, id := range []meta.ShardID{meta.MetaShard, a, b} {
				leads = leads || n.Host().Leader(consensus.GroupID(id)).Node == n.ID()
			}
			if !leads {
				at = i + 1
				return true
			}
			for _, id := range []meta.ShardID{a, b} { // all to the first
				if g := consensus.GroupID(id); n.Host().Leader(g).Node == n.ID() && i > 0 {
					st, _ := l.Node(1).Host().Status(g)
					_ = n.Host().Transfer(within(t, time.Second), g, st.Replica)
				}
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
	return at
}

// leadAt has a node lead a shard.
func leadAt(t *testing.T, l *cluster.Local, id meta.ShardID, to *cluster.Node) {
	t.Helper()
	g := consensus.GroupID(id)
	require.Eventually(t, func() bool {
		leader, _ := leaderOf(l, id)
		if leader == nil || leader == to {
			return leader == to
		}
		if st, err := to.Host().Status(g); err == nil {
			_ = leader.Host().Transfer(within(t, time.Second), g, st.Replica)
		}
		return false
	}, time.Minute, 10*time.Millisecond)
}

// slowHearts has nobody be taken for dead.
func slowHearts(o *cluster.LocalOptions) {
	o.Node = func(_ int, o *cluster.Options) { o.Interval = time.Second }
}

// A shard is not frozen while one of its replicas is away: it goes on until that is
// back, and is merged then.
func TestMergeWaitsForWhoIsAway(t *testing.T) {
	l := boot(t, 3, slowHearts)
	left := all(t, l)
	ctx := within(t, time.Minute)
	right, err := l.Node(1).Split(ctx, "m")
	require.NoError(t, err)
	require.NoError(t, write(ctx, l.Node(1), "z", "v"))
	away := follower(t, l, left, right)
	l.Crash(away)
	merged := make(chan error, 1)
	asked := l.Nodes()[0]
	go func() { merged <- asked.Merge(ctx, left) }()
	for range 50 {
		require.NoError(t, write(ctx, asked, "z", "w"))
		for _, h := range headers(l, right) {
			require.Zero(t, h.Frozen)
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.NoError(t, l.Start(ctx, away))
	require.NoError(t, <-merged)
	value, err := read(ctx, l.Node(away), "z")
	require.NoError(t, err)
	require.Equal(t, "w", value)
}

// A merge waits for a replica that does not know yet that its shard is frozen, for it
// would have nothing to take in: but not for ever, though nobody calls the node dead.
func TestMergeWaitsForAllReplicas(t *testing.T) {
	l := boot(t, 3, slowHearts)
	left := all(t, l)
	ctx := within(t, time.Minute)
	right, err := l.Node(1).Split(ctx, "m")
	require.NoError(t, err)
	require.NoError(t, write(ctx, l.Node(1), "z", "v"))
	await(t, l, "all replicas", settled)
	for _, id := range []meta.ShardID{meta.MetaShard, left} {
		leadAt(t, l, id, l.Node(1))
	}
	leadAt(t, l, right, l.Node(2))
	l.Network().Cut(l.Node(2).ID(), l.Node(3).ID())
	merged := make(chan error, 1)
	go func() { merged <- l.Node(1).Merge(ctx, left) }()
	frozen := func() (count int) {
		for _, h := range headers(l, right) {
			if h.Frozen != 0 {
				count++
			}
		}
		return count
	}
	require.Eventually(t, func() bool { return frozen() == 2 }, time.Minute, time.Millisecond, "the right one is not frozen")
	require.Eventually(t, func() bool {
		for _, h := range headers(l, left) {
			require.Equal(t, "m", h.Span.End, "it took in what one replica still writes")
		}
		return frozen() == 0
	}, 20*time.Second, time.Millisecond, "it stays frozen")
	require.NoError(t, write(ctx, l.Node(1), "z", "w"))
	l.Network().Heal()
	require.NoError(t, <-merged)
	value, err := read(ctx, l.Node(3), "z")
	require.NoError(t, err)
	require.Equal(t, "w", value)
	for _, n := range l.Nodes() {
		st, err := n.Host().Status(consensus.GroupID(left))
		require.NoError(t, err)
		require.NoError(t, st.Err)
	}
}

// A merge that cannot go on is given up: the left shard fences it off for good, and the
// right one goes on.
func TestMergeIsGivenUp(t *testing.T) {
	l := boot(t, 3, lan)
	left := all(t, l)
	ctx := within(t, time.Minute)
	right, err := l.Node(1).Split(ctx, "m")
	require.NoError(t, err)
	l.Crash(follower(t, l, left, right))
	try, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	require.Error(t, l.Nodes()[0].Merge(try, left))
	await(t, l, "no move", func(s *meta.State) bool { return len(s.Moves()) == 0 })
	require.NoError(t, write(ctx, l.Nodes()[0], "z", "v"))
	over := func(id meta.ShardID) (most uint64) {
		for _, h := range headers(l, id) {
			most = max(most, h.Over)
		}
		return most
	}
	require.GreaterOrEqual(t, over(left), over(right), "a late hand can still carry it out")
	require.Greater(t, over(right), uint64(1))
}

// A leader gives nobody to read what it is about to split off, before it knows that it
// has: the new shard may have taken writes by then.
func TestLeaderBarsWhatItSplitsOff(t *testing.T) {
	l := boot(t, 3, nil)
	id := all(t, l)
	require.NoError(t, write(within(t, time.Minute), l.Node(1), "z", "v"))
	leader, cut := leaderOf(l, id)
	r, err := leader.Replica(id)
	require.NoError(t, err)
	h := r.Header()
	require.True(t, h.Takes("z"))
	cut()
	split := &shard.Control{Kind: shard.Split, Generation: h.Generation, Move: 1 << 40, Key: "m", Other: 99}
	_, err = leader.Control(within(t, 50*time.Millisecond), id, split)
	require.ErrorIs(t, err, consensus.ErrUnknown)
	require.True(t, r.Header().Takes("a"))
	require.False(t, r.Header().Takes("z"))
}

// A command that a shard refused because its span has changed may be tried again under
// the same sequence, and what was applied before the change is not applied again.
func TestSessionAcrossAChange(t *testing.T) {
	l := boot(t, 3, nil)
	id := all(t, l)
	require.NoError(t, write(within(t, time.Minute), l.Node(1), "a", "v"))
	at, _ := leaderOf(l, id)
	ctx := within(t, time.Minute)
	session, err := at.Host().OpenSession(ctx, consensus.GroupID(id))
	require.NoError(t, err)
	r, err := at.Replica(id)
	require.NoError(t, err)
	add := func(sequence, generation uint64) ([]byte, error) {
		return r.Propose(ctx, generation, consensus.Command{Session: session, Sequence: sequence, Data: kv.EncodeAdd(nil, []byte("n"), 1)})
	}
	old := r.Header().Generation
	before, err := add(1, old)
	require.NoError(t, err)
	h, err := at.Control(ctx, id, &shard.Control{Kind: shard.Fence, Generation: old, Move: 1 << 40})
	require.NoError(t, err)
	var stale *shard.StaleError
	for range 2 {
		_, err = add(2, old)
		require.ErrorAs(t, err, &stale)
	}
	for range 2 {
		_, err = add(2, h.Generation)
		require.NoError(t, err)
	}
	for _, generation := range []uint64{old, h.Generation} {
		again, err := add(1, generation)
		require.NoError(t, err)
		require.Equal(t, before, again)
	}
	n, ok := r.Store().(*kv.Machine).Get([]byte("n"))
	require.True(t, ok)
	sum, _ := kv.Counter(n)
	require.Equal(t, int64(2), sum)
}

// The replica of a merged shard goes when nothing can need it any more, and not before:
// whatever became of the shard that took it in, and however often the node crashes.
func TestMergedReplicaStaysForReplay(t *testing.T) {
	for _, key := range []string{"g", "p"} { // the seam is in the new shard, or not
		t.Run(key, func(t *testing.T) {
			l := boot(t, 3, slowHearts)
			left := all(t, l)
			ctx := within(t, time.Minute)
			right, err := l.Node(1).Split(ctx, "m")
			require.NoError(t, err)
			for _, k := range []string{"a", "h", "z"} {
				require.NoError(t, write(ctx, l.Node(1), k, "v"))
			}
			await(t, l, "all replicas", settled)
			late := follower(t, l, left, right)
			r, err := l.Node(late).Replica(left)
			require.NoError(t, err)
			asked := l.Node(late%3 + 1)
			merged := make(chan error, 1)
			go func() { merged <- asked.Merge(ctx, left) }()
			for r.Header().Span.End == "m" { // so that it has applied that, and no more
				require.NoError(t, ctx.Err())
			}
			l.Crash(late)
			require.NoError(t, <-merged)
			_, err = asked.Split(ctx, key)
			require.NoError(t, err)
			for range 2 {
				require.NoError(t, l.Start(ctx, late))
				require.Eventually(t, func() bool {
					_, err := l.Node(late).Host().Status(consensus.GroupID(right))
					return errors.Is(err, consensus.ErrNoReplica)
				}, time.Minute, time.Millisecond, "it stays")
				l.Crash(late)
			}
			require.NoError(t, l.Start(ctx, late))
			require.NoError(t, l.Node(late).Joined(ctx))
			for _, k := range []string{"a", "h", "z"} {
				require.NoError(t, write(ctx, l.Node(late), k, "w"))
			}
			for _, g := range l.Node(late).Host().Groups() {
				st, err := l.Node(late).Host().Status(g)
				require.NoError(t, err)
				require.NoError(t, st.Err, "shard %d", g)
			}
		})
	}
}

// What nobody knows the outcome of is not asked for again, whatever else its error says.
func TestUnknownIsNotRejected(t *testing.T) {
	var asked atomic.Int64
	l := boot(t, 3, func(o *cluster.LocalOptions) {
		o.Node = func(_ int, o *cluster.Options) {
			o.Services["odd"] = func(context.Context, *cluster.Request) ([]byte, error) {
				asked.Add(1)
				return nil, fmt.Errorf("%w: %w", consensus.ErrRejected, consensus.ErrUnknown)
			}
		}
	})
	all(t, l)
	for i, n := range l.Nodes() { // one of which leads the shard
		_, err := n.Call(within(t, 20*time.Second), "odd", "k", nil)
		require.ErrorIs(t, err, consensus.ErrUnknown)
		require.EqualValues(t, i+1, asked.Load())
	}
}
