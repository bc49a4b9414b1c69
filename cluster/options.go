package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// Options configures a Node. A zero field selects its default.
type Options struct {
	// FS and Dir hold what the node keeps: who it is, its log, its machines. Dir is
	// made if it is missing. Required.
	FS  vfs.FS
	Dir string
	// Wire gives the node its end of the wire. Required.
	Wire Wire
	// Pool runs the replicas. Required; it may serve many nodes and outlives them.
	Pool *consensus.Pool

	// Init makes a cluster of this identity, with this node as its first. Join are
	// addresses of members of a cluster, any of them. One of the two is required
	// until the node has joined, and neither may contradict what Dir says later.
	Init uint64
	Join []string
	// Node is the id that the node must get, because its certificate says so.
	// Default: the cluster chooses.
	Node consensus.NodeID
	// Profile is what the node says of itself.
	Profile meta.Profile

	// Stores opens what the node's replicas of shards keep, all in dir. Required.
	Stores func(fs vfs.FS, dir string) (shard.Stores, error)
	// Services are what floors above answer of the shards that this node leads, by
	// name. See Node.Call.
	Services map[string]Handler
	// NodeServices are what floors above answer for this node, by name. See Node.Ask.
	NodeServices map[string]NodeHandler
	// Disk holds the node's log beside those of other nodes. Default: a disk of the
	// node's own, in Dir, opened with Log.
	Disk *raftlog.Disk
	Log  raftlog.Options
	// Consensus changes what the node's Host is started with, beside what is this
	// package's: Node, Log, Net, Pool, Machine, Events and Frames.
	Consensus func(*consensus.Options)

	// Interval is how often the node is heard by the leader of the meta group.
	// Default: 50 ms.
	Interval time.Duration
	// LoadWindow is how long a load must last to count for most of what it is, for
	// placement and status. Default: 10 s.
	LoadWindow time.Duration
	// Logger receives what an operator should know. Default: silent.
	Logger *slog.Logger
	_      struct{}
}

func (o Options) withDefaults() (Options, error) {
	if o.Interval == 0 {
		o.Interval = 50 * time.Millisecond
	}
	if o.LoadWindow == 0 {
		o.LoadWindow = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Profile.Formats == (meta.Range{}) {
		o.Profile.Formats = meta.Range{Min: meta.Format, Max: meta.Format}
	}
	switch {
	case o.FS == nil || o.Dir == "":
		return o, errors.New("cluster: options: FS and Dir are required")
	case o.Wire == nil || o.Pool == nil:
		return o, errors.New("cluster: options: Wire and Pool are required")
	case o.Stores == nil:
		return o, errors.New("cluster: options: Stores is required")
	case o.Interval < time.Millisecond:
		return o, fmt.Errorf("cluster: options: Interval is %v, expected 1ms or more", o.Interval)
	case o.LoadWindow < time.Millisecond:
		return o, fmt.Errorf("cluster: options: LoadWindow is %v, expected 1ms or more", o.LoadWindow)
	case o.Init != 0 && len(o.Join) > 0:
		return o, fmt.Errorf("cluster: options: Init makes cluster %#x and Join joins one at %v, expected one of them", o.Init, o.Join)
	case o.Init != 0 && o.Node > 1:
		return o, fmt.Errorf("cluster: options: Node is %d, expected 1: the first node of a cluster", o.Node)
	}
	return o, nil
}
