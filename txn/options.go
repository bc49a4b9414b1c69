package txn

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/lock"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// Options configures a Participant. A zero field selects its default.
type Options struct {
	// Clock is the node's. Default: one that follows the process's wall clock, with
	// hlc.DefaultBound.
	Clock *hlc.Clock
	// Policy says which of two transactions that want the same lock goes on. It must be
	// the same on all nodes. Default: lock.WoundWait.
	Policy lock.Policy
	// ClosedLag is how far behind the clock the timestamp is at and below which a shard
	// takes no more writes. More means that transactions may take longer before they
	// have to be evaluated again, and less that followers read what is newer.
	// Default: 1 s.
	ClosedLag time.Duration
	// Retention is how long versions are kept that newer ones have replaced, and with
	// them the outcomes of transactions. Default: 5 min.
	Retention time.Duration
	// Store configures the engine of the node's shards, but for where it is.
	Store mvcc.Options
	// Logger receives what an operator should know. Default: silent.
	Logger *slog.Logger
	_      struct{}
}

func (o Options) withDefaults() (Options, error) {
	if o.Clock == nil {
		c, err := hlc.NewClock(nil, 0)
		if err != nil {
			return o, err
		}
		o.Clock = c
	}
	if o.ClosedLag == 0 {
		o.ClosedLag = time.Second
	}
	if o.Retention == 0 {
		o.Retention = 5 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.Policy > lock.Detect:
		return o, fmt.Errorf("txn: options: Policy is %v, expected one of package lock", o.Policy)
	case o.ClosedLag < time.Millisecond:
		return o, fmt.Errorf("txn: options: ClosedLag is %v, expected 1ms or more", o.ClosedLag)
	case o.Retention < o.ClosedLag:
		return o, fmt.Errorf("txn: options: Retention is %v, expected no less than ClosedLag, %v", o.Retention, o.ClosedLag)
	case o.Store.FS != nil || o.Store.Dir != "":
		return o, fmt.Errorf("txn: options: Store is in %q, expected no place: the node has one", o.Store.Dir)
	}
	return o, nil
}

// place is where the engine is.
func (o *Options) place(fs vfs.FS, dir string) mvcc.Options {
	m := o.Store
	m.FS, m.Dir = fs, dir
	if m.Logger == nil {
		m.Logger = o.Logger
	}
	return m
}
