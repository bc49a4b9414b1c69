package consensus_test

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/transport"
	"github.com/phantomdb/phantomdb/harness"
)

// bootBench boots a cluster for a benchmark.
func bootBench(b *testing.B, s setup) *cluster {
	b.Helper()
	harness.Begin(b)
	if s.durable() {
		s.dir = harness.DurableDir(b)
	}
	s.seed = harness.Seed()
	return boot(b, counted(s))
}

// counted has the disks of a cluster counted, if they are real ones.
func counted(s setup) setup {
	if !s.durable() {
		return s
	}
	s.totals = new(diskTotals)
	s.fs = func(_ int, fs vfs.FS) vfs.FS { return &countedFS{FS: fs, totals: s.totals} }
	return s
}

func (s *setup) durable() bool { return s.disk == "sync" || s.disk == "shared" }

// leaders returns the leader's host of every group, in order.
func (c *cluster) leaders() []*consensus.Host {
	var list []*consensus.Host
	for g := range c.s.groups {
		list = append(list, c.leader(consensus.GroupID(g+1)))
	}
	return list
}

// counters are the totals of all nodes.
func (c *cluster) counters() harness.Counters {
	t := harness.Counters{Classes: make([]harness.ClassCounters, transport.Classes)}
	for class := range transport.Classes {
		t.Classes[class].Class = class.String()
	}
	if d := c.s.totals; d != nil {
		t.Fsyncs, t.DiskBytes = d.syncs.Load(), d.bytes.Load()
	}
	for i, h := range c.hosts {
		if h != nil {
			t.Elections += int64(h.Stats().Elections)
			for class, out := range c.nets[i].Stats().Out {
				t.Classes[class].WireBytes += int64(out.Bytes)
				t.Classes[class].Messages += int64(out.Messages)
				t.WireBytes += int64(out.Bytes)
				t.Messages += int64(out.Messages)
			}
		}
	}
	return t
}

// A served counts what each node did as a leader. What a node applies would say
// nothing of an uneven load: every replica applies everything, whoever leads.
type served struct {
	nodes []servedNode
}

// servedNode has a cache line of its own: clients of several nodes count at once.
type servedNode struct {
	ops atomic.Int64
	_   [56]byte
}

func (c *cluster) served() *served { return &served{nodes: make([]servedNode, len(c.hosts))} }

// by counts an operation that h answered.
func (s *served) by(h *consensus.Host) { s.nodes[h.Node()-1].ops.Add(1) }

// loads are a harness.Spec's Loads for so many groups. A single group has a single
// leader, so that the variation of its nodes is a constant and no figure.
func (s *served) loads(groups int) func() []int64 {
	if groups < 2 {
		return nil
	}
	return func() []int64 {
		list := make([]int64, len(s.nodes))
		for i := range s.nodes {
			list[i] = s.nodes[i].ops.Load()
		}
		return list
	}
}

// putOf encodes a put of size bytes under a key of its own.
func putOf(key string, size int) []byte {
	return kv.EncodePut(nil, []byte(key), make([]byte, size))
}

// reopen brings a node up again that was closed or crashed.
func (c *cluster) reopen(i int) {
	require.NoError(c.tb, c.disks[i].Close())
	c.start(i)
}

// anyLeader proposes on the given nodes until one of them answers, and returns
// it.
func (c *cluster) anyLeader(ctx context.Context, nodes []consensus.NodeID, data []byte) (*consensus.Host, error) {
	for {
		for _, n := range nodes {
			if _, err := c.hosts[n-1].Propose(ctx, 1, consensus.Command{Data: data}); err == nil {
				return c.hosts[n-1], nil
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("no leader among nodes %v: %w", nodes, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// ready is a harness.Spec's Ready for group 1.
func (c *cluster) ready(ctx context.Context) error {
	_, err := c.settle(ctx)
	return err
}

// events measures what f does to a cluster whose group 1 has settled on a
// leader, each time within limit.
func (c *cluster) events(b *testing.B, spec harness.Spec, limit time.Duration, f func(context.Context, *consensus.Host) (harness.Event, error)) {
	harness.Events(b, spec, func(int) (harness.Event, error) {
		ctx, cancel := context.WithTimeout(b.Context(), limit)
		defer cancel()
		l, err := c.settle(ctx)
		if err != nil {
			return harness.Event{}, err
		}
		return f(ctx, l)
	})
}

// settle waits until group 1 has a leader with a lease whom all replicas
// follow, with everything applied, and returns it.
func (c *cluster) settle(ctx context.Context) (*consensus.Host, error) {
	for {
		l := c.leader(1)
		st, err := l.Status(1)
		if err == nil && c.level(st) {
			return l, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("the replicas never met: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *cluster) level(leader consensus.Status) bool {
	for _, h := range c.hosts {
		st, err := h.Status(1)
		if err != nil || st.Term != leader.Term || st.Leader != leader.Replica || st.Applied != leader.Last {
			return false
		}
	}
	return true
}

// A watch tells when a node's machine of group 1 has reached an index, be it
// by applying entries or by installing a snapshot.
type watch struct {
	mu      sync.Mutex
	reached map[consensus.NodeID]uint64 // guarded by mu
	moved   chan struct{}               // guarded by mu; closed at every move that somebody waits for
}

// options hooks the watch into every machine.
func (w *watch) options(o *consensus.Options) {
	machine, node := o.Machine, o.Node
	o.Machine = func(g consensus.GroupID) (consensus.StateMachine, error) {
		m, err := machine(g)
		if err != nil {
			return nil, err
		}
		return &watched{StateMachine: m, note: func(b *consensus.Batch) { w.note(node, b.Index) }}, nil
	}
}

func (w *watch) note(node consensus.NodeID, index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reached == nil {
		w.reached = map[consensus.NodeID]uint64{}
	}
	w.reached[node] = index
	if w.moved != nil {
		close(w.moved)
		w.moved = nil
	}
}

// wait returns when node has reached index.
func (w *watch) wait(ctx context.Context, node consensus.NodeID, index uint64) error {
	for {
		w.mu.Lock()
		at := w.reached[node]
		if w.moved == nil {
			w.moved = make(chan struct{})
		}
		moved := w.moved
		w.mu.Unlock()
		if at >= index {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("node %d is at index %d, expected %d: %w", node, at, index, ctx.Err())
		}
	}
}

// watched is a machine that tells of every batch and of every snapshot
// installed.
type watched struct {
	consensus.StateMachine
	note func(b *consensus.Batch)
}

func (m *watched) Apply(b *consensus.Batch, results []consensus.Result) error {
	err := m.StateMachine.Apply(b, results)
	m.note(b)
	return err
}

func (m *watched) Stage(r io.Reader) (consensus.Staged, error) {
	s, err := m.StateMachine.Stage(r)
	if err != nil {
		return nil, err
	}
	return &watchedStaged{Staged: s, note: m.note}, nil
}

type watchedStaged struct {
	consensus.Staged
	note func(b *consensus.Batch)
}

func (s *watchedStaged) Install(ctx context.Context) error {
	err := s.Staged.Install(ctx)
	s.note(&consensus.Batch{Index: s.State().Index})
	return err
}
