package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"
)

// A ChangeKind is one way to change a member.
type ChangeKind uint8

// The kinds of change.
const (
	// AddLearner adds a new replica that follows without a vote.
	AddLearner ChangeKind = iota + 1
	// AddVoter adds a new replica with a vote.
	AddVoter
	// Promote gives a learner a vote.
	Promote
	// Demote takes a voter's vote; it stays as a learner.
	Demote
	// Remove removes a member. Its replica deletes itself.
	Remove
)

var changeTypes = map[ChangeKind]pb.ConfChangeType{
	AddLearner: pb.ConfChangeAddLearnerNode,
	AddVoter:   pb.ConfChangeAddNode,
	Promote:    pb.ConfChangeAddNode,
	Demote:     pb.ConfChangeAddLearnerNode,
	Remove:     pb.ConfChangeRemoveNode,
}

// A ChangeStep changes one member.
type ChangeStep struct {
	Kind   ChangeKind
	Member Member // the node matters for AddLearner and AddVoter only
}

// A Change changes the members of a group, all at once: more than one step, or
// a step that could break a quorum, goes through a joint configuration.
type Change struct {
	// Request names the change, so that a retry of the one applied last
	// succeeds without doing anything. 0: no name.
	Request uint64
	Steps   []ChangeStep
}

// Reconfigure changes the members of g and returns when the final
// configuration has been applied here. This node must lead the group. A change
// that removes or demotes the leader transfers leadership first and is then
// refused with a *NotLeaderError: the new leader carries it out.
//
// No two members share a node, not even where one goes and the other comes in
// the same change: a node has one replica of a group, and is lost as a whole.
//
// It ends like a proposal: with nil, with an error that wraps ErrRejected
// (ErrReconfiguring: try later; ErrInvalidChange: it contradicts the
// configuration), or with one that wraps ErrUnknown.
func (h *Host) Reconfigure(ctx context.Context, g GroupID, c Change) error {
	r, err := h.replica(g)
	if err != nil {
		return err
	}
	var b *batch
	if !h.run(r.w, func() {
		r.ready()
		b, err = r.reconfigure(&c)
		r.touch()
	}) {
		return rejected(g, ErrClosed)
	}
	var self *leaderLeaves
	if errors.As(err, &self) {
		if err := h.Transfer(ctx, g, self.to); err != nil {
			// Whatever becomes of the transfer, nobody proposed the change.
			return rejected(g, fmt.Errorf("leadership did not pass to replica %d first: %s", self.to, err.Error()))
		}
		return r.notLeader()
	}
	if err != nil || b == nil {
		return err
	}
	select {
	case <-b.done:
		return b.err
	case <-ctx.Done():
		return unknown(g, context.Cause(ctx))
	}
}

// leaderLeaves says that leadership must go to another voter first.
type leaderLeaves struct{ to ReplicaID }

func (e *leaderLeaves) Error() string { return fmt.Sprintf("leader leaves, transfer to %d", e.to) }

// changeWait is a change under way at its leader.
type changeWait struct {
	b       *batch // ends the wait
	applied bool   // its entry has been applied; the joint configuration may last
}

// reconfigure checks and proposes a change. It returns a nil batch if there is
// nothing to wait for.
func (r *replica) reconfigure(c *Change) (*batch, error) {
	if err := r.stopped(); err != nil {
		return nil, err
	}
	if r.role != raft.StateLeader {
		return nil, r.notLeader()
	}
	if c.Request != 0 && r.conf.request == c.Request && r.change == nil && !r.conf.joint() {
		return nil, nil
	}
	if r.change != nil || r.conf.joint() || !r.leadReady {
		return nil, rejected(r.group, ErrReconfiguring)
	}
	cc, err := r.conf.plan(c)
	if err != nil {
		return nil, rejected(r.group, fmt.Errorf("%w: %w", ErrInvalidChange, err))
	}
	if to, leaves := r.leaderLeaves(c); leaves {
		if to == 0 {
			return nil, rejected(r.group, fmt.Errorf("%w: no other voter can lead", ErrInvalidChange))
		}
		return nil, &leaderLeaves{to: to}
	}
	r.wake()
	b := &batch{done: make(chan struct{})}
	if err := r.rn.ProposeConfChange(cc); err != nil {
		return nil, rejected(r.group, fmt.Errorf("raft: %w", err))
	}
	r.own = append(r.own, b)
	r.ready()
	if len(r.own) > 0 { // Raft put an empty entry in its place
		r.own = nil
		return nil, rejected(r.group, ErrReconfiguring)
	}
	r.change = &changeWait{b: b}
	return b, nil
}

// plan checks a change against the configuration and translates it.
func (c *config) plan(ch *Change) (*pb.ConfChangeV2, error) {
	if len(ch.Steps) == 0 {
		return nil, errors.New("no steps")
	}
	cc := &pb.ConfChangeV2{}
	var added []Member
	seen := map[ReplicaID]bool{}
	voters := len(c.conf.GetVoters())
	for _, s := range ch.Steps {
		id := s.Member.Replica
		if seen[id] {
			return nil, fmt.Errorf("replica %d appears twice", id)
		}
		seen[id] = true
		member, voter := c.contains(id), c.isVoter(id)
		switch s.Kind {
		case AddLearner, AddVoter:
			if id <= c.highest || s.Member.Node == 0 {
				return nil, fmt.Errorf("new replica %d on node %d: expected an id above %d, the highest ever used, and a node", id, s.Member.Node, c.highest)
			}
			for _, m := range slices.Concat(c.members, added) {
				if m.Node == s.Member.Node {
					return nil, fmt.Errorf("new replica %d on node %d: the node already holds replica %d", id, m.Node, m.Replica)
				}
			}
			added = append(added, s.Member)
			if s.Kind == AddVoter {
				voters++
			}
		case Promote:
			if !member || voter {
				return nil, fmt.Errorf("promote replica %d: expected a learner", id)
			}
			voters++
		case Demote, Remove:
			if !member || s.Kind == Demote && !voter {
				return nil, fmt.Errorf("replica %d is no member that can be demoted or removed", id)
			}
			if voter {
				voters--
			}
		default:
			return nil, fmt.Errorf("unknown kind of change %d", s.Kind)
		}
		cc.Changes = append(cc.Changes, &pb.ConfChangeSingle{Type: changeTypes[s.Kind].Enum(), NodeId: new(uint64(id))})
	}
	if voters == 0 {
		return nil, errors.New("no voter would be left")
	}
	cc.Context = appendMembers(binary.AppendUvarint([]byte{configVersion}, ch.Request), added)
	return cc, nil
}

// leaderLeaves says whether the change takes this leader's vote, and who
// should lead instead: the voter with the longest log.
func (r *replica) leaderLeaves(c *Change) (to ReplicaID, leaves bool) {
	leaving := map[ReplicaID]bool{}
	for _, s := range c.Steps {
		if s.Kind == Remove || s.Kind == Demote {
			leaving[s.Member.Replica] = true
		}
	}
	if !leaving[r.id] {
		return 0, false
	}
	var best uint64
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) { // in the order of ids
		if v := ReplicaID(id); !leaving[v] && !p.IsLearner && p.Match > best {
			best, to = p.Match, v
		}
	})
	return to, true
}

// applyConfChange makes a committed change effective and puts the new
// configuration among the rows that are stored with the task.
func (r *replica) applyConfChange(t *applyTask, e *pb.Entry) error {
	var cc pb.ConfChangeV2
	if e.GetType() != pb.EntryConfChangeV2 {
		return fmt.Errorf("entry of type %v", e.GetType())
	}
	if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
		return err
	}
	next := r.conf.clone()
	next.index = e.GetIndex()
	if len(cc.GetContext()) > 0 {
		d := decoder{buf: cc.GetContext()}
		v := d.byte()
		request, added := d.uvarint(), d.members()
		if v != configVersion || !d.done() {
			return errors.New("malformed context of a configuration change")
		}
		next.request = request
		for _, m := range added {
			next.add(m)
		}
	}
	var err error
	if next.conf, err = r.changeRaft(&cc); err != nil {
		return err
	}
	before := next.members
	next = next.clone()
	next.keepMembers()
	if r.role == raft.StateLeader {
		for _, m := range before {
			if !next.contains(m.Replica) && m.Replica != r.id {
				r.tellRemoved(m.Replica, next)
			}
		}
	}
	r.setConfig(next)
	// Now, not with the next tick: the entry that leaves a joint configuration
	// may commit before that, and then the new half alone can elect.
	r.fortify()
	t.rows = []Row{{Key: rowConfig, Value: next.encode()}}
	if r.change != nil && t.own != nil {
		for _, b := range t.own {
			if b == r.change.b {
				r.change.applied = true
			}
		}
	}
	return nil
}

// changeApplied ends the wait for a change once its last configuration is in
// force, or its entry was lost.
func (r *replica) changeApplied() {
	c := r.change
	if c == nil {
		return
	}
	if c.b.ended() { // lost
		r.change = nil
		return
	}
	if c.applied && !r.conf.joint() {
		r.change = nil
		c.b.finish(nil)
		r.fortify()
	}
}

// leaveJoint leaves a joint configuration that Raft did not: it proposes to only
// when it applies something, and not during a transfer.
func (r *replica) leaveJoint() {
	if !r.conf.joint() || !r.conf.conf.GetAutoLeave() || r.rn.BasicStatus().LeadTransferee != 0 {
		return
	}
	if last, err := r.log.LastIndex(); err == nil && r.applied.Load() == last {
		_ = r.rn.ProposeConfChange(&pb.ConfChangeV2{}) // refused if one is under way
	}
}

// removal is what a replica has heard about its own removal.
type removal struct {
	said  []farewell // the last word of each voter
	asked bool       // since the last tick, the voters that have not said so
}

// A farewell is a voter's word that it has applied a configuration without this
// replica.
type farewell struct {
	from   ReplicaID
	voters []Member // of that configuration
}

// maxFarewells bounds the words that are kept: more voters than any group has.
const maxFarewells = 32

// note keeps a voter's word in the place of its earlier one.
func (q *removal) note(from ReplicaID, voters []Member) {
	q.said = slices.DeleteFunc(q.said, func(f farewell) bool { return f.from == from })
	if len(q.said) == maxFarewells {
		q.said = slices.Delete(q.said, 0, 1)
	}
	q.said = append(q.said, farewell{from, voters})
}

// silent returns those of the voters whose last word was not of just these.
func (q *removal) silent(voters []Member) []Member {
	var list []Member
	for _, v := range voters {
		if !slices.ContainsFunc(q.said, func(f farewell) bool { return f.from == v.Replica && slices.Equal(f.voters, voters) }) {
			list = append(list, v)
		}
	}
	return list
}

// seekRemoval asks the members whether this replica has been removed: one that
// applied its own removal, and one without a vote that hears of nobody, for
// which alone would never speak up. Having applied it is not enough to go: the
// others may still need its vote to learn that it was committed. Once somebody has
// said so it asks the others in every tick: they hear of the commit a moment later.
func (r *replica) seekRemoval() {
	if n := len(r.removal.said); n > 0 {
		r.askSilent(r.removal.said[n-1].voters)
		return
	}
	removed := len(r.conf.members) > 0 && r.id <= r.conf.highest && !r.conf.contains(r.id)
	lost := r.role != raft.StateLeader && !r.conf.isVoter(r.id) && r.silent > r.host.opts.ElectionTicks
	if !removed && !lost || r.silent%max(1, r.host.opts.ElectionTicks/2) != 0 {
		return
	}
	for _, list := range [][]Member{r.conf.members, r.hints} {
		for _, m := range list {
			if m.Replica != r.id {
				r.tell(m.Replica, kindAsk, r.term)
			}
		}
	}
}

// AskRemoved has the replica of g here ask members, as somebody else knows them,
// whether it has been removed: those that it knows itself may all have left while its
// node was away. It goes on their word, as ever, never on the caller's.
func (h *Host) AskRemoved(g GroupID, members []Member) error {
	r, err := h.replica(g)
	if err != nil {
		return err
	}
	if !h.run(r.w, func() {
		if r.gone {
			return
		}
		for _, m := range members {
			if m.Replica != r.id {
				r.hint(m.Replica, m.Node)
				r.tellAt(m.Node, m.Replica, kindAsk, r.term)
			}
		}
	}) {
		return rejected(g, ErrClosed)
	}
	return nil
}

// onRemoved hears from a member that this replica has been removed. It goes
// when a majority of the voters have said so: they need it no more. Until then it
// asks the others, once a tick: each answer is another such word, and while voters
// disagree on who they are one would bring the next.
func (r *replica) onRemoved(m *hostMessage) {
	d := decoder{buf: m.payload}
	id, voters := ReplicaID(d.uvarint()), d.members()
	if !d.done() || id != r.id || len(voters) == 0 {
		return
	}
	for _, v := range voters {
		r.hint(v.Replica, v.Node)
		if v.Replica == m.fromReplica {
			r.removal.note(m.fromReplica, voters)
		}
	}
	if silent := r.removal.silent(voters); len(voters)-len(silent) > len(voters)/2 {
		r.destroy(ignoreWritten{})
		return
	}
	r.wake() // or no tick would let it ask again
	r.askSilent(voters)
}

// askSilent asks those of the voters that have not said that this replica was
// removed, once a tick.
func (r *replica) askSilent(voters []Member) {
	if r.removal.asked {
		return
	}
	r.removal.asked = true
	for _, v := range r.removal.silent(voters) {
		r.tell(v.Replica, kindAsk, r.term)
	}
}
