package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
)

// reconfigureRows times reconfigureValue is what a new replica must fetch.
const (
	reconfigureRows  = 4096
	reconfigureValue = 1 << 10
)

// BenchmarkReconfigure asks what a change of members costs the clients of a
// group: under the load of 64, a fourth replica is added as a learner and
// brought up to date with 4 MiB (learner-ns), given a vote (promote-ns), and
// removed again (remove-ns). dip is the share of the clients' throughput that
// is missing meanwhile, against as long a time after.
//
//	go test -run='^$' -bench=Reconfigure -count=10 ./consensus
func BenchmarkReconfigure(b *testing.B) {
	for _, clients := range harness.Axis("clients", 64) {
		b.Run(harness.Name("clients", clients), func(b *testing.B) {
			w := &watch{}
			c := bootBench(b, setup{nodes: 4, disk: "none", net: "sim", options: func(o *consensus.Options) {
				shortTicks(o)
				patience(o)
				w.options(o)
			}})
			ctx, cancel := context.WithCancel(b.Context())
			l := c.leader(1)
			require.NoError(b, c.fillRows(ctx, l))
			load := startLoad(ctx, l, clients)
			b.Cleanup(func() { cancel(); load.wg.Wait() })
			change := &memberChange{c: c, w: w, l: l, load: load, replica: 3}
			harness.Events(b, harness.Spec{Counters: c.counters}, func(int) (harness.Event, error) {
				return change.run(ctx)
			})
		})
	}
}

func (c *cluster) fillRows(ctx context.Context, l *consensus.Host) error {
	const clients = 16
	var wg sync.WaitGroup
	errs := make([]error, clients)
	for i := range clients {
		wg.Go(func() {
			for k := i; k < reconfigureRows && errs[i] == nil; k += clients {
				_, errs[i] = l.Propose(ctx, 1, consensus.Command{Data: putOf(fmt.Sprint("row", k), reconfigureValue)})
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// A load is clients that propose at one node until its context ends.
type load struct {
	wg   sync.WaitGroup
	done atomic.Int64 // commands answered
}

func startLoad(ctx context.Context, l *consensus.Host, clients int) *load {
	ld := &load{}
	for i := range clients {
		data := putOf(fmt.Sprint("client", i), 128)
		ld.wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := l.Propose(ctx, 1, consensus.Command{Data: data}); err == nil {
					ld.done.Add(1)
				}
			}
		})
	}
	return ld
}

// A memberChange adds and removes a replica on the fourth node, each time one
// with a new id.
type memberChange struct {
	c       *cluster
	w       *watch
	l       *consensus.Host
	load    *load
	replica consensus.ReplicaID // the last one used
}

func (m *memberChange) run(ctx context.Context) (harness.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := m.create(ctx); err != nil {
		return harness.Event{}, err
	}
	member := consensus.Member{Replica: m.replica, Node: 4}
	var took [3]time.Duration
	start, before := time.Now(), m.load.done.Load()
	for i, kind := range []consensus.ChangeKind{consensus.AddLearner, consensus.Promote, consensus.Remove} {
		begin := time.Now()
		change := consensus.Change{Steps: []consensus.ChangeStep{{Kind: kind, Member: member}}}
		if err := m.l.Reconfigure(ctx, 1, change); err != nil {
			return harness.Event{}, fmt.Errorf("change of kind %d of replica %d: %w", kind, member.Replica, err)
		}
		if kind == consensus.AddLearner {
			if err := m.caughtUp(ctx); err != nil {
				return harness.Event{}, err
			}
		}
		took[i] = time.Since(begin)
	}
	all, during := time.Since(start), m.load.done.Load()-before
	// As long a time without a change. It comes second: the first change of
	// a cluster would otherwise be compared with a load that warms up.
	before = m.load.done.Load()
	calm := time.Now()
	time.Sleep(max(all, 20*time.Millisecond))
	rate := float64(m.load.done.Load()-before) / time.Since(calm).Seconds()
	return harness.Event{Took: all, Values: map[string]float64{
		"learner-ns": float64(took[0]), "promote-ns": float64(took[1]), "remove-ns": float64(took[2]),
		"dip": 1 - float64(during)/all.Seconds()/rate,
	}}, nil
}

// create makes the next replica, once the node has removed the last one.
func (m *memberChange) create(ctx context.Context) error {
	m.replica++
	for {
		err := m.c.hosts[3].Create(1, m.replica, consensus.Initial{})
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// caughtUp waits until the new replica has applied all that was in the log when
// it joined.
func (m *memberChange) caughtUp(ctx context.Context) error {
	st, err := m.l.Status(1)
	if err != nil {
		return err
	}
	return m.w.wait(ctx, 4, st.Last)
}
