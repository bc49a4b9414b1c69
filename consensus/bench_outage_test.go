package consensus_test

import (
	"fmt"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// BenchmarkOutage asks what a group does while one of its three members is
// down for good and clients push at full rate: the rate of a quorum without a
// spare, and whether memory and log stay within bounds. peak-heap-B is the
// largest heap seen meanwhile, garbage not yet collected included, peak-log-B
// the largest log of the leader's store that something still needs.
//
//	go test -run='^$' -bench=Outage -benchtime=60s ./consensus
func BenchmarkOutage(b *testing.B) {
	for _, clients := range harness.Axis("clients", 256) {
		for _, size := range harness.Axis("size", 128) {
			name := harness.Name("down", 1, "disk", harness.DiskLabel("sync"), "net", "sim", "clients", clients, "size", size)
			b.Run(name, func(b *testing.B) { benchOutage(b, clients, size) })
		}
	}
}

func benchOutage(b *testing.B, clients, size int) {
	c := bootGrown(b, setup{groups: 1, disk: "sync", net: "sim"})
	l, err := c.settle(b.Context())
	require.NoError(b, err)
	down := int(c.others(l)[0] - 1)
	c.hosts[down].Crash()
	c.hosts[down] = nil

	values := make([][]byte, clients)
	for i := range values {
		values[i] = putOf(fmt.Sprint("client", i), size)
	}
	// From the begin of the measured part on, as everything else on the line. A
	// second pass begins anew.
	peaks := func() (heap, log int64) { return 0, 0 }
	start := func() {
		peaks()
		peaks = watchPeaks(func() int64 { return c.disks[l.Node()-1].Stats().LiveBytes })
	}
	r := harness.Run(b, harness.Spec{Clients: clients, Counters: c.counters, Start: start}, func(cl *harness.Client) error {
		_, err := l.Propose(cl.Context, 1, consensus.Command{Data: values[cl.ID]})
		return err
	})
	heap, log := peaks()
	if r.Invalid != "" {
		return
	}
	b.ReportMetric(float64(heap), "peak-heap-B")
	b.ReportMetric(float64(log), "peak-log-B")
}

// watchPeaks looks at the heap and at log until the function it returns is
// called, which tells the largest values seen.
func watchPeaks(log func() int64) (stop func() (heapBytes, logBytes int64)) {
	const interval = 20 * time.Millisecond
	var heapBytes, logBytes int64
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	look := func() {
		metrics.Read(sample) // stops nobody, unlike runtime.ReadMemStats
		heapBytes = max(heapBytes, int64(sample[0].Value.Uint64()))
		logBytes = max(logBytes, log())
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			look()
			select {
			case <-t.C:
			case <-quit:
				return
			}
		}
	})
	return func() (int64, int64) {
		close(quit)
		wg.Wait()
		look()
		return heapBytes, logBytes
	}
}
