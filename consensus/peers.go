package consensus

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A peerTable exchanges one frame per interval with every node that shares a
// group with this one, however many groups that are. A frame says "I, in this
// epoch, am alive" and answers the latest frame of the other: "I support you".
//
// Support is a promise that binds the replicas of groups whose leader lives on
// the other node and which have been bound to it (see fort): until it ends
// they neither vote nor campaign. A promise that ended is never taken up
// again: the next one has a higher generation, and replicas must be bound
// anew. So a vote cast between two promises is never forgotten.
//
// A table names the nodes of its replicas' configurations. It also answers those
// that name this node, up to maxStrangers: a replica that joins hears of its
// leader's node before it knows any configuration, and one that was removed is
// bound until it learns of it. A node that neither names nor is named is
// forgotten when the promise to it has ended.
type peerTable struct {
	h *Host
	// gens is the last generation of all promises of this host: a node that was
	// forgotten comes back to one that it never had.
	gens atomic.Uint64
	// nobody stands for nodes that are not in the table: it promises nothing
	// and is promised nothing.
	nobody *peer

	scratch []byte // of attach, on the ticker

	mu    sync.RWMutex
	peers map[NodeID]*peer // guarded by mu
	loose int              // guarded by mu; of peers, those that nobody here names
}

// maxStrangers bounds the nodes that are heard though no configuration here
// names them.
const maxStrangers = 256

// A peer is another node as this one sees it.
type peer struct {
	node NodeID
	// refs counts the replicas here whose configurations name the node. It
	// changes under the table's lock.
	refs atomic.Int32
	// support is what the other node promised to this one.
	support atomic.Pointer[support]
	refused atomic.Int64 // Mono of the last Unreachable
	// order is held while a frame is handled, hooks included, and before mu.
	order     sync.Mutex
	oversized bool // the last payload was too large; of the ticker

	mu    sync.Mutex
	epoch uint64        // guarded by mu; of the other node, 0 before its first frame
	gen   uint64        // guarded by mu; generation of the promise made to it
	until time.Duration // guarded by mu; end of the promise
	sent  uint64        // guarded by mu; its clock in its latest frame
	alive bool          // guarded by mu; the promise has not been seen to end
	names bool          // guarded by mu; it named this node in its latest frame
}

// support is a promise of another node: while the node is in epoch and the
// promise in generation gen, replicas there that were bound stay bound until
// this node's clock shows until.
type support struct {
	epoch, gen uint64
	until      time.Duration
}

func newPeerTable(h *Host) *peerTable {
	return &peerTable{h: h, nobody: &peer{}, peers: map[NodeID]*peer{}}
}

// find returns a node, or nobody.
func (t *peerTable) find(node NodeID) *peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if p := t.peers[node]; p != nil {
		return p
	}
	return t.nobody
}

// admit returns the node that a frame came from, or nil if it is a stranger and
// there are too many of them.
func (t *peerTable) admit(node NodeID) *peer {
	if p := t.find(node); p != t.nobody {
		return p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[node]; p != nil {
		return p
	}
	if t.loose >= maxStrangers {
		return nil
	}
	t.loose++
	p := &peer{node: node}
	t.peers[node] = p
	return p
}

// refer counts the nodes of a configuration that a replica takes up, and
// discounts those of the one it gives up. Either may be nil.
func (t *peerTable) refer(up, down *config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if up != nil {
		for _, m := range up.members {
			t.count(m.Node, 1)
		}
	}
	if down != nil {
		for _, m := range down.members {
			t.count(m.Node, -1)
		}
	}
}

func (t *peerTable) count(node NodeID, by int32) {
	if node == t.h.opts.Node {
		return
	}
	p := t.peers[node]
	if p == nil {
		p = &peer{node: node}
		t.peers[node] = p
		t.loose++
	}
	was := p.refs.Load()
	p.refs.Store(was + by)
	switch {
	case was == 0:
		t.loose--
	case was+by == 0:
		t.loose++
	}
}

// forget removes a node that no replica here names, unless the promise to it
// holds.
func (t *peerTable) forget(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, _, ok := p.promise(t.h.opts.Clock.Mono()); ok || p.refs.Load() > 0 {
		return
	}
	delete(t.peers, p.node)
	t.loose--
}

// all returns the peers in the order of their nodes, so that a run that is
// repeated sends its frames in the same order.
func (t *peerTable) all() []*peer {
	t.mu.RLock()
	defer t.mu.RUnlock()
	list := make([]*peer, 0, len(t.peers))
	for _, p := range t.peers {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b *peer) int { return cmp.Compare(a.node, b.node) })
	return list
}

// promise returns the promise to p if it holds at now.
func (p *peer) promise(now time.Duration) (epoch, gen uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch, p.gen, p.epoch != 0 && now <= p.until
}

// tick sends the frames, notices promises that ended and forgets nodes. A node
// that nobody here names gets a frame only as an answer: two that had forgotten
// why they talk would go on for ever.
func (t *peerTable) tick(n int) {
	o := &t.h.opts
	now := o.Clock.Mono()
	for _, p := range t.all() {
		named := p.refs.Load() > 0
		p.mu.Lock()
		ended := p.epoch == 0 || now > p.until
		lost := p.alive && ended
		if lost {
			p.alive = false
		}
		answer := p.names && !ended
		f := frame{
			epoch: o.Epoch, sent: uint64(now) + 1, ackEpoch: p.epoch, ackSent: p.sent, ackGen: p.gen,
			length: uint64(o.LeaseDuration), names: named,
		}
		p.mu.Unlock()
		if lost {
			t.tellWorkers(inputLost, p.node)
		}
		if ended && !named {
			t.forget(p)
			continue
		}
		if n%o.HeartbeatTicks == 0 && (named || answer) && !t.h.watch.stalled.Load() {
			f.payload = t.attach(p)
			m := [1]transport.Message{{Kind: kindFrame, Payload: f.encode()}}
			t.h.net.Send(p.node, transport.Control, m[:])
		}
	}
}

// tellWorkers tells every worker what became of a node.
func (t *peerTable) tellWorkers(what inputKind, node NodeID) {
	for _, w := range t.h.pool.workers {
		w.post(input{kind: what, h: t.h, n: int(node)})
	}
}

// noteUnreachable tells whether an unreachable node should be told to its
// groups: once per tick is enough.
func (t *peerTable) noteUnreachable(node NodeID) bool {
	now := int64(t.h.opts.Clock.Mono()) + 1
	p := t.find(node)
	if p == t.nobody {
		return false // no leader here sends there
	}
	last := p.refused.Load()
	return (last == 0 || now-last > int64(t.h.opts.TickInterval)) && p.refused.CompareAndSwap(last, now)
}

func (p *peer) isAlive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive
}
