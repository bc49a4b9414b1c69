package txn_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
)

// A fullable is a file system that may have no space left.
type fullable struct {
	full   atomic.Bool
	only   string       // what names of files have that it is so for, if not for all
	denied atomic.Int64 // writes
}

func (f *fullable) fs() vfs.FS {
	return errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpMkdirAll:
			if f.full.Load() && strings.Contains(op.Path, f.only) {
				f.denied.Add(1)
				return syscall.ENOSPC
			}
		}
		return nil
	}))
}

// Transactions go on where one replica of each shard has no space left, for its log or for
// its rows, and none of them is lost or half there when it has some again.
func TestFullDisk(t *testing.T) {
	for name, only := range map[string]string{"all": "", "rows": "stores", "manifest": "stores/MANIFEST"} {
		t.Run(name, func(t *testing.T) { fillDisk(t, only) })
	}
}

func fillDisk(t *testing.T, only string) {
	const nodes, victim = 4, 2
	disks := make([]fullable, nodes)
	disk := &disks[victim-1]
	disk.only = only
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	o := worldOptions{nodes: nodes, shards: 4, participant: func(_ int, o *txn.Options) { o.Store.MemTableBytes = 256 << 10 }}
	o.local.FS = func(node int) (vfs.FS, string) { return disks[node-1].fs(), "node" }
	o.local.Node = func(_ int, o *cluster.Options) { lan(o) }
	w := boot(t, o)
	m := &mixer{w: w, keys: 12, faults: true, began: time.Now()}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		node := 1 + i%nodes
		if node == victim {
			node = 1
		}
		c := w.client(node, txn.ClientOptions{})
		work.Go(func() {
			for ctx.Err() == nil {
				m.one(within(t, 20*time.Second), c, i, rng)
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		before := m.counts[isolation.Committed].Load()
		require.Eventually(t, func() bool { return m.counts[isolation.Committed].Load() >= before+n }, 20*time.Second, time.Millisecond)
	}
	more(100)
	disk.full.Store(true)
	for until := time.Now().Add(20 * time.Second); disk.denied.Load() == 0; more(100) {
		require.True(t, time.Now().Before(until), "nothing was written")
	}
	more(200)
	t.Logf("node %d: %v", victim, w.Node(victim).Err())
	w.crash(victim)
	require.ErrorIs(t, w.start(within(t, 20*time.Second), victim), syscall.ENOSPC, "it is full yet")
	disk.full.Store(false)
	require.NoError(t, w.start(within(t, 20*time.Second), victim))
	more(200)
	stop()
	work.Wait()
	m.readAll(t)
	m.check(isolation.Serializable)
}
