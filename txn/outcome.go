package txn

import (
	"context"
	"fmt"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// An Outcome is how a transaction ended.
type Outcome struct {
	// Committed says that it did, at TS. Otherwise it was aborted, and did nothing.
	Committed bool
	TS        hlc.Timestamp
}

// Outcome returns how a transaction ended. One that has not ended is aborted by that,
// so that the answer stays true. It returns an error that wraps ErrOutcomeExpired if
// the transaction began so long ago that nobody knows.
func (c *Client) Outcome(ctx context.Context, txn id.Txn) (Outcome, error) {
	if txn.Anchor == "" {
		return Outcome{}, fmt.Errorf("txn: outcome of %v: it has written nothing, and has no anchor", txn.Key)
	}
	return c.p.outcome(ctx, txn)
}

// outcome recovers a transaction.
func (p *Participant) outcome(ctx context.Context, txn id.Txn) (Outcome, error) {
	r := p.recover(txn, commit.Hint{Abort: commit.Abandoned})
	select {
	case <-r.known:
	case <-ctx.Done():
		return Outcome{}, fmt.Errorf("txn: outcome of %v: %w: %w", txn, consensus.ErrUnknown, context.Cause(ctx))
	}
	switch {
	case r.err != nil:
		return Outcome{}, r.err
	case r.outcome.Status == commit.Expired:
		return Outcome{}, fmt.Errorf("txn: outcome of %v: %w", txn, ErrOutcomeExpired)
	case r.outcome.Status == commit.Committed:
		return Outcome{Committed: true, TS: r.outcome.TS}, nil
	}
	return Outcome{}, nil
}

// settle finds out what came of a commit that nobody answered.
func (c *Client) settle(ctx context.Context, txn id.Txn, why error) (hlc.Timestamp, error) {
	o, err := c.Outcome(ctx, txn)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%w: %w", why, err)
	case !o.Committed:
		return 0, &Refusal{Reason: Recovered}
	}
	return o.TS, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
