package consensus

import (
	"slices"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Raft tells followers of a new commit index at once, in appends without
// entries, and each costs an answer. In a closed loop the next command is there
// a moment later, and its append says the same. So these messages wait for the
// end of the pass, and where the pass has woken clients, for the end of the next
// one; an append with entries that leaves meanwhile takes their place. What is
// dropped is as if the wire had lost it, and the later message says more.

// commitNews is what a leader has yet to tell.
type commitNews struct {
	list  []addressed // at most one to a replica
	waits bool        // since the pass before
}

// An addressed message knows where its receiver lived when Raft made it: the
// one that tells a replica of its own removal leaves after that.
type addressed struct {
	to NodeID
	m  *pb.Message
}

// tellLater keeps an append without entries until tellCommit.
func (r *replica) tellLater(m *pb.Message) {
	a := addressed{r.node(ReplicaID(m.GetTo())), m}
	for i := range r.news.list {
		if r.news.list[i].m.GetTo() == m.GetTo() {
			r.news.list[i] = a
			return
		}
	}
	r.news.list = append(r.news.list, a)
}

// told notes that an append with entries leaves.
func (r *replica) told(to uint64) {
	n := &r.news
	n.list = slices.DeleteFunc(n.list, func(a addressed) bool { return a.m.GetTo() == to })
	n.waits = n.waits && len(n.list) > 0
}

// tellCommit ends a pass: what was kept leaves, or waits for one more pass.
func (r *replica) tellCommit() {
	n := &r.news
	if len(n.list) == 0 {
		return
	}
	if r.ended == r.w.passes && !n.waits {
		n.waits = true
		r.w.held = append(r.w.held, r)
		return
	}
	for _, a := range n.list {
		r.post(a.to, a.m)
	}
	clear(n.list)
	n.list, n.waits = n.list[:0], false
}
