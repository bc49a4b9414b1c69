package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// setup describes a cluster in one process.
type setup struct {
	nodes    int // default 3
	groups   int // default 1
	replicas int // default 3
	// disk: "none" is the same code on a file system in memory, "sync" a real
	// log per node below dir, "shared" one real log for all nodes.
	disk string
	dir  string
	// net: "sim" or "tcp"; link is the simulated wire.
	net     string
	link    transport.Link
	marshal bool
	seed    uint64
	workers int
	// applyWorkers is set where a machine that is held up must not hold up the
	// others.
	applyWorkers int
	charge       func(consensus.Work) time.Duration
	// apart gives every node a pool of its own; fs and wire wrap a node's file
	// system and wire.
	apart   bool
	fs      func(i int, fs vfs.FS) vfs.FS
	totals  *diskTotals // of a cluster whose disks are counted
	wire    func(i int, t transport.Transport) transport.Transport
	options func(*consensus.Options)
	raftlog func(*raftlog.Options)
	network func(*transport.NetworkOptions)
	tcp     func(*transport.TCPOptions)
}

// cluster is a whole cluster: hosts on one pool.
type cluster struct {
	tb    testing.TB
	s     setup
	pools []*consensus.Pool // by node
	wire  *transport.Network
	disks []*raftlog.Disk // by node, or one
	fs    []vfs.FS        // by node
	hosts []*consensus.Host
	nets  []transport.Transport // by node
	addrs sync.Map              // NodeID -> address, of TCP
}

func boot(tb testing.TB, s setup) *cluster {
	tb.Helper()
	for _, d := range []struct {
		field *int
		value int
	}{{&s.nodes, 3}, {&s.groups, 1}, {&s.replicas, 3}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	c := &cluster{tb: tb, s: s, nets: make([]transport.Transport, s.nodes)}
	for i := range s.nodes {
		if i > 0 && !s.apart {
			c.pools = append(c.pools, c.pools[0])
			continue
		}
		p, err := consensus.NewPool(consensus.PoolOptions{Workers: s.workers, ApplyWorkers: s.applyWorkers, Charge: s.charge})
		require.NoError(tb, err)
		c.pools = append(c.pools, p)
	}
	if s.net != "tcp" {
		o := transport.NetworkOptions{Seed: s.seed, Default: s.link, Marshal: s.marshal}
		if s.network != nil {
			s.network(&o)
		}
		c.wire = transport.NewNetwork(o)
	}
	c.hosts = make([]*consensus.Host, s.nodes)
	c.disks = make([]*raftlog.Disk, s.nodes)
	for i := range s.nodes {
		if s.durable() {
			c.fs = append(c.fs, vfs.Default)
		} else {
			c.fs = append(c.fs, vfs.NewMem())
		}
		if s.fs != nil {
			c.fs[i] = s.fs(i, c.fs[i])
		}
		c.start(i)
	}
	tb.Cleanup(c.close)
	for g := range s.groups {
		c.create(consensus.GroupID(g + 1))
	}
	return c
}

// path is where node i keeps its files.
func (c *cluster) path(i int) string {
	if c.s.durable() {
		dir := filepath.Join(c.s.dir, fmt.Sprintf("node%d", i+1))
		require.NoError(c.tb, os.MkdirAll(dir, 0o755))
		return dir
	}
	return ""
}

// start brings node i up, again if it was up before.
func (c *cluster) start(i int) {
	c.tb.Helper()
	fs, dir := c.fs[i], c.path(i)
	var log *raftlog.Log
	var err error
	switch c.s.disk {
	case "shared":
		if c.disks[0] == nil {
			c.disks[0] = c.openDisk(fs, filepath.Join(c.s.dir, "log"), false)
		}
		log, err = c.disks[0].Log(uint64(i + 1))
	default:
		c.disks[i] = c.openDisk(fs, fs.PathJoin(dir, "log"), c.s.disk != "sync")
		log, err = c.disks[i].Log(1)
	}
	require.NoError(c.tb, err)
	c.nets[i] = c.transport(i)
	if c.s.wire != nil {
		c.nets[i] = c.s.wire(i, c.nets[i])
	}
	o := consensus.Options{
		Node: consensus.NodeID(i + 1), Log: log, Pool: c.pools[i], Net: c.nets[i],
		Machine: func(g consensus.GroupID) (consensus.StateMachine, error) {
			return kv.New(kv.Options{FS: fs, Dir: fs.PathJoin(dir, "kv", fmt.Sprint(g))})
		},
	}
	if c.s.options != nil {
		c.s.options(&o)
	}
	c.hosts[i], err = consensus.New(o)
	require.NoError(c.tb, err)
}

func (c *cluster) openDisk(fs vfs.FS, dir string, inline bool) *raftlog.Disk {
	o := raftlog.Options{Inline: inline}
	if inline {
		o.MaxSegmentBytes = 4 << 20
	}
	if c.s.raftlog != nil {
		c.s.raftlog(&o)
	}
	d, err := raftlog.OpenDisk(fs, dir, o)
	require.NoError(c.tb, err)
	return d
}

func (c *cluster) transport(i int) transport.Transport {
	id := consensus.NodeID(i + 1)
	if c.s.net != "tcp" {
		return c.wire.Node(id)
	}
	o := transport.TCPOptions{
		Node: id, Cluster: 1,
		Resolve: func(n transport.NodeID) (string, error) {
			if a, ok := c.addrs.Load(n); ok {
				return a.(string), nil
			}
			return "", fmt.Errorf("node %d is unknown", n)
		},
	}
	if c.s.tcp != nil {
		c.s.tcp(&o)
	}
	t, err := transport.ListenTCP(o)
	require.NoError(c.tb, err)
	c.addrs.Store(id, t.Addr().String())
	return t
}

// create makes group g with its replicas on consecutive nodes.
func (c *cluster) create(g consensus.GroupID) {
	c.tb.Helper()
	members := c.members(g)
	for _, m := range members {
		require.NoError(c.tb, c.hosts[m.Node-1].Create(g, m.Replica, consensus.Initial{Voters: members}))
	}
	require.NoError(c.tb, c.hosts[members[0].Node-1].Campaign(g))
}

func (c *cluster) members(g consensus.GroupID) []consensus.Member {
	var list []consensus.Member
	for r := range c.s.replicas {
		n := (int(g) - 1 + r) % c.s.nodes
		list = append(list, consensus.Member{Replica: consensus.ReplicaID(r + 1), Node: consensus.NodeID(n + 1)})
	}
	return list
}

// leader waits until g has a leader that holds the lease, and returns its host.
func (c *cluster) leader(g consensus.GroupID) *consensus.Host {
	c.tb.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		for _, h := range c.hosts {
			if h == nil {
				continue
			}
			if _, ok := h.Lease(g); ok {
				return h
			}
		}
		time.Sleep(time.Millisecond)
	}
	c.tb.Fatalf("group %d has no leader with a lease", g)
	return nil
}

// put proposes at the leader until it is applied.
func (c *cluster) put(ctx context.Context, g consensus.GroupID, key, value string) {
	c.tb.Helper()
	data := kv.EncodePut(nil, []byte(key), []byte(value))
	for {
		_, err := c.leader(g).Propose(ctx, g, consensus.Command{Data: data})
		if err == nil {
			return
		}
		require.True(c.tb, errors.Is(err, consensus.ErrRejected), "put %s: %v", key, err)
	}
}

func (c *cluster) machine(i int, g consensus.GroupID) *kv.Machine {
	m, err := c.hosts[i].Machine(g)
	require.NoError(c.tb, err)
	return m.(*kv.Machine)
}

func (c *cluster) close() {
	for _, h := range c.hosts {
		if h != nil {
			require.NoError(c.tb, h.Close())
		}
	}
	for _, d := range c.disks {
		if d != nil {
			require.NoError(c.tb, d.Close())
		}
	}
	if c.wire != nil {
		require.NoError(c.tb, c.wire.Close())
	}
	for _, p := range c.pools {
		p.Close()
	}
}
