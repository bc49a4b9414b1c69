package saga

import (
	"context"
	"errors"

	"github.com/phantomdb/phantomdb/txn"
)

var errCrashed = errors.New("saga: crashed")

// OpenHooked opens an orchestrator that does nothing by itself, and that calls hook at
// the moments of its steps.
func OpenHooked(ctx context.Context, client *txn.Client, o Options, hook func(moment string)) (*Orchestrator, error) {
	return open(ctx, client, o, hook)
}

// Crash has the orchestrator do nothing any more, as the end of its process would. It is
// still to be closed.
func (o *Orchestrator) Crash() {
	o.shut(errCrashed)
	o.cancel()
}
