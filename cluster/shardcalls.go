package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

const serviceShard = "cluster.shard"

// An errand is what whoever carries out a move asks of a shard's leader: a change of
// its members, if there are steps, the transfer of leadership, if there is a node to
// have it, and then how the shard is.
type errand struct {
	Shard    meta.ShardID
	Steps    []consensus.ChangeStep `json:",omitempty"`
	Transfer consensus.NodeID       `json:",omitempty"`
	// Control changes the shard's header.
	Control *shard.Control `json:",omitempty"`
	// Look asks any replica, leader or not, how it is.
	Look bool `json:",omitempty"`
	// Settled asks any replica, leader or not, to make durable what it has applied.
	Settled bool `json:",omitempty"`
}

// A finding is the answer. Leader is set where another node leads, as far as this one
// knows, and nothing else then.
type finding struct {
	Leader consensus.NodeID  `json:",omitempty"`
	Status *consensus.Status `json:",omitempty"`
	Header *shard.Header     `json:",omitempty"`
	Err    string            `json:",omitempty"` // why what was asked was not done
}

// serveShard runs an errand on a shard that this node leads.
func (n *Node) serveShard(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	var e errand
	if err := json.Unmarshal(req, &e); err != nil {
		return nil, fmt.Errorf("cluster: %s: %w", serviceShard, err)
	}
	return json.Marshal(n.run(ctx, e))
}

func (n *Node) run(ctx context.Context, e errand) finding {
	g := consensus.GroupID(e.Shard)
	switch {
	case e.Settled:
		return n.settled(ctx, e.Shard)
	case e.Look:
		if st, err := n.host.Status(g); err == nil {
			return finding{Status: &st}
		}
		return finding{}
	}
	var err error
	if e.Control != nil {
		if _, err = n.control(ctx, g, e.Control); err == nil {
			n.reports.add(g)
		}
	}
	if len(e.Steps) > 0 {
		if err = n.host.Reconfigure(ctx, g, consensus.Change{Steps: e.Steps}); err == nil {
			n.reports.add(g)
		}
	}
	st, failed := n.host.Status(g)
	if failed != nil || st.Role != "leader" {
		return finding{Leader: n.host.Leader(g).Node}
	}
	if e.Transfer != 0 && e.Transfer != n.id.Node {
		to, ok := on(st.Voters, e.Transfer)
		if !ok {
			return finding{Status: &st, Err: fmt.Sprintf("node %d has no voter of shard %d", e.Transfer, e.Shard)}
		}
		err = n.host.Transfer(ctx, g, to.Replica)
	}
	f := finding{Status: &st}
	if r, err := n.Replica(e.Shard); err == nil {
		f.Header = r.Header()
	}
	if err != nil {
		f.Err = err.Error()
	}
	return f
}

// settled makes durable what the replica here has applied, and says what that is.
func (n *Node) settled(ctx context.Context, id meta.ShardID) finding {
	r, err := n.Replica(id)
	if err != nil {
		return finding{}
	}
	h := r.Header()
	st, err := n.host.Status(consensus.GroupID(id))
	if err == nil {
		err = r.m.Keep(ctx) // the status may be from before the header
	}
	if err == nil {
		err = r.m.Flush(ctx, st.Applied)
	}
	if err != nil {
		return finding{}
	}
	return finding{Status: &st, Header: h}
}

// ask has the leader of a shard run an errand, wherever it is, and returns what it
// found then.
func (n *Node) ask(ctx context.Context, e errand) (finding, error) {
	sh, ok := n.views.state.Load().Shard(e.Shard)
	if !ok {
		return finding{}, fmt.Errorf("cluster: no shard %d", e.Shard)
	}
	var try []consensus.NodeID
	if m := n.host.Leader(consensus.GroupID(e.Shard)); m.Node != 0 {
		try = append(try, m.Node)
	}
	for _, m := range sh.Members {
		try = append(try, m.Node)
	}
	last := fmt.Errorf("cluster: nobody leads shard %d", e.Shard)
	asked := map[consensus.NodeID]bool{}
	for len(try) > 0 && ctx.Err() == nil {
		to := try[0]
		try = try[1:]
		if asked[to] {
			continue
		}
		asked[to] = true
		f, err := n.askAt(ctx, to, e)
		switch {
		case err != nil:
			last = err
		case f.Status != nil && f.Err != "":
			return f, errors.New(f.Err)
		case f.Status != nil:
			return f, nil
		case f.Leader != 0:
			try = slices.Insert(try, 0, f.Leader)
		}
	}
	return finding{}, last
}

func (n *Node) askAt(ctx context.Context, to consensus.NodeID, e errand) (finding, error) {
	if to == n.id.Node {
		return n.run(ctx, e), nil
	}
	var f finding
	req, err := json.Marshal(e)
	if err != nil {
		return f, err
	}
	b, err := n.net.Call(ctx, to, serviceShard, req)
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	return f, err
}
