package consensus

// An EventKind says what happened to a group's leadership, or its sleep, at this
// replica.
type EventKind uint8

// The events.
const (
	// EventCampaign: the replica asks for (pre-)votes.
	EventCampaign EventKind = iota + 1
	// EventLeader: the replica became leader.
	EventLeader
	// EventReady: the leader applied an entry of its own term.
	EventReady
	// EventStepDown: the replica is leader no more.
	EventStepDown
	// EventSuspect: the node stopped supporting the group's leader.
	EventSuspect
	// EventStall: the node stands still and vouches for itself no more, see
	// Options.StallTimeout. EventResume: it goes on. Both name no group, and
	// are told by the ticker instead of a worker.
	EventStall
	EventResume
	// EventSleep: the replica fell asleep with its group, see
	// Options.QuiesceTicks. From an EventSleep with Leading set until the
	// EventWake of the same replica its group is proposed nothing here: what
	// the leader ever proposed in Term ends at Index, and all of it is applied
	// here. Each EventSleep is followed by one EventWake, with the same Term,
	// Index and Leading, before anything that it excluded; a replica that is
	// destroyed wakes too. A host that closes or fails ends without a word.
	EventSleep
	EventWake
)

// An Event is told to Options.Events.
type Event struct {
	Kind    EventKind
	Group   GroupID
	Replica ReplicaID
	Node    NodeID
	Term    uint64
	// Index and Leading are those of EventSleep and EventWake: the last index
	// of the log, all of it applied on the leader and committed on a follower,
	// and whether the replica that sleeps is the leader.
	Index   uint64
	Leading bool
}

// event tells of something on a replica, or on the whole node.
func (h *Host) event(e Event) {
	if f := h.opts.Events; f != nil {
		e.Node = h.opts.Node
		f(e)
	}
}

func (r *replica) event(k EventKind) {
	r.host.event(Event{Kind: k, Group: r.group, Replica: r.id, Term: r.term})
}

// A slumber is where a replica fell asleep.
type slumber struct {
	term, index uint64
	leading     bool
}

func (r *replica) sleepEvent(k EventKind) {
	s := &r.slumber
	r.host.event(Event{Kind: k, Group: r.group, Replica: r.id, Term: s.term, Index: s.index, Leading: s.leading})
}
