package meta

import (
	"fmt"
	"strings"
)

// String is a state for people: a line for each node, shard and move.
func (s *State) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster %#x, format %d\n", s.Cluster, s.Format)
	for _, n := range s.Nodes() {
		fmt.Fprintf(&b, "%v\n", n)
	}
	for _, sh := range s.Shards() {
		fmt.Fprintf(&b, "%v\n", sh)
	}
	for _, m := range s.Moves() {
		fmt.Fprintf(&b, "%v\n", m)
	}
	return b.String()
}

// String says of a node what matters first.
func (n *Node) String() string {
	text := fmt.Sprintf("node %d %v epoch=%d", n.ID, n.Condition, n.Epoch)
	if n.Draining {
		text += " draining"
	}
	if n.Address != "" {
		text += " at " + n.Address
	}
	if len(n.Locality) > 0 {
		text += " in " + strings.Join(n.Locality, "/")
	}
	return text
}

// String says where a shard is.
func (sh *Shard) String() string {
	text := fmt.Sprintf("shard %d %v generation=%d version=%d", sh.ID, sh.Span, sh.Generation, sh.Version)
	if sh.ID == MetaShard {
		text = fmt.Sprintf("shard %d (meta) version=%d", sh.ID, sh.Version)
	}
	for i, m := range sh.Members {
		if i == 0 {
			text += " on"
		}
		text += fmt.Sprintf(" %v", m)
	}
	if sh.Into != 0 {
		text += fmt.Sprintf(" goes into %d", sh.Into)
	}
	if len(sh.Members) != sh.Want {
		text += fmt.Sprintf(" wants %d", sh.Want)
	}
	return text
}
