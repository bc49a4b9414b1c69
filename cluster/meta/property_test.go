package meta_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness"
)

// Whatever commands come, in batches of any size, the invariants hold; ids, epochs,
// versions and generations never go back; a follower that asks now and then, what is
// read from the stored records, and a second machine all come to the same state.
func TestAnyCommands(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	for round := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, round))
		l, second := newLedger(t), newLedger(t)
		l.run(&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone})
		second.run(&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone})
		worked := 0
		for range 400 {
			batch := make([]meta.Command, r.IntN(4))
			for i := range batch {
				batch[i] = draw(r, l.m.State())
			}
			before := l.m.State()
			for _, a := range l.run(batch...) {
				if a.Err() == nil {
					worked++
				}
			}
			second.run(batch...)
			requireOnward(t, before, l.m.State())
		}
		require.Greater(t, worked, 100, "hardly any command worked")
		require.Equal(t, l.pairs(), second.pairs())
		late, err := new(meta.State).Follow(l.m.Since(0))
		require.NoError(t, err)
		require.Equal(t, l.m.State().String(), late.String())
		require.Equal(t, l.m.State().Index, late.Index)
	}
}

var anyone = meta.Profile{Formats: meta.Range{Min: 1, Max: 1}}

// draw draws a command that has something to do with what is there.
func draw(r *rand.Rand, s *meta.State) meta.Command {
	node := consensus.NodeID(1 + r.IntN(12))
	shard := meta.ShardID(1 + r.IntN(8))
	var epoch, turns, told uint64
	if n, ok := s.Node(node); ok {
		epoch, turns, told = n.Epoch, n.Turns, n.Told
	}
	var members []meta.Member
	var version uint64
	if sh, ok := s.Shard(shard); ok {
		members, version = append(members, sh.Members...), sh.Version
		if m, ok := s.Move(shard); ok && m.Replica != 0 {
			members = append(members, meta.Member{Member: consensus.Member{Replica: m.Replica, Node: m.To}, Learner: r.IntN(2) == 0})
		}
		r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		members = members[:max(1, len(members)-r.IntN(2))]
	}
	letter := func() string { return string(rune('a' + r.IntN(16))) }
	span := meta.Span{Start: letter(), End: letter()}
	if r.IntN(4) == 0 {
		span.End = ""
	}
	switch r.IntN(12) {
	case 0:
		return &meta.Join{Request: uint64(1 + r.IntN(20)), Profile: anyone}
	case 1, 2:
		return &meta.Start{Node: node, Epoch: epoch + uint64(r.IntN(3)), Nonce: uint64(r.IntN(2)), Address: letter(), Profile: anyone}
	case 3, 4:
		return &meta.Declare{Node: node, Epoch: epoch - uint64(r.IntN(2)), Condition: meta.Condition(r.IntN(4)), Turn: told - uint64(r.IntN(3)/2)}
	case 5:
		return &meta.Drain{Node: node, Off: r.IntN(3) > 0, Turn: turns - uint64(r.IntN(2))}
	case 6:
		return &meta.Remove{Node: node}
	case 7:
		nodes := []consensus.NodeID{node, node%12 + 1, (node+1)%12 + 1}
		return &meta.Create{Request: uint64(1 + r.IntN(30)), Span: span, Want: 3, Nodes: nodes[:1+r.IntN(3)]}
	case 8, 9:
		if sh, ok := s.Shard(shard); ok && r.IntN(2) == 0 {
			span = sh.Span
			if m, ok := s.Move(shard); ok && m.Kind == meta.MoveSplit {
				span.End = m.Key
			} else if ok && m.Kind == meta.MoveMerge {
				right, _ := s.Shard(m.Other)
				span.End = right.Span.End
			}
			return &meta.Report{Shard: shard, Version: version, Generation: sh.Generation + 1, Span: span, Members: sh.Members}
		}
		return &meta.Report{Shard: shard, Version: version + uint64(r.IntN(2)), Generation: uint64(r.IntN(3)), Span: span, Members: members}
	case 10:
		from := consensus.NodeID(r.IntN(13))
		switch kind := meta.MoveKind(1 + r.IntN(5)); kind {
		case meta.MoveSplit:
			return &meta.Begin{Shard: shard, Kind: kind, Key: letter(), Why: "because"}
		case meta.MoveMerge:
			return &meta.Begin{Shard: shard, Kind: kind, Other: meta.ShardID(1 + r.IntN(8)), Why: "because"}
		default:
			return &meta.Begin{Shard: shard, Kind: kind, From: from, To: node, Why: "because"}
		}
	default:
		var id uint64
		if m, ok := s.Move(shard); ok {
			id = m.ID
		}
		return &meta.End{Shard: shard, Move: id}
	}
}

// requireOnward wants nothing to go back.
func requireOnward(t *testing.T, before, after *meta.State) {
	t.Helper()
	for _, n := range before.Nodes() {
		if now, ok := after.Node(n.ID); ok {
			require.GreaterOrEqual(t, now.Epoch, n.Epoch)
			require.Equal(t, n.Request, now.Request, "node %d is another one", n.ID)
			if n.Condition == meta.Dead && now.Epoch == n.Epoch {
				require.Equal(t, meta.Dead, now.Condition)
			}
		} else {
			require.True(t, after.Removed(n.ID))
		}
	}
	for _, sh := range before.Shards() {
		now, ok := after.Shard(sh.ID)
		if !ok {
			require.NotZero(t, sh.Into, "shard %d is gone", sh.ID)
			continue
		}
		require.GreaterOrEqual(t, now.Version, sh.Version)
		require.GreaterOrEqual(t, now.Generation, sh.Generation)
		require.GreaterOrEqual(t, now.Replicas, sh.Replicas)
		if now.Version == sh.Version {
			require.Equal(t, sh.Members, now.Members)
		}
	}
	for _, n := range after.Nodes() {
		if _, ok := before.Node(n.ID); !ok {
			require.False(t, before.Removed(n.ID), "id %d was used before", n.ID)
		}
	}
}

// A follower that was away for longer than changes are kept gets everything.
func TestFollowerThatWasAway(t *testing.T) {
	l := newLedger(t)
	l.run(&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone})
	away := l.m.State()
	for epoch := range uint64(30000) {
		l.index++
		start := meta.Encode(nil, &meta.Start{Node: 1, Epoch: epoch + 1, Address: "a:1", Profile: anyone})
		require.NoError(t, l.m.Apply(&consensus.Batch{Index: l.index, Term: 1, Commands: [][]byte{start}}, make([]consensus.Result, 1)))
	}
	d := l.m.Since(away.Index)
	require.True(t, d.Whole)
	now, err := away.Follow(d)
	require.NoError(t, err)
	require.Equal(t, l.m.State().String(), now.String())
	d = l.m.Since(l.index - 1)
	require.False(t, d.Whole)
	_, err = away.Follow(d)
	require.ErrorContains(t, err, "expected 1")
}

// A record of a later version refuses the machine, before anything is lost.
func TestLaterVersionIsRefused(t *testing.T) {
	plain, err := kv.New(kv.Options{})
	require.NoError(t, err)
	_, err = plain.Open()
	require.NoError(t, err)
	record := kv.EncodePut(nil, append([]byte("n"), 0, 0, 0, 0, 0, 0, 0, 1), []byte{9, 1})
	require.NoError(t, plain.Apply(&consensus.Batch{Index: 5, Term: 1, Commands: [][]byte{record}}, make([]consensus.Result, 1)))
	l := newLedger(t)
	l.run(&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone})
	before := l.pairs()
	err = install(t, plain, l.m)
	require.ErrorContains(t, err, "version [9], expected 1")
	require.Equal(t, before, l.pairs())
}

// What is no command is refused, and harms nothing.
func FuzzDecode(f *testing.F) {
	for _, c := range []meta.Command{
		&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone},
		&meta.Join{Request: 9, Profile: meta.Profile{Locality: []string{"a", "b"}}},
		&meta.Create{Request: 9, Want: 3, Span: meta.Span{Start: "a"}, Nodes: []consensus.NodeID{1, 2}, Require: []string{"a"}},
		&meta.Report{Shard: 2, Members: []meta.Member{{Learner: true}}},
		&meta.Begin{Shard: 2, Kind: meta.MoveSwap, From: 1, To: 2, Why: "x"},
	} {
		f.Add(meta.Encode(nil, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := meta.Decode(b)
		if err != nil {
			return
		}
		again, err := meta.Decode(meta.Encode(nil, c))
		require.NoError(t, err)
		require.Equal(t, c, again)
		l := newLedger(t)
		l.run(&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone})
		l.run(c)
	})
}

// What is no delta is refused, and what is one leads to a state or to an error.
func FuzzDelta(f *testing.F) {
	l := newLedger(f)
	l.run(&meta.Init{Cluster: 7, Format: 1, Request: 1, Profile: anyone})
	whole := l.m.Since(0)
	f.Add(whole.Append(nil))
	l.run(&meta.Remove{Node: 1}, &meta.Join{Request: 4, Profile: anyone})
	part := l.m.Since(1)
	f.Add(part.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := meta.ParseDelta(b)
		if err != nil {
			return
		}
		again, err := meta.ParseDelta(d.Append(nil))
		require.NoError(t, err)
		require.Equal(t, d, again)
		if s, err := new(meta.State).Follow(d); err == nil {
			_ = s.Check()
		}
	})
}
