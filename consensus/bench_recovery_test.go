package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

const (
	recoveryGroups = 16
	recoveryValue  = 1 << 10
	recoveryBatch  = 4
)

// BenchmarkRecovery asks how fast a node opens a store with so many bytes of
// live log, of 16 groups and entries of 4 KiB: the log is read and verified,
// every machine opened. With replay=none the machines hold all of it
// already; with replay=all they hold nothing, and the time lasts until they have
// applied what the log knows to be committed. The files are in the cache of the
// operating system.
//
//	go test -run='^$' -bench=Recovery -count=10 ./consensus
func BenchmarkRecovery(b *testing.B) {
	sizes := []int{64 << 20}
	if harness.Full() {
		sizes = []int{64 << 20, 1 << 30}
	}
	for _, replay := range []string{"none", "all"} {
		for _, size := range sizes {
			b.Run(harness.Name("replay", replay, "disk", harness.DiskLabel("sync"), "size", size), func(b *testing.B) {
				benchRecovery(b, replay == "all", size)
			})
		}
	}
}

func benchRecovery(b *testing.B, replay bool, size int) {
	c := bootBench(b, setup{
		nodes: 1, replicas: 1, groups: recoveryGroups, disk: "sync", net: "sim",
		options: func(o *consensus.Options) {
			o.MaxBatchCommands = recoveryBatch
			o.LogTailBytes, o.MaxStoreLogBytes = 2*int64(size), 4*int64(size)
		},
	})
	require.NoError(b, c.fillGroups(b.Context(), size))
	entries, err := c.liveEntries()
	require.NoError(b, err)
	if !replay {
		for g := range consensus.GroupID(recoveryGroups) {
			m := c.machine(0, g+1)
			index, _ := m.Position()
			require.NoError(b, m.Flush(b.Context(), index))
		}
	}
	harness.Events(b, harness.Spec{}, func(int) (harness.Event, error) {
		if err := errors.Join(c.hosts[0].Close(), c.disks[0].Close()); err != nil {
			return harness.Event{}, err
		}
		start := time.Now()
		c.start(0)
		if replay {
			if err := c.replayed(b.Context()); err != nil {
				return harness.Event{}, err
			}
		}
		took := time.Since(start)
		return harness.Event{Took: took, Bytes: c.disks[0].Stats().LiveBytes, Entries: entries}, nil
	})
}

// fillGroups writes size bytes through all groups, over keys that fill one
// mebibyte.
func (c *cluster) fillGroups(ctx context.Context, size int) error {
	const clients = 16 * recoveryGroups
	leaders := c.leaders()
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			g := i % len(leaders)
			for k := 0; k < size/recoveryValue/clients && errs[i] == nil; k++ {
				data := putOf(fmt.Sprintf("client%d/%d", i, k%4), recoveryValue)
				_, errs[i] = leaders[g].Propose(ctx, consensus.GroupID(g+1), consensus.Command{Data: data})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// liveEntries counts the entries in the log of the only node.
func (c *cluster) liveEntries() (n int64, err error) {
	for g := range consensus.GroupID(recoveryGroups) {
		st, err := c.hosts[0].Status(g + 1)
		if err != nil {
			return 0, err
		}
		n += int64(st.Last - st.First + 1)
	}
	return n, nil
}

// replayed waits until every machine has applied what is known to be committed.
func (c *cluster) replayed(ctx context.Context) error {
	for g := range consensus.GroupID(recoveryGroups) {
		for {
			st, err := c.hosts[0].Status(g + 1)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if st.Applied >= st.Commit {
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}
