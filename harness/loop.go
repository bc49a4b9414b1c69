package harness

import (
	"testing"
	"time"
)

// loopInline drives the only client on the benchmark's goroutine.
func (c *crew) loopInline(b *testing.B) {
	m := c.members[0]
	start := c.begin()
	breathed := start
	for b.Loop() {
		m.choose()
		err := m.op(&m.Client)
		end := c.clock.Now()
		if m.account(err, end-start) {
			end = m.flushed(c.clock, end)
		}
		start = end
		if end-breathed > breath {
			breathed = end
			progress()
		}
	}
	m.rest, c.over = start, c.clock.Now()
}

// loop drives many clients. The first iteration waits for its completion, for
// b.Loop predicts from it; then permits go out in batches.
func (c *crew) loop(b *testing.B, count int, length time.Duration) {
	s := stint{begin: c.begin(), clients: len(c.members), next: b.Loop}
	if !b.Loop() {
		return
	}
	c.share(&stint{clients: 1, first: 1, next: func() bool { return false }})
	s.given.Store(1)
	s.done = 1
	s.batch = func(given, done int, elapsed time.Duration) int {
		return batchSize(left(count, length, given, done, elapsed), s.clients)
	}
	c.share(&s)
	c.over = c.clock.Now()
}

// repeat does as many operations as a loop did within took, and hands them out
// as it did: one by one they would cost more, and the two passes would not
// measure the same. What a client does at once takes a breath at most, going by
// the first pass, so that the watchdog hears of it.
func (c *crew) repeat(count int, took time.Duration) {
	s := stint{begin: c.begin(), clients: len(c.members)}
	pace := float64(count) / float64(s.clients) / max(took.Seconds(), 1e-9) // of one client
	atOnce := int(min(max(pace*breath.Seconds(), 1), maxBatch))
	s.batch = func(given, _ int, _ time.Duration) int { return min(batchSize(count-given, s.clients), atOnce) }
	rest := count
	s.next = func() bool {
		rest--
		return rest >= 0
	}
	c.share(&s)
	c.over = c.clock.Now()
}

// left estimates the iterations still to come: exactly under a count,
// otherwise from the rate at which they were done so far. Those given and not
// done must not count: at the beginning nearly all are such, permits would
// grow within one round trip, and b.Loop, which sees them taken in no time,
// would ask for a hundred times too many. For the same reason the estimate is
// at most what was done: what is under way then stays small beside it.
//
// b.Loop aims a fifth beyond the length asked for, so as not to fall short of
// it. If it stops earlier, the last permits are too large by at most an eighth
// of that fifth. Beyond it the answer is none, which makes permits small.
func left(count int, length time.Duration, given, done int, elapsed time.Duration) int {
	if count > 0 {
		return count - given
	}
	length += length / 5
	if elapsed <= 0 || elapsed >= length {
		return 0
	}
	return int(min(float64(done)/float64(elapsed)*float64(length-elapsed), float64(done)))
}

// maxBatch bounds the operations of a permit. Beyond it the cost of handing them
// out is lost in the clock readings.
const maxBatch = 256

// batchSize returns how many of the iterations left one permit may carry: at
// most an eighth of a client's share, so that at the end no client waits long
// for the last permit of another.
func batchSize(left, clients int) int {
	return min(max(left/clients/8, 1), maxBatch)
}
