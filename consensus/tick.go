package consensus

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// tick is one tick of an awake replica.
func (r *replica) tick(now time.Duration) {
	if r.skipTicks > 0 {
		r.skipTicks--
		return
	}
	r.tickRead()
	if r.role == raft.StateLeader {
		r.fortify()
		r.rn.Tick()
		r.leaveJoint()
		r.ready() // what the tick sends goes before a word to sleep
		r.checkTransfer()
		r.quiesce()
		return
	}
	r.silent++
	r.seekRemoval()
	if !r.mayCampaign(now) {
		// Raft's clock stands still: an election timeout must not end in a
		// campaign that a promise forbids.
		if r.silent > 3*r.host.opts.HeartbeatTicks {
			r.ask()
		}
		return
	}
	if r.campaignIn > 0 {
		if r.campaignIn--; r.campaignIn == 0 && r.role == raft.StateFollower && r.lead == 0 {
			_ = r.rn.Campaign() // refused for learners and while a change is unapplied
		}
	}
	r.rn.Tick()
}

// wake makes the replica tick again.
func (r *replica) wake() {
	if r.awake {
		return
	}
	r.awake, r.idleTicks = true, 0
	r.asleep.Store(false)
	r.silent = 0
	r.skipTicks = 1 // so that a leader hears its followers before it counts them
	r.shard.enlist(r)
	if r.role == raft.StateLeader {
		// As from the local append thread, for Raft takes local messages from
		// nobody else.
		_ = r.rn.Step(&pb.Message{Type: pb.MsgBeat.Enum(), From: new(raft.LocalAppendThread)})
	}
}

// wakeFor wakes the replica for a message from another. A follower woken by
// anybody but its leader wakes the leader too, or it would wait alone.
func (r *replica) wakeFor(from ReplicaID) {
	asleep := !r.awake
	r.wake()
	if asleep && r.role == raft.StateFollower && r.lead != 0 && r.lead != from {
		r.tell(r.lead, kindWake)
	}
}

// quietResponse says whether m is the late answer to something that a leader
// sent before it went to sleep.
func (r *replica) quietResponse(m *pb.Message) bool {
	return !r.awake && m.GetTerm() <= r.term && (m.GetType() == pb.MsgHeartbeatResp || m.GetType() == pb.MsgAppResp && !m.GetReject())
}

// quiesce puts the group to sleep once it has been idle for QuiesceTicks and
// every member has everything: leader and followers stop ticking, and the
// frames between nodes take the place of heartbeats.
func (r *replica) quiesce() {
	r.idleTicks++
	limit := r.host.opts.QuiesceTicks
	if limit < 0 || r.idleTicks < limit || !r.canSleep() {
		return
	}
	last, err := r.log.LastIndex()
	if err != nil || r.applied.Load() != last {
		return
	}
	level := true
	r.rn.WithProgress(func(_ uint64, _ raft.ProgressType, p tracker.Progress) {
		level = level && p.Match == last && p.State == tracker.StateReplicate
	})
	if !level {
		return
	}
	now := r.now()
	for _, m := range r.conf.members {
		if m.Replica == r.id {
			continue
		}
		// A sleeping group is watched by frames alone: both ways must work.
		p := r.host.peers.get(m.Node)
		s := p.support.Load()
		if _, _, ok := p.promise(now); !ok || s == nil || now >= s.until {
			return
		}
	}
	r.sleep()
	for _, m := range r.conf.members {
		if m.Replica != r.id {
			r.tell(m.Replica, kindQuiesce, r.term, last)
		}
	}
}

func (r *replica) canSleep() bool {
	r.mu.Lock()
	waiting := len(r.queue) > 0 || r.reads != nil
	r.mu.Unlock()
	return !waiting && r.leadReady && len(r.own)+len(r.inflight)+len(r.read.waiting) == 0 && r.read.round == nil &&
		r.change == nil && !r.conf.joint() && r.install == nil && r.outgoing == 0 && !r.applying &&
		r.rn.BasicStatus().LeadTransferee == 0 && r.bindings()
}

// bindings says whether every voter is bound to this leader, or the lease was
// given up for the term.
func (r *replica) bindings() bool {
	if r.fort.ended == r.term {
		return true
	}
	g := r.grant.Load()
	return g != nil && g.until() > r.now()
}

func (r *replica) sleep() {
	r.awake = false
	r.asleep.Store(true)
	r.idleTicks = 0
}

// onQuiesce puts a follower to sleep, if it is where the leader believes it to
// be; if not it wakes the leader.
func (r *replica) onQuiesce(m *hostMessage) {
	term, index := m.uvarint(0), m.uvarint(1)
	if term < r.term {
		return
	}
	last, err := r.log.LastIndex()
	if err == nil && term == r.term && r.lead == m.fromReplica && r.role == raft.StateFollower &&
		last == index && r.rn.BasicStatus().GetCommit() == index && r.read.round == nil {
		r.sleep()
		return
	}
	r.wake()
	r.tell(m.fromReplica, kindWake)
}

// suspectPace is how many groups of a lost node campaign within one tick.
const suspectPace = 64

// suspect follows the end of the promise to a node: the replicas that it led
// forget their leader, so that they answer requests for votes at once, and one
// of each group campaigns, a few per tick.
func (s *hostShard) suspect(node NodeID) {
	now := s.host.opts.Clock.Mono()
	paced := 0
	for _, g := range slices.Sorted(maps.Keys(s.replicas)) { // a run that is repeated keeps its pace
		r := s.replicas[g]
		if r.gone || r.lead == 0 || r.role != raft.StateFollower || r.node(r.lead) != node || r.bound(now) {
			continue
		}
		r.event(EventSuspect)
		r.unbind()
		r.wake()
		r.skipTicks = 0
		if r.candidate(node) {
			r.campaignIn = 1 + paced/suspectPace // not at once: the others' promises end a moment later
			paced++
		}
		_ = r.rn.ForgetLeader()
		r.ready() // or a tick in this very pass took the leader for known, and nobody campaigned
		r.touch()
	}
}

// forgetLost forgets a leader whose node this node supports no more, for a
// request for a vote that comes before the tick that would notice. Raft would
// ignore the request while it believes in the leader.
func (r *replica) forgetLost(now time.Duration) {
	node := r.node(r.lead)
	if r.lead == 0 || r.role != raft.StateFollower || node == r.host.opts.Node || node == 0 {
		return
	}
	if epoch, _, ok := r.host.peers.get(node).promise(now); epoch != 0 && !ok {
		_ = r.rn.ForgetLeader()
	}
}

// candidate says whether this replica is the one that should campaign first.
// Different groups choose different places among the voters that are left.
func (r *replica) candidate(lost NodeID) bool {
	var left []ReplicaID
	for _, m := range r.conf.members {
		if r.conf.isVoter(m.Replica) && m.Node != lost && (m.Replica == r.id || r.host.peers.get(m.Node).isAlive()) {
			left = append(left, m.Replica)
		}
	}
	return len(left) > 0 && left[uint64(r.group)%uint64(len(left))] == r.id
}

// unreachable tells the leaders of this shard that messages to a node were
// lost, so that they probe instead of waiting for answers.
func (s *hostShard) unreachable(node NodeID) {
	for _, bucket := range s.buckets {
		for _, r := range bucket {
			if r.gone || r.role != raft.StateLeader {
				continue
			}
			for _, m := range r.conf.members {
				if m.Node == node && m.Replica != r.id {
					r.rn.ReportUnreachable(uint64(m.Replica))
					r.touch()
				}
			}
		}
	}
}
