package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/latch"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
	"github.com/phantomdb/phantomdb/txn/tscache"
)

// A seat is what a shard's leader has in memory, from the moment at which nobody else
// can have what was evaluated carried out, until it leads no more or the shard has
// another span. What was evaluated in a seat is carried out under its lease and its
// generation, or not at all.
type seat struct {
	p          *Participant
	r          *cluster.Replica
	store      *mvcc.Store
	term       uint64 // of the shard's group
	generation uint64
	lease      uint64 // see mvcc.Header; no other seat has the same
	span       meta.Span

	ready   chan struct{} // closed when the seat is taken, or why it is not is known
	failure error         // why it was not taken; behind ready

	latches *latch.Manager
	locks   *lock.Table
	reads   *tscache.Cache // goes over to the next seat of the same term

	life   context.Context // ends with the seat
	cause  context.CancelCauseFunc
	closed atomic.Uint64 // the highest timestamp that was said to be closed
	told   sync.Mutex    // held while the log is told of reads that are ahead
	closer closer

	mu      sync.Mutex
	pushing map[id.Key]*push // guarded by mu
	done    []id.Txn         // guarded by mu; committed and resolved, whose records are to go
}

// errMoved says that what was asked was certainly not done here, and is to be asked
// again.
var errMoved = fmt.Errorf("txn: the shard is led anew: %w", consensus.ErrRejected)

// seatBits is how many seats a term may have.
const seatBits = 20

// seat returns the seat of a shard's leader, which is taken if need be.
func (p *Participant) seat(ctx context.Context, r *cluster.Replica, generation uint64) (*seat, error) {
	l, ok := r.Holds()
	if !ok {
		return nil, fmt.Errorf("txn: shard %d: no lease: %w", r.Shard(), consensus.ErrRejected)
	}
	if err := p.right(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	s := p.seats[r.Shard()]
	if s == nil || s.term != l.Term || s.generation != generation || s.left() != nil {
		if s != nil && (s.term > l.Term || s.generation > generation) {
			p.mu.Unlock()
			return nil, errMoved // it heard of this later than others
		}
		h, old := r.Header(), s
		if h.Generation != generation {
			p.mu.Unlock()
			return nil, errMoved
		}
		if s = p.newSeat(r, l.Term, h, old); s.failure != nil {
			p.mu.Unlock()
			return nil, s.failure
		}
		p.seats[r.Shard()] = s
		p.work.Go(func() { s.take(old) })
	}
	p.mu.Unlock()
	select {
	case <-s.ready:
		return s, s.failure
	case <-ctx.Done():
		return nil, fmt.Errorf("txn: shard %d: %w: %w", r.Shard(), consensus.ErrRejected, context.Cause(ctx))
	}
}

// newSeat makes a seat that is not yet taken. The caller holds mu.
func (p *Participant) newSeat(r *cluster.Replica, term uint64, h *shard.Header, old *seat) *seat {
	s := &seat{
		p: p, r: r, store: r.Store().(*mvcc.Store), term: term, generation: h.Generation, lease: term<<seatBits | 1, span: h.Span,
		ready: make(chan struct{}), pushing: map[id.Key]*push{},
	}
	if old != nil {
		old.leave(errMoved)
		if old.term == term {
			s.lease = old.lease + 1
		}
	}
	s.life, s.cause = context.WithCancelCause(p.life)
	if s.latches, s.failure = latch.New(latch.Options{}); s.failure != nil {
		return s
	}
	s.locks, s.failure = lock.New(lock.Options{
		Policy: p.o.Policy,
		Push:   func(holder id.Key, key string, by id.Key) { s.push(holder, key, by) },
	})
	return s
}

// leave ends a seat. What waits in it ends with err.
func (s *seat) leave(err error) {
	s.cause(err)
	s.latches.Close(err)
	s.locks.Close(err)
}

// left returns why the seat is no more, nil if it is.
func (s *seat) left() error {
	if s.life.Err() == nil {
		return nil
	}
	return errMoved
}

// take takes a seat: behind its lease nothing that was evaluated in another is carried
// out.
func (s *seat) take(old *seat) {
	defer close(s.ready)
	if s.failure = s.begin(old); s.failure != nil {
		s.leave(s.failure)
	}
}

func (s *seat) begin(old *seat) error {
	if old != nil {
		<-old.ready // it has ended, and what it knows of reads does not change behind this
	}
	b := mvcc.AppendLead(mvcc.AppendHeader(nil, &mvcc.Header{}), s.lease)
	data, err := s.r.Propose(s.life, s.generation, consensus.Command{Data: b})
	if err != nil {
		if errors.Is(err, consensus.ErrUnknown) {
			err = errMoved // a lease that nobody uses
		}
		return err
	}
	if a, err := mvcc.ParseAnswer(data); err != nil || a.Verdict != mvcc.Done {
		return errors.Join(errMoved, err)
	}
	if err := s.inheritReads(old); err != nil {
		return err
	}
	return s.restore()
}

// inheritReads sees to it that the seat knows of all reads in seats of before, or of
// when they were at the latest.
func (s *seat) inheritReads(old *seat) (err error) {
	low := hlc.At(s.p.clock.Wall()).Add(s.p.clock.Bound())
	low = max(low, s.p.clock.Last(), s.store.State().Reads)
	if err := s.p.skewed(); err != nil {
		return err // so that low is by a clock that was set
	}
	if old == nil || old.term != s.term || old.reads == nil {
		s.reads, err = tscache.New(tscache.Options{}, low)
		return err
	}
	// Whoever reads in the old one notes it here, and finds out after it that the seat
	// is no more.
	s.reads = old.reads
	if was, is := old.span, s.span; is.Start < was.Start || was.End != "" && (is.End == "" || is.End > was.End) {
		s.reads.Raise(low) // a part was another's
	}
	return nil
}

// ahead returns what a command is to say of reads at a timestamp, zero if nothing.
func (s *seat) ahead(at hlc.Timestamp) hlc.Timestamp {
	if at <= s.store.State().Reads || at <= hlc.At(s.p.clock.Wall()) {
		return 0
	}
	return at
}

// cover has the log know that there are reads at a timestamp that is ahead of the node's
// clock: whoever leads next takes for granted only what this one shows by then. They come
// from nodes whose clocks are ahead, and follow what a seat wrote that was just taken.
func (s *seat) cover(at hlc.Timestamp) error {
	if s.ahead(at) == 0 {
		return nil
	}
	s.told.Lock()
	defer s.told.Unlock()
	if s.ahead(at) == 0 {
		return nil
	}
	h := s.header()
	h.Reads = max(at, hlc.At(s.p.clock.Wall()).Add(s.p.clock.Bound())) // and what else may come now
	a, err := s.propose(mvcc.AppendHeader(nil, &h))
	if err == nil {
		err = refusalBy(a, nil)
	}
	return err
}

// reach sees to it that a timestamp may be read at: the node's clock moves on to it, and
// who leads next knows.
func (s *seat) reach(at hlc.Timestamp) error {
	if err := s.p.observe(at); err != nil {
		return err
	}
	return s.cover(at)
}

// restore takes the locks of all intents that are there.
func (s *seat) restore() (err error) {
	s.store.IntentsIn(s.span.Start, s.span.End, func(i *mvcc.Intent) bool {
		err = s.locks.Restore(i.Txn.Key, lockMode(i.Write.Kind), i.Write.Key)
		return err == nil
	})
	return err
}

func lockMode(k mvcc.Kind) lock.Mode {
	if k == mvcc.Add {
		return lock.Add
	}
	return lock.Exclusive
}

func latchMode(k mvcc.Kind) latch.Mode {
	if k == mvcc.Add {
		return latch.Add
	}
	return latch.Write
}

// holds returns an error if what was read in the seat may be of yesterday.
func (s *seat) holds() error {
	l, ok := s.r.Holds()
	if !ok || l.Term != s.term || s.r.Header().Generation != s.generation || s.life.Err() != nil {
		return errMoved
	}
	return nil
}

// header is the beginning of a command that is evaluated now.
func (s *seat) header() mvcc.Header {
	closed := hlc.At(s.p.clock.Wall()).Add(-s.p.o.ClosedLag)
	for {
		old := s.closed.Load()
		if uint64(closed) <= old {
			closed = hlc.Timestamp(old)
			break
		}
		if s.closed.CompareAndSwap(old, uint64(closed)) {
			break
		}
	}
	return mvcc.Header{Lease: s.lease, Closed: closed}
}

// propose has a command carried out. It does not end with whoever asked for it: what
// may be carried out yet keeps its latches. If nobody knows what came of it the seat
// is given up, so that it does nothing later.
func (s *seat) propose(b []byte) (mvcc.Answer, error) {
	data, err := s.r.Propose(s.life, s.generation, consensus.Command{Data: b})
	if err != nil {
		switch {
		case errors.Is(err, consensus.ErrUnknown):
			s.leave(errMoved)
		case errors.Is(err, consensus.ErrTooLarge):
			text := err.Error()
			err = &Refusal{Reason: TooLarge, Text: text[:min(len(text), maxText)]} // whoever asks again, or elsewhere
		}
		return mvcc.Answer{}, err
	}
	a, err := mvcc.ParseAnswer(data)
	if err == nil && a.Verdict == mvcc.Unleased {
		s.leave(errMoved)
		return a, errMoved
	}
	return a, err
}
