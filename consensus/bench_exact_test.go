package consensus_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
)

// exactOps is how many operations one round of BenchmarkExact does.
const exactOps = 1000

// BenchmarkExact asks what the protocol itself costs an operation, in messages,
// bytes and syncs: a cluster in which nothing moves by itself does 1,000 of them,
// one after the other, in steps on one goroutine, without a tick in between. No
// timing has a part in it, so the counts are the same in every round, process
// and machine, and one message more is one more. A round is a new cluster; it is
// what ns/op stands for.
//
//	go test -run='^$' -bench=Exact -benchtime=1x ./consensus
func BenchmarkExact(b *testing.B) {
	for _, op := range []string{"propose", "read"} {
		b.Run(harness.Name("op", op, "replicas", 3, "size", 128), func(b *testing.B) {
			harness.Begin(b)
			var first harness.Counters
			for i := 0; b.Loop(); i++ {
				got := exactRound(b, op)
				if i == 0 {
					first = got
				}
				require.Equal(b, first, got, "round %d", i)
			}
			per := func(unit string, n int64) { b.ReportMetric(float64(n)/exactOps, unit) }
			per("exact-msgs/op", first.Messages)
			per("exact-wire-B/op", first.WireBytes)
			per("exact-fsyncs/op", first.Fsyncs)
			per("exact-disk-B/op", first.DiskBytes)
		})
	}
}

// exactRound boots a cluster, elects node 1, and counts what the operations
// cost.
func exactRound(b *testing.B, op string) harness.Counters {
	e := bootExact(b)
	defer e.close()
	l := e.elect()
	data := putOf("k", 128)
	call := func(ctx context.Context) error { return l.ReadIndex(ctx, 1) }
	if op == "propose" {
		call = func(ctx context.Context) error {
			_, err := l.Propose(ctx, 1, consensus.Command{Data: data})
			return err
		}
	}
	require.NoError(b, e.do(b.Context(), call)) // the first of a term differs
	before := e.counters()
	for range exactOps {
		require.NoError(b, e.do(b.Context(), call))
	}
	after := e.counters()
	return harness.Counters{
		Fsyncs: after.Fsyncs - before.Fsyncs, DiskBytes: after.DiskBytes - before.DiskBytes,
		Messages: after.Messages - before.Messages, WireBytes: after.WireBytes - before.WireBytes,
	}
}

// exact is a manual cluster outside a bubble: it streams no snapshots, so no
// goroutine but the caller of an operation has a part in it.
type exact struct {
	*manual
	nets []transport.Transport // by node
}

func bootExact(b *testing.B) *exact {
	m := &manual{tb: b, o: manualOptions{nodes: 3, replicas: 3}}
	e := &exact{manual: m}
	m.o.host = func(o *consensus.Options) { e.nets = append(e.nets, o.Net) }
	var err error
	m.pool, err = consensus.NewPool(consensus.PoolOptions{Manual: true})
	require.NoError(b, err)
	m.wire = transport.NewNetwork(transport.NetworkOptions{Manual: true, Marshal: true})
	for i := range m.o.nodes {
		n := &manualNode{id: consensus.NodeID(i + 1), fs: vfs.NewMem(), clock: &manualClock{m: m, rate: 1}}
		require.NoError(b, n.fs.MkdirAll("log", 0o755))
		m.nodes = append(m.nodes, n)
		m.start(n.id)
	}
	voters := m.voters()
	for _, v := range voters {
		require.NoError(b, m.host(v.Node).Create(1, v.Replica, consensus.Initial{Voters: voters}))
	}
	return e
}

// drain runs the pool and delivers messages until nothing is left to do.
func (e *exact) drain() {
	for e.pool.Run()+e.wire.DeliverAll() > 0 {
	}
}

// elect makes node 1 the leader, with all of its term's first steps behind it.
func (e *exact) elect() *consensus.Host {
	tick := func() {
		e.now += manualTick
		for _, n := range e.nodes {
			n.host.Tick()
		}
		e.drain()
	}
	tick()
	tick() // the first frames between the nodes
	require.NoError(e.tb, e.host(1).Campaign(1))
	e.drain()
	for range 10 {
		if _, ok := e.host(1).Lease(1); ok {
			return e.host(1)
		}
		tick()
	}
	e.tb.Fatalf("node 1 does not lead: %v", e.status(1))
	return nil
}

// do runs a blocking call to its end, and everything that follows from it.
func (e *exact) do(ctx context.Context, call func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }()
	for {
		e.drain()
		select {
		case err := <-done:
			e.drain()
			return err
		default:
			runtime.Gosched()
		}
	}
}

func (e *exact) counters() harness.Counters {
	var t harness.Counters
	for i, n := range e.nodes {
		s := n.disk.Stats()
		out, _ := e.nets[i].Stats().Total()
		t.Fsyncs += s.Syncs + s.PrepareSyncs
		t.DiskBytes += s.Bytes + s.PreparedBytes
		t.Messages += int64(out.Messages)
		t.WireBytes += int64(out.Bytes)
	}
	return t
}

func (e *exact) close() {
	for _, n := range e.nodes {
		require.NoError(e.tb, n.host.Close())
		require.NoError(e.tb, n.disk.Close())
	}
	require.NoError(e.tb, e.wire.Close())
	e.pool.Close()
}
