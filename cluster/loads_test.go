package cluster_test

import (
	"cmp"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// quick has nodes tell of their loads often.
func quick(o *cluster.LocalOptions) {
	o.Node = func(_ int, o *cluster.Options) { o.Interval, o.LoadWindow = 10*time.Millisecond, 100*time.Millisecond }
}

// leads counts the shards that each node leads.
func leads(l *cluster.Local, ids []meta.ShardID) map[consensus.NodeID]int {
	count := map[consensus.NodeID]int{}
	for _, n := range l.Nodes() {
		for _, id := range ids {
			if r, err := n.Replica(id); err == nil && r.Leads() {
				count[n.ID()]++
			}
		}
	}
	return count
}

// Leaders spread over the nodes, without anybody's asking.
func TestLeadersSpread(t *testing.T) {
	l := boot(t, 3, quick)
	ids := create(t, l, 9)
	await(t, l, "all replicas", settled)
	first := l.Node(1)
	for _, id := range ids { // as after the restart of the others
		require.Eventually(t, func() bool {
			for _, n := range l.Nodes() {
				if r, err := n.Replica(id); err == nil && r.Leads() {
					st, err := n.Host().Status(consensus.GroupID(id))
					if err != nil {
						return false
					}
					for _, m := range st.Voters {
						if m.Node == first.ID() && n != first {
							_ = n.Host().Transfer(within(t, time.Second), consensus.GroupID(id), m.Replica)
						}
					}
					return true
				}
			}
			return false
		}, 20*time.Second, time.Millisecond)
	}
	require.Eventually(t, func() bool {
		count := leads(l, ids)
		return len(count) == 3 && max(count[1], count[2], count[3]) <= 4
	}, 30*time.Second, 10*time.Millisecond, "leaders %v", leads(l, ids))
}

// Shards that are busy part, though every node has as many as the others.
func TestBusyShardsPart(t *testing.T) {
	l := boot(t, 3, quick)
	ids := create(t, l, 6)
	await(t, l, "all replicas", settled)
	// The busy ones are two that one node leads.
	var busy []meta.ShardID
	require.Eventually(t, func() bool {
		for _, n := range l.Nodes() {
			var list []meta.ShardID
			for _, id := range ids {
				if r, err := n.Replica(id); err == nil && r.Leads() {
					list = append(list, id)
				}
			}
			if len(list) >= 2 {
				busy = list[:2]
				return true
			}
		}
		return false
	}, 20*time.Second, time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer func() { stop(); work.Wait() }()
	for _, id := range busy {
		s, _ := l.Node(1).View()
		sh, _ := s.Shard(id)
		key := cmp.Or(sh.Span.Start, "000000") + "x"
		for range 8 {
			work.Go(func() {
				for ctx.Err() == nil {
					_, _ = l.Node(1).Call(ctx, "do", key, kv.EncodePut(nil, []byte(key), []byte("v")))
				}
			})
		}
	}
	leader := func(id meta.ShardID) consensus.NodeID {
		for _, n := range l.Nodes() {
			if r, err := n.Replica(id); err == nil && r.Leads() {
				return n.ID()
			}
		}
		return 0
	}
	require.Eventually(t, func() bool {
		a, b := leader(busy[0]), leader(busy[1])
		return a != 0 && b != 0 && a != b
	}, 30*time.Second, 10*time.Millisecond, "both stay together")
}
