package hlc

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// A Source gives out timestamps, each above all that it gave out before.
type Source interface {
	// Timestamp returns the next one. It fails only where it has to ask somebody.
	Timestamp(ctx context.Context) (Timestamp, error)
}

// DefaultBound is how far two nodes' clocks are taken to be apart at most, unless said
// otherwise.
const DefaultBound = 250 * time.Millisecond

// A Clock is a hybrid logical clock. Use NewClock.
type Clock struct {
	wall  func() time.Time
	bound time.Duration
	last  atomic.Uint64
	ahead atomic.Uint64
}

// NewClock returns a clock that follows wall and is moved on by no more than bound.
// wall is the process's for nil, and must be safe for concurrent use. A bound of 0 is
// DefaultBound.
func NewClock(wall func() time.Time, bound time.Duration) (*Clock, error) {
	if bound == 0 {
		bound = DefaultBound
	}
	if bound < time.Millisecond || bound > time.Hour {
		return nil, fmt.Errorf("hlc: clock with offset bound %v, expected 1ms to 1h", bound)
	}
	if wall == nil {
		wall = time.Now
	}
	return &Clock{wall: wall, bound: bound}, nil
}

// Bound is how far two nodes' clocks are taken to be apart at most.
func (c *Clock) Bound() time.Duration { return c.bound }

// Wall is what the node's wall clock shows.
func (c *Clock) Wall() time.Time { return c.wall() }

// Now returns a timestamp above all that the clock has told or observed. Where the wall
// clock goes back, or many ask in one microsecond, it counts.
func (c *Clock) Now() Timestamp {
	now := uint64(At(c.wall()))
	for {
		last := c.last.Load()
		next := max(now, last+1)
		if c.last.CompareAndSwap(last, next) {
			return Timestamp(next)
		}
	}
}

// Timestamp implements Source. It never fails.
func (c *Clock) Timestamp(context.Context) (Timestamp, error) { return c.Now(), nil }

// Last returns the highest timestamp that the clock has told or observed, without
// telling a new one. It is what a node sends along with all it says.
func (c *Clock) Last() Timestamp { return Timestamp(c.last.Load()) }

// Observe moves the clock on to a timestamp that the node has heard of, so that it tells
// none below. It refuses one that is more than the bound ahead of the wall clock, with
// an *AheadError, and stays as it was.
func (c *Clock) Observe(t Timestamp) error {
	for {
		last := c.last.Load()
		if uint64(t) <= last {
			return nil
		}
		if wall := At(c.wall()); t > wall.Add(c.bound) {
			c.ahead.Add(1)
			return &AheadError{Timestamp: t, Wall: wall, Bound: c.bound}
		}
		if c.last.CompareAndSwap(last, uint64(t)) {
			return nil
		}
	}
}

// Ahead is how many timestamps were refused for being too far ahead.
func (c *Clock) Ahead() uint64 { return c.ahead.Load() }

// An AheadError refuses a timestamp from a future that no right clock shows.
type AheadError struct {
	Timestamp, Wall Timestamp
	Bound           time.Duration
}

func (e *AheadError) Error() string {
	return fmt.Sprintf("hlc: timestamp %v is %v ahead of this node's clock, expected at most %v", e.Timestamp, e.Timestamp.Sub(e.Wall), e.Bound)
}
