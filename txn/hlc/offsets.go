package hlc

import (
	"fmt"
	"sync"
	"time"
)

// Offsets estimates how far the wall clocks of other nodes are from this node's. Use
// NewOffsets.
type Offsets struct {
	bound time.Duration
	mu    sync.Mutex
	peers map[uint64]*window // guarded by mu
}

// The estimate of a peer is the best of its latest trips, none older than staleAfter:
// clocks drift, and a trip that was quick once says little of now.
const (
	tripsKept  = 8
	staleAfter = 10 * time.Second
)

// A Trip is one question to a peer what time it is. Sent and Received are moments of
// this node's clock, Shown is what the peer's showed in between.
type Trip struct{ Sent, Shown, Received time.Time }

// An Offset is how far a peer's clock is ahead of this node's, by a trip that says it
// to within Error.
type Offset struct{ Ahead, Error time.Duration }

// AtLeast is how far the clocks are apart for certain.
func (o Offset) AtLeast() time.Duration { return max(0, o.Ahead.Abs()-o.Error) }

// window holds the latest trips to a peer.
type window struct {
	trips [tripsKept]Trip
	next  int
}

// NewOffsets returns an estimator for a bound. See Clock.
func NewOffsets(bound time.Duration) *Offsets {
	return &Offsets{bound: bound, peers: map[uint64]*window{}}
}

// Add takes a trip to a peer. It refuses one that came back before it was sent, which
// a clock that was set back makes.
func (o *Offsets) Add(peer uint64, t Trip) error {
	if t.Received.Before(t.Sent) {
		return fmt.Errorf("hlc: trip to node %d from %v to %v: it ends before it begins", peer, t.Sent, t.Received)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.peers[peer]
	if w == nil {
		w = &window{}
		o.peers[peer] = w
	}
	w.trips[w.next%tripsKept] = t
	w.next++
	return nil
}

// Forget drops what is known of a peer.
func (o *Offsets) Forget(peer uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.peers, peer)
}

// Of returns the best estimate of a peer's clock, and false if no trip to it is recent.
func (o *Offsets) Of(peer uint64, now time.Time) (Offset, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.of(peer, now)
}

func (o *Offsets) of(peer uint64, now time.Time) (best Offset, ok bool) {
	w := o.peers[peer]
	if w == nil {
		return Offset{}, false
	}
	for _, t := range w.trips[:min(w.next, tripsKept)] {
		// This clock may have been set, in either direction.
		if now.Sub(t.Received).Abs() > staleAfter {
			continue
		}
		half := t.Received.Sub(t.Sent) / 2
		if e := (Offset{Ahead: t.Shown.Sub(t.Sent.Add(half)), Error: half}); !ok || e.Error < best.Error {
			best, ok = e, true
		}
	}
	return best, ok
}

// A Verdict says how this node's clock stands among the others.
type Verdict struct {
	// Peers of a cluster were asked about, Known of them have a recent estimate, and
	// Far of those are more than four fifths of the bound away.
	Peers, Known, Far int
	// Worst is how far the furthest is away for certain, and Node which one it is.
	Worst time.Duration
	Node  uint64
}

// Fence reports whether the node must not serve: its clock is too far from a majority
// of all nodes, itself included. With two nodes nobody can tell which one is wrong.
func (v Verdict) Fence() bool { return 2*v.Far > v.Peers+1 }

// Judge compares this node's clock with those of all its peers.
func (o *Offsets) Judge(peers []uint64, now time.Time) Verdict {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := Verdict{Peers: len(peers)}
	for _, peer := range peers {
		e, ok := o.of(peer, now)
		if !ok {
			continue
		}
		v.Known++
		apart := e.AtLeast()
		if apart > o.bound*4/5 {
			v.Far++
		}
		if apart > v.Worst {
			v.Worst, v.Node = apart, peer
		}
	}
	return v
}
