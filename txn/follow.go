package txn

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// What a leader is asked by whoever found that its own replica has not closed a
// timestamp: to read, and to close it, for those who come next.
const (
	serviceGetClosing  = "txn.get.closing"
	serviceScanClosing = "txn.scan.closing"
)

// behind is when a transaction reads that leaves it to the client, to find that replicas
// have closed it. A command closes what is ClosedLag back, and takes a moment to be
// applied everywhere. A shard that nobody writes is closed when somebody asks, and not
// again for half a ClosedLag: that much further back, what was closed for one serves all
// until then. But it is not to be where nobody reads any more. What is closed goes by
// walls, and so does this: a clock may be far ahead of its own.
func (p *Participant) behind() hlc.Timestamp {
	lag := p.o.ClosedLag
	return hlc.At(p.clock.Wall()).Add(-lag - min(lag, p.o.Retention-lag)/2)
}

// A found is what came of a read of this node's own replica.
type found byte

const (
	foundHere found = iota
	notClosed       // the replica may yet hear of writes at or below the timestamp
	notHere         // for another reason; who leads the shard is to be asked
)

// here has fn read a span, which one shard is to have, from this node's own replica of
// it, at the transaction's timestamp and without a word to anybody.
//
// What a replica reads where its shard is closed is what every other one reads there,
// now and ever. Closed came with a command, in the log before this moment, and no
// command behind it writes at or below: each replica refuses that by the same log, also
// those of shards that were split off or merged since, which begin with what was closed
// before. So nobody has to remember that it was read, as leaders do, and a replica that
// lags answers as well. What may come below are the intents that are there already, and
// whoever leads knows how to push them.
func (t *Tx) here(span meta.Span, fn func(*mvcc.Store) error) (found, error) {
	at, ok := t.c.n.Locate(span.Start)
	if !ok {
		return notHere, nil
	}
	r, err := t.c.n.Replica(at.Shard)
	if err != nil {
		return notHere, nil //nolint:nilerr // it is elsewhere
	}
	store, ok := r.Store().(*mvcc.Store)
	h := r.Header()
	if !ok || !h.Covers(span) {
		return notHere, nil
	}
	if f, err := t.closed(r, store); f != foundHere || err != nil {
		return f, err
	}
	// Before the rows: what is an intent now is not to be a version that was missed.
	met := false
	store.IntentsIn(span.Start, span.End, func(i *mvcc.Intent) bool {
		met = i.TS <= t.at
		return !met
	})
	if met {
		return notHere, nil
	}
	if err := fn(store); err != nil {
		return notHere, err
	}
	// Meanwhile versions may have gone, or all of the replica, which then has closed
	// nothing; or it has taken in a snapshot, or got another span, and another header.
	f, err := t.closed(r, store)
	if f == foundHere && r.Header() != h {
		f = notHere
	}
	if f == foundHere && err == nil {
		t.nearby++
	}
	return f, err
}

// closed says whether a replica has the transaction's timestamp closed, and refuses one
// that was given up.
func (t *Tx) closed(r *cluster.Replica, store *mvcc.Store) (found, error) {
	st := store.State()
	switch {
	case t.at < st.Threshold:
		return notHere, &TooOldError{Shard: uint64(r.Shard()), At: t.at, Threshold: st.Threshold}
	case st.Closed < t.at:
		return notClosed, nil
	}
	return foundHere, nil
}

// getHere reads a key from this node's own replica. ask is the service by which the
// leader is to be asked instead, empty if it was read.
func (t *Tx) getHere(key string) (value []byte, there bool, ask string, err error) {
	f, err := t.here(point(key), func(store *mvcc.Store) error {
		r, err := store.Reader()
		if err != nil {
			return err
		}
		v, _, err := r.Get(key, t.at, 0)
		if there = v.There(); there {
			value = append([]byte{}, v.Value...)
		}
		return errors.Join(err, r.Close())
	})
	switch f {
	case notClosed:
		return nil, false, serviceGetClosing, err
	case notHere:
		return nil, false, serviceGet, err
	}
	return value, there, "", err
}

// scanHere reads a span like getHere does a key. next is the key to go on at if there
// were more rows than limit, which is 0 for none.
func (t *Tx) scanHere(span meta.Span, limit int) (rows []Row, next, ask string, err error) {
	f, err := t.here(span, func(store *mvcc.Store) error {
		r, err := store.Reader()
		if err != nil {
			return err
		}
		_, err = r.Scan(span.Start, span.End, t.at, 0, func(key string, v *mvcc.Version) bool {
			if limit > 0 && len(rows) == limit {
				next = key
				return false
			}
			rows = append(rows, Row{Key: key, Value: append([]byte{}, v.Value...), TS: v.TS})
			return true
		})
		return errors.Join(err, r.Close())
	})
	switch f {
	case notClosed:
		return nil, "", serviceScanClosing, err
	case notHere:
		return nil, "", serviceScan, err
	}
	return rows, next, "", err
}

// A closer is how a seat closes timestamps that nobody writes above.
type closer struct {
	mu   sync.Mutex // held while a command is under way
	last time.Time  // guarded by mu; when the latest was proposed
}

// closing is the handler of a read that was to be answered elsewhere.
func (p *Participant) closing(h func(context.Context, *seat, *cluster.Request) ([]byte, error)) func(context.Context, *seat, *cluster.Request) ([]byte, error) {
	return func(ctx context.Context, s *seat, q *cluster.Request) ([]byte, error) {
		r := read(q.Body)
		if l := r.look(); !r.Bad {
			s.close(l.at)
		}
		return h(ctx, s, q)
	}
}

// close has a timestamp closed that others read at, if it is far enough back. Writes do
// that by themselves; without any, a shard's followers would stay where they are. Nobody
// waits for it: who asks has come to the leader already.
func (s *seat) close(at hlc.Timestamp) {
	lag := s.p.o.ClosedLag
	if s.store.State().Closed >= at || hlc.At(s.p.clock.Wall()).Add(-lag) < at || !s.closer.mu.TryLock() {
		return
	}
	now := time.Now()
	if now.Sub(s.closer.last) < lag/2 {
		s.closer.mu.Unlock()
		return
	}
	s.closer.last = now
	s.p.work.Go(func() {
		defer s.closer.mu.Unlock()
		h := s.header()
		if _, err := s.propose(mvcc.AppendHeader(nil, &h)); err != nil {
			s.p.o.Logger.Debug("txn: close", "shard", uint64(s.r.Shard()), "err", err)
		}
	})
}
