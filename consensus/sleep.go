package consensus

import (
	"maps"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// quiesce puts the group to sleep once it has been idle for QuiesceTicks and
// every member has everything, or is out of reach: leader and followers stop
// ticking, and the frames between nodes take the place of heartbeats.
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
	with, left, ok := r.sleepers(last)
	if !ok {
		return
	}
	r.left = left
	r.sleep(last)
	for _, m := range with {
		r.tell(m.Replica, kindQuiesce, r.term, last)
	}
}

// sleepers sorts the other members into those that sleep with the leader and
// the nodes of those that it leaves behind, or says that the group must stay
// awake.
//
// A sleeping group is watched by frames alone, so whoever sleeps with it must be
// level and its node's frames must go both ways. One whose node is silent both
// ways cannot be made level by any number of heartbeats, and its node's next
// frame wakes the group (see returned). But without a quorum asleep there would
// be nobody to elect another leader.
func (r *replica) sleepers(last uint64) (with []Member, left []NodeID, ok bool) {
	level := map[ReplicaID]bool{r.id: true}
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		level[ReplicaID(id)] = p.Match == last && p.State == tracker.StateReplicate
	})
	now := r.now()
	voters := 0
	if r.conf.isVoter(r.id) {
		voters++
	}
	for _, m := range r.conf.members {
		if m.Replica == r.id {
			continue
		}
		switch here, there := r.host.peers.link(m.Node, now); {
		case here && there && level[m.Replica]:
			with = append(with, m)
			if r.conf.isVoter(m.Replica) {
				voters++
			}
		case here || there:
			return nil, nil, false
		default:
			left = append(left, m.Node)
		}
	}
	// Of one configuration: canSleep refuses joint ones.
	return with, left, voters > len(r.conf.conf.GetVoters())/2
}

func (r *replica) canSleep() bool {
	r.mu.Lock()
	waiting := len(r.queue) > 0 || r.reads != nil
	r.mu.Unlock()
	return !waiting && r.leadReady && len(r.own)+len(r.inflight)+len(r.read.waiting) == 0 && r.read.round == nil &&
		r.change == nil && !r.conf.joint() && r.install == nil && r.outgoing == 0 && !r.applying &&
		r.rn.BasicStatus().LeadTransferee == 0 && r.bindings()
}

// bindings says whether a quorum of voters is bound to this leader, or the
// lease was given up for the term.
func (r *replica) bindings() bool {
	if r.fort.ended == r.term {
		return true
	}
	g := r.grant.Load()
	return g != nil && g.until() > r.now()
}

// sleep ends the ticks of a replica whose log ends at last.
func (r *replica) sleep(last uint64) {
	r.cool()
	r.slim()
	r.awake = false
	r.idleTicks = 0
	if !r.asleep.Swap(true) { // a follower may be told twice
		r.slumber = slumber{term: r.term, index: last, leading: r.role == raft.StateLeader}
		r.sleepEvent(EventSleep)
	}
}

// slim gives back the memory of lists that are empty: thousands of groups
// sleep for each that does not.
func (r *replica) slim() {
	if len(r.own) == 0 {
		r.own = nil
	}
	if len(r.inflight) == 0 {
		r.inflight = nil
	}
	if len(r.news.list) == 0 {
		r.news.list = nil
	}
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
		r.sleep(index)
		return
	}
	r.wake()
	r.tell(m.fromReplica, kindWake)
}

// wakePace is how many groups that left a node behind a shard wakes at once, and
// then with every tick, when the node is back.
const wakePace = 64

// returned follows the first frame of a node that was silent: groups that fell
// asleep without its replica wake, so that it gets what it missed. A leader that
// forgot whom it left behind has stepped down or started again, and then its
// group is awake.
func (s *hostShard) returned(node NodeID) {
	for _, g := range slices.Sorted(maps.Keys(s.replicas)) { // a run that is repeated keeps its pace
		if r := s.replicas[g]; !r.waking && slices.Contains(r.left, node) {
			r.waking = true
			s.waking = append(s.waking, r)
		}
	}
	s.wakeSome()
}

// wakeSome wakes the next few groups that wait for it.
func (s *hostShard) wakeSome() {
	n := min(wakePace, len(s.waking))
	for _, r := range s.waking[:n] {
		r.waking = false
		if !r.gone && len(r.left) > 0 { // or something else has woken it
			r.wake()
			r.touch()
		}
	}
	clear(s.waking[:n])
	if s.waking = s.waking[n:]; len(s.waking) == 0 {
		s.waking = nil
	}
	s.delayed.Store(int32(len(s.waking)))
}

// link says whether the promise to a node holds at now, and whether its promise
// to this node does.
func (t *peerTable) link(node NodeID, now time.Duration) (here, there bool) {
	p := t.find(node)
	_, _, here = p.promise(now)
	s := p.support.Load()
	return here, s != nil && now < s.until
}
