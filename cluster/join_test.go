package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// kvStores keeps shards in machines of package kv, each as wrap has it.
func kvStores(wrap func(*kv.Machine) shard.Store) func(vfs.FS, string) (shard.Stores, error) {
	return func(fs vfs.FS, dir string) (shard.Stores, error) {
		return shard.Each(func(id meta.ShardID) (shard.Store, error) {
			m, err := kv.New(kv.Options{FS: fs, Dir: fs.PathJoin(dir, fmt.Sprint(id))})
			return wrap(m), err
		}), nil
	}
}

// start starts a node beside a Local, on a wire like its nodes'.
func start(t testing.TB, change func(*cluster.Options)) (*cluster.Node, error) {
	pool, err := consensus.NewPool(consensus.PoolOptions{})
	require.NoError(t, err)
	o := cluster.Options{
		FS: vfs.NewMem(), Dir: "node", Pool: pool, Wire: &cluster.TCP{}, Stores: kvStores(func(m *kv.Machine) shard.Store { return m }),
	}
	change(&o)
	n, err := cluster.Start(within(t, 20*time.Second), o)
	t.Cleanup(func() {
		if n != nil {
			require.NoError(t, n.Close())
		}
		pool.Close()
	})
	return n, err
}

// What cannot be is refused before anything changes, and says what to do about it.
func TestStartRefusesBadInput(t *testing.T) {
	l := boot(t, 3, func(o *cluster.LocalOptions) { o.TCP = true })
	there := []string{l.Node(2).Address()}
	for _, c := range []struct {
		what   string
		change func(*cluster.Options)
		says   string
	}{
		{"neither", func(*cluster.Options) {}, "expected Init, to make a cluster, or Join"},
		{"both", func(o *cluster.Options) { o.Init, o.Join = 7, there }, "expected one of them"},
		{"no directory", func(o *cluster.Options) { o.Dir = "" }, "FS and Dir are required"},
		{"no wire", func(o *cluster.Options) { o.Wire = nil }, "Wire and Pool are required"},
		{"no stores", func(o *cluster.Options) { o.Stores = nil }, "Stores is required"},
		{"interval", func(o *cluster.Options) { o.Join, o.Interval = there, 1 }, "expected 1ms or more"},
		{"first node", func(o *cluster.Options) { o.Init, o.Node = 7, 2 }, "expected 1: the first node"},
		{"id of a member", func(o *cluster.Options) { o.Join, o.Node = there, l.Node(2).ID() }, "a new node cannot have its id"},
		{"id that is taken", func(o *cluster.Options) { o.Join, o.Node = there, 1 }, "ids to 3 were given out"},
		{"format of the future", func(o *cluster.Options) { o.Join, o.Profile.Formats = there, meta.Range{Min: 2, Max: 3} }, "upgrade the cluster first"},
		{"address that is taken", func(o *cluster.Options) { o.Join, o.Wire = there, &cluster.TCP{Advertise: there[0]} }, "is node"},
		{"address that is not ours", func(o *cluster.Options) {
			o.Join, o.Wire = there, &cluster.TCP{Options: transport.TCPOptions{Listen: "192.0.2.1:1"}}
		}, "192.0.2.1:1"},
	} {
		t.Run(c.what, func(t *testing.T) {
			n, err := start(t, c.change)
			require.ErrorContains(t, err, c.says)
			require.Nil(t, n)
		})
	}
}

// A directory is that of one node of one cluster.
func TestDirectoryOfAnother(t *testing.T) {
	l := boot(t, 2, func(o *cluster.LocalOptions) { o.TCP = true })
	fs := vfs.NewMem()
	n, err := start(t, func(o *cluster.Options) { o.FS, o.Join = fs, []string{l.Node(1).Address()} })
	require.NoError(t, err)
	require.Equal(t, consensus.NodeID(3), n.ID())
	require.NoError(t, n.Close())
	_, err = start(t, func(o *cluster.Options) { o.FS, o.Init = fs, 9 })
	require.ErrorContains(t, err, "belongs to node 3 of cluster 0x1, Init is 0x9")
	_, err = start(t, func(o *cluster.Options) { o.FS, o.Node = fs, 4 })
	require.ErrorContains(t, err, "belongs to node 3 of cluster 0x1, Node is 4")
	other := boot(t, 1, func(o *cluster.LocalOptions) { o.TCP, o.Cluster = true, 9 })
	_, err = start(t, func(o *cluster.Options) { o.FS, o.Join = fs, []string{other.Node(1).Address()} })
	require.ErrorContains(t, err, "is node 1 of cluster 0x9: an empty directory joins that one")
	again, err := start(t, func(o *cluster.Options) { o.FS = fs })
	require.NoError(t, err)
	require.NoError(t, again.Joined(within(t, 20*time.Second)))
	require.Equal(t, consensus.NodeID(3), again.ID())
	require.Equal(t, uint64(2), again.Epoch())
}

// A copy of a node's directory, started under an epoch that was used, stops, and the
// node itself goes on.
func TestCopyOfADirectoryStops(t *testing.T) {
	l := boot(t, 1, func(o *cluster.LocalOptions) { o.TCP = true })
	fs := vfs.NewMem()
	n, err := start(t, func(o *cluster.Options) { o.FS, o.Join = fs, []string{l.Node(1).Address()} })
	require.NoError(t, err)
	require.NoError(t, n.Close())
	copied := vfs.NewMem()
	_, err = vfs.Clone(fs, copied, "node", "node")
	require.NoError(t, err)
	n, err = start(t, func(o *cluster.Options) { o.FS = fs })
	require.NoError(t, err)
	require.NoError(t, n.Joined(within(t, 20*time.Second)))
	second, err := start(t, func(o *cluster.Options) { o.FS = copied })
	require.NoError(t, err)
	err = second.Joined(within(t, 20*time.Second))
	require.ErrorIs(t, err, meta.ErrEpoch)
	require.ErrorContains(t, err, "a copy of its directory")
	require.Error(t, second.Err())
	require.NoError(t, n.Err())
}

// A node that comes back finds the others by what it knew, also where all of them
// were down, and the meta group goes on.
func TestRestartOfAll(t *testing.T) {
	l := boot(t, 4, nil)
	id, err := l.Node(2).CreateShard(within(t, time.Minute), cluster.ShardSpec{})
	require.NoError(t, err)
	put(t, l, id, "k", "v")
	for i := range 4 {
		l.Crash(i + 1)
	}
	for i := range 4 {
		require.NoError(t, l.Start(within(t, time.Minute), i+1))
	}
	for _, n := range l.Nodes() {
		require.NoError(t, n.Joined(within(t, time.Minute)))
		require.Equal(t, uint64(2), n.Epoch())
	}
	await(t, l, "second epochs", func(s *meta.State) bool {
		for _, n := range s.Nodes() {
			if n.Epoch != 2 {
				return false
			}
		}
		return true
	})
	put(t, l, id, "k", "w")
}

// A node that crashes while it joins, at any point, is one node in the end.
func TestJoinIsRepeated(t *testing.T) {
	l := boot(t, 1, func(o *cluster.LocalOptions) { o.TCP = true })
	fs := vfs.NewMem()
	n, err := start(t, func(o *cluster.Options) { o.FS, o.Join = fs, []string{l.Node(1).Address()} })
	require.NoError(t, err)
	first := n.ID()
	require.NoError(t, n.Close())
	// As if it had crashed before it kept its id: it asks by the same request.
	id, err := vfsRead(fs, "node/identity.json")
	require.NoError(t, err)
	require.Contains(t, id, "Joined")
	require.NoError(t, vfsWrite(fs, "node/identity.json", `{"Request":`+requestOf(t, id)+`}`))
	require.NoError(t, fs.RemoveAll("node/log"))
	require.NoError(t, fs.Remove("node/cluster.book"))
	n, err = start(t, func(o *cluster.Options) { o.FS, o.Join = fs, []string{l.Node(1).Address()} })
	// Its log is lost, and with it its epochs: it must not run again as that node.
	require.ErrorIs(t, err, meta.ErrEpoch)
	require.Nil(t, n)
	s, err := l.Node(1).Await(within(t, time.Minute), func(s *meta.State) bool { return len(s.Nodes()) == 2 })
	require.NoError(t, err)
	require.Equal(t, first, s.Nodes()[1].ID)
}

// Nodes that come back at other addresses, where their votes are what it takes to
// make those known, are found.
func TestMajorityMoves(t *testing.T) {
	l := boot(t, 3, func(o *cluster.LocalOptions) { o.TCP = true })
	await(t, l, "a meta group of three", func(s *meta.State) bool {
		sh, ok := s.Shard(meta.MetaShard)
		return ok && len(sh.Members) == 3 && settled(s)
	})
	old := []string{l.Node(2).Address(), l.Node(3).Address()}
	l.Crash(2)
	l.Crash(3)
	for i := 2; i <= 3; i++ {
		require.NoError(t, l.Start(within(t, time.Minute), i))
		require.NotContains(t, old, l.Node(i).Address(), "it did not move")
	}
	for _, n := range l.Nodes() {
		require.NoError(t, n.Joined(within(t, 20*time.Second)))
	}
	await(t, l, "their addresses", func(s *meta.State) bool {
		for _, n := range l.Nodes() {
			if node, ok := s.Node(n.ID()); !ok || node.Address != n.Address() {
				return false
			}
		}
		return true
	})
}
