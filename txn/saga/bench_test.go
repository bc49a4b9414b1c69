package saga_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// benchNodes is how many nodes and shards there are in benchmarks.
const benchNodes = 20

// A bench is a world in a benchmark, with an orchestrator on each node.
type bench struct {
	*world
	orchestrators []*saga.Orchestrator
}

// bootBench boots a cluster of shards led by all nodes alike.
func bootBench(b *testing.B, o saga.Options) *bench {
	b.Helper()
	harness.Begin(b)
	local := cluster.LocalOptions{}
	local.Network.Seed = harness.Seed()
	w := &bench{world: boot(b, benchNodes, local)}
	require.Eventually(b, func() bool {
		count := map[consensus.NodeID]int{}
		for _, n := range w.Nodes() {
			for _, id := range w.ids {
				if n.Host().Leader(consensus.GroupID(id)).Node == n.ID() {
					count[n.ID()]++
				}
			}
		}
		for _, n := range w.Nodes() {
			if count[n.ID()] > 2 {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond)
	o.Homes = w.homes()
	for i := range benchNodes {
		o.Name = fmt.Sprint("o", i)
		w.orchestrators = append(w.orchestrators, w.open(i+1, o))
	}
	return w
}

// counters are the totals of all nodes.
func (w *bench) counters() harness.Counters {
	var t harness.Counters
	for _, n := range w.Nodes() {
		t.Elections += int64(n.Host().Stats().Elections)
		for _, out := range n.Traffic().Out {
			t.WireBytes += int64(out.Bytes)
			t.Messages += int64(out.Messages)
		}
	}
	return t
}

// place is the prefix of the keys of a shard.
func place(shard int) string { return fmt.Sprintf("%02d/", shard%benchNodes*100/benchNodes) }

// benchDefinition has so many steps one behind the other, each of which writes a row of
// 128 bytes, on so many shards in turn. The step that fails is -1 if none does.
func benchDefinition(steps, fail, shards int) *saga.Definition {
	d := &saga.Definition{Name: "bench", Version: 1}
	value := make([]byte, 128)
	for i := range steps {
		put := func(_ context.Context, c *saga.Context) ([]byte, error) {
			if i == fail {
				return nil, saga.Permanent(errors.New("it fails"))
			}
			shard := int(c.Input[0]) + i%shards*7
			return nil, c.Tx.Put(fmt.Sprintf("%s%06d/%d", place(shard), binary.BigEndian.Uint32(c.Input[1:]), i), value)
		}
		s := saga.Step{Name: fmt.Sprint("s", i), Do: saga.Data(put), Undo: saga.Data(put)}
		if i%shards != 0 {
			s.At = func(input []byte) string { return place(int(input[0]) + i%shards*7) }
		}
		if i > 0 {
			s.After = []string{fmt.Sprint("s", i-1)}
		}
		d.Steps = append(d.Steps, s)
	}
	return d
}

// benchInput has a saga begin on a shard, and write rows of a number.
func benchInput(shard int, row uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{byte(shard)}, row)
}

// BenchmarkSaga asks what a saga costs, from its start until it is finished, that writes
// a row of 128 bytes in each step, of which none fails, or the one in the middle, or the
// last, on shards in turn.
//
//	go test -run='^$' -bench='Saga/' -count=10 ./txn/saga
func BenchmarkSaga(b *testing.B) {
	for _, p := range []struct {
		steps  int
		fail   string
		shards int
	}{{3, "none", 1}, {3, "none", 3}, {3, "middle", 3}, {3, "last", 3}, {3, "last", 1}, {10, "none", 1}, {10, "none", 3}} {
		b.Run(harness.Name("steps", p.steps, "fail", p.fail, "shards", p.shards, "disk", "none", "net", "sim", "nodes", benchNodes, "clients", 64), func(b *testing.B) {
			fail := map[string]int{"none": -1, "middle": p.steps / 2, "last": p.steps - 1}[p.fail]
			w := bootBench(b, saga.Options{Definitions: []*saga.Definition{benchDefinition(p.steps, fail, p.shards)}})
			harness.Run(b, harness.Spec{Clients: 64, Counters: w.counters}, func(cl *harness.Client) error {
				shard := cl.Rand.IntN(benchNodes)
				id := saga.ID{Home: place(shard), Name: fmt.Sprintf("%d.%d", cl.ID, cl.Iter)}
				s, err := w.orchestrators[cl.ID%benchNodes].Start(cl.Context, id, "bench", 1, benchInput(shard, cl.Rand.Uint32N(100_000)))
				if err != nil {
					return err
				}
				res, err := s.Wait(cl.Context)
				if err == nil && (res.State == saga.Done) != (fail < 0) {
					err = fmt.Errorf("saga %v is %v: %s", id, res.State, res.Cause)
				}
				return err
			})
		})
	}
}

// BenchmarkSagaResume asks how long it takes another orchestrator to finish so many sagas
// of three steps on three shards, which were interrupted behind the first one, from the
// moment at which it is told that nobody runs them.
//
//	go test -run='^$' -bench=SagaResume -count=10 ./txn/saga
func BenchmarkSagaResume(b *testing.B) {
	for _, sagas := range harness.Points([]int{1000}, []int{100, 1000, 5000}) {
		b.Run(harness.Name("sagas", sagas, "disk", "none", "net", "sim", "nodes", benchNodes), func(b *testing.B) {
			d := benchDefinition(3, -1, 3)
			var held atomic.Bool
			put := d.Steps[1].Do
			d.Steps[1].Retry.Initial, d.Steps[1].Retry.Max = time.Hour, time.Hour
			d.Steps[1].Do = saga.Hold(put, &held)
			w := bootBench(b, saga.Options{Definitions: []*saga.Definition{d}, Limit: sagas, Scan: -1})
			harness.Events(b, harness.Spec{Counters: w.counters}, func(i int) (harness.Event, error) {
				held.Store(true)
				first := w.open(1, saga.Options{Name: fmt.Sprint("first", i), Homes: w.homes(), Definitions: []*saga.Definition{d}, Limit: sagas, Scan: -1})
				if err := interrupt(b.Context(), first, i, sagas); err != nil {
					return harness.Event{}, err
				}
				held.Store(false)
				began := time.Now()
				n, err := w.orchestrators[1].Resume(b.Context())
				for err == nil && w.orchestrators[1].Running() > 0 {
					time.Sleep(100 * time.Microsecond)
				}
				took := time.Since(began)
				if err == nil && n != sagas {
					err = fmt.Errorf("%d of %d sagas were resumed", n, sagas)
				}
				return harness.Event{Took: took, Entries: int64(sagas)}, err
			})
		})
	}
}

// homes are the prefixes of all shards.
func (w *bench) homes() (list []string) {
	for i := range benchNodes {
		list = append(list, place(i))
	}
	return list
}

// interrupt starts sagas, and closes their orchestrator.
func interrupt(ctx context.Context, o *saga.Orchestrator, round, sagas int) error {
	errs := make([]error, 64)
	var work sync.WaitGroup
	for c := range errs {
		work.Go(func() {
			for n := c; n < sagas && errs[c] == nil; n += len(errs) {
				_, errs[c] = o.Start(ctx, saga.ID{Home: place(n), Name: fmt.Sprintf("%d.%d", round, n)}, "bench", 1, benchInput(n%benchNodes, uint32(n)))
			}
		})
	}
	work.Wait()
	return errors.Join(append(errs, o.Close(ctx))...)
}
