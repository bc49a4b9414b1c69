package txn

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// serviceClock is what a node is asked for the time.
const serviceClock = "txn.clock"

// How often a node compares its clock with those of others, how long they have to
// answer, and how many it asks at once.
const (
	compareEvery  = time.Second
	compareAgain  = 200 * time.Millisecond // while it serves nothing
	compareFor    = 300 * time.Millisecond
	knowFor       = time.Second // to hear which others there are, at the beginning
	compareAtOnce = 16
)

// A skew is what a participant knows of its clock among those of others.
type skew struct {
	offsets *hlc.Offsets
	began   time.Time     // from which time is counted that nobody sets
	stepped chan struct{} // says that the wall clock was set
	first   chan struct{} // closed when others were asked for the first time

	why     atomic.Pointer[SkewedError] // why the node serves nothing, nil if it does
	base    atomic.Int64                // drift when the clock was last found right
	verdict atomic.Pointer[hlc.Verdict] // the latest

	// Of the loop alone.
	asked map[uint64]bool // who was asked last
	made  time.Duration   // drift when the first of the trips was made that are kept
	told  bool            // that the node serves nothing
	turn  int             // of transfers
}

func (k *skew) init(c *hlc.Clock) {
	k.offsets, k.began = hlc.NewOffsets(c.Bound()), time.Now()
	k.stepped, k.first = make(chan struct{}, 1), make(chan struct{})
	k.verdict.Store(&hlc.Verdict{})
	k.made = k.drift(c)
	k.base.Store(int64(k.made))
}

// drift is how far the wall clock is from the time that nobody sets. Only its changes
// say anything.
func (k *skew) drift(c *hlc.Clock) time.Duration {
	return time.Duration(c.Wall().UnixNano()) - time.Since(k.began)
}

// step is how far a clock may be set before others are asked about it: a verdict leaves
// a fifth of the bound for what happens until the next one.
func step(c *hlc.Clock) time.Duration { return c.Bound() / 5 }

// Offsets is how the node's clock stood among those of others when it last asked.
func (p *Participant) Offsets() hlc.Verdict { return *p.skew.verdict.Load() }

// skewed returns a *SkewedError if the node must not go by its clock. A clock that was
// set since it was last compared is not gone by either: others find it wrong a second
// later, and what was read and written until then may be what nobody knows of.
func (p *Participant) skewed() error {
	k := &p.skew
	if why := k.why.Load(); why != nil {
		return why
	}
	d := k.drift(p.clock) - time.Duration(k.base.Load())
	if d.Abs() <= step(p.clock) {
		return nil
	}
	why := &SkewedError{Offset: d.Abs(), Limit: step(p.clock), Bound: p.clock.Bound()}
	k.why.CompareAndSwap(nil, why)
	select {
	case k.stepped <- struct{}{}:
	default:
	}
	return why
}

// right waits until others were asked for the time, and returns an error like skewed.
func (p *Participant) right(ctx context.Context) error {
	select {
	case <-p.skew.first:
		return p.skewed()
	default:
	}
	select {
	case <-p.skew.first:
		return p.skewed()
	case <-p.life.Done():
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("txn: the node's clock is not yet compared with others: %w: %w", consensus.ErrRejected, context.Cause(ctx))
	}
}

// serveClock says what time it is.
func (p *Participant) serveClock(context.Context, consensus.NodeID, []byte) ([]byte, error) {
	return binary.BigEndian.AppendUint64(nil, uint64(p.clock.Wall().UnixNano())), nil
}

// watch compares the node's clock with others.
func (p *Participant) watch() {
	p.know()
	for i := 0; p.life.Err() == nil; i++ {
		p.compare()
		if i == 0 {
			close(p.skew.first)
		}
		wait := compareEvery
		if p.skew.why.Load() != nil {
			wait = compareAgain
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-p.skew.stepped:
			t.Stop()
			pause(p.life, 5*time.Millisecond) // it may be set again and again
		case <-p.life.Done():
			t.Stop()
		}
	}
}

// know waits until the node knows the cluster as it was when it began itself, but not for
// ever: what knows the cluster may be down.
func (p *Participant) know() {
	n := p.node.Load()
	ctx, cancel := context.WithTimeout(p.life, knowFor)
	defer cancel()
	_, err := n.Await(ctx, func(s *meta.State) bool {
		self, ok := s.Node(n.ID())
		return ok && self.Epoch == n.Epoch() && self.Condition == meta.Live
	})
	if err != nil {
		p.o.Logger.Debug("txn: clock", "err", err)
	}
}

// compare asks all others for the time, and has the node serve or not by what they say.
func (p *Participant) compare() {
	_ = p.skewed() // it was perhaps set while nobody asked for anything
	k, before := &p.skew, p.skew.drift(p.clock)
	peers := p.peers()
	set := (before - k.made).Abs() > step(p.clock)/4
	if set {
		k.made = before // trips of before say where the clock was, if it drifts or was set
	}
	now := map[uint64]bool{}
	for _, peer := range peers {
		now[peer] = true
	}
	for peer := range k.asked {
		if set || !now[peer] {
			k.offsets.Forget(peer)
		}
	}
	k.asked = now
	p.ping(peers)
	if p.life.Err() != nil || (k.drift(p.clock)-before).Abs() > step(p.clock) {
		return // set meanwhile: what was heard says nothing, and skewed says so
	}
	v := k.offsets.Judge(peers, p.clock.Wall())
	k.verdict.Store(&v)
	p.judged(v, before)
}

// peers are the other nodes that are up, as far as the node knows.
func (p *Participant) peers() (list []uint64) {
	n := p.node.Load()
	s, _ := n.View()
	for _, other := range s.Nodes() {
		if other.Condition == meta.Live && other.ID != n.ID() {
			list = append(list, uint64(other.ID))
		}
	}
	return list
}

// ping makes a trip to each peer. Of those that do not answer nothing is known.
func (p *Participant) ping(peers []uint64) {
	ctx, cancel := context.WithTimeout(p.life, compareFor)
	defer cancel()
	var work sync.WaitGroup
	slots := make(chan struct{}, compareAtOnce)
	for _, peer := range peers {
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			t := hlc.Trip{Sent: p.clock.Wall()}
			b, err := p.node.Load().Ask(ctx, consensus.NodeID(peer), serviceClock, nil)
			t.Received = p.clock.Wall()
			if err != nil {
				return
			}
			r := read(b)
			t.Shown = time.Unix(0, int64(r.Uint64()))
			if err = r.end(serviceClock); err == nil {
				err = p.skew.offsets.Add(peer, t)
			}
			if err != nil {
				p.o.Logger.Debug("txn: clock", "peer", peer, "err", err)
			}
		})
	}
	work.Wait()
}

// judged has the node serve or not. It serves again when it knows that a majority is
// near, itself included, and not when it merely has not heard that one is far; and when
// its clock shows what it had told while it was wrong.
func (p *Participant) judged(v hlc.Verdict, drift time.Duration) {
	k, bound := &p.skew, p.clock.Bound()
	near := v.Known - v.Far + 1
	ahead := p.clock.Last().Sub(hlc.At(p.clock.Wall()))
	switch why := k.why.Load(); {
	case v.Fence():
		k.why.Store(&SkewedError{Offset: v.Worst, Node: v.Node, Limit: bound * 4 / 5, Bound: bound})
	case why != nil && 2*near <= v.Peers+1:
	case why != nil && ahead > bound:
		k.why.Store(&SkewedError{Offset: ahead, Limit: bound, Bound: bound})
	default:
		k.base.Store(int64(drift))
		k.why.Store(nil)
	}
	why := k.why.Load()
	if why != nil {
		p.retire(why)
	}
	if serves := why == nil; serves == k.told {
		k.told = !serves
		if serves {
			p.o.Logger.Warn("txn: the clock is right again, the node serves", "furthest", v.Worst, "peer", v.Node)
		} else {
			p.o.Logger.Warn("txn: the clock is wrong, the node serves nothing", "err", why, "far", v.Far, "known", v.Known, "peers", v.Peers)
		}
	}
}

// retire ends all seats, and gives what is led here to others, in turn: one of them may
// be as wrong, or down. Whoever asks goes on asking until one has it.
func (p *Participant) retire(why *SkewedError) {
	p.mu.Lock()
	for _, s := range p.seats {
		s.leave(why)
	}
	p.mu.Unlock()
	n := p.node.Load()
	s, _ := n.View()
	ctx, cancel := context.WithTimeout(p.life, compareFor)
	defer cancel()
	p.skew.turn++
	var work sync.WaitGroup
	slots := make(chan struct{}, compareAtOnce)
	for _, sh := range s.Shards() {
		r, err := n.Replica(sh.ID)
		if err != nil || !r.Leads() {
			continue // or it is the cluster's own, which goes by no clock
		}
		var others []consensus.ReplicaID
		for _, m := range sh.Members {
			if !m.Learner && m.Node != n.ID() {
				others = append(others, m.Replica)
			}
		}
		if len(others) == 0 {
			continue
		}
		slots <- struct{}{}
		work.Go(func() {
			defer func() { <-slots }()
			if err := n.Host().Transfer(ctx, consensus.GroupID(sh.ID), others[p.skew.turn%len(others)]); err != nil {
				p.o.Logger.Debug("txn: clock", "shard", uint64(sh.ID), "err", err) // another time
			}
		})
	}
	work.Wait()
}
