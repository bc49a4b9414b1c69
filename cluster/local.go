package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// LocalOptions configures a Local. A zero field selects its default.
type LocalOptions struct {
	// Cluster is the cluster's identity. Default: 1.
	Cluster uint64
	// TCP has the nodes use sockets of the loopback interface instead of the
	// simulated Network. Default of Network: perfect links.
	TCP     bool
	Network transport.NetworkOptions
	// FS gives each node, from 1, its file system and directory. Default: one in
	// memory.
	FS func(node int) (vfs.FS, string)
	// Pool configures the workers that all nodes share.
	Pool consensus.PoolOptions
	// Node changes the options of each node before it starts.
	Node func(node int, o *Options)
	_    struct{}
}

// A Local is a cluster in one process. Its methods are not for concurrent use,
// other than Node's.
type Local struct {
	o       LocalOptions
	pool    *consensus.Pool
	network *transport.Network
	sim     *Sim
	fs      []vfs.FS
	dirs    []string
	nodes   []*Node // node i at i-1, nil while it is down
}

// MaxLocal is how many nodes one process is good for.
const MaxLocal = 50

// NewLocal boots a cluster of so many nodes and returns when all have joined.
func NewLocal(ctx context.Context, nodes int, o LocalOptions) (*Local, error) {
	if nodes < 1 || nodes > MaxLocal {
		return nil, fmt.Errorf("cluster: local cluster of %d nodes, expected 1 to %d", nodes, MaxLocal)
	}
	if o.Cluster == 0 {
		o.Cluster = 1
	}
	pool, err := consensus.NewPool(o.Pool)
	if err != nil {
		return nil, err
	}
	l := &Local{o: o, pool: pool}
	if !o.TCP {
		l.network = transport.NewNetwork(o.Network)
		l.sim = &Sim{Network: l.network}
	}
	for range nodes {
		l.grow()
	}
	if err := l.boot(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// boot starts the first node, and then the others at once.
func (l *Local) boot(ctx context.Context) error {
	if err := l.Start(ctx, 1); err != nil {
		return err
	}
	errs := make([]error, len(l.nodes))
	var work sync.WaitGroup
	for i := 1; i < len(l.nodes); i++ {
		work.Go(func() { errs[i] = l.Start(ctx, i+1) })
	}
	work.Wait()
	return errors.Join(errs...)
}

// Start starts a node, again if it ran before. The nodes are numbered from 1 as
// they were booted, which need not be their ids.
func (l *Local) Start(ctx context.Context, i int) error {
	o := Options{
		FS: l.fs[i-1], Dir: l.dirs[i-1], Pool: l.pool, Wire: &TCP{},
		Stores: kvStores,
	}
	if l.sim != nil {
		o.Wire = l.sim
	}
	if first := l.nodes[0]; i == 1 {
		o.Init = l.o.Cluster
	} else if first != nil {
		o.Join = []string{first.Address()}
	}
	if l.o.Node != nil {
		l.o.Node(i, &o)
	}
	n, err := Start(ctx, o)
	if err != nil {
		return fmt.Errorf("cluster: start node %d of a local cluster: %w", i, err)
	}
	l.nodes[i-1] = n
	return nil
}

// kvStores keeps shards in machines of package kv.
func kvStores(fs vfs.FS, dir string) (shard.Stores, error) {
	return shard.Each(func(id meta.ShardID) (shard.Store, error) {
		return kv.New(kv.Options{FS: fs, Dir: fs.PathJoin(dir, strconv.FormatUint(uint64(id), 10))})
	}), nil
}

// Add starts one node more.
func (l *Local) Add(ctx context.Context) error {
	l.grow()
	if err := l.Start(ctx, len(l.nodes)); err != nil {
		l.nodes = l.nodes[:len(l.nodes)-1]
		l.fs, l.dirs = l.fs[:len(l.nodes)], l.dirs[:len(l.nodes)]
		return err
	}
	return nil
}

// Drop closes the last node and forgets it.
func (l *Local) Drop() error {
	last := len(l.nodes) - 1
	var err error
	if n := l.nodes[last]; n != nil {
		err = n.Close()
	}
	l.nodes, l.fs, l.dirs = l.nodes[:last], l.fs[:last], l.dirs[:last]
	return err
}

// grow makes room for a node.
func (l *Local) grow() {
	fs, dir := vfs.FS(nil), ""
	if l.o.FS != nil {
		fs, dir = l.o.FS(len(l.nodes) + 1)
	} else {
		fs, dir = vfs.NewMem(), "node"
	}
	l.fs, l.dirs, l.nodes = append(l.fs, fs), append(l.dirs, dir), append(l.nodes, nil)
}

// Node returns the i-th node, nil while it is down.
func (l *Local) Node(i int) *Node { return l.nodes[i-1] }

// Nodes returns the nodes that are up.
func (l *Local) Nodes() []*Node {
	var list []*Node
	for _, n := range l.nodes {
		if n != nil {
			list = append(list, n)
		}
	}
	return list
}

// Dirs returns the directory of each node, whether it is up or not.
func (l *Local) Dirs() []string { return l.dirs }

// Network is the simulated wire, nil with TCP.
func (l *Local) Network() *transport.Network { return l.network }

// Crash stops a node as the end of its process would.
func (l *Local) Crash(i int) {
	l.nodes[i-1].Crash()
	l.nodes[i-1] = nil
}

// Close stops all nodes.
func (l *Local) Close() error {
	errs := make([]error, len(l.nodes))
	var work sync.WaitGroup
	for i, n := range l.nodes {
		if n != nil {
			work.Go(func() { errs[i] = n.Close() })
		}
	}
	work.Wait()
	if l.network != nil {
		errs = append(errs, l.network.Close())
	}
	l.pool.Close()
	return errors.Join(errs...)
}
