package consensus_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/measure"
)

// BenchmarkReplication asks what the distance between nodes costs: the
// latencies are those of a command until it is committed, applied and answered
// at the leader; applied-ns (mean) and, from 1,000 commands on, applied-p99-ns
// count on until it is applied on every replica. The wire is simulated with half of rtt each way.
//
//	go test -run='^$' -bench=Replication -count=10 ./consensus
func BenchmarkReplication(b *testing.B) {
	clients := []int{1, 64}
	if harness.Full() {
		clients = []int{1, 64, 256}
	}
	for _, rtt := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
		for _, n := range harness.Axis("clients", clients...) {
			b.Run(harness.Name("rtt", rtt, "clients", n), func(b *testing.B) { benchReplication(b, rtt, n) })
		}
	}
}

func benchReplication(b *testing.B, rtt time.Duration, clients int) {
	s := newSpread(clients)
	c := bootBench(b, setup{
		disk: "none", net: "sim", link: transport.Link{Delay: rtt / 2},
		// Timers of an idle process come up to a millisecond late.
		network: func(o *transport.NetworkOptions) { o.Precise = rtt > 0 },
		options: s.options,
	})
	s.replicas = int32(len(c.hosts))
	l := c.leader(1)
	commands := make([][]byte, clients)
	for i := range commands {
		commands[i] = putOf(fmt.Sprintf("client%d", i), spreadHeader+128)
	}
	spec := harness.Spec{Clients: clients, Start: s.begin, Counters: c.counters}
	r := harness.Run(b, spec, func(cl *harness.Client) error {
		data := commands[cl.ID]
		s.stamp(data, cl.ID, cl.Iter)
		_, err := l.Propose(cl.Context, 1, consensus.Command{Data: data})
		return err
	})
	if r.Invalid != "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	h, err := s.wait(ctx, int64(r.Ops)-r.Errors)
	if err != nil {
		b.Fatal(err)
	}
	for unit, value := range appliedUnits(h) {
		b.ReportMetric(value, unit)
	}
}

// appliedUnits are the figures of a distribution on the line, with the
// percentile only if there are values enough for it.
func appliedUnits(h *measure.Histogram) map[string]float64 {
	units := map[string]float64{"applied-ns": h.Mean()}
	for _, p := range measure.Percentiles(h.Count()) {
		if p.Q == 0.99 {
			units["applied-p99-ns"] = float64(h.Quantile(p.Q))
		}
	}
	return units
}

// A spread measures how long a command takes to every replica. A command ends
// in the client that made it and that client's count; each machine counts its
// arrival, and the last to do so takes the time.
type spread struct {
	replicas int32
	base     time.Time
	slots    [][]spreadSlot // by client
	began    atomic.Int64   // when the measured commands begin; earlier ones do not count
	lost     atomic.Int64   // measured ones whose slot was taken while they were under way

	mu sync.Mutex
	h  measure.Histogram // guarded by mu
}

// spreadSlot is a command under way. A client has one unanswered command at a
// time, but several may still be on their way to the slowest replica.
type spreadSlot struct {
	iter    atomic.Uint64
	start   atomic.Int64
	arrived atomic.Int32
}

const (
	spreadHeader = 16  // bytes of client and count
	spreadWindow = 256 // commands of one client that may be under way
)

func newSpread(clients int) *spread {
	s := &spread{base: time.Now(), slots: make([][]spreadSlot, clients)}
	for i := range s.slots {
		s.slots[i] = make([]spreadSlot, spreadWindow)
	}
	return s
}

// begin forgets what there was so far: the measured commands are those stamped
// from now on.
func (s *spread) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.h.Reset()
	s.lost.Store(0)
	s.began.Store(int64(time.Since(s.base)))
}

// stamp marks data as the iter-th command of a client, beginning now. One that
// takes the slot of a command still under way takes that one out of the
// measurement, and since that would be the slowest, wait then gives no figures.
func (s *spread) stamp(data []byte, client int, iter uint64) {
	tail := data[len(data)-spreadHeader:]
	binary.LittleEndian.PutUint64(tail, uint64(client))
	binary.LittleEndian.PutUint64(tail[8:], iter)
	slot := &s.slots[client][iter%spreadWindow]
	if start := slot.start.Load(); start != 0 && start >= s.began.Load() && slot.arrived.Load() < s.replicas {
		s.lost.Add(1)
	}
	slot.arrived.Store(0)
	slot.start.Store(int64(time.Since(s.base)))
	slot.iter.Store(iter)
}

// options hooks the spread into every machine.
func (s *spread) options(o *consensus.Options) {
	machine := o.Machine
	o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
		m, err := machine(g)
		if err != nil {
			return nil, err
		}
		return &watched{StateMachine: m, note: s.arrive}, nil
	}
}

func (s *spread) arrive(b *consensus.Batch) {
	for _, command := range b.Commands {
		tail := command[len(command)-spreadHeader:]
		client, iter := binary.LittleEndian.Uint64(tail), binary.LittleEndian.Uint64(tail[8:])
		slot := &s.slots[client][iter%spreadWindow]
		if slot.iter.Load() != iter {
			continue
		}
		start := slot.start.Load()
		if slot.arrived.Add(1) != s.replicas {
			continue
		}
		s.mu.Lock()
		if start >= s.began.Load() {
			s.h.Record(time.Since(s.base) - time.Duration(start))
		}
		s.mu.Unlock()
	}
}

// wait returns the distribution when all of so many measured commands are on
// every replica: the last ones to arrive are the tail. It returns an error if
// some never do, or can be followed no more.
func (s *spread) wait(ctx context.Context, commands int64) (*measure.Histogram, error) {
	for {
		// Commands that were given up may still arrive, so this is a copy.
		h := &measure.Histogram{}
		s.mu.Lock()
		h.Merge(&s.h)
		s.mu.Unlock()
		if lost := s.lost.Load(); lost > 0 {
			return nil, fmt.Errorf("%d commands were not on every replica when their clients were %d commands further", lost, spreadWindow)
		}
		if h.Count() >= commands {
			return h, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d commands are on every replica: %w", h.Count(), commands, err)
		}
		time.Sleep(time.Millisecond)
	}
}
