package consensus

import (
	"encoding/binary"
	"time"
)

const frameVersion = 2

// A frame is what nodes tell each other, see peerTable. Its numbers are uvarints
// behind the version; a frame of another version, or with anything missing or
// left over, is refused whole.
type frame struct {
	epoch, sent               uint64 // of the sender
	ackEpoch, ackSent, ackGen uint64 // of the receiver, and the promise to it; 0: none
	length                    uint64 // of the sender's promises, in nanoseconds
	names                     bool   // a replica of the sender's has one of the receiver's in its configuration
}

func (f *frame) encode() []byte {
	names := uint64(0)
	if f.names {
		names = 1
	}
	b := append(make([]byte, 0, 48), frameVersion)
	for _, v := range []uint64{f.epoch, f.sent, f.ackEpoch, f.ackSent, f.ackGen, f.length, names} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func decodeFrame(b []byte) (frame, bool) {
	d := decoder{buf: b}
	v := d.byte()
	f := frame{epoch: d.uvarint(), sent: d.uvarint(), ackEpoch: d.uvarint(), ackSent: d.uvarint(), ackGen: d.uvarint(), length: d.uvarint()}
	names := d.uvarint()
	f.names = names == 1
	return f, v == frameVersion && names <= 1 && d.done()
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
	anew, restarted := t.take(p, f)
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
func (t *peerTable) take(p *peer, f frame) (anew, restarted bool) {
	o := &t.h.opts
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
		p.gen = t.gens.Add(1)
	}
	p.epoch, p.sent, p.until, p.alive, p.names = f.epoch, f.sent, now+o.LeaseDuration, true, f.names
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
