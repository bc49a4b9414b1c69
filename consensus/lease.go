package consensus

import (
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// A Lease says that this node's replica is its group's only leader, and that
// its machine has applied every acknowledged command, until Until on the
// Host's monotonic clock or until the leader gives it up, as it does for a
// transfer: ask again at every use.
type Lease struct {
	Term uint64
	// Start is a moment in this term before the leader first held the lease,
	// and after the end of every lease of an earlier term.
	Start time.Duration
	Until time.Duration
}

// Lease returns the lease that this node holds for g, if it does. A read of
// the machine that starts after Lease returned true is linearizable, with no
// message sent: what the machine holds then was the group's state at some
// moment since the call.
//
// It is false while something committed waits for this node's machine, for
// instance because the own disk is slower than a quorum's: a follower may have
// applied it and shown it to a reader already. ReadIndex waits for it.
func (h *Host) Lease(g GroupID) (Lease, bool) {
	return h.lease(g, true)
}

// Holds is Lease for whoever sees to it that what it reads of the machine is not about
// to change: it says that this node's replica is the only leader, but its machine may
// have to apply what was acknowledged already.
func (h *Host) Holds(g GroupID) (Lease, bool) {
	return h.lease(g, false)
}

func (h *Host) lease(g GroupID, reached bool) (Lease, bool) {
	v, ok := h.replicas.Load(g)
	if !ok {
		return Lease{}, false
	}
	r := v.(*replica)
	gr := r.grant.Load()
	if gr == nil {
		return Lease{}, false
	}
	if committed := r.committed.Load(); reached && r.reached.Load() < committed {
		return Lease{}, false
	}
	now := h.opts.Clock.Mono()
	until := min(gr.until(), now+h.opts.LeaseDuration)
	return Lease{Term: gr.term, Start: gr.start, Until: until}, now < until
}

// A grant is what a leader knows of the replicas that are bound to it. It is
// replaced, never changed, so that readers need no lock.
type grant struct {
	term  uint64
	start time.Duration
	// halves are the voters of the configuration, of both while it is joint.
	halves [2][]granter
}

// A granter is a voter and the promise that binds it.
type granter struct {
	replica    ReplicaID
	peer       *peer // nil: this node itself
	epoch, gen uint64
}

func (g *granter) until() time.Duration {
	if g.peer == nil {
		return math.MaxInt64 // the leader gives up its lease before it votes
	}
	if s := g.peer.support.Load(); s != nil && s.epoch == g.epoch && s.gen == g.gen {
		return s.until
	}
	return 0
}

// until is when the first of the quorums may break.
func (g *grant) until() time.Duration {
	end := time.Duration(math.MaxInt64)
	for _, half := range g.halves {
		if len(half) == 0 {
			continue
		}
		var space [8]time.Duration
		ends := space[:0]
		for i := range half {
			ends = append(ends, half[i].until())
		}
		slices.Sort(ends)
		end = min(end, ends[(len(ends)-1)/2]) // a majority ends no earlier
	}
	return end
}

// A fort is what binds a follower to its leader: while the promise to the
// leader's node is in this epoch and generation, the replica neither votes nor
// campaigns in the term after.
type fort struct {
	term       uint64
	leader     ReplicaID
	peer       *peer
	epoch, gen uint64
	// ended is the term in which this replica, as leader, gave up its lease:
	// it never takes it up again, for a message that lets another replica
	// campaign may still be under way.
	ended uint64
}

// bound says whether the replica is bound to a leader. That its own term has
// risen since does not set it free: an unlucky candidate can cause that, while
// the leader still reads under its lease. A leader elected since does.
func (r *replica) bound(now time.Duration) bool {
	f := &r.fort
	if f.peer == nil {
		return false
	}
	epoch, gen, ok := f.peer.promise(now)
	return ok && epoch == f.epoch && gen == f.gen
}

// mayCampaign says whether nothing binds the replica. A node that restarted
// does not know what it promised, and waits until that has ended.
func (r *replica) mayCampaign(now time.Duration) bool {
	return now >= r.host.votesFrom && !r.bound(now)
}

// campaignTransfer is how Raft marks the votes that a leader asked for.
const campaignTransfer = "CampaignTransfer"

// mustNotVote says whether a promise forbids to answer a request for a vote.
// One that the leader itself caused proves that its lease has ended.
func (r *replica) mustNotVote(m *pb.Message) bool {
	if m.GetType() == pb.MsgVote && m.GetTerm() > r.fort.term && string(m.GetContext()) == campaignTransfer {
		if now := r.now(); now >= r.host.votesFrom || m.GetTerm() > r.term {
			r.unbind()
			return false
		}
	}
	return !r.mayCampaign(r.now())
}

// endLease gives up the lease for the rest of the term.
func (r *replica) endLease() {
	r.grant.Store(nil)
	r.fort.ended = r.term
}

// fortify asks the voters that are not bound to this leader to be. It is
// called when the leader has applied an entry of its term, and on its ticks.
func (r *replica) fortify() {
	if r.role != raft.StateLeader || !r.leadReady || r.fort.ended == r.term {
		return
	}
	g := r.grant.Load()
	if g == nil || !g.covers(r.conf) {
		g = r.newGrant(g)
		r.grant.Store(g)
	}
	for _, half := range g.halves {
		for i := range half {
			v := &half[i]
			if v.peer == nil {
				continue
			}
			if s := v.peer.support.Load(); s != nil && (s.epoch != v.epoch || s.gen != v.gen) {
				r.tell(v.replica, kindFortify, r.term)
			}
		}
	}
}

func (g *grant) covers(c *config) bool {
	for i, ids := range [2][]uint64{c.conf.GetVoters(), c.conf.GetVotersOutgoing()} {
		if !slices.EqualFunc(g.halves[i], ids, func(v granter, id uint64) bool { return uint64(v.replica) == id }) {
			return false
		}
	}
	return true
}

// newGrant makes a grant for the present configuration and keeps the bindings
// of voters that old knew.
func (r *replica) newGrant(old *grant) *grant {
	g := &grant{term: r.term, start: r.now()}
	if old != nil && old.term == r.term {
		g.start = old.start
	} else {
		old = nil
	}
	for i, ids := range [2][]uint64{r.conf.conf.GetVoters(), r.conf.conf.GetVotersOutgoing()} {
		for _, v := range ids {
			id := ReplicaID(v)
			e := granter{replica: id}
			if id != r.id {
				e.peer = r.host.peers.find(r.node(id))
				e.epoch, e.gen = old.binding(id)
			}
			g.halves[i] = append(g.halves[i], e)
		}
	}
	return g
}

func (g *grant) binding(id ReplicaID) (epoch, gen uint64) {
	if g == nil {
		return 0, 0
	}
	for _, half := range g.halves {
		for _, v := range half {
			if v.replica == id {
				return v.epoch, v.gen
			}
		}
	}
	return 0, 0
}

// onFortify binds this replica to its leader and says under which promise.
func (r *replica) onFortify(m *hostMessage) {
	term := m.uvarint(0)
	if term != r.term || r.lead != m.fromReplica || r.role != raft.StateFollower {
		return
	}
	p := r.host.peers.find(m.from)
	epoch, gen, ok := p.promise(r.now())
	if !ok {
		return // the leader asks again
	}
	r.fort = fort{term: term, leader: m.fromReplica, peer: p, epoch: epoch, gen: gen, ended: r.fort.ended}
	r.tell(m.fromReplica, kindFortified, term, r.host.opts.Epoch, gen, epoch)
}

// onFortified notes a follower's binding.
func (r *replica) onFortified(m *hostMessage) {
	g := r.grant.Load()
	if g == nil || m.uvarint(0) != g.term || r.role != raft.StateLeader || m.uvarint(3) != r.host.opts.Epoch {
		return
	}
	next := &grant{term: g.term, start: g.start}
	for i, half := range g.halves {
		next.halves[i] = slices.Clone(half)
		for j := range next.halves[i] {
			if v := &next.halves[i][j]; v.replica == m.fromReplica {
				v.epoch, v.gen = m.uvarint(1), m.uvarint(2)
			}
		}
	}
	r.grant.Store(next)
}

// releaseFollowers tells bound followers that this replica leads no more, so
// that they need not wait for the end of a promise to a node that lives on.
func (r *replica) releaseFollowers() {
	for _, m := range r.conf.members {
		if m.Replica != r.id {
			r.tell(m.Replica, kindRelease, r.leadTerm)
		}
	}
}

func (r *replica) onRelease(m *hostMessage) {
	if r.fort.term == m.uvarint(0) && r.fort.leader == m.fromReplica {
		r.unbind()
		r.wake()
	}
}

// unbind ends what binds the replica.
func (r *replica) unbind() { r.fort = fort{ended: r.fort.ended} }

// ask asks a leader that has gone silent while its node is alive whether it
// still leads. Its heartbeats answer if it does, a release if it does not. The
// question goes to the node that has the promise: the leader may have left the
// configuration, which alone knew where it lived.
func (r *replica) ask() {
	if r.fort.peer != nil {
		r.tellAt(r.fort.peer.node, r.fort.leader, kindAsk, r.fort.term)
	}
}
