package consensus

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/raft/v3/raftpb"
)

// PoolOptions configures a Pool. A zero field selects its default.
type PoolOptions struct {
	// Workers is the number of goroutines that run replicas. Default:
	// min(GOMAXPROCS, 16).
	Workers int
	// ApplyWorkers is the number of goroutines that run Apply for hosts with
	// AsyncApply. They start with the first such host. Default: Workers.
	ApplyWorkers int
	// Yields is how often a worker lets other goroutines run before it takes
	// its inbox, so that more clients share a batch. It never delays a worker
	// on an idle machine: yielding to nobody returns at once. Negative: never.
	// Default: 2.
	Yields int
	// Manual starts no goroutine: the caller calls Run.
	Manual bool
	// Charge, if set, is asked after every pass how long the work would have
	// kept a processor busy; the worker sleeps for that time. With one pool of
	// one worker per node, and virtual time, it turns a process into a model
	// of many machines.
	Charge func(Work) time.Duration
	_      struct{}
}

// Work is what a worker did in one pass.
type Work struct {
	Inputs   int // messages, completions, ticks and wake-ups handled
	Replicas int // replicas whose Ready was drained
}

// A Pool runs the replicas of any number of Hosts. A group is pinned to one
// worker by its id, the same on all hosts of the pool, so that Raft's
// single-threaded nodes need no lock, and messages between the replicas of a
// group that share a process cross no goroutine.
type Pool struct {
	opts    PoolOptions
	workers []*worker
	applier *applyPool
	wg      sync.WaitGroup
	quit    chan struct{}
	ended   chan struct{} // closed when no worker runs any more
	once    sync.Once
}

// NewPool starts a pool.
func NewPool(o PoolOptions) (*Pool, error) {
	if o.Workers < 0 || o.Workers > 1024 {
		return nil, fmt.Errorf("consensus: option Workers is %d, expected 0 to 1024", o.Workers)
	}
	if o.Workers == 0 {
		o.Workers = min(runtime.GOMAXPROCS(0), 16)
	}
	if o.Manual {
		o.Workers = 1
	}
	setDefault(&o.ApplyWorkers, o.Workers)
	setDefault(&o.Yields, 2)
	p := &Pool{opts: o, quit: make(chan struct{}), ended: make(chan struct{})}
	p.applier = newApplyPool(o.ApplyWorkers)
	for i := range o.Workers {
		w := &worker{pool: p, id: i, wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		if !o.Manual {
			p.wg.Go(w.loop)
		}
	}
	return p, nil
}

// Run handles everything that waits, until nothing does, and returns 0 if
// nothing did. Only for a manual pool, by one goroutine.
func (p *Pool) Run() int {
	total := 0
	w := p.workers[0]
	w.mu.Lock()
	w.inbox = append(w.inbox, w.late...)
	w.late = nil
	w.mu.Unlock()
	for {
		n := w.pass()
		if n == 0 {
			return total
		}
		total += n
	}
}

// Close stops the workers. The hosts of the pool must be closed before.
func (p *Pool) Close() {
	p.once.Do(func() {
		close(p.quit)
		p.wg.Wait()
		close(p.ended)
		p.applier.close()
	})
}

// of returns the worker of a group. Fibonacci hashing spreads consecutive ids.
func (p *Pool) of(g GroupID) *worker {
	h := uint64(g) * 0x9E3779B97F4A7C15 >> 32
	return p.workers[h*uint64(len(p.workers))>>32]
}

// input is one thing for a worker to do. Exactly one of the shapes named by
// kind is filled in.
type input struct {
	kind inputKind
	n    int      // a bucket, or a node
	h    *Host    // always set
	r    *replica // all but the host-wide kinds
	msg  any      // by kind, always a pointer, so that nothing is boxed
}

type inputKind uint8

const (
	inputPropose     inputKind = iota // r has proposals or reads waiting
	inputMessage                      // msg: *pb.Message for r from node n
	inputHostMessage                  // msg: *hostMessage for r, or for none
	inputAppended                     // msg: *appendDone
	inputTick                         // n: bucket
	inputCall                         // msg: *call
	inputLost                         // n: node that this node stopped supporting
	inputReturned                     // n: node whose frames came again
	inputUnreachable                  // n: node
	inputRelieve                      // n: bytes of log that r should keep
	inputWake                         // r was asked for something while it slept
)

// call is a function to run on a worker; done is closed behind it.
type call struct {
	fn   func()
	done chan struct{}
}

// A worker owns the replicas of its groups: all of Raft happens here.
type worker struct {
	pool *Pool
	id   int
	wake chan struct{} // holds a token while the inbox may be non-empty

	mu    sync.Mutex
	inbox []input // guarded by mu
	late  []input // guarded by mu; of a manual pool, for its next Run

	// What the worker is at, for the watchdogs of hosts: step changes with
	// every input, replica and flush, and on is the host it is done for, nil
	// between passes.
	on   atomic.Pointer[Host]
	step atomic.Uint64

	// Owned by the worker.
	at      *Host // on
	steps   uint64
	spare   []input
	dirty   []*replica // replicas to drain in this pass
	held    []*replica // replicas to drain in the next one
	telling []*replica // those with news of an index that wait, see tellCommit
	passes  uint64     // so far, with this one
	hosts   []*hostShard
	scratch applyBatch
}

// post adds an input. It never blocks; what must be bounded is bounded by
// whoever posts.
func (w *worker) post(in input) {
	w.mu.Lock()
	w.inbox = append(w.inbox, in)
	first := len(w.inbox) == 1
	w.mu.Unlock()
	if first {
		w.poke()
	}
}

// postLate adds the word of work in the background. A manual pool takes it up
// in the next Run: in the middle of one it would be a matter of chance which
// pass sees it, and no run could be repeated.
func (w *worker) postLate(in input) {
	if !w.pool.opts.Manual {
		w.post(in)
		return
	}
	w.mu.Lock()
	w.late = append(w.late, in)
	w.mu.Unlock()
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// maxInbox bounds the messages from other nodes that wait for a worker.
const maxInbox = 1 << 17

// postMessage adds a message from the wire, or drops it: Raft sends again.
func (w *worker) postMessage(in input) bool {
	w.mu.Lock()
	n := len(w.inbox)
	if n < maxInbox {
		w.inbox = append(w.inbox, in)
	}
	w.mu.Unlock()
	if n == 0 {
		w.poke()
	}
	return n < maxInbox
}

// maxSpare bounds the inbox that is kept for reuse after a burst.
const maxSpare = 1 << 14

// take swaps the inbox for an empty one.
func (w *worker) take() []input {
	spare := w.spare[:0]
	if cap(spare) > maxSpare {
		spare = nil
	}
	w.mu.Lock()
	in := w.inbox
	w.inbox = spare
	w.mu.Unlock()
	w.spare = nil
	return in
}

func (w *worker) loop() {
	for {
		select {
		case <-w.wake:
		case <-w.pool.quit:
			return
		}
		for {
			for range w.pool.opts.Yields {
				runtime.Gosched()
			}
			if w.pass() == 0 {
				break
			}
		}
	}
}

// begin notes that the next step is done for h. Whoever watches loads on first.
func (w *worker) begin(h *Host) {
	w.steps++
	w.step.Store(w.steps)
	if w.at != h {
		w.at = h
		w.on.Store(h)
	}
}

// pass handles what is in the inbox now: all inputs first, then every replica
// they touched, then one send per destination and one flush per log. It returns
// 0 if there was nothing to do but to send news. With a manual pool a call may have touched
// replicas without an input.
func (w *worker) pass() int {
	in := w.take()
	w.passes++
	for _, r := range w.held {
		r.touch()
	}
	clear(w.held)
	w.held = w.held[:0]
	if len(in) == 0 && len(w.dirty) == 0 && len(w.hosts) == 0 && len(w.telling) == 0 {
		w.spare = in
		return 0
	}
	for i := range in {
		w.handle(&in[i])
	}
	n := len(in)
	clear(in)
	w.spare = in
	replicas := len(w.dirty)
	did := n + replicas + len(w.hosts)
	timed := w.passes%timedPasses == 0
	for i := 0; i < len(w.dirty); i++ { // draining one may touch another
		r := w.dirty[i]
		w.dirty[i] = nil
		r.dirty = false
		w.begin(r.host)
		if timed {
			r.drainTimed()
		} else {
			r.drain()
		}
	}
	w.dirty = w.dirty[:0]
	w.sendNews()
	hosts := w.hosts
	w.hosts = w.hosts[:0]
	for i, s := range hosts {
		hosts[i] = nil
		w.begin(s.host)
		s.flush()
	}
	w.begin(nil)
	if charge := w.pool.opts.Charge; charge != nil && did > 0 {
		if d := charge(Work{Inputs: n, Replicas: replicas}); d > 0 {
			time.Sleep(d)
		}
	}
	return did
}

// handle dispatches one input.
func (w *worker) handle(in *input) {
	w.begin(in.h)
	if in.kind == inputCall {
		c := in.msg.(*call)
		c.fn()
		close(c.done)
		return
	}
	switch in.kind {
	case inputMessage:
		in.r.shard.inbox.Add(-dataBytes(in.msg.(*pb.Message)))
	case inputHostMessage:
		in.h.shards[w.id].inbox.Add(-in.msg.(*hostMessage).bytes())
	}
	if in.h.dead.Load() {
		return
	}
	switch in.kind {
	case inputTick:
		in.h.shards[w.id].tick(in.n)
		return
	case inputLost:
		in.h.shards[w.id].suspect(NodeID(in.n))
		return
	case inputReturned:
		in.h.shards[w.id].returned(NodeID(in.n))
		return
	case inputUnreachable:
		in.h.shards[w.id].unreachable(NodeID(in.n))
		return
	case inputHostMessage:
		in.h.shards[w.id].hostMessage(in.r, in.msg.(*hostMessage))
		return
	}
	r := in.r
	if r.gone {
		return
	}
	switch in.kind {
	case inputPropose:
	case inputRelieve:
		r.shorten(int64(in.n))
	case inputWake:
		r.wakeFor(r.id)
	case inputMessage:
		r.step(in)
	case inputAppended:
		r.appended(in.msg.(*appendDone))
	}
	r.touch()
}

// use notes that the pass has something to flush for s.
func (w *worker) use(s *hostShard) {
	if !s.used {
		s.used = true
		w.hosts = append(w.hosts, s)
	}
}
