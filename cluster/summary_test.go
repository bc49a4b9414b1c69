package cluster_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
)

// Any node says how all nodes and shards are, and of one that does not answer that it
// does not.
func TestStatus(t *testing.T) {
	l := boot(t, 4, quick)
	ids := create(t, l, 4)
	await(t, l, "all replicas", settled)
	ctx := within(t, time.Minute)
	var st *cluster.Status
	require.Eventually(t, func() bool {
		for i := range 4 {
			require.NoError(t, write(ctx, l.Node(i+1), fmt.Sprintf("%06dx", i), "v"))
		}
		st = l.Node(3).Status(ctx)
		for _, sh := range st.Shards[1:] {
			if sh.Leader == 0 || sh.Ops == 0 || sh.Bytes == 0 || sh.Lag > 0 {
				return false
			}
		}
		leads, replicas := 0, 0
		for _, n := range st.Nodes {
			leads, replicas = leads+n.Leads, replicas+n.Replicas
		}
		return leads == 5 && replicas == 4*3+3 // or one has moved, and not gone yet
	}, 20*time.Second, time.Millisecond, "%v", st)
	require.Len(t, st.Nodes, 4)
	require.Len(t, st.Shards, len(ids)+1)
	ops := 0.0
	for _, n := range st.Nodes {
		require.True(t, n.Answers)
		require.Equal(t, "live", n.Condition)
		ops += n.Ops
	}
	require.Positive(t, ops)
	require.Less(t, st.Age, time.Minute)
	counted := uint64(0)
	for _, n := range l.Nodes() {
		counted += n.Ops()
	}
	require.GreaterOrEqual(t, counted, uint64(4))

	b, err := json.Marshal(st)
	require.NoError(t, err)
	var again cluster.Status
	require.NoError(t, json.Unmarshal(b, &again))
	require.Equal(t, st.String(), again.String())
	require.Contains(t, st.String(), "NODE  ADDRESS  EPOCH  CONDITION")
	require.Contains(t, st.String(), "above the share at most: replicas")
	t.Logf("\n%v", st)

	gone := l.Node(4).ID()
	l.Crash(4)
	st = l.Node(1).Status(ctx)
	for _, n := range st.Nodes {
		require.Equal(t, n.ID != gone, n.Answers, "node %d", n.ID)
	}
	require.Contains(t, st.String(), " -  ")
}

func TestLoadCV(t *testing.T) {
	st := cluster.Status{Nodes: []cluster.NodeStatus{{Answers: true, Ops: 1}, {Answers: true, Ops: 3}, {Ops: 99}}}
	require.InDelta(t, 0.5, st.LoadCV(), 1e-9)
	require.Zero(t, (&cluster.Status{Nodes: []cluster.NodeStatus{{Answers: true}}}).LoadCV())
}
