package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/consensus"
)

// A Status is a cluster for people: what a node knows of it, and what all nodes that
// answer say of themselves. Its String is a table, its JSON has the same.
type Status struct {
	Cluster uint64        `json:"cluster"`
	Index   uint64        `json:"index"`  // of the state of the meta group
	Age     time.Duration `json:"age_ns"` // of that, negative if nobody knows
	Nodes   []NodeStatus  `json:"nodes"`
	Shards  []ShardStatus `json:"shards"`
	Moves   []string      `json:"moves"`
	// Uneven says how much more than its share the busiest node has.
	Uneven placement.Evenness `json:"uneven"`
}

// A NodeStatus is one node's.
type NodeStatus struct {
	ID        consensus.NodeID `json:"id"`
	Address   string           `json:"address"`
	Epoch     uint64           `json:"epoch"`
	Condition string           `json:"condition"`
	Draining  bool             `json:"draining"`
	Answers   bool             `json:"answers"` // or what follows is not known
	Replicas  int              `json:"replicas"`
	Leads     int              `json:"leads"`
	Ops       float64          `json:"ops_per_s"`
	CPU       float64          `json:"cpu"` // processors that its replicas keep busy
	Bytes     int64            `json:"bytes"`
}

// A ShardStatus is one shard's.
type ShardStatus struct {
	ID         meta.ShardID     `json:"id"`
	Span       string           `json:"span"`
	Generation uint64           `json:"generation"`
	Members    []string         `json:"members"`
	Leader     consensus.NodeID `json:"leader"` // 0: none answers
	Ops        float64          `json:"ops_per_s"`
	CPU        float64          `json:"cpu"` // of all its replicas
	Bytes      int64            `json:"bytes"`
	Lag        uint64           `json:"lag"` // entries that the slowest voter lacks
	Move       string           `json:"move,omitempty"`
	// Stopped are nodes whose replica has stopped after an error.
	Stopped []consensus.NodeID `json:"stopped,omitempty"`
}

const serviceLoads = "cluster.loads"

// A selfReport is what a node says of its replicas.
type selfReport struct {
	Shards []selfShard
}

type selfShard struct {
	Shard meta.ShardID
	Leads bool `json:",omitempty"`
	// Stopped is its id if it stopped after an error.
	Stopped consensus.ReplicaID `json:",omitempty"`

	Ops   float64 `json:",omitempty"`
	CPU   float64 `json:",omitempty"`
	Bytes int64   `json:",omitempty"`
	Lag   uint64  `json:",omitempty"`
}

// self is this node's report.
func (n *Node) self() selfReport {
	var r selfReport
	for id, l := range n.meter.rates() {
		l.Shard = id
		if l.Leads {
			if st, err := n.host.Status(consensus.GroupID(id)); err == nil {
				l.Lag = lagOf(st)
			}
		}
		r.Shards = append(r.Shards, l)
	}
	return r
}

// lagOf is how many committed entries the slowest voter lacks, on the leader.
func lagOf(st consensus.Status) (lag uint64) {
	for _, m := range st.Voters {
		if match := st.Match[m.Replica]; match < st.Commit {
			lag = max(lag, st.Commit-match)
		}
	}
	return lag
}

func (n *Node) serveLoads(context.Context, consensus.NodeID, []byte) ([]byte, error) {
	return json.Marshal(n.self())
}

// Status asks all nodes and returns how the cluster is, as far as it is known here and
// they answer before ctx ends. It does not need the meta group.
func (n *Node) Status(ctx context.Context) *Status {
	s, age := n.View()
	out := &Status{Cluster: s.Cluster, Index: s.Index, Age: age}
	nodes := s.Nodes()
	reports := make([]*selfReport, len(nodes))
	var work sync.WaitGroup
	for i, node := range nodes {
		work.Go(func() { reports[i] = n.askSelf(ctx, node.ID) })
	}
	work.Wait()
	shards := map[meta.ShardID]*ShardStatus{}
	for _, sh := range s.Shards() {
		at := ShardStatus{ID: sh.ID, Span: sh.Span.String(), Generation: sh.Generation}
		if sh.ID == meta.MetaShard {
			at.Span = "meta"
		}
		for _, m := range sh.Members {
			at.Members = append(at.Members, m.String())
		}
		if m, ok := s.Move(sh.ID); ok {
			at.Move = m.String()
			out.Moves = append(out.Moves, at.Move)
		}
		out.Shards = append(out.Shards, at)
	}
	for i := range out.Shards {
		shards[out.Shards[i].ID] = &out.Shards[i]
	}
	for i, node := range nodes {
		at := NodeStatus{ID: node.ID, Address: node.Address, Epoch: node.Epoch, Condition: node.Condition.String(), Draining: node.Draining}
		if reports[i] != nil {
			at.Answers = true
			for _, l := range reports[i].Shards {
				at.take(l, shards[l.Shard])
			}
		}
		out.Nodes = append(out.Nodes, at)
	}
	out.Uneven = out.unevenness(s)
	return out
}

// take adds a replica to its node and, if it is known, its shard.
func (at *NodeStatus) take(l selfShard, sh *ShardStatus) {
	at.Replicas++
	at.CPU += l.CPU
	at.Bytes += l.Bytes
	if l.Leads {
		at.Leads++
		at.Ops += l.Ops
	}
	if sh == nil {
		return
	}
	sh.CPU += l.CPU
	sh.Bytes = max(sh.Bytes, l.Bytes)
	if l.Stopped != 0 {
		sh.Stopped = append(sh.Stopped, at.ID)
	}
	if l.Leads {
		sh.Leader, sh.Ops, sh.Lag = at.ID, l.Ops, l.Lag
	}
}

func (n *Node) askSelf(ctx context.Context, id consensus.NodeID) *selfReport {
	if id == n.id.Node {
		r := n.self()
		return &r
	}
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	b, err := n.net.Call(ctx, id, serviceLoads, nil)
	var r selfReport
	if err != nil || json.Unmarshal(b, &r) != nil {
		return nil
	}
	return &r
}

func (st *Status) unevenness(s *meta.State) placement.Evenness {
	p := placementOf(s)
	p.Pending = nil
	byID := map[placement.ShardID]*ShardStatus{}
	for i := range st.Shards {
		byID[placement.ShardID(st.Shards[i].ID)] = &st.Shards[i]
	}
	for i := range p.Shards {
		sh := &p.Shards[i]
		at := byID[sh.ID]
		sh.Load = placement.Load{Ops: at.Ops, LeaderCPU: at.CPU, Bytes: float64(at.Bytes)}
		for _, id := range sh.Replicas {
			if id == placement.NodeID(at.Leader) {
				sh.Leader = id
			}
		}
	}
	e, err := placement.Measure(p)
	if err != nil { // the state and the reports are from different moments
		return placement.Evenness{}
	}
	return e
}

// LoadCV is the standard deviation of operations per node over their mean, of the
// nodes that answer: 0 is even. It is 0 if nobody does anything.
func (st *Status) LoadCV() float64 {
	var sum, squares, n float64
	for _, at := range st.Nodes {
		if at.Answers {
			sum, squares, n = sum+at.Ops, squares+at.Ops*at.Ops, n+1
		}
	}
	if sum == 0 {
		return 0
	}
	mean := sum / n
	return math.Sqrt(max(0, squares/n-mean*mean)) / mean
}

func (st *Status) String() string {
	var b strings.Builder
	age := "of unknown age"
	if st.Age >= 0 {
		age = fmt.Sprintf("%v old", st.Age.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "cluster %#x at index %d, %s\n\n", st.Cluster, st.Index, age)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NODE\tADDRESS\tEPOCH\tCONDITION\tREPLICAS\tLEADS\tOPS/S\tCPU\tMiB")
	for _, n := range st.Nodes {
		condition := n.Condition
		if n.Draining {
			condition += ", drains"
		}
		if !n.Answers {
			fmt.Fprintf(w, "%d\t%s\t%d\t%s\t-\t-\t-\t-\t-\n", n.ID, n.Address, n.Epoch, condition)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%d\t%d\t%.0f\t%.2f\t%.1f\n", n.ID, n.Address, n.Epoch, condition, n.Replicas, n.Leads, n.Ops, n.CPU, float64(n.Bytes)/(1<<20))
	}
	fmt.Fprintln(w, "\nSHARD\tSPAN\tGENERATION\tLEADER\tOPS/S\tCPU\tMiB\tLAG\tMEMBERS")
	for _, sh := range st.Shards {
		leader := "-"
		if sh.Leader != 0 {
			leader = fmt.Sprint(sh.Leader)
		}
		fmt.Fprintf(w, "%d\t%s\t%d\t%s\t%.0f\t%.2f\t%.1f\t%d\t%s\n", sh.ID, sh.Span, sh.Generation, leader, sh.Ops, sh.CPU, float64(sh.Bytes)/(1<<20), sh.Lag, strings.Join(sh.Members, " "))
	}
	_ = w.Flush() // into memory
	for _, sh := range st.Shards {
		for _, id := range sh.Stopped {
			fmt.Fprintf(&b, "\nshard %d: the replica of node %d has stopped after an error", sh.ID, id)
		}
	}
	for _, m := range st.Moves {
		fmt.Fprintf(&b, "\n%s", m)
	}
	if len(st.Moves) > 0 {
		b.WriteByte('\n')
	}
	e := st.Uneven
	fmt.Fprintf(&b, "\nabove the share at most: replicas %.0f%%, leaders %.0f%%, operations %.0f%%, CPU %.0f%%, bytes %.0f%%\n",
		100*e.Replicas, 100*e.Leaders, 100*e.Ops, 100*e.CPU, 100*e.Bytes)
	return b.String()
}

// Ops is how many operations this node's replicas have done as leaders, since the node
// started.
func (n *Node) Ops() uint64 { return n.ops.Load() }
