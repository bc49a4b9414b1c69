package harness

import (
	"context"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/load"
)

// A trial is the measured part of a Run, which is done a second time when its
// figures contradict each other.
type trial struct {
	b      *testing.B
	spec   *Spec
	crew   *crew
	cancel func()        // ends the context of the clients
	count  int           // operations to measure; 0 means length
	length time.Duration // to measure for

	// Of the last pass.
	ops     int
	meter   *meter
	run     openRun
	elapsed time.Duration
	invalid string
}

// newTrial waits until the system is ready and musters the clients. s must be
// valid.
func newTrial(b *testing.B, s *Spec, op Op) *trial {
	b.Helper()
	Begin(b)
	ctx, cancel := context.WithCancel(b.Context())
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			cancel()
			b.Fatalf("harness: ready: %v", err)
		}
	}
	t := &trial{b: b, spec: s, crew: newCrew(ctx, *s, op), cancel: cancel}
	t.count, t.length = benchtime()
	return t
}

// end dismisses the clients. It may be called twice.
func (t *trial) end() {
	t.crew.dismiss()
	t.cancel()
}

// warmUp runs the untimed operations. What 5 % are follows for an open loop
// from its rate, since its length is mostly waiting.
func (t *trial) warmUp() {
	c, asked, count, length := t.crew, t.spec.Warmup, t.count, t.length
	if s := t.spec.Schedule; s != nil && count == 0 {
		count, length = max(int(s.Rate()*length.Seconds()), 1), 0
	}
	c.warmUp(asked, count, length)
	if c.failed() {
		t.b.Fatalf("harness: warm-up: all %d operations failed: %v", c.ops(), c.firstError())
	}
}

// failures ends the benchmark if its operations did not do their part.
func (t *trial) failures() {
	t.b.Helper()
	if t.crew.deserted() {
		t.b.Fatal("harness: a client's goroutine ended inside its operation: an Op must return")
	}
	if t.crew.failed() {
		t.b.Fatalf("harness: all %d operations failed: %v", t.crew.ops(), t.crew.firstError())
	}
}

// start begins a pass.
func (t *trial) start() {
	t.crew.reset()
	if t.spec.Start != nil {
		t.spec.Start()
	}
	t.meter = startMeter(t.b, t.spec, t.crew.tracks(t.spec.Mix)...)
}

// stop ends a pass and judges it.
func (t *trial) stop() {
	t.meter.stop()
	t.elapsed = t.meter.elapsed
	t.crew.flush()
	t.invalid = ""
	if !t.crew.failed() && !t.crew.deserted() {
		t.invalid = t.books().contradiction()
	}
}

// closed measures a closed loop. b.Loop cannot run twice, so the second pass
// does as many operations as the first, in batches like its.
func (t *trial) closed() {
	t.start()
	if len(t.crew.members) == 1 {
		t.crew.loopInline(t.b)
	} else {
		t.crew.loop(t.b, t.count, t.length)
	}
	t.ops = t.b.N
	t.stop()
	if t.invalid != "" {
		t.start()
		t.crew.repeat(t.ops, t.elapsed)
		t.stop()
	}
}

// open measures an open loop. All of it happens in the first iteration of
// b.Loop, which for a number of iterations then counts to it at once, and for a
// length ends, because that is how long the first one took. In between it would
// have to say how many are to come, and it guesses them from a constant pace,
// which a ramp or a spike has not.
func (t *trial) open() {
	done := false
	for t.b.Loop() {
		if done {
			continue
		}
		done = true
		t.pass()
		if t.invalid != "" {
			t.pass()
		}
	}
	t.b.N = t.ops //nolint:staticcheck // the loop is over: from here on it is the number on the line
}

func (t *trial) pass() {
	length, stop := t.length, func(now, _ time.Duration) bool { return now > 2*t.length+time.Second }
	if t.count > 0 {
		length, stop = load.Length(t.spec.Schedule, t.count), nil
	}
	t.start()
	t.run = t.crew.offer(t.spec.Schedule, t.spec.Seed, t.count, length, stop)
	t.ops = t.run.offered
	t.stop()
	t.elapsed = t.run.elapsed
}

func (t *trial) result() Result {
	r := Result{
		Ops: t.ops, Errors: t.crew.errors(), Elapsed: t.elapsed, Latency: t.crew.pool.Histogram(),
		Kinds: t.crew.kindResults(), Invalid: t.invalid,
	}
	if t.spec.Schedule != nil {
		r.Lag = t.crew.lag.Histogram()
	}
	return r
}
