package lock

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/phantomdb/phantomdb/txn/id"
)

// Options configures a Table. A zero field selects its default.
type Options struct {
	// Policy says who goes on when two are in each other's way. Default: WoundWait.
	Policy Policy
	// MaxLocks is how many locks there may be, those that are waited for included.
	// What Restore makes is not refused. A lock takes about 300 bytes and its key.
	// Default: 1048576.
	MaxLocks int
	// MaxWaiting is how many requests may wait at a time. Default: 16384.
	MaxWaiting int
	// MaxEnded is how many owners that have lost their locks are remembered. More
	// means that an owner that is told late still is told by Acquire and Check. Who
	// has been forgotten finds out by Held. Default: 16384.
	MaxEnded int

	// The table calls these without its mutex, in the goroutine whose call has caused
	// it and before that returns or waits. They may call the table. Those of
	// different calls may overlap.

	// Push is called when a request first stands behind a holder that is prepared, at
	// a key, and not again for this holder until all that it has prepared has been
	// released. Under NoWait the request does not stand there, but is refused. The
	// holder's outcome must then be found out, and ends in a Release. Optional.
	Push func(holder id.Key, key string, by id.Key)
	// Wounded is called when an owner has lost its locks to another one, so that its
	// coordinator can be told. Optional.
	Wounded func(owner, by id.Key)
	// Blocked is called under Detect when a request begins to wait, with those whom it
	// waits for, so that Probes can be sent. Optional.
	Blocked func(waiter id.Key, key string, waitsFor []id.Key)
	_       struct{} // keyed literals only, so that fields can be added
}

// A Table has the locks of one shard. Use New.
type Table struct {
	o Options

	mu     sync.Mutex
	closed error             // guarded by mu; why there are no locks any more
	keys   map[string]*queue // guarded by mu; those that somebody has or wants
	owners map[id.Key]*owner // guarded by mu; those that have or want something
	ended  ended             // guarded by mu
	stats  Stats             // guarded by mu
	search uint64            // guarded by mu; the latest one for a deadlock
	// Owners of which the rules of the policy must be looked at again before mu is
	// given up, and what must be called after that. Guarded by mu.
	suspects []id.Key
	after    []func()
	// What is used again. Guarded by mu.
	freeHolds  []*hold
	freeQueues []*queue
	freeOwners []*owner
}

// spares bounds how much of each kind is kept for use again.
const spares = 1024

// New returns a table without locks.
func New(o Options) (*Table, error) {
	for _, f := range []struct {
		name  string
		value *int
		usual int
	}{{"MaxLocks", &o.MaxLocks, 1 << 20}, {"MaxWaiting", &o.MaxWaiting, 1 << 14}, {"MaxEnded", &o.MaxEnded, 1 << 14}} {
		if *f.value == 0 {
			*f.value = f.usual
		}
		if *f.value < 1 {
			return nil, fmt.Errorf("lock: %s is %d, expected at least 1", f.name, *f.value)
		}
	}
	if o.Policy > Detect {
		return nil, fmt.Errorf("lock: Policy is %d, expected %d to %d", o.Policy, WoundWait, Detect)
	}
	return &Table{
		o: o, keys: map[string]*queue{}, owners: map[id.Key]*owner{},
		ended: ended{max: o.MaxEnded, of: map[id.Key]*list.Element{}},
	}, nil
}

// Acquire waits until an owner has a lock on a key that is at least as strong as mode.
// Where nobody is in the way it returns at once, whatever ctx says.
//
// It returns the cause of ctx if that ends first; a *DieError or a *ConflictError if the
// policy says that it must not wait; an *OverloadError if the table is full; and what
// Close was called with. Then all is as if it had not been called: what the owner had
// before it still has. It returns a *WoundedError or a *DeadlockError, or what Abort was
// called with, if the owner has lost its locks.
func (t *Table) Acquire(ctx context.Context, who id.Key, key string, mode Mode) error {
	if err := valid(who, mode); err != nil {
		return err
	}
	t.mu.Lock()
	w, err := t.ask(who, key, mode)
	t.unlock()
	if w == nil {
		return err
	}
	return t.await(ctx, w)
}

// AcquireAll acquires locks on many keys, one after the other in the order given, in
// which all should ask for them. Its errors are those of Acquire, and after one it has
// kept none of them. Meanwhile the same owner must not ask for the same keys.
func (t *Table) AcquireAll(ctx context.Context, who id.Key, keys []string, mode Mode) error {
	if err := valid(who, mode); err != nil {
		return err
	}
	before := make([]Mode, 0, 16)
	t.mu.Lock()
	defer t.unlock()
	for i, key := range keys {
		before = append(before, t.held(who, key))
		w, err := t.ask(who, key, mode)
		if w != nil {
			t.unlock()
			err = t.await(ctx, w)
			t.mu.Lock()
		}
		if err != nil {
			for j := i - 1; j >= 0; j-- { // a key may be in there twice
				t.lower(who, keys[j], before[j])
			}
			return err
		}
	}
	return nil
}

// valid reports what is wrong with a request.
func valid(who id.Key, mode Mode) error {
	switch {
	case who.Zero():
		return errors.New("lock: the owner is no transaction")
	case mode < Shared || mode > Add:
		return fmt.Errorf("lock: transaction %v: mode is %d, expected %d to %d", who, mode, Shared, Add)
	}
	return nil
}

// await waits for what a request comes to.
func (t *Table) await(ctx context.Context, w *wait) error {
	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.unlock()
	if w.queued {
		t.end(w, context.Cause(ctx))
	}
	// It may have been granted in the meantime, and then it has the lock.
	return w.err
}

// Release takes locks from an owner, prepared or not, and gives them to those who wait.
// Keys that the owner has no lock on are passed over.
func (t *Table) Release(who id.Key, keys ...string) {
	t.mu.Lock()
	defer t.unlock()
	for _, key := range keys {
		if h := t.find(who, key); h != nil {
			o, q := h.owner, h.queue
			t.drop(h)
			t.settle(q)
			t.tidy(o)
		}
	}
}

// ReleaseAll takes all locks from an owner, prepared or not. Requests of the owner that
// wait are not ended.
func (t *Table) ReleaseAll(who id.Key) {
	t.mu.Lock()
	defer t.unlock()
	o := t.owners[who]
	for o != nil && len(o.holds) > 0 {
		h := o.holds[len(o.holds)-1]
		q := h.queue
		t.drop(h)
		t.settle(q)
	}
	if o != nil {
		t.tidy(o)
	}
}

// Forget drops what is remembered of an owner that has lost its locks, when nobody will
// ask for it any more.
func (t *Table) Forget(who id.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended.forget(who)
}

// Check returns why an owner has lost its locks, or what Close was called with, or nil.
func (t *Table) Check(who id.Key) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return t.closed
	}
	return t.ended.why(who)
}

// Close drops all locks, and ends all requests that wait and all later ones with err,
// which must not be nil. Only the first call counts.
func (t *Table) Close(err error) {
	if err == nil {
		panic("lock: Close without an error")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed != nil {
		return
	}
	t.closed = err
	for _, o := range t.owners {
		for _, w := range o.waits {
			w.queued, w.err = false, err
			w.ready <- struct{}{}
		}
	}
	t.stats.Locks, t.stats.Waiting = 0, 0
	t.ended = ended{}
	t.keys, t.owners, t.freeHolds, t.freeQueues, t.freeOwners = nil, nil, nil, nil, nil
}

// unlock ends a call: it sees to what the call has left over, gives up the mutex, and
// calls whom the caller of New wants to be called.
func (t *Table) unlock() {
	for len(t.suspects) > 0 {
		o := t.owners[t.suspects[len(t.suspects)-1]]
		t.suspects = t.suspects[:len(t.suspects)-1]
		if o != nil {
			t.review(o)
		}
	}
	after := t.after
	t.after = nil
	t.mu.Unlock()
	for _, call := range after {
		call()
	}
}
