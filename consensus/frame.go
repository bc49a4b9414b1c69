package consensus

import (
	"encoding/binary"
	"time"
)

// MaxFramePayload bounds the bytes that FrameHooks attach to one frame.
const MaxFramePayload = 4 << 10

// FrameHooks let what runs above the Host attach bytes to the frames that pairs
// of nodes exchange every HeartbeatTicks: state of nodes, and of groups that
// sleep and send nothing else. The Host does not look into them. Frames are sent
// to nodes that share a group with this one, and may be lost. Neither method may
// block, nor call Close or Crash of its Host.
//
// # What a payload proves
//
// It was true when its frame left, and frames of one node arrive in order. But a
// frame keeps no order with the messages of groups: it can overtake an append
// that left before it, and a command that it follows. That a group sleeps, or is
// closed up to some time, is thus no proof that the receiver holds what the
// group committed until then. So the sender must say for each group the term and
// index of its EventSleep, and the receiver believe it only where it has applied
// that index, of that term, and its leader is still of that term. Or both count
// wakes: the sender says how often the group woke, in a command too when it
// wakes, and the receiver believes no count but the one that it applied last.
type FrameHooks interface {
	// Attach appends to buf what goes with the next frame to a node and returns
	// the result, which is copied before the next call. More than
	// MaxFramePayload bytes are refused: the frame leaves without any, which
	// is logged and counted in Stats.PayloadsRefused. Calls of one Host do not
	// overlap. They come from its ticker, or from Tick.
	Attach(to NodeID, buf []byte) []byte
	// Arrived takes the bytes, never none, that came from a node with a frame
	// of its epoch. They are valid during the call only. Calls for one node do
	// not overlap, and neither epochs nor frames of one epoch go back; calls
	// for different nodes may overlap. They come from the wire, and may begin
	// before New has returned.
	Arrived(from NodeID, epoch uint64, payload []byte)
}

const frameVersion = 2

// A frame is what nodes tell each other, see peerTable. Its numbers are uvarints
// behind the version; a frame of another version, or with anything missing or
// left over, is refused whole.
type frame struct {
	epoch, sent               uint64 // of the sender
	ackEpoch, ackSent, ackGen uint64 // of the receiver, and the promise to it; 0: none
	length                    uint64 // of the sender's promises, in nanoseconds
	names                     bool   // a replica of the sender's has one of the receiver's in its configuration
	payload                   []byte // of FrameHooks; aliases what was decoded
}

func (f *frame) encode() []byte {
	names := uint64(0)
	if f.names {
		names = 1
	}
	b := append(make([]byte, 0, 48+len(f.payload)), frameVersion)
	for _, v := range []uint64{f.epoch, f.sent, f.ackEpoch, f.ackSent, f.ackGen, f.length, names} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, uint64(len(f.payload)))
	return append(b, f.payload...)
}

func decodeFrame(b []byte) (frame, bool) {
	d := decoder{buf: b}
	v := d.byte()
	f := frame{epoch: d.uvarint(), sent: d.uvarint(), ackEpoch: d.uvarint(), ackSent: d.uvarint(), ackGen: d.uvarint(), length: d.uvarint()}
	names := d.uvarint()
	f.names, f.payload = names == 1, d.bytes()
	return f, v == frameVersion && names <= 1 && len(f.payload) <= MaxFramePayload && d.done()
}

// frame takes a frame of another node. It runs on the wire's goroutine.
func (t *peerTable) frame(from NodeID, payload []byte) {
	f, ok := decodeFrame(payload)
	if !ok || from == t.h.opts.Node {
		t.h.stats.refused.Add(1)
		return
	}
	p := t.admit(from)
	if p == nil {
		t.h.stats.refused.Add(1)
		return
	}
	p.order.Lock()
	defer p.order.Unlock()
	n := t.take(p, f)
	if n.restarted {
		t.tellWorkers(inputLost, from)
	}
	if n.anew {
		t.tellWorkers(inputReturned, from)
	}
	if hooks := t.h.opts.Frames; hooks != nil && !n.late && len(f.payload) > 0 {
		hooks.Arrived(from, f.epoch, f.payload)
	}
}

// news is what a frame says of its sender beside that it lives.
type news struct {
	late      bool // nothing: a later frame came before it
	anew      bool // the promise to it is a new one
	restarted bool // since its frame before, so that the replicas it led have lost their leader
}

// take takes a frame.
func (t *peerTable) take(p *peer, f frame) (n news) {
	o := &t.h.opts
	p.mu.Lock()
	defer p.mu.Unlock()
	// The clock is read under the lock: whoever saw the promise ended did so
	// before, and then it has ended for this frame too.
	now := o.Clock.Mono()
	if f.epoch < p.epoch || f.epoch == p.epoch && f.sent <= p.sent && p.sent != 0 {
		return news{late: true}
	}
	n.restarted = p.epoch != 0 && f.epoch > p.epoch
	if n.anew = f.epoch > p.epoch || now > p.until; n.anew {
		// A restarted node has no lease, so what was promised to its earlier
		// epoch ends; and a promise that ended is never renewed.
		p.gen = t.gens.Add(1)
	}
	p.epoch, p.sent, p.until, p.alive, p.names = f.epoch, f.sent, now+o.LeaseDuration, true, f.names
	if f.ackEpoch != o.Epoch || f.ackSent == 0 {
		return n
	}
	length := time.Duration(float64(min(uint64(o.LeaseDuration), f.length)) * (1 - o.MaxDrift))
	s := &support{epoch: f.epoch, gen: f.ackGen, until: time.Duration(f.ackSent) + length}
	if old := p.support.Load(); old == nil || old.epoch < s.epoch ||
		old.epoch == s.epoch && (old.gen < s.gen || old.gen == s.gen && old.until < s.until) {
		p.support.Store(s)
	}
	return n
}

// attach asks what goes with the next frame to a node.
func (t *peerTable) attach(p *peer) []byte {
	hooks := t.h.opts.Frames
	if hooks == nil {
		return nil
	}
	b := hooks.Attach(p.node, t.scratch[:0])
	if len(b) <= MaxFramePayload {
		t.scratch, p.oversized = b, false
		return b
	}
	t.h.stats.payloads.Add(1)
	if !p.oversized { // once for a row of them
		p.oversized = true
		t.h.logger.Error("consensus: payload of a frame refused", "to", uint64(p.node), "bytes", len(b), "max", MaxFramePayload)
	}
	return nil
}
