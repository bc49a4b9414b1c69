package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A Tx is a transaction. What it writes stays with it until Commit. It is for one
// goroutine.
type Tx struct {
	c        *Client
	id       id.Txn
	level    Level
	protocol Protocol
	readOnly bool
	fixed    bool // it reads at its timestamp and no other
	near     bool // it asks this node's own replicas first
	nearby   int  // how often one of them has answered

	at      hlc.Timestamp // at which it reads
	horizon hlc.Timestamp // up to which there must be nothing that it does not see, 0: at

	list   []mvcc.Write   // what it writes, in order; a key may come again
	writes map[string]int // by key, the latest in list
	bytes  int

	moments int   // how many savepoints there were
	moment  []int // the numbers of those that one can go back to, in order

	points map[string]bool // keys that it has read
	spans  []meta.Span     // spans that it has read
	locked []string        // keys at which it has locks

	finishing bool // its end is still being told, and who asks is to be answered

	unknown bool // Commit did not come to know how it ended

	ended error // why it takes no more calls, nil if it does
}

// ID is the transaction's name, by which its outcome can be asked for. It has an
// anchor when it has written something: the first key, so that the name stays the same
// unless that is rolled back to a savepoint.
func (t *Tx) ID() id.Txn {
	name := t.id
	if name.Anchor == "" && len(t.list) > 0 {
		name.Anchor = t.list[0].Key
	}
	return name
}

// At is the timestamp at which the transaction reads.
func (t *Tx) At() hlc.Timestamp { return t.at }

// usable returns why a call cannot be taken.
func (t *Tx) usable(what string) error {
	if t.ended != nil {
		return fmt.Errorf("txn: %s in %v: %w", what, t.id.Key, t.ended)
	}
	return nil
}

// checkKey refuses keys that cannot be.
func checkKey(key string) error {
	if len(key) == 0 || len(key) >= mvcc.MaxKeyBytes {
		return fmt.Errorf("txn: key of %d bytes: %w: expected 1 to %d", len(key), ErrTooLarge, mvcc.MaxKeyBytes-1)
	}
	return nil
}

// Get returns the value at a key, and false if there is none.
func (t *Tx) Get(ctx context.Context, key string) ([]byte, bool, error) {
	return t.get(ctx, key, 0)
}

// Count returns what the counter at a key has come to, 0 if there is none. It reads like
// Get, and so waits for those who are adding to it. The transaction is aborted with
// NoCounter if something else is there.
func (t *Tx) Count(ctx context.Context, key string) (int64, error) {
	b, there, err := t.Get(ctx, key)
	if err != nil {
		return 0, err
	}
	n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !there, Value: b})
	if !ok {
		return 0, t.fail(ctx, &Refusal{Reason: NoCounter, Key: key})
	}
	return n, nil
}

// GetForUpdate is Get of a key that the transaction is going to write: others that want
// it for the same wait.
func (t *Tx) GetForUpdate(ctx context.Context, key string) ([]byte, bool, error) {
	if t.readOnly {
		return nil, false, fmt.Errorf("txn: get for update in %v: %w", t.id.Key, ErrReadOnly)
	}
	return t.get(ctx, key, lock.Exclusive)
}

func (t *Tx) get(ctx context.Context, key string, mode lock.Mode) ([]byte, bool, error) {
	if err := errors.Join(t.usable("get"), checkKey(key)); err != nil {
		return nil, false, err
	}
	var own *mvcc.Write
	if i, ok := t.writes[key]; ok {
		own = &t.list[i]
		if own.Kind != mvcc.Add {
			return slices.Clone(own.Value), own.Kind == mvcc.Put, nil
		}
	}
	if err := t.mayRead(); err != nil {
		return nil, false, err
	}
	value, there, err := t.fetch(ctx, key, mode)
	if err != nil {
		return nil, false, t.fail(ctx, err)
	}
	if own == nil {
		return value, there, nil
	}
	n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !there, Value: value})
	if !ok {
		return nil, false, t.fail(ctx, &Refusal{Reason: NoCounter, Key: key})
	}
	return mvcc.AppendCounter(nil, n+own.Delta), true, nil
}

// mayRead bounds what is remembered of reads.
func (t *Tx) mayRead() error {
	if n := len(t.points) + len(t.spans); n >= t.c.o.MaxReads {
		return fmt.Errorf("txn: %v reads %d keys and spans: %w: expected at most %d", t.id.Key, n+1, ErrTooLarge, t.c.o.MaxReads)
	}
	return nil
}

// fetch reads a key from its shard, with a lock if mode is not 0.
func (t *Tx) fetch(ctx context.Context, key string, mode lock.Mode) (value []byte, there bool, err error) {
	for {
		l := look{txn: t.id.Key, at: t.at, horizon: t.horizon}
		service, body := serviceGet, []byte(nil)
		if t.near {
			if value, there, service, err = t.getHere(key); err != nil || service == "" {
				return value, there, err
			}
		}
		if mode == 0 {
			body = (&getRequest{look: l, key: key}).encode()
		} else {
			service, body = serviceLock, (&lockRequest{look: l, key: key, mode: mode}).encode()
			if len(t.locked) == 0 {
				t.c.p.live.set(t.id.Key, standing{state: standsOpen})
			}
			t.locked = append(t.locked, key)
		}
		end := t.asks(key)
		b, err := t.c.n.Call(ctx, service, key, body)
		end()
		if err != nil {
			return nil, false, err
		}
		r := read(b)
		if err := r.verdict(service); err != nil {
			return nil, false, err
		}
		above := r.ts()
		value, ts, there := r.version()
		if err := r.end(service); err != nil {
			return nil, false, err
		}
		if late := max(above, ts); late > t.at {
			if err := t.advance(ctx, late); err != nil {
				return nil, false, err
			}
			if ts <= t.at && above <= t.at && mode != 0 {
				t.points[key] = true
				return value, there, nil // it has the lock, so nobody has written since
			}
			continue
		}
		t.points[key] = true
		return value, there, nil
	}
}

// asks notes that the transaction may wait at the shard of a key, which only matters
// where waiting in a ring is looked for.
func (t *Tx) asks(key string) (end func()) {
	if t.c.p.o.Policy != lock.Detect {
		return func() {}
	}
	return t.c.p.live.ask(t.id.Key, key)
}

// advance has the transaction read at a later timestamp, if what it has read is the
// same then.
func (t *Tx) advance(ctx context.Context, to hlc.Timestamp) error {
	if t.fixed {
		return fmt.Errorf("txn: %v reads at %v: %w", t.id.Key, t.at, ErrReadOnly)
	}
	if err := t.recheck(ctx, t.readSpans(), to); err != nil {
		return err
	}
	t.at = to
	t.c.saw(to) // so that what this client does later reads no less
	return nil
}

// recheck asks all shards whether what was read in spans is the same at a later
// timestamp, and stays so.
func (t *Tx) recheck(ctx context.Context, spans []meta.Span, to hlc.Timestamp) error {
	for len(spans) > 0 {
		parts := t.divide(spans)
		spans = nil
		errs := make([]error, len(parts))
		each(len(parts), func(i int) {
			body := (&checkRequest{txn: t.id.Key, after: t.at, at: to, spans: parts[i].spans}).encode()
			b, err := t.c.n.CallSpan(ctx, serviceCheck, parts[i].span, body)
			if err == nil {
				err = read(b).verdict(serviceCheck)
			}
			errs[i] = err
		})
		for i, err := range errs {
			if errors.Is(err, cluster.ErrSplit) {
				spans = append(spans, parts[i].spans...)
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// readSpans are the spans of all that was read.
func (t *Tx) readSpans() (list []meta.Span) {
	for key := range t.points {
		list = append(list, point(key))
	}
	return append(list, t.spans...)
}

// A part is what a transaction has to do with one shard.
type part struct {
	span  meta.Span   // all of spans
	spans []meta.Span // in order
}

// divide cuts spans where shards meet.
func (t *Tx) divide(spans []meta.Span) (parts []*part) {
	byShard := map[meta.ShardID]*part{}
	for _, sp := range spans {
		for _, at := range t.c.n.Parts(sp) {
			p := byShard[at.Shard]
			if p == nil {
				p = &part{span: at.Span}
				byShard[at.Shard] = p
				parts = append(parts, p)
			}
			p.spans = append(p.spans, at.Span)
			p.span.Start = min(p.span.Start, at.Span.Start)
			if at.Span.End == "" || p.span.End != "" && at.Span.End > p.span.End {
				p.span.End = at.Span.End
			}
		}
	}
	for _, p := range parts {
		slices.SortFunc(p.spans, func(a, b meta.Span) int { return strings.Compare(a.Start, b.Start) })
	}
	return parts
}

// Put writes a value at a key.
func (t *Tx) Put(key string, value []byte) error {
	if len(value) > mvcc.MaxValueBytes {
		return fmt.Errorf("txn: put %q: value of %d bytes: %w: expected at most %d", key, len(value), ErrTooLarge, mvcc.MaxValueBytes)
	}
	return t.write(mvcc.Write{Key: key, Kind: mvcc.Put, Value: slices.Clone(value)})
}

// Delete removes what is at a key.
func (t *Tx) Delete(key string) error { return t.write(mvcc.Write{Key: key, Kind: mvcc.Delete}) }

// Add adds to the counter at a key, which is 0 where there is none. Transactions that
// add to the same one do not wait for each other.
func (t *Tx) Add(key string, delta int64) error { return t.write(mvcc.Unbounded(key, delta)) }

// AddBounded is Add to a counter that stays from low to high: otherwise the
// transaction is aborted with OutOfRange; or with Conflict, if that depends on what others
// are about to commit.
func (t *Tx) AddBounded(key string, delta, low, high int64) error {
	if low > high {
		return fmt.Errorf("txn: add to %q: bounds %d to %d, expected the lower one first", key, low, high)
	}
	return t.write(mvcc.Write{Key: key, Kind: mvcc.Add, Delta: delta, Min: low, Max: high})
}

func (t *Tx) write(w mvcc.Write) error {
	if err := errors.Join(t.usable("write"), checkKey(w.Key)); err != nil {
		return err
	}
	if t.readOnly {
		return fmt.Errorf("txn: write %q in %v: %w", w.Key, t.id.Key, ErrReadOnly)
	}
	if i, ok := t.writes[w.Key]; ok && w.Kind == mvcc.Add {
		var err error
		if w, err = merge(&t.list[i], &w); err != nil {
			return err
		}
	}
	size := len(w.Key) + len(w.Value)
	if t.bytes+size > t.c.o.MaxBytes {
		return fmt.Errorf("txn: %v writes %d bytes: %w: expected at most %d", t.id.Key, t.bytes+size, ErrTooLarge, t.c.o.MaxBytes)
	}
	t.bytes += size
	t.writes[w.Key] = len(t.list)
	t.list = append(t.list, w)
	return nil
}

// merge is what adding comes to behind another write of the same key.
func merge(old, w *mvcc.Write) (mvcc.Write, error) {
	next := *w
	if old.Kind == mvcc.Add {
		next.Delta = old.Delta + w.Delta
		next.Min, next.Max = max(old.Min, w.Min), min(old.Max, w.Max)
		return next, nil
	}
	n, ok := mvcc.Counter(&mvcc.Version{TS: 1, Deleted: old.Kind == mvcc.Delete, Value: old.Value})
	switch {
	case !ok:
		return next, &Refusal{Reason: NoCounter, Key: w.Key}
	case n+w.Delta < w.Min || n+w.Delta > w.Max:
		return next, &Refusal{Reason: OutOfRange, Key: w.Key}
	}
	return mvcc.Write{Key: w.Key, Kind: mvcc.Put, Value: mvcc.AppendCounter(nil, n+w.Delta)}, nil
}

// A Savepoint is a moment in a transaction.
type Savepoint struct {
	t      *Tx
	number int
	n      int
	bytes  int
}

// Savepoint returns the present moment.
func (t *Tx) Savepoint() Savepoint {
	t.moments++
	t.moment = append(t.moment, t.moments)
	return Savepoint{t, t.moments, len(t.list), t.bytes}
}

// RollbackTo forgets what was written since a moment. Locks stay.
func (t *Tx) RollbackTo(s Savepoint) error {
	if err := t.usable("roll back"); err != nil {
		return err
	}
	i, known := slices.BinarySearch(t.moment, s.number)
	if s.t != t || !known {
		return fmt.Errorf("txn: roll back %v: %w", t.id.Key, ErrSavepoint)
	}
	t.moment = t.moment[:i+1]
	t.list, t.bytes = t.list[:s.n], s.bytes
	clear(t.writes)
	for i := range t.list {
		t.writes[t.list[i].Key] = i
	}
	return nil
}
