package txn

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// tendEvery is how often a participant looks after its shards. What is left of a
// transaction for longer than abandonedAfter is pushed though nobody stands behind it.
const (
	tendEvery      = 200 * time.Millisecond
	abandonedAfter = time.Second
	// sweepAtOnce bounds the versions that are looked at in one go.
	sweepAtOnce = 1 << 12
)

// tend looks after the replicas of shards that the node has.
func (p *Participant) tend() {
	for p.life.Err() == nil {
		n := p.node.Load()
		for _, g := range n.Host().Groups() {
			r, err := n.Replica(meta.ShardID(g))
			if err != nil || p.life.Err() != nil {
				continue // it is the cluster's own, or has gone
			}
			if store, ok := r.Store().(*mvcc.Store); ok {
				p.tendReplica(r, store)
			}
		}
		p.prune()
		p.tendLocks()
		pause(p.life, tendEvery)
	}
}

// tendReplica looks after one replica.
func (p *Participant) tendReplica(r *cluster.Replica, store *mvcc.Store) {
	if _, leads := r.Holds(); leads {
		p.tendLed(r, store)
	}
	if _, _, err := store.Sweep(sweepAtOnce); err != nil && !errors.Is(err, mvcc.ErrClosed) {
		p.o.Logger.Warn("txn: what nobody reads stays", "shard", uint64(r.Shard()), "err", err)
	}
}

// tendLed looks after a shard that is led here: what is left of transactions, and what
// nobody is to read any more.
func (p *Participant) tendLed(r *cluster.Replica, store *mvcc.Store) {
	now, h := hlc.At(p.clock.Wall()), r.Header()
	left := map[id.Key]id.Txn{}
	// Before the intents: those that come later are above what is closed now, so that no
	// replica has to look for one below the threshold.
	st, oldest := store.State(), hlc.Max
	store.IntentsIn(h.Span.Start, h.Span.End, func(i *mvcc.Intent) bool {
		oldest = min(oldest, i.TS)
		if i.TS.Add(abandonedAfter) < now {
			left[i.Txn.Key] = i.Txn
		}
		return true
	})
	store.Records(func(rec *mvcc.Record) bool {
		if rec.Status != mvcc.Aborted && rec.TS.Add(abandonedAfter) < now {
			left[rec.Txn.Key] = rec.Txn
		}
		return true
	})
	threshold := min(st.Closed, now.Add(-p.o.Retention), oldest)
	gone := []uint64(nil)
	st.Protected(func(name uint64, q mvcc.Protection) {
		if q.Until < now {
			gone = append(gone, name)
		} else {
			threshold = min(threshold, q.TS)
		}
	})
	dead := p.deadIn(store, h.Span)
	raise := threshold > st.Threshold.Add(p.o.Retention/16)
	if len(left) == 0 && len(dead) == 0 && !raise {
		return
	}
	ctx, cancel := context.WithTimeout(p.life, tendEvery)
	defer cancel()
	s, err := p.seat(ctx, r, h.Generation)
	if err != nil {
		return // another time
	}
	if len(dead) > 0 {
		if err := s.clean(dead); err != nil {
			p.o.Logger.Debug("txn: clean", "shard", uint64(r.Shard()), "err", err)
		}
	}
	for _, txn := range left {
		s.abandoned(txn)
	}
	if err := s.forgetNow(); err != nil {
		p.o.Logger.Debug("txn: forget", "shard", uint64(r.Shard()), "err", err)
	}
	if raise {
		s.raise(threshold, gone)
	}
}

// abandoned looks after what is left of a transaction, which its coordinator may still
// be about to end.
func (s *seat) abandoned(txn id.Txn) {
	if len(s.store.IntentsOf(txn.Key)) > 0 {
		s.pushTxn(txn, id.Key{})
		return
	}
	s.p.work.Go(func() {
		if st, err := s.p.ask(s.life, txn.Key); err != nil || st.state == standsNowhere {
			s.recover(txn)
		}
	})
}

// tendLocks takes locks from transactions that have gone without a word: their
// coordinators do not know of them, or do not answer. What was prepared is pushed by
// whoever waits for it.
func (p *Participant) tendLocks() {
	p.mu.Lock()
	seats := make([]*seat, 0, len(p.seats))
	for _, s := range p.seats {
		seats = append(seats, s)
	}
	p.mu.Unlock()
	type place struct {
		s   *seat
		key string
		by  id.Key
	}
	holders := map[id.Key][]place{}
	for _, s := range seats {
		for _, w := range s.locks.Waits() {
			for _, h := range s.locks.Holders(w.Key) {
				if !h.Prepared && h.Owner != w.Owner {
					holders[h.Owner] = append(holders[h.Owner], place{s, w.Key, w.Owner})
				}
			}
		}
	}
	list := slices.Collect(maps.Keys(holders))
	each(len(list), func(i int) {
		if st, err := p.ask(p.life, list[i]); err == nil && st.state == standsOpen || p.life.Err() != nil {
			return
		}
		for _, at := range holders[list[i]] {
			at.s.locks.Abort(list[i], &lock.WoundedError{Owner: list[i], By: at.by, Key: at.key})
		}
	})
}

// raise gives up what is read below a timestamp.
func (s *seat) raise(threshold hlc.Timestamp, unprotect []uint64) {
	h := s.header()
	if len(unprotect) > 0 {
		b := mvcc.AppendHeader(nil, &h)
		for _, name := range unprotect {
			b = mvcc.AppendUnprotect(b, name)
		}
		// By itself: a command is judged as a whole, by what is protected before it.
		if _, err := s.propose(b); err != nil {
			s.p.o.Logger.Debug("txn: unprotect", "shard", uint64(s.r.Shard()), "err", err)
			return
		}
	}
	b := mvcc.AppendHeader(nil, &h)
	// Refused if it must not be: it is tried again before long.
	if _, err := s.propose(mvcc.AppendThreshold(b, threshold)); err != nil && !errors.Is(err, consensus.ErrRejected) {
		s.p.o.Logger.Debug("txn: threshold", "shard", uint64(s.r.Shard()), "err", err)
	}
}

// prune ends seats of shards that are led elsewhere, or have another span: what waits
// in one would wait for ever. It forgets those of replicas that have gone. Others stay,
// because a seat of the same term must not have the lease of an earlier one.
func (p *Participant) prune() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.seats {
		l, ok := s.r.Holds()
		if !ok && !s.r.Leads() || ok && l.Term != s.term || s.r.Header().Generation != s.generation {
			s.leave(errMoved)
		}
		if _, err := p.node.Load().Replica(id); err != nil {
			delete(p.seats, id)
		}
	}
}

// past waits until every clock shows more than a timestamp.
func (c *Client) past(ctx context.Context, ts hlc.Timestamp) error {
	if _, own := c.o.Source.(*hlc.Clock); !own {
		return nil // it gives out nothing below
	}
	for {
		left := ts.Add(c.p.clock.Bound()).Sub(hlc.At(c.p.clock.Wall()))
		if left <= 0 {
			return nil
		}
		pause(ctx, left)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}
