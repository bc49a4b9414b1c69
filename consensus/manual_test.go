package consensus_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// manual is a cluster in which nothing moves by itself: the pool runs, the
// wire delivers, clocks and ticks advance only when the test says so. It lives
// in a synctest bubble, so that settle can wait for the goroutines that
// stream, stage and install snapshots, and thus replays exactly.
type manual struct {
	tb    testing.TB
	o     manualOptions
	pool  *consensus.Pool
	wire  *transport.Network
	now   time.Duration // of a clock that does not drift
	nodes []*manualNode
	// lose and hold pick messages that never arrive, and that wait.
	lose, hold func(transport.Pending) bool

	asleepAt slumbers

	trace  strings.Builder // everything that happened, to compare runs
	events []string        // since they were last taken
	calls  []*asyncCall    // not yet ended

	refused uint64 // messages that nodes refused, in lives that are over
	liars   bool   // a puppet or the test itself says what it likes
}

type manualOptions struct {
	nodes, replicas int // default 3
	host            func(*consensus.Options)
	fs              func() vfs.FS // default vfs.NewMem
	// delay, if set, is that of a log with a flusher of its own, which a test
	// passes by sleeping.
	delay time.Duration
	// applyWorkers is set where one machine that is held up must not hold up
	// the others.
	applyWorkers int
	charge       func(consensus.Work) time.Duration // called after every pass
}

type manualNode struct {
	id    consensus.NodeID
	fs    vfs.FS
	disk  *raftlog.Disk
	host  *consensus.Host // nil while down
	clock *manualClock
	// stall makes Install of a snapshot wait when its work is done, before the
	// Host hears of it, until the channel or the host is closed; freeze makes
	// a frozen view wait before it is written, apply a batch before it is,
	// discard a staged snapshot before it is forgotten.
	stall, freeze, apply, discard atomic.Pointer[chan struct{}]
	applying                      atomic.Bool
	early                         atomic.Int64 // views asked for while a batch was applied
	installing                    atomic.Bool
	installs                      atomic.Int64 // snapshots installed
	discards                      atomic.Int64 // and those refused
	viewStates, stagedStates      atomic.Int64 // times that all rows were asked for
	mixed                         atomic.Int64 // batches applied while one was
}

// A manualClock is a node's clock. It drifts from the moment rate is changed.
type manualClock struct {
	m       *manual
	rate    float64
	base    time.Duration
	changed time.Duration
}

func (c *manualClock) Mono() time.Duration {
	return c.base + time.Duration(float64(c.m.now-c.changed)*c.rate)
}
func (c *manualClock) Wall() time.Time { return time.Unix(0, 0).Add(c.m.now) }

func (c *manualClock) drift(rate float64) {
	c.base, c.changed, c.rate = c.Mono(), c.m.now, rate
}

// stepwise runs a test of a manual cluster in a bubble of its own.
func stepwise(t *testing.T, o manualOptions, f func(t *testing.T, m *manual)) {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	synctest.Test(t, func(t *testing.T) { f(t, bootManual(t, o)) })
}

const manualTick = 50 * time.Millisecond

// boot brings the cluster up with group 1 on its first replicas.
func bootManual(tb testing.TB, o manualOptions) *manual {
	tb.Helper()
	o.nodes = cmp.Or(o.nodes, 3)
	o.replicas = cmp.Or(o.replicas, min(3, o.nodes))
	m := &manual{tb: tb, o: o}
	var err error
	m.pool, err = consensus.NewPool(consensus.PoolOptions{Manual: true, ApplyWorkers: o.applyWorkers, Charge: o.charge})
	require.NoError(tb, err)
	m.wire = transport.NewNetwork(transport.NetworkOptions{Manual: true, Marshal: true})
	for i := range o.nodes {
		n := &manualNode{id: consensus.NodeID(i + 1), fs: vfs.NewMem()}
		if o.fs != nil {
			n.fs = o.fs()
		}
		// The directory of the log outlives a loss of power.
		require.NoError(tb, n.fs.MkdirAll("log", 0o755))
		root, err := n.fs.OpenDir("")
		require.NoError(tb, err)
		require.NoError(tb, root.Sync())
		require.NoError(tb, root.Close())
		n.clock = &manualClock{m: m, rate: 1}
		m.nodes = append(m.nodes, n)
		m.start(n.id)
	}
	tb.Cleanup(m.close)
	voters := m.voters()
	for _, v := range voters {
		require.NoError(tb, m.host(v.Node).Create(1, v.Replica, consensus.Initial{Voters: voters}))
	}
	m.settle()
	return m
}

func (m *manual) voters() []consensus.Member {
	var list []consensus.Member
	for i := range m.o.replicas {
		list = append(list, consensus.Member{Replica: consensus.ReplicaID(i + 1), Node: consensus.NodeID(i + 1)})
	}
	return list
}

func (m *manual) node(id consensus.NodeID) *manualNode { return m.nodes[id-1] }
func (m *manual) host(id consensus.NodeID) *consensus.Host {
	return m.nodes[id-1].host
}

// start brings a node up, again if it was up before.
func (m *manual) start(id consensus.NodeID) {
	m.tb.Helper()
	n := m.node(id)
	m.asleepAt.forget(id)
	var err error
	lo := raftlog.Options{Inline: m.o.delay == 0, MaxSegmentBytes: 1 << 20, CacheBytes: 2 << 10}
	if !lo.Inline {
		lo.Delay = func(int, bool) time.Duration { return m.o.delay }
	}
	n.disk, err = raftlog.OpenDisk(n.fs, "log", lo)
	require.NoError(m.tb, err)
	log, err := n.disk.Log(1)
	require.NoError(m.tb, err)
	o := consensus.Options{
		Node: id, Log: log, Pool: m.pool, Net: m.wire.Node(id), Clock: n.clock,
		TickInterval: manualTick, Manual: true,
		Machine: func(g consensus.GroupID) (consensus.StateMachine, error) {
			sm, err := kv.New(kv.Options{FS: n.fs, Dir: n.fs.PathJoin("kv", fmt.Sprint(g))})
			return &stallingMachine{Machine: sm, n: n}, err
		},
		Events: func(e consensus.Event) { m.event(e) },
	}
	if m.o.host != nil {
		m.o.host(&o)
	}
	n.host, err = consensus.New(o)
	require.NoError(m.tb, err)
}

// stallingMachine can be stopped where a crash is most interesting.
type stallingMachine struct {
	*kv.Machine
	n *manualNode
}

func (s *stallingMachine) Stage(r io.Reader) (consensus.Staged, error) {
	st, err := s.Machine.Stage(r)
	if err != nil {
		return nil, err
	}
	return &stallingStaged{Staged: st, n: s.n}, nil
}

type stallingStaged struct {
	consensus.Staged
	n *manualNode
}

func (s *stallingStaged) State() consensus.State {
	s.n.stagedStates.Add(1)
	return s.Staged.State()
}

func (s *stallingStaged) Install(ctx context.Context) error {
	s.n.installs.Add(1)
	s.n.installing.Store(true)
	defer s.n.installing.Store(false)
	if s.n.applying.Load() {
		s.n.mixed.Add(1)
	}
	err := s.Staged.Install(ctx)
	if c := s.n.stall.Load(); c != nil {
		select {
		case <-*c:
		case <-ctx.Done():
		}
	}
	return err
}

func (s *stallingStaged) Discard() error {
	s.n.discards.Add(1)
	if c := s.n.discard.Load(); c != nil {
		<-*c
	}
	return s.Staged.Discard()
}

func (s *stallingMachine) Apply(b *consensus.Batch, results []consensus.Result) error {
	s.n.applying.Store(true)
	defer s.n.applying.Store(false)
	if s.n.installing.Load() {
		s.n.mixed.Add(1)
	}
	if c := s.n.apply.Load(); c != nil {
		<-*c
	}
	return s.Machine.Apply(b, results)
}

func (s *stallingMachine) View() (consensus.View, error) {
	if s.n.applying.Load() {
		s.n.early.Add(1)
		return nil, errors.New("a view while a batch is applied")
	}
	v, err := s.Machine.View()
	return &stallingView{View: v, n: s.n}, err
}

type stallingView struct {
	consensus.View
	n *manualNode
}

func (v *stallingView) State() consensus.State {
	v.n.viewStates.Add(1)
	return v.View.State()
}

func (v *stallingView) WriteTo(w io.Writer) (int64, error) {
	if c := v.n.freeze.Load(); c != nil {
		<-*c
	}
	return v.View.WriteTo(w)
}

// shut makes a gate that stalls, and returns what opens it.
func shut(gate *atomic.Pointer[chan struct{}]) (open func()) {
	c := make(chan struct{})
	gate.Store(&c)
	return func() {
		gate.Store(nil)
		close(c)
	}
}

// crash stops a node as a loss of its process would, restart brings it back.
func (m *manual) crash(id consensus.NodeID) {
	n := m.node(id)
	n.host.Crash()
	m.refused += n.host.Stats().Refused
	n.host = nil
	require.NoError(m.tb, n.disk.Close())
	n.disk = nil
}

func (m *manual) restart(id consensus.NodeID) {
	m.node(id).stall.Store(nil)
	m.start(id)
	m.settle()
}

var eventNames = map[consensus.EventKind]string{
	consensus.EventCampaign: "campaigns", consensus.EventLeader: "leads", consensus.EventReady: "ready",
	consensus.EventStepDown: "steps down", consensus.EventSuspect: "suspects its leader",
}

func (m *manual) event(e consensus.Event) {
	if e.Kind == consensus.EventSleep || e.Kind == consensus.EventWake {
		m.checkSleep(e)
		return
	}
	m.note(fmt.Sprintf("%d %s term=%d", e.Node, eventNames[e.Kind], e.Term))
}

func (m *manual) note(s string) {
	m.events = append(m.events, s)
	fmt.Fprintf(&m.trace, "%v %s\n", m.now, s)
}

// take returns what was noted since the last call.
func (m *manual) take() string {
	s := strings.Join(m.events, "\n")
	m.events = nil
	return s
}

// kindOf names a message: Raft's own type, or the Host's kind.
func kindOf(p transport.Pending) string {
	if p.Message.Raft != nil {
		return p.Message.Raft.GetType().String()
	}
	return consensus.KindNames[p.Message.Kind]
}

func describe(p transport.Pending) string {
	r := p.Message.Raft
	if r == nil {
		return fmt.Sprintf("%d>%d %s %v", p.From, p.To, kindOf(p), consensus.Numbers(p.Message))
	}
	s := fmt.Sprintf("%d>%d %s term=%d log=%d/%d commit=%d", p.From, p.To, kindOf(p), r.GetTerm(), r.GetLogTerm(), r.GetIndex(), r.GetCommit())
	for _, e := range r.GetEntries() {
		s += fmt.Sprintf(" %d/%d:%d", e.GetTerm(), e.GetIndex(), len(e.GetData()))
	}
	if r.GetReject() {
		s += " reject"
	}
	return s
}

// settleLimit bounds the messages of one settle, and the passes without one:
// more than that is a storm.
const settleLimit = 20000

// settle lets everything run until only held messages are left.
func (m *manual) settle() {
	m.tb.Helper()
	for delivered, passes := 0, 0; ; {
		synctest.Wait() // what runs in the background has ended before each Run
		if m.pool.Run() > 0 {
			if passes++; passes > settleLimit {
				m.tb.Fatalf("%d passes and no end:\n%s", passes, m.trace.String()[max(0, m.trace.Len()-2000):])
			}
			continue
		}
		passes = 0
		if m.lose != nil {
			m.wire.DropIf(m.lose)
		}
		n := m.wire.DeliverIf(func(p transport.Pending) bool {
			if m.hold != nil && m.hold(p) {
				return false
			}
			fmt.Fprintf(&m.trace, "%v %s\n", m.now, describe(p))
			return true
		})
		if n == 0 {
			break
		}
		if delivered += n; delivered > settleLimit {
			m.tb.Fatalf("%d messages and no end:\n%s", delivered, m.trace.String()[max(0, m.trace.Len()-2000):])
		}
	}
	m.finished()
	m.checkLeases()
}

// checkLeases: no two nodes hold a lease on a group, whatever happens.
func (m *manual) checkLeases() {
	m.tb.Helper()
	if h := m.holders(); len(h) > 1 {
		m.tb.Fatalf("nodes %v hold the lease of one group at %v\n%s", h, m.now, m.trace.String())
	}
}

// holders are the nodes that hold the lease of group 1.
func (m *manual) holders() []consensus.NodeID {
	var list []consensus.NodeID
	for _, n := range m.nodes {
		if n.host == nil {
			continue
		}
		if _, ok := n.host.Lease(1); ok {
			list = append(list, n.id)
		}
	}
	return list
}

// tick advances the clocks by one tick and ticks the nodes given, or all.
func (m *manual) tick(times int, nodes ...consensus.NodeID) {
	m.tb.Helper()
	for range times {
		m.now += manualTick
		m.checkLeases()
		for _, n := range m.nodes {
			if n.host != nil && (len(nodes) == 0 || slices.Contains(nodes, n.id)) {
				n.host.Tick()
			}
		}
		m.settle()
	}
}

// until ticks until ok, and fails the test if that takes absurdly long.
func (m *manual) until(what string, ok func() bool) {
	m.tb.Helper()
	for range 400 {
		if ok() {
			return
		}
		m.tick(1)
	}
	for _, n := range m.nodes {
		if n.host != nil && len(n.host.Groups()) > 0 {
			m.tb.Logf("%d: %v asleep=%v bound=%v", n.id, m.status(n.id), m.status(n.id).Asleep, n.host.Bound(1))
		}
	}
	m.tb.Fatalf("%s never came; last:\n%s", what, m.trace.String()[max(0, m.trace.Len()-3000):])
}

// elect makes the replica on a node leader with a lease.
func (m *manual) elect(id consensus.NodeID) *consensus.Host {
	m.tb.Helper()
	m.tick(2) // the first frames
	require.NoError(m.tb, m.host(id).Campaign(1))
	m.settle()
	m.until("a lease", func() bool { return slices.Equal(m.holders(), []consensus.NodeID{id}) })
	return m.host(id)
}

func (m *manual) status(id consensus.NodeID) consensus.Status {
	m.tb.Helper()
	s, err := m.host(id).Status(1)
	require.NoError(m.tb, err)
	return s
}

func (m *manual) get(id consensus.NodeID, key string) string {
	sm, err := m.host(id).Machine(1)
	require.NoError(m.tb, err)
	v, ok := sm.(*stallingMachine).Get([]byte(key))
	if !ok {
		return "-"
	}
	return string(v)
}

// An asyncCall is a call of the Host's that blocks, on a goroutine of its own.
type asyncCall struct {
	name   string
	done   chan error
	err    error
	ended  bool
	cancel context.CancelFunc
}

// dropping picks messages by kind, and by receiver if any is given.
func dropping(to []consensus.NodeID, kinds ...string) func(transport.Pending) bool {
	return func(p transport.Pending) bool {
		return slices.Contains(kinds, kindOf(p)) && (to == nil || slices.Contains(to, p.To))
	}
}

// happened counts what the events said, from now back to the start.
func (m *manual) happened(event string) int { return strings.Count(m.trace.String(), " "+event) }

// call starts a blocking call. It runs up to where it waits.
func (m *manual) call(name string, f func(ctx context.Context) error) *asyncCall {
	ctx, cancel := context.WithCancel(context.Background())
	c := &asyncCall{name: name, done: make(chan error, 1), cancel: cancel}
	go func() { c.done <- f(ctx) }()
	synctest.Wait()
	m.calls = append(m.calls, c)
	return c
}

// finished notes the calls that ended.
func (m *manual) finished() {
	synctest.Wait()
	m.calls = slices.DeleteFunc(m.calls, func(c *asyncCall) bool {
		select {
		case c.err = <-c.done:
			c.ended = true
			c.cancel()
			m.note(c.name + ": " + outcome(c.err))
			return true
		default:
			return false
		}
	})
}

// outcome says in one word how a call ended.
func outcome(err error) string {
	var nl *consensus.NotLeaderError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &nl):
		return fmt.Sprintf("rejected, the leader is %d", nl.Leader)
	case errors.Is(err, consensus.ErrRejected):
		return "rejected"
	case errors.Is(err, consensus.ErrUnknown):
		return "unknown"
	}
	return err.Error()
}

func (m *manual) propose(id consensus.NodeID, key, value string) *asyncCall {
	h := m.host(id)
	return m.call(key+"="+value, func(ctx context.Context) error {
		_, err := h.Propose(ctx, 1, put(key, value))
		return err
	})
}

// mustPut proposes and runs until applied.
func (m *manual) mustPut(id consensus.NodeID, key, value string) {
	m.tb.Helper()
	c := m.propose(id, key, value)
	m.settle()
	require.True(m.tb, c.ended, "%s is pending", c.name)
	require.NoError(m.tb, c.err)
}

func (m *manual) read(id consensus.NodeID) *asyncCall {
	h := m.host(id)
	return m.call(fmt.Sprintf("read at %d", id), func(ctx context.Context) error { return h.ReadIndex(ctx, 1) })
}

func (m *manual) transfer(from consensus.NodeID, to consensus.ReplicaID) *asyncCall {
	h := m.host(from)
	return m.call(fmt.Sprintf("transfer to %d", to), func(ctx context.Context) error { return h.Transfer(ctx, 1, to) })
}

func (m *manual) reconfigure(id consensus.NodeID, steps ...consensus.ChangeStep) *asyncCall {
	h := m.host(id)
	return m.call("change", func(ctx context.Context) error {
		return h.Reconfigure(ctx, 1, consensus.Change{Steps: steps})
	})
}

// isolate cuts nodes off from all others.
func (m *manual) isolate(ids ...consensus.NodeID) {
	var rest []consensus.NodeID
	for _, n := range m.nodes {
		if !slices.Contains(ids, n.id) {
			rest = append(rest, n.id)
		}
	}
	m.wire.Partition(ids, rest)
}

func (m *manual) close() {
	for _, c := range m.calls {
		c.cancel()
	}
	for _, n := range m.nodes {
		if n.host != nil {
			require.NoError(m.tb, n.host.Close())
			m.refused += n.host.Stats().Refused
		}
		if n.disk != nil {
			require.NoError(m.tb, n.disk.Close())
		}
	}
	if !m.liars {
		require.Zero(m.tb, m.refused, "messages that a node refused of another")
	}
	require.NoError(m.tb, m.wire.Close())
	m.pool.Close()
	synctest.Wait()
}

// A puppet is a node that the test plays itself: it sees what is sent to it
// and says what it likes.
type puppet struct {
	m   *manual
	net *transport.Sim
	got []transport.Pending
}

// puppet takes the place of a node that is down.
func (m *manual) puppet(id consensus.NodeID) *puppet {
	m.liars = true
	p := &puppet{m: m, net: m.wire.Node(id)}
	p.net.Receive(p)
	m.tb.Cleanup(func() { _ = p.net.Close() })
	return p
}

// Receive implements transport.Receiver.
func (p *puppet) Receive(from consensus.NodeID, msgs []transport.Message) {
	for _, msg := range msgs {
		p.got = append(p.got, transport.Pending{From: from, To: p.net.Node(), Message: msg})
	}
}

// answers returns what of a kind the puppet has got.
func (p *puppet) answers(kind string) (got []transport.Pending) {
	for _, g := range p.got {
		if kindOf(g) == kind {
			got = append(got, g)
		}
	}
	return got
}

// Unreachable implements transport.Receiver.
func (p *puppet) Unreachable(consensus.NodeID) {}

// say sends messages to a node and returns what kinds of answer came back.
func (p *puppet) say(to consensus.NodeID, msgs ...transport.Message) []string {
	p.m.tb.Helper()
	p.m.settle()
	p.got = nil
	p.net.Send(to, transport.Control, msgs)
	p.m.settle()
	var kinds []string
	for _, g := range p.got {
		if g.From == to {
			kinds = append(kinds, kindOf(g))
		}
	}
	return kinds
}
