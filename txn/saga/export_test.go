package saga

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/txn"
)

var errCrashed = errors.New("saga: crashed")

// A Runner is what an orchestrator has of its client.
type Runner func(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error

// Run runs a transaction.
func (r Runner) Run(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error {
	return r(ctx, o, fn)
}

// OpenStill opens an orchestrator that does nothing by itself: it renews no lease, and
// looks for nothing.
func OpenStill(ctx context.Context, client Runner, o Options) (*Orchestrator, error) {
	return open(ctx, client, o)
}

// Crash has the orchestrator do nothing any more, as the end of its process would. It is
// still to be closed.
func (o *Orchestrator) Crash() {
	o.shut(errCrashed)
	o.cancel()
}

// Crashed reports whether it does nothing any more.
func (o *Orchestrator) Crashed() bool { return o.ctx.Err() != nil }

// Through has an orchestrator go through another runner to its client.
func (o *Orchestrator) Through(by func(Runner) Runner) { o.client = by(o.client.Run) }

// Act does what an action on rows does.
func Act(ctx context.Context, a Action, c *Context) ([]byte, error) { return a.data(ctx, c) }

// CallKey is what a step calls with, and takes back with behind it.
var CallKey = callKey

// Running is how many sagas are under way.
func (o *Orchestrator) Running() int { return len(o.slots) }

// Hold is an action on rows that fails while it is held.
func Hold(a Action, held *atomic.Bool) Action {
	return Data(func(ctx context.Context, c *Context) ([]byte, error) {
		if held.Load() {
			return nil, errors.New("held")
		}
		return a.data(ctx, c)
	})
}
