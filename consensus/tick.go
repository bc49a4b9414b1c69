package consensus

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// tick is one tick of an awake replica.
func (r *replica) tick(now time.Duration) {
	r.removal.asked = false
	if r.skipTicks > 0 {
		r.skipTicks--
		return
	}
	r.tickRead()
	r.tickWarm()
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
	if !r.mayCampaign(now) || r.replaying() {
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
	r.awake, r.idleTicks, r.left = true, 0, nil
	if r.asleep.Swap(false) {
		r.sleepEvent(EventWake)
	}
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
	if epoch, _, ok := r.host.peers.find(node).promise(now); epoch != 0 && !ok {
		_ = r.rn.ForgetLeader()
	}
}

// candidate says whether this replica is the one that should campaign first.
// Different groups choose different places among the voters that are left.
func (r *replica) candidate(lost NodeID) bool {
	var left []ReplicaID
	for _, m := range r.conf.members {
		if r.conf.isVoter(m.Replica) && m.Node != lost && (m.Replica == r.id || r.host.peers.find(m.Node).isAlive()) {
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
