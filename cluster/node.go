package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// metaGroup is the Raft group of meta.MetaShard.
const metaGroup = consensus.GroupID(meta.MetaShard)

// A Node is a member of a cluster. It is safe for concurrent use.
type Node struct {
	o       Options
	id      identity
	address string
	disk    *raftlog.Disk // nil if it is not the node's own
	stores  shard.Stores
	net     transport.Transport
	host    *consensus.Host
	logger  *slog.Logger

	views    views
	leader   atomic.Uint64 // the node that led the meta group when last heard of
	reports  reports
	sentinel *sentinel
	meter    meter
	forks    forks
	routes   routes
	machines sync.Map // the latest machine of each shard here, by meta.ShardID
	ops      atomic.Uint64

	opened chan struct{} // closed when the Host runs
	joined chan struct{} // closed when the cluster knows of this start
	fatal  atomic.Pointer[error]
	life   context.Context // ends with the node
	end    context.CancelFunc
	work   sync.WaitGroup
	mu     sync.Mutex
	closed bool // guarded by mu
}

// Start starts a node: the first one of a cluster, one that joins, or one that comes
// back. It returns when the node runs and, unless it comes back, when the cluster
// knows of it; [Node.Joined] waits for that. ctx bounds the start alone.
//
// What cannot be is refused before anything changes: a directory of another cluster
// or node, a format that the cluster does not have, an address that is another
// node's. Such errors are *meta.RefusedError or name what was expected.
func Start(ctx context.Context, o Options) (*Node, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := o.FS.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	id, err := readIdentity(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	if err := o.fits(id); err != nil {
		return nil, err
	}
	if err := o.sameCluster(ctx, id); err != nil {
		return nil, err
	}
	n := &Node{o: o, id: id, logger: o.Logger, opened: make(chan struct{}), joined: make(chan struct{})}
	n.life, n.end = context.WithCancel(context.Background())
	n.reports.init()
	if err := n.begin(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if id.Joined {
		return n, nil
	}
	if err := n.Joined(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// fits refuses a directory that is not that of the node which the options describe.
func (o *Options) fits(id identity) error {
	switch {
	case id.Node == 0 && o.Init == 0 && len(o.Join) == 0:
		return fmt.Errorf("cluster: %s belongs to no node yet: expected Init, to make a cluster, or Join, to join one", o.Dir)
	case id.Node == 0:
		return nil
	case o.Init != 0 && o.Init != id.Cluster:
		return fmt.Errorf("cluster: %s belongs to node %d of cluster %#x, Init is %#x: another directory, or no Init", o.Dir, id.Node, id.Cluster, o.Init)
	case o.Node != 0 && o.Node != id.Node:
		return fmt.Errorf("cluster: %s belongs to node %d of cluster %#x, Node is %d: another directory, or no Node", o.Dir, id.Node, id.Cluster, o.Node)
	}
	return nil
}

// sameCluster refuses members of another cluster than the directory's, as far as they
// answer: the node does not need them.
func (o *Options) sameCluster(ctx context.Context, id identity) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor/2)
	defer cancel()
	if id.Node == 0 {
		return nil
	}
	for _, addr := range o.Join {
		cluster, node, err := o.Wire.Who(ctx, addr)
		if err == nil && cluster != id.Cluster {
			return fmt.Errorf("cluster: %s belongs to node %d of cluster %#x, and at %s is node %d of cluster %#x: an empty directory joins that one",
				o.Dir, id.Node, id.Cluster, addr, node, cluster)
		}
	}
	return nil
}

// begin gives the node an identity, if it has none, and starts what it runs.
func (n *Node) begin(ctx context.Context) error {
	if n.id.Request == 0 {
		n.id.Request = rand.Uint64() | 1 // names this node until it has an id
		if err := n.id.write(n.o.FS, n.o.Dir); err != nil {
			return err
		}
	}
	n.views.init(n.o.FS, n.o.Dir)
	if n.id.Node == 0 {
		if err := n.identify(ctx); err != nil {
			return err
		}
	}
	n.logger = n.logger.With("node", uint64(n.id.Node))
	if err := n.views.load(); err != nil {
		n.logger.Warn("cluster: what was known of the cluster is lost, and is asked for", "err", err)
	}
	if err := n.open(); err != nil {
		return err
	}
	if n.o.Init != 0 && !n.id.Joined {
		if err := n.makeMeta(); err != nil {
			return err
		}
	}
	n.sentinel = &sentinel{n: n, base: time.Now()}
	n.meter.n, n.meter.at = n, time.Now()
	n.serve()
	n.work.Go(n.sayWhere)
	n.work.Go(n.register)
	n.work.Go(n.watch)
	n.work.Go(n.keepReplicas)
	n.work.Go(n.sendReports)
	n.work.Go(n.thawLate)
	n.work.Go(n.steward)
	n.work.Go(n.heart)
	n.work.Go(n.sentinel.run)
	return nil
}

// identify learns who this node is, and keeps it.
func (n *Node) identify(ctx context.Context) error {
	id := n.id
	if n.o.Init != 0 {
		id.Cluster, id.Node = n.o.Init, 1
	} else {
		var err error
		if id, err = n.join(ctx); err != nil {
			return err
		}
	}
	// First whom to ask: a node that has an id does not look at Options.Join again.
	if err := n.views.save(); err != nil {
		return fmt.Errorf("cluster: keep what is known of the cluster: %w", err)
	}
	if err := id.write(n.o.FS, n.o.Dir); err != nil {
		return err
	}
	n.id = id
	return nil
}

// open starts the node's Host on its log.
func (n *Node) open() (err error) {
	disk := n.o.Disk
	if disk == nil {
		if disk, err = raftlog.OpenDisk(n.o.FS, n.o.FS.PathJoin(n.o.Dir, "log"), n.o.Log); err != nil {
			return fmt.Errorf("cluster: node %d: %w", n.id.Node, err)
		}
		n.disk = disk
	}
	stores, err := n.o.Stores(n.o.FS, n.o.FS.PathJoin(n.o.Dir, "stores"))
	if err != nil {
		return fmt.Errorf("cluster: node %d: stores: %w", n.id.Node, err)
	}
	n.stores = stores // which is not nil if it is a nil pointer
	log, err := disk.Log(uint64(n.id.Node))
	if err != nil {
		return fmt.Errorf("cluster: node %d: %w", n.id.Node, err)
	}
	n.net, n.address, err = n.o.Wire.Open(n.id.Cluster, n.id.Node, n.resolve)
	if err != nil {
		return errors.Join(fmt.Errorf("cluster: node %d: %w", n.id.Node, err), log.Close())
	}
	o := consensus.Options{Logger: n.o.Logger}
	if n.o.Consensus != nil {
		n.o.Consensus(&o)
	}
	o.Node, o.Log, o.Net, o.Pool = n.id.Node, log, n.net, n.o.Pool
	o.Machine, o.Events = n.machine, n.event
	n.host, err = consensus.New(o)
	if err != nil {
		return fmt.Errorf("cluster: node %d: %w", n.id.Node, err)
	}
	close(n.opened)
	return nil
}

// machine makes the machine of a group.
func (n *Node) machine(g consensus.GroupID) (consensus.StateMachine, error) {
	if g == metaGroup {
		return meta.New(kv.Options{FS: n.o.FS, Dir: n.o.FS.PathJoin(n.o.Dir, "meta"), Logger: n.o.Logger})
	}
	id := meta.ShardID(g)
	store, err := n.stores.Store(id)
	if err != nil {
		return nil, err
	}
	m := shard.New(shard.Options{
		Shard: id, Store: store, Neighbour: n.neighbour,
		Fork: func(child meta.ShardID, f *consensus.Fork, release func()) { n.fork(id, child, f, release) },
	})
	n.machines.Store(id, m)
	return m, nil
}

// makeMeta makes the meta group of a new cluster.
func (n *Node) makeMeta() error {
	first := consensus.Member{Replica: 1, Node: n.id.Node}
	if _, err := n.host.Status(metaGroup); err == nil {
		return nil // by an earlier start, which got no further
	}
	if err := n.host.Create(metaGroup, first.Replica, consensus.Initial{Voters: []consensus.Member{first}}); err != nil {
		return fmt.Errorf("cluster: make cluster %#x: %w", n.id.Cluster, err)
	}
	return n.host.Campaign(metaGroup)
}

// ID is the node's id.
func (n *Node) ID() consensus.NodeID { return n.id.Node }

// Cluster is the cluster's identity.
func (n *Node) Cluster() uint64 { return n.id.Cluster }

// Address is where others find the node.
func (n *Node) Address() string { return n.address }

// Epoch is that of this start. See consensus.Options.
func (n *Node) Epoch() uint64 { return n.host.Epoch() }

// Host runs the node's replicas.
func (n *Node) Host() *consensus.Host { return n.host }

// Joined returns when the cluster knows of this start of the node, with an error if
// it never will.
func (n *Node) Joined(ctx context.Context) error {
	select {
	case <-n.joined:
		return n.Err()
	case <-n.life.Done():
		return errors.Join(n.Err(), fmt.Errorf("cluster: node %d: %w", n.id.Node, consensus.ErrClosed))
	case <-ctx.Done():
		return fmt.Errorf("cluster: node %d has not joined: %w", n.id.Node, context.Cause(ctx))
	}
}

// Done is closed when the node begins to stop.
func (n *Node) Done() <-chan struct{} { return n.life.Done() }

// Err returns why the node stopped by itself, or must be stopped: it was removed, or
// a copy of its directory runs. It is nil as a rule.
func (n *Node) Err() error {
	if err := n.fatal.Load(); err != nil {
		return *err
	}
	if n.host != nil {
		return n.host.Err()
	}
	return nil
}

// fail stops the node for good: it acts no more, and Close is left to do.
func (n *Node) fail(err error) {
	if n.fatal.CompareAndSwap(nil, &err) {
		n.logger.Error("cluster: the node stops", "err", err)
		n.end()
		n.host.Crash()
	}
}

// Close stops the node in good order. The cluster takes it for dead after a while.
func (n *Node) Close() error { return n.stop(func(h *consensus.Host) error { return h.Close() }) }

// Crash stops the node as the end of its process would, for tests.
func (n *Node) Crash() {
	_ = n.stop(func(h *consensus.Host) error { h.Crash(); return nil })
}

func (n *Node) stop(host func(*consensus.Host) error) error {
	n.mu.Lock()
	first := !n.closed
	n.closed = true
	n.mu.Unlock()
	if !first {
		n.work.Wait()
		return nil
	}
	n.end()
	var err error
	switch {
	case n.host != nil:
		err = host(n.host) // closes the wire and the log
	case n.net != nil:
		err = n.net.Close()
	}
	n.work.Wait()
	if n.stores != nil {
		err = errors.Join(err, n.stores.Close())
	}
	if n.disk != nil {
		err = errors.Join(err, n.disk.Close())
	}
	return err
}

// Traffic counts what the node sent and received.
func (n *Node) Traffic() transport.Stats { return n.net.Stats() }
