package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A Host is one node's replicas of many Raft groups. It is safe for
// concurrent use.
type Host struct {
	opts    Options
	pool    *Pool
	log     *raftlog.Log
	net     transport.Transport
	logger  *slog.Logger
	peers   *peerTable
	shards  []*hostShard // one per worker of the pool
	snaps   *snapshotter
	watch   *watchdog
	warmth  warmth
	configs configCache

	replicas sync.Map     // GroupID -> *replica
	leaving  sync.Map     // GroupID -> struct{}: destroyed, its machine not yet
	creates  sync.Map     // GroupID -> struct{}: Create is at it
	dead     atomic.Bool  // nothing is handled any more
	stopping atomic.Bool  // no background work begins any more
	bytes    atomic.Int64 // commands waiting or under way, of all groups
	stats    hostStats

	mu      sync.Mutex
	closed  bool            // guarded by mu
	stopped chan struct{}   // closed when the stop is complete
	ctx     context.Context // ends when the host stops
	cancel  context.CancelFunc
	wg      sync.WaitGroup // background work; none begins once stopping is set
	// votesFrom is when a restarted node may vote and campaign again: what it
	// promised before the restart has ended by then.
	votesFrom time.Duration
}

// New starts a host with the replicas that its log recovered.
func New(o Options) (*Host, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Host{
		opts: o, pool: o.Pool, log: o.Log, net: o.Net,
		logger: o.Logger.With("node", uint64(o.Node)),
	}
	h.stopped = make(chan struct{})
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.peers = newPeerTable(h)
	h.snaps = newSnapshotter(h)
	h.watch = newWatchdog(h)
	h.warmth.limit = windowBudget
	if o.AsyncApply {
		h.pool.applier.start()
	}
	for _, w := range h.pool.workers {
		h.shards = append(h.shards, newHostShard(h, w))
	}
	recovered := h.log.Groups()
	if err := h.beginLife(recovered); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	if err := h.reopenAll(recovered); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	h.net.Receive(h)
	h.net.HandleStream(snapshotService, h.snaps.receive)
	if !o.Manual {
		h.wg.Go(h.tickLoop)
	}
	return h, nil
}

// Node returns the host's node.
func (h *Host) Node() NodeID { return h.opts.Node }

// Initial says how a new replica starts.
type Initial struct {
	// Voters are the first members of a new group, the same on every one of
	// their nodes. Empty: the replica joins an existing group and waits for
	// its leader, which is told of it by Reconfigure.
	Voters []Member
	// Fork is the state of another group with which this one begins, instead of
	// Voters.
	Fork *Fork
}

// A Member is a replica and the node it lives on.
type Member struct {
	Replica ReplicaID
	Node    NodeID
}

// The log of a group created by Initial.Voters begins behind this position,
// so that a replica that is added later needs a snapshot, as it must: the
// first configuration is in no entry.
const initialIndex, initialTerm = 1, 1

// Create adds a replica of group g to the node, durably. It refuses a group
// that has a replica here, and a replica id that is not above every one that
// was destroyed here.
func (h *Host) Create(g GroupID, id ReplicaID, init Initial) error {
	if g == 0 || id == 0 {
		return fmt.Errorf("consensus: create replica %d of group %d: expected ids above 0", id, g)
	}
	conf, err := initialConfig(g, h.opts.Node, id, init)
	if err != nil {
		return err
	}
	if !h.enter() {
		return rejected(g, ErrClosed)
	}
	defer h.wg.Done()
	if _, busy := h.creates.LoadOrStore(g, struct{}{}); busy {
		return rejected(g, errors.New("another Create of the group is under way"))
	}
	defer h.creates.Delete(g)
	var index, term uint64
	switch {
	case init.Fork != nil:
		index, term = init.Fork.Index, init.Fork.Term
	case len(init.Voters) > 0:
		index, term = initialIndex, initialTerm
	}
	if _, ok := h.replicas.Load(g); ok {
		return rejected(g, errors.New("the node has a replica of the group"))
	}
	if _, busy := h.leaving.Load(g); busy {
		return rejected(g, ErrLeaving)
	}
	sm, state, err := h.emptyMachine(g)
	if err != nil {
		return err
	}
	if init.Fork != nil {
		// First the machine, then the log, as ever: what a crash leaves between them
		// goes with the next emptyMachine.
		state, err = init.Fork.seed(h.ctx, sm)
	}
	var lg *raftlog.Group
	if err == nil {
		done := make(waitWritten, 1)
		if lg, err = h.log.Create(g, id, index, term, conf.encode(), done); err == nil {
			err = h.await(done)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("consensus: create replica %d of group %d: %w", id, g, err), sm.Close())
	}
	return h.start(g, lg, sm, state)
}

// emptyMachine opens the machine of a group that has no replica here. What an
// earlier replica left, because a crash came between its tombstone and the end
// of its machine, goes first: whenever the log has a group, the machine is that
// replica's.
func (h *Host) emptyMachine(g GroupID) (StateMachine, State, error) {
	for {
		sm, state, err := h.openMachine(g)
		if err != nil || state.Index == 0 {
			return sm, state, err
		}
		if err := sm.Destroy(); err != nil {
			return nil, state, fmt.Errorf("consensus: group %d: what an earlier replica left: %w", g, err)
		}
	}
}

func (h *Host) openMachine(g GroupID) (StateMachine, State, error) {
	sm, err := h.opts.Machine(g)
	if err != nil {
		return nil, State{}, fmt.Errorf("consensus: machine of group %d: %w", g, err)
	}
	state, err := sm.Open()
	if err != nil {
		return nil, State{}, errors.Join(fmt.Errorf("consensus: open machine of group %d: %w", g, err), sm.Close())
	}
	return sm, state, nil
}

// await waits for a write to the log, and flushes it if nobody else does.
func (h *Host) await(done waitWritten) error {
	if d := h.log.Disk(); d.Inline() {
		if err := d.Flush(); err != nil {
			return err
		}
	}
	return <-done
}

// enter adds to the work that a stop waits for, unless the stop has begun.
func (h *Host) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.wg.Add(1)
	}
	return !h.closed
}

// waitWritten is a raftlog.Completion that somebody waits for.
type waitWritten chan error

func (c waitWritten) Written(err error) { c <- err }

// reopenAll opens the replicas that the log has. All are there before any goes on: the
// machine of one may look at another's.
func (h *Host) reopenAll(recovered []raftlog.Info) error {
	var err error
	var all []*replica
	for _, info := range recovered {
		if info.Destroyed {
			continue
		}
		var r *replica
		if r, err = h.reopen(info.Group); err != nil {
			break
		}
		all = append(all, r)
	}
	for _, r := range all { // after an error too, so that they are closed
		h.begin(r)
	}
	return err
}

func (h *Host) reopen(g GroupID) (*replica, error) {
	lg, err := h.log.Group(g)
	if err != nil {
		return nil, fmt.Errorf("consensus: open group %d: %w", g, err)
	}
	sm, state, err := h.openMachine(g)
	if err != nil {
		return nil, err
	}
	return h.assemble(g, lg, sm, state)
}

// assemble makes a replica of what log and machine hold.
func (h *Host) assemble(g GroupID, lg *raftlog.Group, sm StateMachine, state State) (*replica, error) {
	r, err := newReplica(h, g, lg, sm, state)
	if err != nil {
		return nil, errors.Join(err, sm.Close())
	}
	h.replicas.Store(g, r)
	return r, nil
}

// start assembles a replica and hands it to its worker.
func (h *Host) start(g GroupID, lg *raftlog.Group, sm StateMachine, state State) error {
	r, err := h.assemble(g, lg, sm, state)
	if err != nil {
		return err
	}
	h.begin(r)
	return nil
}

// begin hands a replica to its worker.
func (h *Host) begin(r *replica) {
	ran := h.run(r.w, func() { r.shard.add(r) })
	if !ran || h.dead.Load() { // fail may not have seen it
		r.abandon(ErrClosed, false)
	}
}

// replica finds the replica of g, for a caller's use.
func (h *Host) replica(g GroupID) (*replica, error) {
	if v, ok := h.replicas.Load(g); ok {
		return v.(*replica), nil
	}
	if h.dead.Load() {
		return nil, rejected(g, ErrClosed)
	}
	return nil, rejected(g, ErrNoReplica)
}

// run runs fn on w and waits for it. With a manual pool it runs here and now,
// on the goroutine that also calls Run. It returns false if the pool was closed
// and fn will never run.
func (h *Host) run(w *worker, fn func()) bool {
	if h.pool.opts.Manual {
		fn()
		return true
	}
	c := &call{fn: fn, done: make(chan struct{})}
	w.post(input{kind: inputCall, h: h, msg: c})
	select {
	case <-c.done:
		return true
	case <-h.pool.ended:
	}
	select {
	case <-c.done: // in the worker's last pass
		return true
	default:
		return false
	}
}

// Destroy removes the replica of g from the node and leaves a tombstone: no
// replica with this id or a lower one can be created here again. Proposals
// under way end in ErrUnknown.
func (h *Host) Destroy(g GroupID) error {
	r, err := h.replica(g)
	if err != nil {
		return err
	}
	done := make(waitWritten, 1)
	if !h.run(r.w, func() { r.destroy(done) }) {
		return rejected(g, ErrClosed)
	}
	return h.await(done)
}

// Machine returns the state machine of g's replica, for reads.
func (h *Host) Machine(g GroupID) (StateMachine, error) {
	r, err := h.replica(g)
	if err != nil {
		return nil, err
	}
	return r.sm, nil
}

// Close stops all replicas in good order: what was written is synced, and
// proposals under way end in ErrUnknown. The pool goes on.
func (h *Host) Close() error { return h.stop(false) }

// Crash stops the host as a loss of the process would: what the log had not
// flushed is gone, machines are closed without a flush. For tests.
func (h *Host) Crash() { _ = h.stop(true) }

func (h *Host) stop(crash bool) error {
	h.mu.Lock()
	again := h.closed
	h.closed = true
	h.mu.Unlock()
	if again {
		<-h.stopped
		return nil
	}
	defer close(h.stopped)
	if crash {
		h.dead.Store(true)
	}
	h.stopping.Store(true)
	for _, w := range h.pool.workers { // whoever has not seen stopping has begun its work
		h.run(w, func() {})
	}
	h.cancel()
	err := h.net.Close()
	h.wg.Wait()
	if crash {
		h.log.Crash()
	}
	var rest []func() error
	for i, w := range h.pool.workers {
		end := func() { rest = append(rest, h.shards[i].close()...) }
		if !h.run(w, end) {
			end() // the pool was closed first, so the worker is no more
		}
	}
	for _, finish := range rest {
		err = errors.Join(err, finish())
	}
	h.dead.Store(true)
	if !crash {
		err = errors.Join(err, h.log.Close())
	}
	return err
}

// fail stops the host after an error that its log cannot recover from. It is
// called on a worker; replicas stop at once.
func (h *Host) fail(err error) {
	if h.dead.Swap(true) {
		return
	}
	h.stats.fatal.Store(&err)
	h.logger.Error("consensus: host stopped", "err", err)
	h.replicas.Range(func(_, v any) bool {
		v.(*replica).abandon(fmt.Errorf("%w: %w", ErrClosed, err), false)
		return true
	})
}

// Err returns the error that stopped the host, if any.
func (h *Host) Err() error {
	if p := h.stats.fatal.Load(); p != nil {
		return *p
	}
	return nil
}
