package consensus_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// narrow is a transport with a limit.
type narrow struct {
	transport.Transport
	limit int64
}

func (n narrow) MessageLimit() int64 { return n.limit }

// Options that are absurd, or contradict each other, are refused with both
// values, instead of a group that stands still for ever later on.
func TestOptionsAreChecked(t *testing.T) {
	d, err := raftlog.OpenDisk(vfs.NewMem(), "log", raftlog.Options{Inline: true})
	require.NoError(t, err)
	log, err := d.Log(1)
	require.NoError(t, err)
	pool, err := consensus.NewPool(consensus.PoolOptions{Manual: true})
	require.NoError(t, err)
	wire := transport.NewNetwork(transport.NetworkOptions{Manual: true})
	net := wire.Node(1)
	for want, set := range map[string]func(*consensus.Options){
		// A healthy flush would reach it.
		"option StallTimeout is 99ms, expected at least 2 TickInterval, or negative": func(o *consensus.Options) {
			o.StallTimeout = 99 * time.Millisecond
		},
		"option MaxGroupBytes is 1048576, expected at least 1048608, a command of MaxCommandBytes": func(o *consensus.Options) {
			o.MaxGroupBytes, o.MaxCommandBytes = 1<<20, 1<<20
		},
		"option MaxStoreBytes is 1048576, expected at least MaxGroupBytes, 1048577": func(o *consensus.Options) {
			o.MaxStoreBytes, o.MaxGroupBytes = 1<<20, 1<<20+1
		},
		"option Net carries messages of at most 8392740 bytes, expected 8392741, for MaxBatchBytes 262144 and MaxCommandBytes 8388608": func(o *consensus.Options) {
			o.Net = narrow{net, 8392740}
		},
		// A batch of the largest size, and Raft's own messages.
		"expected 16781312": func(o *consensus.Options) { o.Net, o.MaxBatchBytes = narrow{net, 16781311}, 16<<20 },
		"expected 1052672":  func(o *consensus.Options) { o.Net, o.MaxCommandBytes = narrow{net, 1052671}, 1 },
	} {
		o := consensus.Options{
			Node: 1, Log: log, Pool: pool, Net: net,
			Machine: func(consensus.GroupID) (consensus.StateMachine, error) { return nil, errMachine },
		}
		set(&o)
		_, err = consensus.New(o)
		require.ErrorContains(t, err, "consensus: option ")
		require.ErrorContains(t, err, want)
	}
	require.NoError(t, wire.Close())
	pool.Close()
	require.NoError(t, d.Close())
}

// A transport that carries just what New asks for carries the largest command,
// and all that a follower misses, be it of many entries that are tiny.
func TestNarrowestTransport(t *testing.T) {
	const command = 2 << 20
	c := boot(t, setup{
		net:     "tcp",
		tcp:     func(o *transport.TCPOptions) { o.MaxFrameBytes = command + 5 + 32 + 4<<10 },
		options: func(o *consensus.Options) { o.MaxBatchCommands, o.MaxCommandBytes, o.LogTailBytes = 1, command, 1<<30 },
	})
	l := c.leader(1)
	away := c.hosts[c.others(l)[0]-1]
	i := int(away.Node() - 1)
	away.Crash()
	c.hosts[i] = nil
	require.NoError(t, c.disks[i].Close())
	c.disks[i] = nil
	const tiny = 50000 // entries of a few bytes, more than one append of Raft's full size
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range tiny / 50 {
				c.put(t.Context(), 1, "k", "v")
			}
		})
	}
	wg.Wait()
	largest := putOf("large", command-16)
	require.LessOrEqual(t, len(largest), command)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := l.Propose(ctx, 1, consensus.Command{Data: largest})
	require.NoError(t, err)
	c.start(i)
	st, err := l.Status(1)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		s, err := c.hosts[i].Status(1)
		return err == nil && s.Applied >= st.Last
	}, time.Minute, 10*time.Millisecond)
}
