package consensus

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// Names of the lower rooms that the Host's callers use all the time.
type (
	// GroupID names a Raft group.
	GroupID = raftlog.GroupID
	// ReplicaID names a replica within its group. It is never reused.
	ReplicaID = raftlog.ReplicaID
	// NodeID names a node.
	NodeID = transport.NodeID
)

// A Clock tells a Host the time. Wall may be skewed against other nodes; Mono
// never goes back and is what leases are measured with. Implementations are
// safe for concurrent use.
type Clock interface {
	Wall() time.Time
	Mono() time.Duration
}

// systemClock is the process's own clock, inside a synctest bubble the
// bubble's.
type systemClock struct{ base time.Time }

func (c systemClock) Wall() time.Time     { return time.Now() }
func (c systemClock) Mono() time.Duration { return time.Since(c.base) }

// Options configures a Host. A zero field selects its default.
type Options struct {
	// Node is this node's identity. Required, not zero.
	Node NodeID
	// Epoch counts the starts of this node, and leases hang on it. The log
	// keeps the highest that was used; New refuses one that is not above it.
	// A node whose log was lost needs a new Node as well: others may hold
	// promises of its earlier life that it no longer knows, and take what it
	// says in a lower epoch for late. Default: one above the highest in the
	// log, so 1 for a new log.
	Epoch uint64
	// Log is the node's Raft log. Required. The Host closes it.
	Log *raftlog.Log
	// Net is the node's wire. Required. The Host closes it.
	Net transport.Transport
	// Pool runs the replicas. Required; it may serve many hosts and outlives
	// them all.
	Pool *Pool
	// Clock is used for leases. Default: the process's clock.
	Clock Clock
	// Machine makes the state machine of a group's replica on this node.
	// Required.
	Machine func(GroupID) (StateMachine, error)

	// TickInterval is the length of a Raft tick. Default: 50 ms.
	TickInterval time.Duration
	// HeartbeatTicks is the number of ticks between a leader's heartbeats to
	// an active group. Default: 1.
	HeartbeatTicks int
	// ElectionTicks is the number of ticks without a leader after which a
	// replica campaigns; Raft draws from [ElectionTicks, 2 ElectionTicks).
	// Default: 10.
	ElectionTicks int
	// LeaseDuration is the longest time for which a node promises not to vote
	// against a leader, renewed by the frames that pairs of nodes exchange
	// every HeartbeatTicks. It should be the same on every node: between two
	// the shorter one counts. At least four times the interval of the frames.
	// The log keeps the longest that the node ever used, and for that long
	// after a restart the node neither votes nor campaigns, so that a restart
	// may change it. Default: 8 times that interval.
	LeaseDuration time.Duration
	// MaxDrift bounds the relative drift of two nodes' monotonic clocks; a
	// leader shortens its lease by that share. Range [0, 0.5). Default: 0.01.
	MaxDrift float64
	// QuiesceTicks is the number of idle ticks after which a group stops
	// ticking, if all its members have everything. A member whose node is
	// silent does not keep a quorum awake: the group sleeps without it and
	// wakes when the node is back. Negative: never. Default: 2 ElectionTicks.
	QuiesceTicks int

	// StallTimeout is how long the flush of the log, or what a worker does for
	// this host, may stand still before the node stops vouching for itself:
	// until it moves again it sends no frames, heartbeats and requests for votes,
	// and the groups led here find other leaders. Time in which the process
	// itself did not run does not count. What apply workers do is not watched.
	// It costs a failover where the disk would have gone on a moment later, so
	// it should be well above what a busy disk takes for a flush. At least two
	// TickIntervals; negative: never. Default: 5 LeaseDurations, but at least
	// 2 s.
	StallTimeout time.Duration

	// MaxBatchBytes and MaxBatchCommands bound what is packed into one entry.
	// A larger single command travels alone. Default: 256 KiB, 1024.
	MaxBatchBytes    int
	MaxBatchCommands int
	// MaxCommandBytes bounds one command. Default: 8 MiB, or less where
	// MaxGroupBytes is smaller. Net must carry a command and a batch of the
	// largest size.
	MaxCommandBytes int
	// MaxGroupBytes and MaxStoreBytes bound the commands of one group and of
	// all groups of the node that wait or are under way; beyond them a
	// proposal is refused with an *OverloadError. Default: 64 MiB or
	// MaxStoreBytes if that is less, 256 MiB.
	MaxGroupBytes int64
	MaxStoreBytes int64
	// MaxInflightBytes bounds what a leader has under way to one follower.
	// Default: 32 MiB.
	MaxInflightBytes uint64
	// MaxSessions bounds the sessions of one group, at the time when one is
	// opened: what counts is the option of the node that leads then. Default:
	// 4,096.
	MaxSessions int
	// MaxSessionResultBytes bounds the result of a command that carries a
	// session; a larger one is not kept, and ends as ErrResultTooLarge. What
	// counts for a session is the option of the node that led when it was
	// opened. Every replica of a group keeps up to MaxSessions * 16 *
	// MaxSessionResultBytes of results in memory, with the defaults 256 MiB,
	// and about 1 KiB for each session beside that; the rows in its machine
	// take as much again, in memory if the machine keeps them there. Range
	// [1, 8 MiB]. Default: 4 KiB.
	MaxSessionResultBytes int

	// LogTailBytes is what the log of a group keeps behind its last applied
	// entry, so that a follower that was away for a moment is repaired from
	// the log. Default: 16 MiB.
	LogTailBytes int64
	// MaxStoreLogBytes bounds the live log of the node's disk, with
	// raftlog.IndexBytes of memory for every entry: beyond it the groups with the
	// longest logs are flushed and truncated. It is looked at every 20 ticks.
	// Default: 2 GiB.
	MaxStoreLogBytes int64
	// SnapshotBytesPerSecond bounds the rate of one outgoing snapshot.
	// Default: no bound.
	SnapshotBytesPerSecond int64
	// SnapshotTimeout bounds the time one snapshot may be under way and hold
	// back the truncation of the log. Default: 2 min.
	SnapshotTimeout time.Duration
	// MaxSnapshots bounds the snapshots that a node sends, and those it
	// receives, at the same time. Default: 2.
	MaxSnapshots int

	// AsyncApply runs Apply on the pool's apply workers, for machines whose
	// Apply can wait for a disk. Otherwise it runs on the replica's worker.
	AsyncApply bool
	// Manual starts no ticker: the caller calls Tick. For tests that replay.
	Manual bool
	// Frames, if set, attaches bytes to the frames between nodes.
	Frames FrameHooks
	// Events, if set, is told of leadership and sleep, on the worker of the
	// group, and of the node's own events by the ticker. Calls for different
	// groups may overlap, and none may block or call back into the Host.
	Events func(Event)
	// Logger receives what an operator should know. Default: silent.
	Logger *slog.Logger
	_      struct{}
}

// maxEntryBytes bounds what a group's log takes as one entry, well below what
// the wire takes as one frame.
const maxEntryBytes = 32 << 20

func setDefault[T int | int64 | uint64 | float64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// withDefaults fills in defaults and checks every field.
func (o Options) withDefaults() (Options, error) {
	setDefault(&o.TickInterval, 50*time.Millisecond)
	setDefault(&o.HeartbeatTicks, 1)
	setDefault(&o.ElectionTicks, 10)
	setDefault(&o.LeaseDuration, 8*o.frameInterval())
	setDefault(&o.MaxDrift, 0.01)
	setDefault(&o.StallTimeout, max(5*o.LeaseDuration, 2*time.Second))
	setDefault(&o.QuiesceTicks, 2*o.ElectionTicks)
	setDefault(&o.MaxBatchBytes, 256<<10)
	setDefault(&o.MaxBatchCommands, 1024)
	setDefault(&o.MaxStoreBytes, 256<<20)
	setDefault(&o.MaxGroupBytes, min(64<<20, o.MaxStoreBytes))
	setDefault(&o.MaxCommandBytes, int(min(8<<20, o.MaxGroupBytes-commandOverhead)))
	setDefault(&o.MaxInflightBytes, 32<<20)
	setDefault(&o.MaxSessions, 4096)
	setDefault(&o.MaxSessionResultBytes, 4<<10)
	setDefault(&o.LogTailBytes, 16<<20)
	setDefault(&o.MaxStoreLogBytes, 2<<30)
	setDefault(&o.SnapshotTimeout, 2*time.Minute)
	setDefault(&o.MaxSnapshots, 2)
	if o.Clock == nil {
		o.Clock = systemClock{base: time.Now()}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, o.validate()
}

func (o *Options) frameInterval() time.Duration {
	return time.Duration(o.HeartbeatTicks) * o.TickInterval
}

func (o *Options) validate() error {
	for _, c := range []struct {
		ok   bool
		name string
		got  any
		want string
	}{
		{o.Node != 0, "Node", o.Node, "not 0"},
		{o.Log != nil, "Log", o.Log, "a log"},
		{o.Net != nil, "Net", o.Net, "a transport"},
		{o.Pool != nil, "Pool", o.Pool, "a pool"},
		{o.Machine != nil, "Machine", "nil", "a function"},
		{o.TickInterval > 0, "TickInterval", o.TickInterval, "above 0"},
		{o.HeartbeatTicks > 0, "HeartbeatTicks", o.HeartbeatTicks, "above 0"},
		{o.ElectionTicks > o.HeartbeatTicks, "ElectionTicks", o.ElectionTicks, "above HeartbeatTicks"},
		{o.LeaseDuration >= 4*o.frameInterval(), "LeaseDuration", o.LeaseDuration, "at least 4 HeartbeatTicks"},
		{o.MaxDrift >= 0 && o.MaxDrift < 0.5, "MaxDrift", o.MaxDrift, "in [0, 0.5)"},
		{o.StallTimeout < 0 || o.StallTimeout >= 2*o.TickInterval, "StallTimeout", o.StallTimeout, "at least 2 TickInterval, or negative"},
		{o.MaxBatchBytes > 0 && o.MaxBatchBytes <= maxEntryBytes, "MaxBatchBytes", o.MaxBatchBytes, "in [1, 32 MiB]"},
		{o.MaxBatchCommands > 0 && o.MaxBatchCommands <= maxOrdinals, "MaxBatchCommands", o.MaxBatchCommands, "in [1, 1024]"},
		{o.MaxCommandBytes > 0 && o.MaxCommandBytes <= maxEntryBytes, "MaxCommandBytes", o.MaxCommandBytes, "in [1, 32 MiB]"},
		{o.MaxGroupBytes >= o.commandBytes(), "MaxGroupBytes", o.MaxGroupBytes, fmt.Sprintf("at least %d, a command of MaxCommandBytes", o.commandBytes())},
		{o.MaxStoreBytes >= o.MaxGroupBytes, "MaxStoreBytes", o.MaxStoreBytes, fmt.Sprintf("at least MaxGroupBytes, %d", o.MaxGroupBytes)},
		{o.MaxInflightBytes >= maxMessageBytes, "MaxInflightBytes", o.MaxInflightBytes, "at least 1 MiB"},
		{o.MaxSessions > 0, "MaxSessions", o.MaxSessions, "above 0"},
		{o.MaxSessionResultBytes > 0 && o.MaxSessionResultBytes <= 8<<20, "MaxSessionResultBytes", o.MaxSessionResultBytes, "in [1, 8 MiB]"},
		{o.LogTailBytes > 0, "LogTailBytes", o.LogTailBytes, "above 0"},
		{o.MaxStoreLogBytes > 0, "MaxStoreLogBytes", o.MaxStoreLogBytes, "above 0"},
		{o.SnapshotBytesPerSecond >= 0, "SnapshotBytesPerSecond", o.SnapshotBytesPerSecond, "0 or more"},
		{o.SnapshotTimeout > 0, "SnapshotTimeout", o.SnapshotTimeout, "above 0"},
		{o.MaxSnapshots > 0, "MaxSnapshots", o.MaxSnapshots, "above 0"},
	} {
		if !c.ok {
			return fmt.Errorf("consensus: option %s is %v, expected %s", c.name, c.got, c.want)
		}
	}
	if limit, need := o.Net.MessageLimit(), o.messageBytes(); limit > 0 && limit < need {
		return fmt.Errorf("consensus: option Net carries messages of at most %d bytes, expected %d, for MaxBatchBytes %d and MaxCommandBytes %d: "+
			"what is larger would be accepted and never replicated", limit, need, o.MaxBatchBytes, o.MaxCommandBytes)
	}
	return nil
}

// entryBytes bounds the data of an entry.
func (o *Options) entryBytes() int64 {
	return max(int64(o.MaxBatchBytes), batchHeaderBytes+o.commandBytes())
}

// commandBytes is what the largest command is charged.
func (o *Options) commandBytes() int64 { return int64(o.MaxCommandBytes) + commandOverhead }

// messageBytes bounds an append on the wire: Raft fills it up to maxMessageBytes
// of its own encoding, of which ours is never larger, and sends a larger entry
// alone.
func (o *Options) messageBytes() int64 { return max(maxMessageBytes, o.entryBytes()) + 4<<10 }
