package cluster_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// boot boots a cluster for a test.
func boot(t testing.TB, nodes int, change func(*cluster.LocalOptions)) *cluster.Local {
	t.Helper()
	var o cluster.LocalOptions
	if change != nil {
		change(&o)
	}
	inner := o.Node
	o.Node = func(i int, o *cluster.Options) {
		o.Services = map[string]cluster.Handler{"do": do, "get": get}
		if inner != nil {
			inner(i, o)
		}
	}
	l, err := cluster.NewLocal(within(t, time.Minute), nodes, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	await(t, l, "all nodes", live(nodes))
	return l
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await returns when every node that is up knows of a state that satisfies ok.
func await(t testing.TB, l *cluster.Local, what string, ok func(*meta.State) bool) {
	t.Helper()
	for _, n := range l.Nodes() {
		_, err := n.Await(within(t, 20*time.Second), ok)
		if err != nil {
			dump(t, l)
		}
		require.NoError(t, err, "%s at node %d", what, n.ID())
	}
}

// dump logs what there is to know of a cluster in which something does not happen.
func dump(t testing.TB, l *cluster.Local) {
	for _, n := range l.Nodes() {
		s, age := n.View()
		t.Logf("node %d, err %v, at index %d, %v old, %d nodes", n.ID(), n.Err(), s.Index, age, len(s.Nodes()))
		for _, g := range n.Host().Groups() {
			st, err := n.Host().Status(g)
			t.Logf("  %v asleep=%v config=%d joint=%v voters=%v learners=%v match=%v %v", st, st.Asleep, st.ConfigIndex, st.Joint, st.Voters, st.Learners, st.Match, err)
		}
	}
	s, _ := l.Nodes()[0].View()
	t.Log(s)
}

func live(count int) func(*meta.State) bool {
	return func(s *meta.State) bool {
		n := 0
		for _, node := range s.Nodes() {
			if node.Condition == meta.Live {
				n++
			}
		}
		return n == count
	}
}

// Nodes join over either wire, know each other, and hold what they are told to.
func TestLocal(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		t.Run(fmt.Sprintf("tcp=%v", tcp), func(t *testing.T) {
			l := boot(t, 5, func(o *cluster.LocalOptions) { o.TCP = tcp })
			ids := map[consensus.NodeID]bool{}
			for _, n := range l.Nodes() {
				require.NoError(t, n.Err())
				require.Equal(t, uint64(1), n.Cluster())
				require.Equal(t, uint64(1), n.Epoch())
				ids[n.ID()] = true
			}
			require.Len(t, ids, 5)
			id, err := l.Node(4).CreateShard(within(t, time.Minute), cluster.ShardSpec{Span: meta.Span{Start: "a"}})
			require.NoError(t, err)
			await(t, l, "the shard", func(s *meta.State) bool { _, ok := s.Shard(id); return ok })
			put(t, l, id, "k", "v")
		})
	}
}

// do runs a command of package kv.
func do(ctx context.Context, r *cluster.Request) ([]byte, error) {
	return r.Replica.Propose(ctx, r.Generation, consensus.Command{Data: r.Body})
}

// get reads a key under the lease. Its answer begins with whether there is one.
func get(ctx context.Context, r *cluster.Request) ([]byte, error) {
	if _, ok := r.Replica.Lease(); !ok {
		if err := r.Replica.ReadIndex(ctx); err != nil {
			return nil, err
		}
	}
	before := r.Replica.Header()
	value, ok := r.Replica.Store().(interface {
		Get(key []byte) ([]byte, bool)
	}).Get(r.Body)
	if h := r.Replica.Header(); h != before || !h.Covers(r.Span) {
		return nil, &shard.StaleError{Header: h}
	}
	if !ok {
		return []byte{0}, nil
	}
	return append([]byte{1}, value...), nil
}

// propose runs a command of package kv in a shard that this node leads.
func propose(ctx context.Context, n *cluster.Node, s meta.ShardID, command []byte) error {
	r, err := n.Replica(s)
	if err != nil {
		return err
	}
	_, err = r.Propose(ctx, r.Header().Generation, consensus.Command{Data: command})
	return err
}

// put writes to a shard at whichever node leads it.
func put(t testing.TB, l *cluster.Local, s meta.ShardID, key, value string) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, n := range l.Nodes() {
			if propose(within(t, time.Second), n, s, kv.EncodePut(nil, []byte(key), []byte(value))) == nil {
				return true
			}
		}
		return false
	}, 20*time.Second, time.Millisecond, "no node leads shard %d", s)
}
