package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// An arena is a cluster that can be hurt: every node has a pool and a disk of
// its own, loses power with both log and machines, stands still, or is cut off,
// one way or both. It is a target for the plans of harness/fault.
type arena struct {
	tb       testing.TB
	setup    arenaSetup
	wire     *transport.Network
	nodes    []*arenaNode // node n is nodes[n-1]
	replicas []atomic.Uint64
	shared   *raftlog.Disk // open, if the nodes share a disk
}

// arenaSetup describes an arena. The zero link is perfect.
type arenaSetup struct {
	nodes, groups int // replicas are three
	seed          uint64
	link          transport.Link
	options       func(*consensus.Options)
	// shared puts the logs and machines of all nodes on one disk: a node that
	// crashes loses what it buffered, and only all lose power, together.
	shared bool
}

// An arenaNode is a node through all its lives.
type arenaNode struct {
	id    consensus.NodeID
	pool  *consensus.Pool
	gate  gate
	slow  atomic.Int64 // added to each flush, a time.Duration
	clock driftingClock

	mu    sync.RWMutex
	host  *consensus.Host // guarded by mu; nil while the node is down
	rng   *rand.Rand      // of whoever crashes and restarts
	disk  *powerDisk
	log   *raftlog.Disk
	epoch uint64
	past  lives // earlier ones
}

// A driftingClock runs a little fast or slow, within Options.MaxDrift of any
// other, and from a base of its own.
type driftingClock struct {
	start time.Time
	rate  float64
	base  time.Duration
}

func (c driftingClock) Wall() time.Time { return time.Now() }
func (c driftingClock) Mono() time.Duration {
	return c.base + time.Duration(float64(time.Since(c.start))*c.rate)
}

func newArena(tb testing.TB, s arenaSetup) *arena {
	tb.Helper()
	a := &arena{tb: tb, setup: s, replicas: make([]atomic.Uint64, s.groups+1)}
	a.wire = transport.NewNetwork(transport.NetworkOptions{Seed: s.seed, Default: s.link, Marshal: true})
	for i := range s.nodes {
		rng := rand.New(rand.NewPCG(s.seed, uint64(i)))
		n := &arenaNode{id: consensus.NodeID(i + 1), rng: rng, disk: newPowerDisk(vfs.NewCrashableMem())}
		n.clock = driftingClock{start: time.Now(), rate: 0.996 + 0.008*rng.Float64(), base: time.Duration(rng.Int64N(int64(time.Hour)))}
		var err error
		n.pool, err = consensus.NewPool(consensus.PoolOptions{
			Workers: 2,
			Charge:  func(consensus.Work) time.Duration { n.gate.wait(); return 0 },
		})
		require.NoError(tb, err)
		if s.shared && i > 0 {
			n.disk = a.nodes[0].disk
		}
		a.nodes = append(a.nodes, n)
	}
	tb.Cleanup(a.close)
	for _, n := range a.nodes {
		require.NoError(tb, a.start(n))
	}
	for g := 1; g <= s.groups; g++ {
		a.create(consensus.GroupID(g))
	}
	return a
}

// create makes a group on three nodes in a row.
func (a *arena) create(g consensus.GroupID) {
	var members []consensus.Member
	for r := range 3 {
		node := (int(g)-1+r)%len(a.nodes) + 1
		members = append(members, consensus.Member{Replica: consensus.ReplicaID(r + 1), Node: consensus.NodeID(node)})
	}
	a.replicas[g].Store(3)
	for _, m := range members {
		require.NoError(a.tb, a.nodes[m.Node-1].Host().Create(g, m.Replica, consensus.Initial{Voters: members}))
	}
	require.NoError(a.tb, a.nodes[members[0].Node-1].Host().Campaign(g))
}

// start brings a node up with what is on its disk.
func (a *arena) start(n *arenaNode) error {
	n.epoch++
	if err := a.boot(n); err != nil {
		return fmt.Errorf("node %d, life %d: %w", n.id, n.epoch, err)
	}
	return nil
}

func (a *arena) boot(n *arenaNode) error {
	if n.log = a.shared; n.log == nil {
		var err error
		if n.log, err = a.openLog(n); err != nil {
			return err
		}
	}
	owned, err := n.log.Log(uint64(n.id))
	if err != nil {
		return err
	}
	disk := n.disk
	o := consensus.Options{
		Node: n.id, Epoch: n.epoch, Log: owned, Pool: n.pool, Clock: n.clock,
		Net: &gatedWire{Transport: a.wire.Node(n.id), gate: &n.gate},
		Machine: func(g consensus.GroupID) (consensus.StateMachine, error) {
			return kv.New(kv.Options{FS: disk, Dir: disk.PathJoin("kv", fmt.Sprint(n.id), fmt.Sprint(g))})
		},
		TickInterval: 10 * time.Millisecond,
		LogTailBytes: 4 << 10,
		AsyncApply:   n.id%2 == 0,
	}
	if a.setup.options != nil {
		a.setup.options(&o)
	}
	host, err := consensus.New(o)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.host = host
	n.mu.Unlock()
	return nil
}

// openLog opens a node's physical log, or that of all nodes.
func (a *arena) openLog(n *arenaNode) (*raftlog.Disk, error) {
	if err := makeDir(n.disk, n.disk.PathJoin("kv", fmt.Sprint(n.id))); err != nil {
		return nil, err
	}
	log, err := raftlog.OpenDisk(n.disk, "log", raftlog.Options{
		MinSegmentBytes: 32 << 10, MaxSegmentBytes: 64 << 10,
		CacheBytes: 8 << 10, // so that followers are repaired and logs replayed from the disk
		Delay:      func(int, bool) time.Duration { return time.Duration(n.slow.Load()) },
	})
	if err == nil && a.setup.shared {
		a.shared = log
	}
	return log, err
}

// Host returns the node's host, nil while it is down.
func (n *arenaNode) Host() *consensus.Host {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.host
}

// Crash cuts the power of a node: of its log and its machines at one moment.
// On a shared disk only the process is lost.
func (a *arena) Crash(id uint64) error {
	n := a.nodes[id-1]
	if a.setup.shared {
		a.lose(n)
		return nil
	}
	left := n.disk.cut(n.rng)
	a.lose(n)
	_ = n.log.Close() // it has no power to write what it buffers
	n.disk = newPowerDisk(left)
	return nil
}

// lose ends a life of a node.
func (a *arena) lose(n *arenaNode) {
	n.mu.Lock()
	host := n.host
	n.host = nil
	n.mu.Unlock()
	host.Crash()
	n.past.add(host.Stats())
}

// stop ends a life of a node in good order.
func (a *arena) stop(n *arenaNode) error {
	n.mu.Lock()
	host := n.host
	n.host = nil
	n.mu.Unlock()
	err := errors.Join(host.Err(), host.Close())
	n.past.add(host.Stats())
	if a.setup.shared {
		return err
	}
	return errors.Join(err, n.log.Close())
}

// powerLoss takes the power from all nodes, with disks of their own at nearly
// the same time.
func (a *arena) powerLoss() {
	if !a.setup.shared {
		var wg sync.WaitGroup
		for _, n := range a.nodes {
			wg.Go(func() { _ = a.Crash(uint64(n.id)) })
		}
		wg.Wait()
		return
	}
	left := newPowerDisk(a.nodes[0].disk.cut(a.nodes[0].rng))
	for _, n := range a.nodes {
		a.lose(n)
		n.disk = left
	}
	_ = a.shared.Close()
	a.shared = nil
}

// Restart starts a node from what the power cut left.
func (a *arena) Restart(id uint64) error { return a.start(a.nodes[id-1]) }

// Cut drops what one node sends to another.
func (a *arena) Cut(from, to uint64) error {
	lost := a.setup.link
	lost.Loss = 1
	a.wire.SetLink(consensus.NodeID(from), consensus.NodeID(to), lost)
	return nil
}

// Heal ends a Cut.
func (a *arena) Heal(from, to uint64) error {
	a.wire.SetLink(consensus.NodeID(from), consensus.NodeID(to), a.setup.link)
	return nil
}

// Pause lets a node stand still.
func (a *arena) Pause(id uint64) error { a.nodes[id-1].gate.shut(); return nil }

// Resume ends a Pause.
func (a *arena) Resume(id uint64) error { a.nodes[id-1].gate.open(); return nil }

// SlowDisk delays every flush of a node's log.
func (a *arena) SlowDisk(id uint64, d time.Duration) error {
	a.nodes[id-1].slow.Store(int64(d))
	return nil
}

// lives counts what happened in the lives of a node.
type lives struct{ elections, snapshots, truncations, refused uint64 }

func (l *lives) add(s consensus.Stats) {
	l.elections += s.Elections
	l.snapshots += s.SnapshotsReceived
	l.truncations += s.Truncations
	l.refused += s.Refused
}

// stats adds up all lives of all nodes.
func (a *arena) stats() lives {
	var sum lives
	for _, n := range a.nodes {
		sum.elections += n.past.elections
		sum.snapshots += n.past.snapshots
		sum.truncations += n.past.truncations
		sum.refused += n.past.refused
		if h := n.Host(); h != nil {
			sum.add(h.Stats())
		}
	}
	return sum
}

func (a *arena) close() {
	for _, n := range a.nodes {
		n.gate.open()
		if n.Host() != nil {
			if err := a.stop(n); err != nil {
				a.tb.Errorf("node %d: %v", n.id, err)
			}
		}
	}
	// Whatever was cut, crashed and replaced: no node said what one may not say.
	if n := a.stats().refused; n > 0 {
		a.tb.Errorf("nodes refused %d messages of each other", n)
	}
	if a.shared != nil {
		if err := a.shared.Close(); err != nil {
			a.tb.Error(err)
		}
	}
	if err := a.wire.Close(); err != nil {
		a.tb.Error(err)
	}
	for _, n := range a.nodes {
		n.pool.Close()
	}
}

// leads returns a node that leads g and has just proved it, with its state. It
// is false until there is one.
func (a *arena) leads(ctx context.Context, g consensus.GroupID) (*consensus.Host, consensus.Status, bool) {
	for _, n := range a.nodes {
		h := n.Host()
		if h == nil || h.Leader(g).Node != n.id {
			continue
		}
		read, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		err := h.ReadIndex(read, g)
		cancel()
		if err != nil {
			continue
		}
		if st, err := h.Status(g); err == nil && st.Role == "leader" {
			return h, st, true
		}
	}
	return nil, consensus.Status{}, false
}

// converged waits until all members of g hold the same state.
func (a *arena) converged(g consensus.GroupID) consensus.Status {
	a.tb.Helper()
	var why string
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_, st, ok := a.leads(context.Background(), g)
		if !ok {
			why = "no leader"
			continue
		}
		digests := map[uint64]uint32{}
		why = ""
		for _, m := range append(st.Voters, st.Learners...) {
			h := a.nodes[m.Node-1].Host()
			sm, err := h.Machine(g)
			if err != nil {
				why = err.Error()
				break
			}
			index, sum := sm.(*kv.Machine).Digest()
			if other, ok := digests[index]; ok && other != sum {
				a.tb.Fatalf("group %d: the replica on node %d has digest %x at index %d, another has %x", g, m.Node, sum, index, other)
			}
			digests[index] = sum
		}
		if why == "" && len(digests) == 1 && !st.Joint {
			return st
		}
		if why == "" {
			why = fmt.Sprintf("replicas stand at %v, joint %v", digests, st.Joint)
		}
	}
	a.tb.Fatalf("group %d did not converge: %s", g, why)
	return consensus.Status{}
}

// recovery is how long a whole majority may take to elect a leader and to apply
// a command, on a busy machine.
const recovery = 20 * time.Second

// accept waits until every group has applied a new command, for as long as recovery
// takes. If one does not it tells how the replicas stand.
func (a *arena) accept(ctx context.Context) bool {
	a.tb.Helper()
	ctx, cancel := context.WithTimeout(ctx, recovery)
	defer cancel()
	for g := consensus.GroupID(1); int(g) <= a.setup.groups; g++ {
		if !a.accepts(ctx, g) {
			a.tb.Logf("group %d accepts nothing:\n%s", g, a.describe(g))
			return false
		}
	}
	return true
}

// accepts proposes to g until a command is applied. It gives up when ctx ends
// or a node has stopped for good.
func (a *arena) accepts(ctx context.Context, g consensus.GroupID) bool {
	for ctx.Err() == nil {
		for _, n := range a.nodes {
			h := n.Host()
			if h == nil {
				continue
			}
			try, cancel := context.WithTimeout(ctx, time.Second)
			_, err := h.Propose(try, g, consensus.Command{Data: kv.EncodeNop(nil, nil)})
			cancel()
			if err == nil {
				return true
			}
			if h.Err() != nil && n.Host() == h && !n.disk.isOff() {
				return false
			}
		}
		time.Sleep(time.Millisecond)
	}
	return false
}

// describe tells how the replicas of g stand.
func (a *arena) describe(g consensus.GroupID) string {
	var lines strings.Builder
	for _, n := range a.nodes {
		h := n.Host()
		if h == nil {
			fmt.Fprintf(&lines, "node %d is down\n", n.id)
			continue
		}
		st, err := h.Status(g)
		fmt.Fprintf(&lines, "node %d, life %d: %v asleep %v joint %v voters %v learners %v match %v error %v fatal %v\n",
			n.id, n.epoch, st, st.Asleep, st.Joint, st.Voters, st.Learners, st.Match, err, h.Err())
	}
	return lines.String()
}
