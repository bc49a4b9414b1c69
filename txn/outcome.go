package txn

import (
	"context"
	"errors"
	"fmt"
	"time"

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

// settle finds out what came of a commit that nobody answered.
func (c *Client) settle(ctx context.Context, txn id.Txn, why error) (hlc.Timestamp, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		o, err := c.Outcome(ctx, txn)
		switch {
		case err == nil && o.Committed:
			return o.TS, nil
		case err == nil:
			return 0, &Refusal{Reason: Recovered}
		case errors.Is(err, ErrOutcomeExpired) || ctx.Err() != nil || c.p.life.Err() != nil:
			return 0, fmt.Errorf("%w: %w", why, err)
		}
		pause(ctx, wait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
