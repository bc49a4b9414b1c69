package placement_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/placement"
)

// world makes a cluster of n nodes and shards whose loads are lognormal, each
// placed by placement.Place in its turn. No shard has more than a fifth of a
// node's mean.
func world(tb testing.TB, seed uint64, n, shards int, locality func(node int) []string) placement.State {
	tb.Helper()
	r := newRand(seed)
	var s placement.State
	for i := range n {
		node := placement.Node{ID: placement.NodeID(i + 1)}
		if locality != nil {
			node.Locality = locality(i)
		}
		s.Nodes = append(s.Nodes, node)
	}
	for i := range shards {
		s.Shards = append(s.Shards, placement.Shard{ID: placement.ShardID(i + 1), Load: lognormal(r, float64(shards)/float64(n)/5)})
	}
	for i := range s.Shards {
		sofar := s
		sofar.Shards = s.Shards[:i]
		on, err := placement.Place(sofar, s.Shards[i], r)
		require.NoError(tb, err)
		s.Shards[i].Replicas, s.Shards[i].Leader = on, on[0]
	}
	return s
}

// lognormal draws a load of mean 1 and deviation 1 of its logarithm, of at most
// the given number of means.
func lognormal(r *rand.Rand, most float64) placement.Load {
	draw := func() float64 { return min(math.Exp(r.NormFloat64()-0.5), most) }
	work := draw()
	return placement.Load{Ops: 1000 * work, LeaderCPU: 0.01 * work, FollowerCPU: 0.004 * work, Bytes: 64e6 * draw()}
}

// settle plans and applies until there is nothing to do, and returns what there
// was. Between plans nothing is pending.
func settle(tb testing.TB, s placement.State, o placement.Options) (placement.State, []placement.Move) {
	tb.Helper()
	var all []placement.Move
	for round := range 1000 {
		r, err := placement.Plan(s, o)
		require.NoError(tb, err)
		if len(r.Moves) == 0 {
			return s, all
		}
		checkPlan(tb, s, o, r)
		all = append(all, r.Moves...)
		s, err = placement.Apply(s, r.Moves...)
		require.NoError(tb, err, "round %d", round)
		after, err := placement.Measure(s)
		require.NoError(tb, err)
		require.InDeltaSlice(tb, slice(r.After), slice(after), 1e-9, "what the plan promised")
	}
	require.Fail(tb, "there is always more to do", "%d moves", len(all))
	return s, all
}

func slice(e placement.Evenness) []float64 {
	return []float64{e.Replicas, e.Leaders, e.Ops, e.CPU, e.Bytes}
}

// checkPlan checks what every plan keeps to.
func checkPlan(tb testing.TB, s placement.State, o placement.Options, r placement.Result) {
	tb.Helper()
	perNode := o.PerNode
	if perNode == 0 {
		perNode = 4
	}
	condition := map[placement.NodeID]placement.Condition{}
	for _, n := range s.Nodes {
		condition[n.ID] = n.Condition
	}
	moved := map[placement.ShardID]bool{}
	for _, m := range s.Pending {
		moved[m.Shard] = true
	}
	in, out := map[placement.NodeID]int{}, map[placement.NodeID]int{}
	for _, m := range r.Moves {
		require.False(tb, moved[m.Shard], "%v: its shard has another", m)
		moved[m.Shard] = true
		if m.To != 0 {
			require.Equal(tb, placement.Live, condition[m.To], "%v", m)
		}
		if m.Kind == placement.Add || m.Kind == placement.Swap {
			in[m.To]++
			require.LessOrEqual(tb, in[m.To], perNode, "%v", m)
		}
		if m.Kind == placement.Swap && condition[m.From] == placement.Live {
			out[m.From]++
			require.LessOrEqual(tb, out[m.From], perNode, "%v", m)
		}
		require.NotEmpty(tb, m.Why)
	}
}

// copies counts the moves that copy a replica.
func copies(moves []placement.Move) (n int) {
	for _, m := range moves {
		if m.Kind == placement.Add || m.Kind == placement.Swap {
			n++
		}
	}
	return n
}

// counts returns how many replicas each node has.
func counts(s placement.State) map[placement.NodeID]int {
	n := map[placement.NodeID]int{}
	for _, sh := range s.Shards {
		for _, id := range sh.Replicas {
			n[id]++
		}
	}
	return n
}

func zones(k int) func(int) []string {
	return func(node int) []string {
		return []string{"eu", fmt.Sprint("zone", node%k), fmt.Sprint("rack", node%(2*k))}
	}
}

// node returns a node of s to change.
func node(s *placement.State, id placement.NodeID) *placement.Node {
	s.Nodes = slices.Clone(s.Nodes)
	i := slices.IndexFunc(s.Nodes, func(n placement.Node) bool { return n.ID == id })
	return &s.Nodes[i]
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// causes are what there is to plan for.
var causes = []struct {
	name   string
	change func(placement.State) placement.State
}{
	{"none", func(s placement.State) placement.State { return s }},
	{"join", func(s placement.State) placement.State {
		s.Nodes = append(slices.Clone(s.Nodes), placement.Node{ID: 1000, Locality: s.Nodes[0].Locality})
		return s
	}},
	{"drain", func(s placement.State) placement.State { node(&s, 3).Condition = placement.Draining; return s }},
	{"dead", func(s placement.State) placement.State { node(&s, 3).Condition = placement.Dead; return s }},
	{"leaders", func(s placement.State) placement.State {
		s.Shards = slices.Clone(s.Shards)
		for i := range s.Shards {
			sh := &s.Shards[i]
			for _, n := range sh.Replicas { // the first third of the nodes was restarted
				if int(sh.Leader) <= len(s.Nodes)/3 && int(n) > len(s.Nodes)/3 {
					sh.Leader = n
				}
			}
		}
		return s
	}},
}
