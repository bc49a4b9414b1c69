package consensus

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
)

// hostStats counts what a host does.
type hostStats struct {
	applied, elections, dropped, refused, overloads, truncations atomic.Uint64
	coldReads, readAheads, stalls, payloads, failures            atomic.Uint64
	snapshotsSent, snapshotsReceived, snapshotBytes, ticks       atomic.Uint64
	fatal                                                        atomic.Pointer[error]
}

// Stats counts what a host did since its start.
type Stats struct {
	Applied           uint64 // commands applied here
	Elections         uint64 // times a replica here became leader
	Dropped           uint64 // messages dropped because a worker's inbox was full
	Refused           uint64 // messages that were malformed or of unknown kind
	Overloads         uint64 // proposals refused by a quota
	Truncations       uint64
	SnapshotsSent     uint64
	SnapshotsReceived uint64
	SnapshotBytes     uint64 // sent
	PayloadsRefused   uint64 // of FrameHooks: frames that left without theirs
	PendingBytes      int64  // commands waiting or under way now
	ReadAheads        uint64 // reads of the log in the background
	ColdReads         uint64 // reads of the log for which a worker waited
	WarmBytes         int64  // what the reads of the log hold in memory, or are to bring there
	Stalls            uint64 // times the node stood still, see Options.StallTimeout
	Stalled           bool   // it does now
	Failures          uint64 // replicas that stopped after an error, see Status.Err
}

// Stats returns the host's counters.
func (h *Host) Stats() Stats {
	s := &h.stats
	return Stats{
		Applied: s.applied.Load(), Elections: s.elections.Load(), Dropped: s.dropped.Load(),
		Refused: s.refused.Load(), Overloads: s.overloads.Load(), Truncations: s.truncations.Load(),
		SnapshotsSent: s.snapshotsSent.Load(), SnapshotsReceived: s.snapshotsReceived.Load(),
		SnapshotBytes: s.snapshotBytes.Load(), PayloadsRefused: s.payloads.Load(), PendingBytes: h.bytes.Load(),
		ReadAheads: s.readAheads.Load(), ColdReads: s.coldReads.Load(), WarmBytes: h.warmth.bytes(),
		Stalls: s.stalls.Load(), Stalled: h.watch.stalled.Load(),
		Failures: s.failures.Load(),
	}
}

// Status is the state of one replica.
type Status struct {
	Group   GroupID
	Replica ReplicaID
	Role    string // follower, candidate, leader, precandidate, stopped
	Term    uint64
	Leader  ReplicaID // 0: unknown
	Commit  uint64
	Applied uint64
	First   uint64 // of the log
	Last    uint64
	Durable uint64 // of the machine
	// LogBytes is the size of the live log.
	LogBytes int64
	Asleep   bool // the group is quiesced
	Voters   []Member
	Learners []Member
	Joint    bool
	// ConfigIndex is the index of the entry that made this configuration: of two,
	// the higher one is the later.
	ConfigIndex uint64
	// Highest is the highest replica id that ever was a member.
	Highest ReplicaID
	// Match is how far each member's log is known to agree, on the leader.
	Match map[ReplicaID]uint64
	// Err is the error of its machine after which the replica stopped for good,
	// nil as a rule. It takes part in nothing any more, until the host starts
	// again or the replica is destroyed.
	Err error
}

func (s Status) String() string {
	text := fmt.Sprintf("group %d replica %d %s term=%d leader=%d commit=%d applied=%d log=[%d,%d]",
		s.Group, s.Replica, s.Role, s.Term, s.Leader, s.Commit, s.Applied, s.First, s.Last)
	if s.Err != nil {
		text += ": " + s.Err.Error()
	}
	return text
}

var roleNames = map[raft.StateType]string{
	raft.StateFollower: "follower", raft.StateCandidate: "candidate",
	raft.StateLeader: "leader", raft.StatePreCandidate: "precandidate",
}

// Status returns the state of this node's replica of g.
func (h *Host) Status(g GroupID) (Status, error) {
	r, err := h.replica(g)
	if err != nil {
		return Status{}, err
	}
	var s Status
	err = rejected(g, ErrClosed)
	h.run(r.w, func() {
		if !r.gone || r.failed.Load() != nil {
			s, err = r.status(), nil
		}
	})
	return s, err
}

func (r *replica) status() Status {
	b := r.rn.Status()
	s := Status{
		Group: r.group, Replica: r.id, Role: roleNames[b.RaftState], Term: b.GetTerm(), Leader: ReplicaID(b.Lead),
		Commit: b.GetCommit(), Applied: r.applied.Load(), Durable: r.sm.Durable(), LogBytes: r.log.Bytes(),
		Asleep: !r.awake, ConfigIndex: r.conf.index, Highest: r.conf.highest,
	}
	m := r.conf.membership()
	s.Voters, s.Learners, s.Joint = m.Voters, m.Learners, m.Joint
	if err := r.failed.Load(); err != nil {
		s.Role, s.Leader, s.Err = "stopped", 0, *err
	}
	s.First, _ = r.log.FirstIndex()
	s.Last, _ = r.log.LastIndex()
	if len(b.Progress) > 0 {
		s.Match = map[ReplicaID]uint64{}
		for id, p := range b.Progress {
			s.Match[ReplicaID(id)] = p.Match
		}
	}
	return s
}

// Load is what a replica has done since it was started.
type Load struct {
	Leads    bool
	Commands uint64 // applied
	// Worked is the time of workers that it took, an estimate: one turn in a few is
	// timed. What the apply workers do, and the host for all its groups, is not in it.
	Worked time.Duration
	// Stopped is the replica's id if it stopped after an error, see Status.Err, or 0.
	Stopped ReplicaID
}

// Loads calls visit for the load of each replica here, in no order.
func (h *Host) Loads(visit func(GroupID, Load)) {
	h.replicas.Range(func(k, v any) bool {
		r := v.(*replica)
		stopped := ReplicaID(0)
		if r.failed.Load() != nil {
			stopped = r.id
		}
		visit(k.(GroupID), Load{
			Leads: r.leading.Load(), Commands: r.commands.Load(), Worked: time.Duration(r.worked.Load()) * timedPasses,
			Stopped: stopped,
		})
		return true
	})
}

// Leader returns the leader of g and its node as far as this node knows; zeros
// if it knows none.
func (h *Host) Leader(g GroupID) Member {
	v, ok := h.replicas.Load(g)
	if !ok {
		return Member{}
	}
	r := v.(*replica)
	id := ReplicaID(r.leader.Load())
	if id == 0 {
		return Member{}
	}
	return Member{Replica: id, Node: r.published.Load().node(id)}
}

// Groups returns the groups that have a replica on this node, in order.
func (h *Host) Groups() []GroupID {
	var list []GroupID
	h.replicas.Range(func(k, _ any) bool {
		list = append(list, k.(GroupID))
		return true
	})
	slices.Sort(list)
	return list
}
