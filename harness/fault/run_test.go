package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A ledger is a target that writes down what happens to it, and knows what is
// broken right now.
type ledger struct {
	began  time.Time
	lines  []string
	broken map[string]bool
	refuse string // the call that returns an error
}

func newLedger() *ledger { return &ledger{began: time.Now(), broken: map[string]bool{}} }

func (l *ledger) note(what, format string, v ...any) error {
	subject := fmt.Sprintf(format, v...)
	l.lines = append(l.lines, fmt.Sprintf("%v %s %s", time.Since(l.began), what, subject))
	if what == l.refuse {
		return errors.New("no")
	}
	return nil
}

func (l *ledger) toggle(on bool, key string) {
	if on == l.broken[key] {
		panic(fmt.Sprintf("%s: told twice that broken=%v", key, on))
	}
	if on {
		l.broken[key] = true
	} else {
		delete(l.broken, key)
	}
}

func (l *ledger) Cut(from, to uint64) error {
	l.toggle(true, fmt.Sprint("link ", from, to))
	return l.note("cut", "%d-%d", from, to)
}

func (l *ledger) Heal(from, to uint64) error {
	l.toggle(false, fmt.Sprint("link ", from, to))
	return l.note("heal", "%d-%d", from, to)
}

func (l *ledger) Crash(n uint64) error {
	l.toggle(true, fmt.Sprint("node ", n))
	return l.note("crash", "%d", n)
}

func (l *ledger) Restart(n uint64) error {
	l.toggle(false, fmt.Sprint("node ", n))
	return l.note("restart", "%d", n)
}

func (l *ledger) Pause(n uint64) error {
	l.toggle(true, fmt.Sprint("node ", n))
	return l.note("pause", "%d", n)
}

func (l *ledger) Resume(n uint64) error {
	l.toggle(false, fmt.Sprint("node ", n))
	return l.note("resume", "%d", n)
}

func (l *ledger) SlowDisk(n uint64, d time.Duration) error {
	l.toggle(d != 0, fmt.Sprint("disk ", n))
	return l.note("disk", "%d %v", n, d)
}

func (l *ledger) Skew(n uint64, d time.Duration) error {
	l.toggle(d != 0, fmt.Sprint("clock ", n))
	return l.note("skew", "%d %v", n, d)
}

func (l *ledger) Began(Event)     {}
func (l *ledger) Ended(Event)     {}
func (l *ledger) Entered(p Phase) { _ = l.note("phase", "%s", p) }

const ms = time.Millisecond

func TestRunFollowsThePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		p := Plan{Nodes: []uint64{1, 2, 3}, Core: []uint64{1, 2}, Safety: 100 * ms, Liveness: 50 * ms, Events: []Event{
			{Kind: Partition, At: 10 * ms, For: 20 * ms, Nodes: []uint64{3}},
			{Kind: OneWay, At: 20 * ms, For: 30 * ms, Nodes: []uint64{3, 1}},
			{Kind: Skew, At: 40 * ms, For: 60 * ms, Nodes: []uint64{2}, Amount: -5 * ms},
			{Kind: Crash, At: 100 * ms, For: 50 * ms, Nodes: []uint64{3}},
		}}
		require.NoError(t, Run(t.Context(), p, l))
		require.Equal(t, []string{
			"0s phase safety",
			"10ms cut 3-1", "10ms cut 1-3", "10ms cut 3-2", "10ms cut 2-3",
			// The one-way cut keeps 3-1 broken beyond the partition.
			"30ms heal 1-3", "30ms heal 3-2", "30ms heal 2-3",
			"40ms skew 2 -5ms",
			"50ms heal 3-1",
			"100ms skew 2 0s", "100ms phase liveness", "100ms crash 3",
			"150ms restart 3", "150ms phase healed",
		}, l.lines)
		require.Empty(t, l.broken)
	})
}

// Generated plans, whatever the seed, never break what is broken, never heal
// what is whole, leave the core alone in the liveness phase and heal everything.
func TestGeneratedPlansRun(t *testing.T) {
	for seed := range uint64(50) {
		synctest.Test(t, func(t *testing.T) {
			l := newLedger()
			p := generate(t, Options{Seed: seed, Nodes: five, MaxDown: -1})
			require.NoError(t, Run(t.Context(), p, l), p)
			require.Empty(t, l.broken, p)
			require.Equal(t, p.Safety+p.Liveness, time.Since(l.began))
			require.Equal(t, Kinds(), Supported(l))
		})
	}
}

func TestRunHealsWhenStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		ctx, cancel := context.WithTimeout(t.Context(), 15*ms)
		defer cancel()
		p := Plan{Nodes: five, Safety: time.Second, Liveness: time.Second, Events: []Event{
			{Kind: Crash, At: 0, For: time.Second, Nodes: []uint64{1}},
			{Kind: Partition, At: 10 * ms, For: 100 * ms, Nodes: []uint64{2}},
			{Kind: Pause, At: 20 * ms, For: 100 * ms, Nodes: []uint64{3}},
		}}
		err := Run(ctx, p, l)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "stopped at 15ms")
		require.Empty(t, l.broken)
		require.NotContains(t, l.lines, "20ms pause 3")
		require.Equal(t, 15*ms, time.Since(l.began))
	})
}

func TestRunThatIsOverBreaksNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := Plan{Nodes: five, Safety: time.Second, Events: []Event{{Kind: Crash, At: 0, For: ms, Nodes: []uint64{1}}}}
	for range 20 { // a timer that is due and a context that has ended race
		o := &onlyCrash{}
		require.ErrorIs(t, Run(ctx, p, o), context.Canceled)
		require.Zero(t, o.calls)
	}
}

func TestRunHealsWhenTheTargetFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.refuse = "pause"
		p := Plan{Nodes: five, Safety: time.Second, Liveness: time.Second, Events: []Event{
			{Kind: Crash, At: 0, For: 500 * ms, Nodes: []uint64{1}},
			{Kind: Pause, At: 20 * ms, For: 100 * ms, Nodes: []uint64{3}},
			{Kind: SlowDisk, At: 30 * ms, For: 100 * ms, Nodes: []uint64{4}, Amount: ms},
		}}
		require.ErrorContains(t, Run(t.Context(), p, l), "event 1 (+20ms pause nodes=3 for=100ms): no")
		require.Empty(t, l.broken, "a pause that failed may have half happened and is healed too")
		require.Equal(t, []string{"0s phase safety", "0s crash 1", "20ms pause 3", "20ms resume 3", "20ms restart 1", "20ms phase healed"}, l.lines)
	})
}

// onlyCrash supports one kind.
type onlyCrash struct{ calls int }

func (o *onlyCrash) Crash(uint64) error   { o.calls++; return nil }
func (o *onlyCrash) Restart(uint64) error { o.calls++; return nil }

func TestRunRefusesWhatTheTargetCannot(t *testing.T) {
	o := &onlyCrash{}
	require.Equal(t, []Kind{Crash}, Supported(o))
	p := Plan{Nodes: five, Safety: time.Second, Events: []Event{
		{Kind: Crash, At: 0, For: ms, Nodes: []uint64{1}},
		{Kind: Pause, At: ms, For: ms, Nodes: []uint64{2}},
	}}
	require.ErrorContains(t, Run(t.Context(), p, o), "event 1 (+1ms pause nodes=2 for=1ms): *fault.onlyCrash does not support it")
	require.Zero(t, o.calls)

	p.Events = []Event{{Kind: Crash, At: 0, For: 2 * time.Second, Nodes: []uint64{1}}}
	require.ErrorContains(t, Run(t.Context(), p, o), "after the safety phase", "an invalid plan breaks nothing")
	require.Zero(t, o.calls)
}
