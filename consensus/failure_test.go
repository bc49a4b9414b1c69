package consensus_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

var errMachine = errors.New("machine is broken")

// A breakable machine fails to apply once it is told to.
type breakable struct {
	consensus.StateMachine
	breaker *breaker
}

type breaker struct {
	broken atomic.Bool
	failed atomic.Int64      // batches
	only   consensus.GroupID // 0: the machines of every group
}

func (b *breakable) Apply(batch *consensus.Batch, results []consensus.Result) error {
	err := b.StateMachine.Apply(batch, results)
	if b.breaker.broken.Load() {
		b.breaker.failed.Add(1)
		err = errMachine
	}
	return err
}

// breaking makes the machines of a node breakable.
func breaking(node consensus.NodeID, async bool) (func(*consensus.Options), *breaker) {
	b := &breaker{}
	return func(o *consensus.Options) {
		o.AsyncApply, o.QuiesceTicks = async, -1
		if o.Node != node {
			return
		}
		machine := o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			sm, err := machine(g)
			if b.only != 0 && g != b.only {
				return sm, err
			}
			return &breakable{sm, b}, err
		}
	}, b
}

// Whoever waits for a machine that failed is told that the outcome is unknown:
// those of the task that failed, and those behind it. Nobody is told that a
// command which the log may hold was refused.
func TestProposalsEndWithABrokenMachine(t *testing.T) {
	for _, async := range []bool{false, true} {
		t.Run(fmt.Sprintf("async=%v", async), func(t *testing.T) {
			o, b := breaking(1, async)
			stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
				m.elect(1)
				open := func() { m.hold = nil } // what would commit
				if async {                      // the apply workers, with the second batch behind the first
					open = shut(&m.node(1).apply)
				} else {
					m.hold = dropping([]consensus.NodeID{1}, "MsgAppResp")
				}
				calls := []*asyncCall{m.propose(1, "k", "failed")}
				m.settle()
				calls = append(calls, m.propose(1, "k", "behind"))
				m.settle()
				b.broken.Store(true)
				open()
				m.tick(3)
				require.ErrorIs(t, m.status(1).Err, errMachine)
				require.Equal(t, int64(1), b.failed.Load(), "batches given to a machine that failed one")
				for _, c := range calls {
					require.True(t, c.ended, c.name)
					require.ErrorIs(t, c.err, consensus.ErrUnknown, c.name)
				}
				late := m.propose(1, "k", "late")
				m.settle()
				require.True(t, late.ended)
				require.ErrorIs(t, late.err, consensus.ErrRejected)
			})
		})
	}
}

// What waits behind a batch that is being applied when the host stops is not
// applied any more, and its client is told.
func TestProposalsEndWithTheHostWhileABatchIsApplied(t *testing.T) {
	// Another Create holds up the stop, so that the worker sees what the apply
	// worker hands back.
	create := make(chan struct{})
	o := func(o *consensus.Options) {
		o.AsyncApply, o.QuiesceTicks = true, -1
		machine := o.Machine
		o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
			if g == 2 {
				<-create
				return nil, errMachine
			}
			return machine(g)
		}
	}
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		create = make(chan struct{})
		m.elect(1)
		open := shut(&m.node(1).apply)
		first := m.propose(1, "k", "first")
		m.settle()
		behind := m.propose(1, "k", "behind")
		m.settle()
		h := m.host(1)
		created := make(chan error, 1)
		go func() { created <- h.Create(2, 1, consensus.Initial{}) }()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- h.Close() }()
		synctest.Wait()
		open()
		synctest.Wait()
		m.pool.Run()
		close(create)
		require.ErrorIs(t, <-created, errMachine)
		require.NoError(t, <-closed)
		m.finished()
		require.True(t, first.ended)
		require.True(t, behind.ended, "nobody ever tells it")
		require.ErrorIs(t, behind.err, consensus.ErrUnknown)
	})
}

// The replica goes while its machine is at a batch, which then fails: its client
// is told all the same.
func TestProposalsEndWithADestroyedReplica(t *testing.T) {
	o, b := breaking(1, true)
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		open := shut(&m.node(1).apply)
		c := m.propose(1, "k", "v")
		m.settle()
		require.NoError(t, m.host(1).Destroy(1))
		b.broken.Store(true)
		open()
		m.settle()
		require.True(t, c.ended, "nobody ever tells it")
		require.ErrorIs(t, c.err, consensus.ErrUnknown)
	})
}

// A replica whose machine failed serves nobody, and must not hold its followers
// by the frames of a node that lives on. The node's other groups do not notice.
func TestFailedReplicaIsReplaced(t *testing.T) {
	o, b := breaking(1, false)
	b.only = 1
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		voters := []consensus.Member{{Replica: 1, Node: 1}, {Replica: 2, Node: 2}, {Replica: 3, Node: 3}}
		for n := range consensus.NodeID(3) {
			require.NoError(t, m.host(n+1).Create(2, consensus.ReplicaID(n+1), consensus.Initial{Voters: voters}))
		}
		require.NoError(t, m.host(1).Campaign(2))
		m.until("a leader of group 2", func() bool { _, ok := m.host(1).Lease(2); return ok })
		b.broken.Store(true)
		m.propose(1, "k", "v")
		m.settle()
		st := m.status(1)
		require.ErrorIs(t, st.Err, errMachine)
		require.Equal(t, "stopped", st.Role)
		require.NoError(t, m.host(1).Err())
		require.Equal(t, uint64(1), m.host(1).Stats().Failures)
		for n := range consensus.NodeID(2) {
			require.False(t, m.host(n+2).Bound(1), "a replica that stopped lets its followers go")
		}
		m.until("another leader", func() bool { return len(m.holders()) == 1 && m.holders()[0] != 1 })
		m.mustPut(m.holders()[0], "k", "w")
		_, ok := m.host(1).Lease(2)
		require.True(t, ok, "of the group beside it")

		require.ErrorIs(t, m.host(1).Campaign(1), consensus.ErrRejected)
		require.ErrorIs(t, m.host(1).Reconfigure(t.Context(), 1, consensus.Change{}), consensus.ErrClosed)
		require.ErrorIs(t, m.host(1).Transfer(t.Context(), 1, 2), consensus.ErrClosed)
		require.ErrorIs(t, m.host(1).ReadIndex(t.Context(), 1), consensus.ErrRejected)

		// A start after the cause was mended goes on where the machine is.
		b.broken.Store(false)
		m.crash(1)
		m.restart(1)
		m.until("applied", func() bool { return m.status(1).Applied == m.status(2).Applied })
	})
}

// A replica that stopped can be destroyed.
func TestFailedReplicaIsDestroyed(t *testing.T) {
	o, b := breaking(3, false)
	stepwise(t, manualOptions{host: o}, func(t *testing.T, m *manual) {
		m.elect(1)
		b.broken.Store(true)
		m.mustPut(1, "k", "v")
		m.until("stopped", func() bool { return m.status(3).Err != nil })
		require.NoError(t, m.host(3).Destroy(1))
		m.settle()
		require.Empty(t, m.host(3).Groups())
	})
}

// A node whose log failed serves nobody, and must not hold its followers by
// frames that say it is alive. Nobody who asks it anything waits for ever.
func TestFailedNodeIsReplaced(t *testing.T) {
	var disks []*faultyDisk
	o := manualOptions{fs: func() vfs.FS {
		disks = append(disks, &faultyDisk{FS: vfs.NewMem()})
		return disks[len(disks)-1]
	}}
	stepwise(t, o, func(t *testing.T, m *manual) {
		m.elect(1)
		disks[0].broken.Store(true)
		m.propose(1, "k", "v")
		m.settle()
		require.ErrorIs(t, m.host(1).Err(), errDisk)
		require.ErrorIs(t, m.host(1).Reconfigure(t.Context(), 1, consensus.Change{
			Steps: []consensus.ChangeStep{{Kind: consensus.Remove, Member: consensus.Member{Replica: 3}}},
		}), consensus.ErrRejected)
		require.ErrorIs(t, m.host(1).Transfer(t.Context(), 1, 2), consensus.ErrRejected)
		m.until("another leader", func() bool { return len(m.holders()) == 1 && m.holders()[0] != 1 })
		m.mustPut(m.holders()[0], "k", "w")
		n := m.node(1)
		n.host.Crash()
		require.ErrorIs(t, n.disk.Close(), errDisk)
		n.host, n.disk = nil, nil
	})
}

var errDisk = errors.New("disk is broken")

// A faultyDisk is a file system on which syncs of the Raft log fail once they
// are told to.
type faultyDisk struct {
	vfs.FS
	broken atomic.Bool
}

func (d *faultyDisk) wrap(f vfs.File, err error, name string) (vfs.File, error) {
	if err != nil || !strings.HasPrefix(name, "log") {
		return f, err
	}
	return &faultyFile{File: f, disk: d}, nil
}

func (d *faultyDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return d.wrap(f, err, name)
}

func (d *faultyDisk) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, o...)
	return d.wrap(f, err, name)
}

type faultyFile struct {
	vfs.File
	disk *faultyDisk
}

func (f *faultyFile) SyncData() error {
	if f.disk.broken.Load() {
		return errDisk
	}
	return f.File.SyncData()
}

// Whoever asks a host whose pool was closed before it is told so, and closing it
// still closes its machines.
func TestHostOfAClosedPool(t *testing.T) {
	pool, err := consensus.NewPool(consensus.PoolOptions{Workers: 1})
	require.NoError(t, err)
	wire := transport.NewNetwork(transport.NetworkOptions{})
	disk, err := raftlog.OpenDisk(vfs.NewMem(), "raft", raftlog.Options{})
	require.NoError(t, err)
	log, err := disk.Log(1)
	require.NoError(t, err)
	var closed atomic.Int64
	h, err := consensus.New(consensus.Options{
		Node: 1, Epoch: 1, Log: log, Pool: pool, Net: wire.Node(1),
		Machine: func(consensus.GroupID) (consensus.StateMachine, error) {
			m, err := kv.New(kv.Options{FS: vfs.NewMem(), Dir: "kv"})
			return &closing{m, &closed}, err
		},
	})
	require.NoError(t, err)
	require.NoError(t, h.Create(1, 1, consensus.Initial{Voters: []consensus.Member{{Replica: 1, Node: 1}}}))
	pool.Close()
	require.ErrorIs(t, h.Reconfigure(t.Context(), 1, consensus.Change{}), consensus.ErrRejected)
	require.ErrorIs(t, h.Transfer(t.Context(), 1, 2), consensus.ErrRejected)
	require.ErrorIs(t, h.Campaign(1), consensus.ErrRejected)
	require.ErrorIs(t, h.Destroy(1), consensus.ErrRejected)
	_, err = h.Status(1)
	require.ErrorIs(t, err, consensus.ErrRejected)
	require.NoError(t, h.Close())
	require.Equal(t, int64(1), closed.Load(), "machines closed")
	require.NoError(t, disk.Close())
	require.NoError(t, wire.Close())
}

// A closing machine counts its Close.
type closing struct {
	consensus.StateMachine
	closed *atomic.Int64
}

func (c *closing) Close() error {
	c.closed.Add(1)
	return c.StateMachine.Close()
}
