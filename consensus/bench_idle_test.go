package consensus_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// idleWindow is how long groups are watched asleep.
const idleWindow = time.Second

// BenchmarkIdle asks what groups cost that nobody uses: three replicas of each
// in one process, all asleep. cpu-ns/group-s is the processor time of the
// process per group and second, heap-B/replica the live heap per replica.
// All else on the line is that of commands to one group beside them.
//
//	go test -run='^$' -bench=Idle -count=10 ./consensus
func BenchmarkIdle(b *testing.B) {
	for _, groups := range harness.Axis("groups", 1000, 10000) {
		for _, clients := range harness.Axis("clients", 64) {
			b.Run(harness.Name("groups", groups, "clients", clients), func(b *testing.B) { benchIdle(b, groups, clients) })
		}
	}
}

func benchIdle(b *testing.B, groups, clients int) {
	before := liveHeap()
	c := bootBench(b, setup{groups: groups, disk: "none", net: "sim", options: func(o *consensus.Options) {
		o.QuiesceTicks = 4 // so that they are soon asleep; asleep, it does not matter
	}})
	c.awaitSleep(b)
	heap := liveHeap()
	cpu, known := cpuWhile(func() { time.Sleep(idleWindow) })

	l := c.leader(1)
	values := make([][]byte, clients)
	for i := range values {
		values[i] = putOf(fmt.Sprint("client", i), 128)
	}
	r := harness.Run(b, harness.Spec{Clients: clients, Counters: c.counters}, func(cl *harness.Client) error {
		_, err := l.Propose(cl.Context, 1, consensus.Command{Data: values[cl.ID]})
		return err
	})
	if r.Invalid != "" {
		return
	}
	if known {
		b.ReportMetric(float64(cpu)/float64(groups)/idleWindow.Seconds(), "cpu-ns/group-s")
	}
	b.ReportMetric((float64(heap)-float64(before))/float64(3*groups), "heap-B/replica")
}

// awaitSleep waits until every replica is asleep.
func (c *cluster) awaitSleep(b *testing.B) {
	deadline := time.Now().Add(90 * time.Second)
	for g := range consensus.GroupID(c.s.groups) {
		for _, h := range c.hosts {
			for {
				st, err := h.Status(g + 1)
				require.NoError(b, err)
				if st.Asleep {
					break
				}
				if time.Now().After(deadline) {
					b.Fatalf("not asleep: %v", st)
				}
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held goes with the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// cpuWhile returns the processor time of the process while f runs. known is false
// where the system does not tell.
func cpuWhile(f func()) (used time.Duration, known bool) {
	u0, s0, before := measure.CPU()
	f()
	u1, s1, after := measure.CPU()
	return u1 + s1 - u0 - s0, before && after
}
