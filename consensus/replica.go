package consensus

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// maxMessageBytes bounds the entries of one append message.
const maxMessageBytes = 1 << 20

// A replica is a member of a group on this node.
type replica struct {
	// Fixed.
	host  *Host
	shard *hostShard
	w     *worker
	group GroupID
	id    ReplicaID
	log   *raftlog.Group
	sm    StateMachine

	// What clients fill and the worker takes.
	mu      sync.Mutex
	queue   []*batch   // guarded by mu; the last one may still grow
	spare   []byte     // guarded by mu; a buffer for the next batch
	queued  bool       // guarded by mu; the worker knows of the queue
	reads   *readRound // guarded by mu; the round that reads may still join
	polled  bool       // guarded by mu; the worker knows of reads
	stopErr error      // guarded by mu; why nothing is accepted any more

	bytes   atomic.Int64          // commands waiting or under way
	leading atomic.Bool           // what clients may assume
	asleep  atomic.Bool           // the group is quiesced, for clients
	leader  atomic.Uint64         // ReplicaID of the leader, 0 if unknown
	grant   atomic.Pointer[grant] // the lease, nil if there is none
	failed  atomic.Pointer[error] // why the replica stopped for good, see fail
	applied atomic.Uint64
	// reached is applied as clients may rely on it: it moves before they are
	// woken. committed moves before another node can hear of it.
	reached, committed atomic.Uint64
	worked             atomic.Int64  // nanoseconds of the timed turns
	commands           atomic.Uint64 // applied
	// published is conf, for anybody. A config is replaced, never changed.
	published atomic.Pointer[config]

	// Owned by the worker.
	rn       *raft.RawNode
	conf     *config
	sessions *sessions // owned by whoever runs Apply
	term     uint64
	role     raft.StateType
	lead     ReplicaID
	hints    []Member // where replicas outside the configuration answer

	dirty, gone, destroyed, awake, bucketed bool

	own       []*batch // handed to Raft, not yet seen in a Ready
	inflight  []*batch // appended, in the order of the log
	unstable  int      // own batches not yet locally stable
	ended     uint64   // the last pass in which an own batch was applied
	news      commitNews
	gathering gathering
	leadReady bool   // an entry of the own term has been applied
	leadTerm  uint64 // the last term in which this replica led

	applying bool            // an applyTask is with the apply workers
	backlog  []*pb.Message   // MsgStorageApply that wait for it
	install  *installing     // a snapshot is being installed
	incoming *stagedSnapshot // waits for Raft's word, within one input
	view     View            // frozen for a snapshot, within one input
	busy     int             // background users of the machine

	warm       warm
	read       readState
	fort       fort
	change     *changeWait
	transfer   *transferWait
	outgoing   int  // snapshots under way
	pin        pin  // the log that the last of them needs
	staging    bool // a snapshot for this replica is being received
	removal    removal
	flushing   bool
	cutting    bool  // when the machine is durable the log is to be cut
	keep       int64 // so many bytes stay then
	idleTicks  int
	silent     int // ticks since the leader was heard
	campaignIn int // ticks until this replica campaigns, 0: it does not
	skipTicks  int
	left       []NodeID // silent nodes that the group sleeps without, on its leader
	slumber    slumber  // of its latest sleep
	waking     bool     // in the shard's list of those to wake
}

// storage is what Raft reads of a replica.
type storage struct {
	*raftlog.Group
	r *replica
}

func (s storage) InitialState() (*pb.HardState, *pb.ConfState, error) {
	hs := s.HardState()
	if hs == nil {
		hs = &pb.HardState{}
	}
	if applied := s.r.applied.Load(); applied > hs.GetCommit() {
		// Raft panics on Applied > Commit; what was applied is committed.
		hs = &pb.HardState{Term: new(hs.GetTerm()), Vote: new(hs.GetVote()), Commit: new(applied)}
	}
	return hs, s.r.conf.conf, nil
}

func (s storage) Snapshot() (*pb.Snapshot, error) { return s.r.snapshotMetadata() }

// rowConfig is the key of the row that holds the configuration.
var rowConfig = []byte("conf")

func newReplica(h *Host, g GroupID, lg *raftlog.Group, sm StateMachine, state State) (*replica, error) {
	w := h.pool.of(g)
	r := &replica{host: h, w: w, shard: h.shards[w.id], group: g, id: lg.Replica(), log: lg, sm: sm}
	state, err := r.begin(state)
	if err != nil {
		return nil, err
	}
	at, err := r.readRows(state)
	if err != nil {
		return nil, err
	}
	r.adopt(&at)
	if err := r.reconcile(state); err != nil {
		h.peers.refer(nil, r.conf)
		return nil, err
	}
	r.rn, err = raft.NewRawNode(&raft.Config{
		ID:                        uint64(r.id),
		ElectionTick:              h.opts.ElectionTicks,
		HeartbeatTick:             h.opts.HeartbeatTicks,
		Storage:                   storage{lg, r},
		Applied:                   state.Index,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             maxMessageBytes,
		MaxCommittedSizePerReady:  16 << 20,
		MaxUncommittedEntriesSize: uint64(2 * h.opts.MaxGroupBytes),
		MaxInflightMsgs:           256,
		MaxInflightBytes:          h.opts.MaxInflightBytes,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{h},
		DisableProposalForwarding: true,
		StepDownOnRemoval:         true,
	})
	if err != nil {
		h.peers.refer(nil, r.conf)
		return nil, fmt.Errorf("consensus: group %d: %w", g, err)
	}
	st := r.rn.BasicStatus()
	r.term = st.GetTerm()
	r.committed.Store(st.GetCommit())
	return r, nil
}

// stopped says that nothing can be asked of the replica any more, and why.
func (r *replica) stopped() error {
	switch err := r.failed.Load(); {
	case err != nil:
		return rejected(r.group, fmt.Errorf("%w: %w", ErrClosed, *err))
	case r.gone:
		return rejected(r.group, ErrNoReplica)
	case r.host.dead.Load():
		return rejected(r.group, ErrClosed)
	}
	return nil
}

// touch marks the replica for draining in this pass.
func (r *replica) touch() {
	if !r.dirty && !r.gone {
		r.dirty = true
		r.w.dirty = append(r.w.dirty, r)
	}
}

// drain moves the replica on as far as it goes without waiting.
func (r *replica) drain() {
	if r.gone || r.host.dead.Load() {
		return
	}
	r.ready()
	if r.gone {
		return
	}
	r.pack()
	r.startRead()
	r.ready()
	r.tellCommit()
}

// timedPasses says in how many passes of a worker one is timed, for Loads: a prime, so
// that it does not keep step with ticks.
const timedPasses = 13

// drainTimed is drain, and notes how long it took.
func (r *replica) drainTimed() {
	began := time.Now()
	r.drain()
	r.worked.Add(int64(time.Since(began)))
}

func (r *replica) ready() {
	for !r.gone && r.rn.HasReady() {
		r.warm.draining = true
		rd := r.rn.Ready()
		r.warm.draining = false
		if rd.HardState == nil && rd.SoftState == nil && len(rd.ReadStates)+len(rd.Messages) == 0 {
			return // what there is to apply is not in memory yet
		}
		if rd.HardState != nil {
			r.term = rd.GetTerm()
			r.committed.Store(rd.HardState.GetCommit())
		}
		if rd.SoftState != nil {
			r.roleChanged(rd.SoftState)
		}
		if r.fort.peer != nil && r.lead != 0 && r.term > r.fort.term {
			r.unbind() // another leader was elected, so the lease has ended
		}
		for _, rs := range rd.ReadStates {
			r.readConfirmed(rs)
		}
		for _, m := range rd.Messages {
			switch m.GetType() {
			case pb.MsgStorageAppend:
				r.append(m)
			case pb.MsgStorageApply:
				r.apply(m)
			default:
				r.send(m)
			}
		}
	}
}

// roleChanged follows Raft's role and leader.
func (r *replica) roleChanged(s *raft.SoftState) {
	r.lead = ReplicaID(s.Lead)
	r.leader.Store(s.Lead)
	was := r.role
	r.role = s.RaftState
	r.askNewLeader()
	if was != r.role {
		r.wake()
	}
	if was == raft.StateLeader && r.role != raft.StateLeader {
		r.stepDown()
	}
	switch r.role {
	case raft.StateLeader:
		if was != raft.StateLeader {
			r.leadReady, r.unstable, r.leadTerm, r.read.early = false, 0, r.term, 0
			r.leading.Store(true)
			r.event(EventLeader)
			r.host.stats.elections.Add(1)
		}
	case raft.StateCandidate, raft.StatePreCandidate:
		if was == raft.StateFollower {
			r.event(EventCampaign)
		}
	}
	r.checkTransfer()
}

// stepDown drops what only a leader has. Batches under way keep waiting: what
// is applied at their index tells how they ended.
func (r *replica) stepDown() {
	r.cool()
	r.grant.Store(nil)
	r.leading.Store(false)
	r.leadReady, r.unstable = false, 0
	r.releaseFollowers()
	r.event(EventStepDown)
}

// node finds where a replica lives; one outside the configuration is where it
// last spoke from.
func (r *replica) node(id ReplicaID) NodeID {
	if n := r.conf.node(id); n != 0 {
		return n
	}
	for _, m := range r.hints {
		if m.Replica == id {
			return m.Node
		}
	}
	return 0
}

const maxHints = 8

func (r *replica) hint(id ReplicaID, node NodeID) {
	if id == 0 || r.node(id) == node || r.conf.node(id) != 0 {
		return
	}
	if len(r.hints) == maxHints {
		r.hints = append(r.hints[:0], r.hints[1:]...)
	}
	r.hints = append(r.hints, Member{id, node})
}

// send puts a Raft message on its way.
func (r *replica) send(m *pb.Message) {
	switch m.GetType() {
	case pb.MsgSnap:
		r.sendSnapshot(m)
		return
	case pb.MsgApp, pb.MsgHeartbeat, pb.MsgPreVote, pb.MsgVote:
		if r.host.watch.stalled.Load() {
			return // as if the wire had lost it
		}
		if m.GetType() != pb.MsgApp {
			break
		}
		if len(m.GetEntries()) == 0 {
			r.tellLater(m)
			return
		}
		r.told(m.GetTo())
	case pb.MsgTimeoutNow:
		r.endLease() // before anybody is told to campaign
	}
	r.post(r.node(ReplicaID(m.GetTo())), m)
}

// post hands a Raft message to the wire.
func (r *replica) post(to NodeID, m *pb.Message) {
	class := transport.Control
	if t := m.GetType(); t == pb.MsgApp || t == pb.MsgAppResp {
		class = transport.Data
	}
	r.shard.send(to, class, transport.Message{Group: r.group, From: r.id, To: ReplicaID(m.GetTo()), Kind: kindRaft, Raft: m})
}

// step hands a message from the wire to Raft.
func (r *replica) step(in *input) {
	m := in.msg.(*pb.Message)
	from := ReplicaID(m.GetFrom())
	if !r.withinReach(m) {
		r.host.stats.refused.Add(1)
		return
	}
	r.hint(from, NodeID(in.n))
	switch m.GetType() {
	case pb.MsgVote, pb.MsgPreVote:
		if r.expelled(from, NodeID(in.n)) {
			return
		}
		if r.mustNotVote(m) {
			r.wakeFor(from) // asleep it would never ask whether its leader still leads
			return
		}
		r.forgetLost(r.now())
	case pb.MsgApp, pb.MsgHeartbeat:
		r.silent = 0
	case pb.MsgReadIndex:
		if !r.takesRead() {
			return
		}
	case pb.MsgAppResp:
		if r.claimsTooMuch(m) {
			r.host.stats.refused.Add(1)
			return
		}
	case pb.MsgTimeoutNow:
		if r.replaying() {
			return // it could not serve before it has; the transfer fails
		}
		if m.GetTerm() == r.fort.term && from == r.fort.leader {
			r.unbind() // the leader gave up its lease before it sent this
		}
	}
	if !r.quietResponse(m) {
		r.wakeFor(from)
	}
	if err := r.stepRaft(m, NodeID(in.n)); err != nil && !errors.Is(err, raft.ErrStepPeerNotFound) && !errors.Is(err, raft.ErrProposalDropped) {
		r.host.stats.refused.Add(1)
	}
}

// now is the host's monotonic time.
func (r *replica) now() time.Duration { return r.host.opts.Clock.Mono() }
