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
	since uint64      // the pass from which the oldest waits, 0: none does
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
	r.news.list = slices.DeleteFunc(r.news.list, func(a addressed) bool { return a.m.GetTo() == to })
}

// tellCommit ends the draining of a leader: what was kept leaves, or waits for
// the end of the next pass. The replica is not drained in that one for this: it
// would pack what few commands there are.
func (r *replica) tellCommit() {
	switch n := &r.news; {
	case len(n.list) == 0 || n.since > 0:
	case r.ended == r.w.passes:
		n.since = r.w.passes
		r.w.telling = append(r.w.telling, r)
	default:
		r.sendNews()
	}
}

// sendNews sends what was kept.
func (r *replica) sendNews() {
	for _, a := range r.news.list {
		r.post(a.to, a.m)
	}
	clear(r.news.list)
	r.news.list = r.news.list[:0]
}

// sendNews ends a pass: what has waited since an earlier one leaves.
func (w *worker) sendNews() {
	w.telling = slices.DeleteFunc(w.telling, func(r *replica) bool {
		if r.news.since == w.passes {
			return false
		}
		r.news.since = 0
		if !r.gone {
			r.sendNews()
		}
		return true
	})
}
