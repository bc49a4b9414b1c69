package hlc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// OracleOptions configures an Oracle. A zero field selects its default.
type OracleOptions struct {
	// Floor is the end of the highest window that was ever reserved: the oracle gives
	// out only what is above it.
	Floor Timestamp
	// Reserve makes durable that everything up to a timestamp may be given out by this
	// oracle, and returns when no other one will ever give out any of it. If it fails
	// the reservation may have been made or not. It is called by one goroutine at a
	// time. Required.
	Reserve func(ctx context.Context, upTo Timestamp) error
	// Window is how far ahead is reserved at a time: the rate of Reserve is at most
	// two in a window. Default: 50 ms.
	Window time.Duration
	// Wall is the wall clock, which timestamps follow as far as they may. Default: the
	// process's.
	Wall func() time.Time
}

// An Oracle gives out timestamps from reserved windows. Its owner must be the only one
// that does, for as long as it does: it holds a lease, and stops with it.
type Oracle struct {
	o OracleOptions

	mu        sync.Mutex
	last      Timestamp     // guarded by mu; the highest given out
	reserved  Timestamp     // guarded by mu
	reserving chan struct{} // guarded by mu; closed when the reservation under way has ended, nil if there is none
	failed    error         // guarded by mu; of the last reservation
}

// NewOracle returns an oracle that has reserved nothing yet.
func NewOracle(o OracleOptions) (*Oracle, error) {
	if o.Window == 0 {
		o.Window = 50 * time.Millisecond
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	switch {
	case o.Reserve == nil:
		return nil, errors.New("hlc: oracle: Reserve is required")
	case o.Window < time.Millisecond || o.Window > time.Minute:
		return nil, fmt.Errorf("hlc: oracle: Window is %v, expected 1ms to 1m", o.Window)
	}
	return &Oracle{o: o, last: o.Floor, reserved: o.Floor}, nil
}

// MaxBatch is the most timestamps that are given out at once.
const MaxBatch = 1 << 16

// Take gives out so many timestamps, from the returned one on. It waits for a
// reservation where the window does not hold them, and returns its error if that
// fails; the next call tries again.
func (o *Oracle) Take(ctx context.Context, count int) (Timestamp, error) {
	if count < 1 || count > MaxBatch {
		return 0, fmt.Errorf("hlc: oracle: %d timestamps, expected 1 to %d", count, MaxBatch)
	}
	for tried := false; ; tried = true {
		o.mu.Lock()
		first := max(o.last.Next(), At(o.o.Wall()))
		last := first + Timestamp(count-1)
		if last <= o.reserved {
			o.last = last
			if o.reserved.Sub(last) < o.o.Window/2 {
				o.reserve(ctx, last) // before it is needed
			}
			o.mu.Unlock()
			return first, nil
		}
		if err := o.failed; tried && err != nil && o.reserving == nil {
			o.mu.Unlock()
			return 0, err
		}
		ended := o.reserve(ctx, last)
		o.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// reserve begins a reservation of a window behind from, unless one is under way, and
// returns what is closed at its end. mu is held.
func (o *Oracle) reserve(ctx context.Context, from Timestamp) <-chan struct{} {
	if o.reserving != nil {
		return o.reserving
	}
	ended := make(chan struct{})
	o.reserving, o.failed = ended, nil
	upTo := max(from, o.reserved).Add(o.o.Window)
	// Others wait for it too, so it does not end with the caller that began it.
	ctx = context.WithoutCancel(ctx)
	go func() {
		err := o.o.Reserve(ctx, upTo)
		o.mu.Lock()
		defer o.mu.Unlock()
		if err == nil {
			o.reserved = upTo
		} else {
			o.failed = fmt.Errorf("hlc: oracle: reserve up to %v: %w", upTo, err)
		}
		o.reserving = nil
		close(ended)
	}()
	return ended
}

// An OracleClient asks an oracle, for all of a node's transactions at once: those that
// come while a question is under way share the next one. It never answers with a
// timestamp that was asked for before the caller came, which could be in the past of
// what the caller has seen. Use NewOracleClient.
type OracleClient struct {
	ask func(ctx context.Context, count int) (Timestamp, error)

	mu      sync.Mutex
	asking  bool      // guarded by mu
	waiting []*ticket // guarded by mu
}

// A ticket is a caller that waits.
type ticket struct {
	at   Timestamp
	err  error
	done chan struct{}
}

// askFor bounds one question.
const askFor = time.Second

// NewOracleClient returns a client of the oracle behind ask, which is Oracle.Take or
// calls it on another node. A question that takes a second has failed for all who wait
// for it.
func NewOracleClient(ask func(ctx context.Context, count int) (Timestamp, error)) *OracleClient {
	return &OracleClient{ask: ask}
}

// Timestamp implements Source. Where ctx ends first it fails, and a timestamp may be
// lost.
func (c *OracleClient) Timestamp(ctx context.Context) (Timestamp, error) {
	t := &ticket{done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, t)
	if !c.asking {
		c.asking = true
		go c.run(context.WithoutCancel(ctx))
	}
	c.mu.Unlock()
	select {
	case <-t.done:
		return t.at, t.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// run asks for as long as anybody waits.
func (c *OracleClient) run(ctx context.Context) {
	for {
		c.mu.Lock()
		batch := c.waiting
		batch = batch[:min(len(batch), MaxBatch)]
		c.waiting = c.waiting[len(batch):]
		if len(batch) == 0 {
			c.asking, c.waiting = false, nil
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		try, cancel := context.WithTimeout(ctx, askFor)
		first, err := c.ask(try, len(batch))
		cancel()
		for i, t := range batch {
			t.at, t.err = first+Timestamp(i), err
			close(t.done)
		}
	}
}
