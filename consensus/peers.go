package consensus

import (
	"cmp"
	"encoding/binary"
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
type peerTable struct {
	h     *Host
	mu    sync.RWMutex
	peers map[NodeID]*peer // guarded by mu; nodes are never removed
}

// A peer is another node as this one sees it.
type peer struct {
	node NodeID
	// support is what the other node promised to this one.
	support atomic.Pointer[support]
	refused atomic.Int64 // Mono of the last Unreachable

	mu    sync.Mutex
	epoch uint64        // guarded by mu; of the other node, 0 before its first frame
	gen   uint64        // guarded by mu; generation of the promise made to it
	until time.Duration // guarded by mu; end of the promise
	sent  uint64        // guarded by mu; its clock in its latest frame
	alive bool          // guarded by mu; the promise has not been seen to end
}

// support is a promise of another node: while the node is in epoch and the
// promise in generation gen, replicas there that were bound stay bound until
// this node's clock shows until.
type support struct {
	epoch, gen uint64
	until      time.Duration
}

func newPeerTable(h *Host) *peerTable {
	return &peerTable{h: h, peers: map[NodeID]*peer{}}
}

func (t *peerTable) get(node NodeID) *peer {
	t.mu.RLock()
	p := t.peers[node]
	t.mu.RUnlock()
	if p != nil {
		return p
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p = t.peers[node]; p == nil {
		p = &peer{node: node}
		t.peers[node] = p
	}
	return p
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

const frameVersion = 1

// A frame is what nodes tell each other, see peerTable.
type frame struct {
	epoch, sent               uint64 // of the sender
	ackEpoch, ackSent, ackGen uint64 // of the receiver, and the promise to it; 0: none
	length                    uint64 // of the sender's promises, in nanoseconds
}

func (f *frame) encode() []byte {
	b := append(make([]byte, 0, 48), frameVersion)
	for _, v := range []uint64{f.epoch, f.sent, f.ackEpoch, f.ackSent, f.ackGen, f.length} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeFrame(b []byte) (frame, bool) {
	d := decoder{buf: b}
	v := d.byte()
	f := frame{epoch: d.uvarint(), sent: d.uvarint(), ackEpoch: d.uvarint(), ackSent: d.uvarint(), ackGen: d.uvarint(), length: d.uvarint()}
	return f, v == frameVersion && d.done()
}

// frame takes a frame of another node. It runs on the wire's goroutine.
func (t *peerTable) frame(from NodeID, payload []byte) {
	f, ok := decodeFrame(payload)
	if !ok || from == t.h.opts.Node {
		t.h.stats.refused.Add(1)
		return
	}
	p := t.get(from)
	anew, restarted := p.take(&t.h.opts, f)
	if restarted {
		t.tellWorkers(inputLost, from)
	}
	if anew {
		t.tellWorkers(inputReturned, from)
	}
}

// take takes a frame. It says whether the promise to the node is a new one, and
// whether the node has started again since its last frame: the replicas that it
// led have lost their leader.
func (p *peer) take(o *Options, f frame) (anew, restarted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The clock is read under the lock: whoever saw the promise ended did so
	// before, and then it has ended for this frame too.
	now := o.Clock.Mono()
	if f.epoch < p.epoch || f.epoch == p.epoch && f.sent <= p.sent && p.sent != 0 {
		return false, false // late
	}
	restarted = p.epoch != 0 && f.epoch > p.epoch
	if anew = f.epoch > p.epoch || now > p.until; anew {
		// A restarted node has no lease, so what was promised to its earlier
		// epoch ends; and a promise that ended is never renewed.
		p.gen++
	}
	p.epoch, p.sent, p.until, p.alive = f.epoch, f.sent, now+o.LeaseDuration, true
	if f.ackEpoch != o.Epoch || f.ackSent == 0 {
		return anew, restarted
	}
	length := time.Duration(float64(min(uint64(o.LeaseDuration), f.length)) * (1 - o.MaxDrift))
	s := &support{epoch: f.epoch, gen: f.ackGen, until: time.Duration(f.ackSent) + length}
	if old := p.support.Load(); old == nil || old.epoch < s.epoch ||
		old.epoch == s.epoch && (old.gen < s.gen || old.gen == s.gen && old.until < s.until) {
		p.support.Store(s)
	}
	return anew, restarted
}

// promise returns the promise to p if it holds at now.
func (p *peer) promise(now time.Duration) (epoch, gen uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epoch, p.gen, p.epoch != 0 && now <= p.until
}

// tick sends the frames and notices promises that ended.
func (t *peerTable) tick(n int) {
	o := &t.h.opts
	now := o.Clock.Mono()
	for _, p := range t.all() {
		p.mu.Lock()
		lost := p.alive && now > p.until
		if lost {
			p.alive = false
		}
		f := frame{epoch: o.Epoch, sent: uint64(now) + 1, ackEpoch: p.epoch, ackSent: p.sent, ackGen: p.gen, length: uint64(o.LeaseDuration)}
		p.mu.Unlock()
		if lost {
			t.tellWorkers(inputLost, p.node)
		}
		if n%o.HeartbeatTicks == 0 && !t.h.watch.stalled.Load() {
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
	p := t.get(node)
	last := p.refused.Load()
	return (last == 0 || now-last > int64(t.h.opts.TickInterval)) && p.refused.CompareAndSwap(last, now)
}

func (p *peer) isAlive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive
}
