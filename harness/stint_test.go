package harness

import (
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// upTo returns a stint's next for n operations, and how often it was asked.
func upTo(n int) (next func() bool, asked *int) {
	asked = new(int)
	return func() bool { *asked++; return *asked <= n }, asked
}

func newRuns(clients int) *runs { return &runs{perClient: make([]atomic.Int64, clients)} }

// On one processor a client that never waits would do all of it before another
// begins.
func TestClientsThatNeverWaitShare(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const clients, count = 16, 20_000
	r := newRuns(clients)
	c := newCrew(t.Context(), Spec{Clients: clients, Seed: 1}, r.op)
	defer c.dismiss()
	next, _ := upTo(count)
	c.share(&stint{clients: clients, next: next})
	ops, sum := r.all()
	require.EqualValues(t, count, sum)
	require.LessOrEqual(t, slices.Max(ops), int64(2*count/clients), "%v", ops)
	require.GreaterOrEqual(t, slices.Min(ops), int64(count/clients/2), "%v", ops)
}

// What a stint has asked for and nobody has begun is bounded, and so is what is
// under way: b.Loop takes what it was asked for as done.
func TestStintAsksLittleAhead(t *testing.T) {
	for _, clients := range []int{2, 16, 64, 256} {
		var begun atomic.Int64
		c := newCrew(t.Context(), Spec{Clients: clients, Seed: 1}, func(*Client) error { begun.Add(1); return nil })
		asked, ahead := 0, int64(0)
		c.share(&stint{clients: clients, next: func() bool {
			// One of each client may be among them: given to it, and not begun.
			ahead = max(ahead, int64(asked)-begun.Load())
			asked++
			return asked <= 10_000
		}})
		c.dismiss()
		require.EqualValues(t, 10_000, begun.Load())
		require.LessOrEqual(t, ahead, int64(clients+max(clients/8, 1)), "%d clients", clients)
	}
}

// Every member has its part in every stint, also when the first to be woken is
// done before the last was.
func TestEveryMemberHasItsPart(t *testing.T) {
	const clients, stints = 8, 2000
	r := newRuns(clients)
	c := newCrew(t.Context(), Spec{Clients: clients, Seed: 1}, r.op)
	defer c.dismiss()
	for n := range stints {
		next, asked := upTo(0)
		c.share(&stint{clients: clients, first: 1, next: next})
		require.Equal(t, 1, *asked, "after the first no nobody asks again")
		ops, _ := r.all()
		for id, done := range ops {
			require.EqualValues(t, n+1, done, "client %d of %v", id, ops)
		}
	}
}

// A batch follows from what was given out and what of it is done.
func TestStintCountsWhatIsDone(t *testing.T) {
	const clients, count = 4, 50_000
	r := newRuns(clients)
	c := newCrew(t.Context(), Spec{Clients: clients, Seed: 1}, r.op)
	defer c.dismiss()
	var known int
	next, _ := upTo(count)
	c.share(&stint{clients: clients, next: next, batch: func(given, done int, elapsed time.Duration) int {
		_, begun := r.all()
		assert.LessOrEqual(t, done, int(begun), "of %d given", given)
		assert.GreaterOrEqual(t, done, known, "what is done stays done")
		assert.LessOrEqual(t, given, count)
		assert.Positive(t, elapsed)
		known = done
		return 100
	}})
	_, sum := r.all()
	require.EqualValues(t, count, sum)
	require.Greater(t, known, count-clients*200, "nearly all of it was told")
}

// A client whose goroutine ends inside its operation ends the stint, and later
// ones do not wait for it.
func TestDeserterEndsTheStint(t *testing.T) {
	const clients = 4
	var ops atomic.Int64
	c := newCrew(t.Context(), Spec{Clients: clients, Seed: 1}, func(c *Client) error {
		if ops.Add(1); c.ID == 2 && c.Iter == 100 {
			runtime.Goexit()
		}
		return nil
	})
	defer c.dismiss()
	next, asked := upTo(50_000_000)
	c.share(&stint{clients: clients, next: next})
	require.Less(t, *asked, 10_000_000)
	require.True(t, c.deserted())
	ops.Store(0)
	next, _ = upTo(100)
	c.share(&stint{clients: clients, first: 1, next: next})
	require.GreaterOrEqual(t, ops.Load(), int64(clients-1), "those that are left did their first")
}

// b.Loop ends the goroutine that asks when its benchmark's timer was stopped.
func TestNextMayEndTheGoroutine(t *testing.T) {
	const clients = 4
	c := newCrew(t.Context(), Spec{Clients: clients, Seed: 1}, func(*Client) error { return nil })
	defer c.dismiss()
	next, asked := upTo(1000)
	c.share(&stint{clients: clients, next: func() bool {
		if *asked == 50 {
			runtime.Goexit()
		}
		return next()
	}})
	require.Equal(t, 50, *asked)
	require.True(t, c.deserted())
}
