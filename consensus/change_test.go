package consensus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
)

// A new replica is brought up by a snapshot, promoted, and an old one removed;
// what was written before and meanwhile is on all that are left.
func TestReconfigure(t *testing.T) {
	c := boot(t, setup{nodes: 4})
	ctx := t.Context()
	for i := range 100 {
		c.put(ctx, 1, fmt.Sprint("k", i), "v")
	}
	l := c.leader(1)
	learner := consensus.Member{Replica: 4, Node: 4}
	require.NoError(t, c.hosts[3].Create(1, 4, consensus.Initial{}))
	require.NoError(t, l.Reconfigure(ctx, 1, consensus.Change{Request: 7, Steps: []consensus.ChangeStep{{Kind: consensus.AddLearner, Member: learner}}}))
	require.NoError(t, l.Reconfigure(ctx, 1, consensus.Change{Request: 7, Steps: []consensus.ChangeStep{{Kind: consensus.AddLearner, Member: learner}}}), "a retry of the same request")
	require.Eventually(t, func() bool {
		st, err := c.hosts[3].Status(1)
		return err == nil && st.Applied >= 100
	}, 20*time.Second, time.Millisecond)
	require.NotZero(t, c.hosts[3].Stats().SnapshotsReceived)

	// Swap: the new one votes, an old follower goes, in one joint change.
	var gone consensus.Member
	for _, m := range c.members(1) {
		if m.Node != l.Node() {
			gone = m
		}
	}
	require.NoError(t, l.Reconfigure(ctx, 1, consensus.Change{Steps: []consensus.ChangeStep{
		{Kind: consensus.Promote, Member: learner}, {Kind: consensus.Remove, Member: gone},
	}}))
	st, err := l.Status(1)
	require.NoError(t, err)
	require.False(t, st.Joint)
	require.Len(t, st.Voters, 3)
	require.Contains(t, st.Voters, learner)
	c.put(ctx, 1, "after", "v")
	require.NoError(t, c.hosts[3].ReadIndex(ctx, 1))
	v, ok := c.machine(3, 1).Get([]byte("after"))
	require.True(t, ok)
	require.Equal(t, "v", string(v))

	// The removed replica deletes itself, and its id is spent.
	old := c.hosts[gone.Node-1]
	require.Eventually(t, func() bool { return len(old.Groups()) == 0 }, 20*time.Second, time.Millisecond)
	require.Error(t, old.Create(1, gone.Replica, consensus.Initial{}))
}

func TestReconfigureRefusesWhatContradicts(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	ctx := t.Context()
	for name, step := range map[string]consensus.ChangeStep{
		"id used before":    {Kind: consensus.AddVoter, Member: consensus.Member{Replica: 3, Node: 9}},
		"node holds one":    {Kind: consensus.AddVoter, Member: consensus.Member{Replica: 9, Node: 2}},
		"no node":           {Kind: consensus.AddLearner, Member: consensus.Member{Replica: 9}},
		"promote a voter":   {Kind: consensus.Promote, Member: consensus.Member{Replica: 2}},
		"remove a stranger": {Kind: consensus.Remove, Member: consensus.Member{Replica: 9}},
		"unknown kind":      {Kind: 99, Member: consensus.Member{Replica: 9}},
	} {
		err := l.Reconfigure(ctx, 1, consensus.Change{Steps: []consensus.ChangeStep{step}})
		require.ErrorIs(t, err, consensus.ErrInvalidChange, name)
		require.ErrorIs(t, err, consensus.ErrRejected, name)
	}
	for name, steps := range map[string][]consensus.ChangeStep{
		"two on one new node": {adding(8, 8), adding(9, 8)},
		"voter and learner on one new node": {
			adding(8, 8), {Kind: consensus.AddLearner, Member: consensus.Member{Replica: 9, Node: 8}},
		},
		"one goes, one comes": {removing(l.Leader(1).Replica%3 + 1), adding(9, consensus.NodeID(l.Leader(1).Replica%3+1))},
	} {
		err := l.Reconfigure(ctx, 1, consensus.Change{Steps: steps})
		require.ErrorIs(t, err, consensus.ErrInvalidChange, name)
		require.ErrorContains(t, err, "already holds replica", name)
	}
	err := l.Reconfigure(ctx, 1, consensus.Change{})
	require.ErrorIs(t, err, consensus.ErrInvalidChange)
	err = l.Reconfigure(ctx, 1, consensus.Change{Steps: []consensus.ChangeStep{
		{Kind: consensus.Remove, Member: consensus.Member{Replica: 1}},
		{Kind: consensus.Remove, Member: consensus.Member{Replica: 2}},
		{Kind: consensus.Remove, Member: consensus.Member{Replica: 3}},
	}})
	require.ErrorIs(t, err, consensus.ErrInvalidChange)
}

// A leader that is to be removed hands over first.
func TestRemoveLeader(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	ctx := t.Context()
	var self consensus.Member
	for _, m := range c.members(1) {
		if m.Node == l.Node() {
			self = m
		}
	}
	remove := consensus.Change{Steps: []consensus.ChangeStep{{Kind: consensus.Remove, Member: self}}}
	err := l.Reconfigure(ctx, 1, remove)
	var nl *consensus.NotLeaderError
	require.ErrorAs(t, err, &nl)
	require.NotEqual(t, l.Node(), nl.Node)
	next := c.hosts[nl.Node-1]
	require.Eventually(t, func() bool { return next.Reconfigure(ctx, 1, remove) == nil }, 20*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return len(l.Groups()) == 0 }, 20*time.Second, time.Millisecond)
	_, err = next.Propose(ctx, 1, put("k", "v"))
	require.NoError(t, err)
}

func TestTransfer(t *testing.T) {
	c := boot(t, setup{})
	l := c.leader(1)
	for _, m := range c.members(1) {
		if m.Node == l.Node() {
			continue
		}
		require.NoError(t, l.Transfer(t.Context(), 1, m.Replica))
		_, ok := l.Lease(1)
		require.False(t, ok, "a lease outlived the transfer")
		require.Equal(t, m, l.Leader(1))
		l = c.hosts[m.Node-1]
		require.Eventually(t, func() bool {
			_, err := l.Propose(t.Context(), 1, put("k", "v"))
			return err == nil
		}, 20*time.Second, time.Millisecond)
	}
	require.ErrorIs(t, l.Transfer(t.Context(), 1, 99), consensus.ErrRejected)
}

// A follower that was away while the log was cut gets a snapshot.
func TestCatchUpBySnapshot(t *testing.T) {
	c := boot(t, setup{options: func(o *consensus.Options) { o.LogTailBytes = 8 << 10 }})
	ctx := t.Context()
	l := c.leader(1)
	away := c.others(l)[0]
	c.wire.Partition([]consensus.NodeID{away}, []consensus.NodeID{l.Node(), c.others(l)[1]})
	for i := range 300 {
		_, err := l.Propose(ctx, 1, put(fmt.Sprint("k", i), string(make([]byte, 200))))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		st, err := l.Status(1)
		return err == nil && st.First > 100
	}, 20*time.Second, time.Millisecond, "the log was never cut")
	c.wire.Heal()
	h := c.hosts[away-1]
	require.Eventually(t, func() bool {
		st, err := h.Status(1)
		return err == nil && st.Applied >= 300
	}, 20*time.Second, time.Millisecond)
	require.NotZero(t, h.Stats().SnapshotsReceived)
	require.NoError(t, h.ReadIndex(ctx, 1))
	require.Equal(t, 300, c.machine(int(away-1), 1).Len())
}

func TestIdleGroupsSleepAndWake(t *testing.T) {
	c := boot(t, setup{groups: 5, options: func(o *consensus.Options) { o.TickInterval = 5 * time.Millisecond; o.QuiesceTicks = 10 }})
	asleep := func(g consensus.GroupID) bool {
		for _, h := range c.hosts {
			if st, err := h.Status(g); err != nil || !st.Asleep {
				return false
			}
		}
		return true
	}
	for g := consensus.GroupID(1); g <= 5; g++ {
		c.put(t.Context(), g, "k", "v")
		require.Eventually(t, func() bool { return asleep(g) }, 20*time.Second, time.Millisecond, "group %d", g)
		_, ok := c.leader(g).Lease(g)
		require.True(t, ok, "a sleeping leader keeps its lease")
	}
	before := c.leader(1)
	c.put(t.Context(), 1, "k", "w")
	require.Equal(t, before, c.leader(1))
	require.NoError(t, c.hosts[c.others(before)[0]-1].ReadIndex(t.Context(), 1))
}

// When a node is lost, the groups that it led, though asleep, elect others.
func TestSleepingGroupsSurviveTheLossOfANode(t *testing.T) {
	c := boot(t, setup{groups: 6, options: func(o *consensus.Options) { o.TickInterval = 5 * time.Millisecond; o.QuiesceTicks = 10 }})
	for g := consensus.GroupID(1); g <= 6; g++ {
		c.put(t.Context(), g, "k", "v")
	}
	l := c.leader(1)
	require.Eventually(t, func() bool {
		for g := consensus.GroupID(1); g <= 6; g++ {
			if st, err := c.hosts[c.others(l)[0]-1].Status(g); err != nil || !st.Asleep {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	l.Crash()
	c.hosts[l.Node()-1] = nil
	for g := consensus.GroupID(1); g <= 6; g++ {
		c.put(t.Context(), g, "k", "w")
	}
}
