package harness

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/load"
)

// judged does one pass in virtual time, after which tamper may lie, and returns
// its books. Before the pass it hands the crew to sabotage.
func judged(t *testing.T, s Spec, count int, op Op, sabotage func(c *crew)) (k books) {
	t.Helper()
	done := false
	inBubble(t, "1x", func(b *testing.B) {
		if done {
			return
		}
		done = true
		require.NoError(b, s.validate())
		tr := &trial{b: b, spec: &s, crew: newCrew(b.Context(), s, op), count: count}
		defer tr.crew.dismiss()
		synctest.Wait() // every member waits for its first permit
		if sabotage != nil {
			sabotage(tr.crew)
		}
		if s.Schedule != nil {
			tr.pass()
		} else {
			tr.start()
			tr.crew.repeat(count, time.Second)
			tr.ops = count
			tr.stop()
		}
		k = tr.books()
	})
	return k
}

var twoClients = Spec{Clients: 2, Schedule: load.Poisson(150), Overload: true}

// Passes that are sound: with waits, with failures, and both loops.
func TestSoundPassesAreBelieved(t *testing.T) {
	fails := errors.New("no")
	var i atomic.Int64
	half := func(*Client) error {
		time.Sleep(20 * time.Millisecond)
		if i.Add(1)%2 == 0 {
			return fails
		}
		return nil
	}
	for _, op := range []Op{lasting(20 * time.Millisecond), lasting(time.Millisecond), half} {
		k := judged(t, twoClients, 500, op, nil)
		require.Empty(t, k.contradiction())
		require.InEpsilon(t, k.pending+k.unborn, k.recorded, 1e-6, "exact in virtual time")
		for _, clients := range []int{1, 2, 37} {
			k = judged(t, Spec{Clients: clients}, 500, op, nil)
			require.Empty(t, k.contradiction())
			require.InEpsilon(t, float64(clients)*float64(k.elapsed)-float64(k.away), k.recorded, 1e-6, "%d clients", clients)
		}
	}
	k := judged(t, twoClients, 500, lasting(20*time.Millisecond), nil)
	require.Greater(t, k.pending, 500*25e6, "some waited")
}

// An operation that makes the recorder lose the slow ones: what was held back
// with the last of them is dropped.
func TestDroppedLatenciesAreSeen(t *testing.T) {
	for _, s := range []Spec{twoClients, {Clients: 2}} {
		var members []*member
		var slow [2]bool
		k := judged(t, s, 500, func(c *Client) error {
			if slow[c.ID] {
				members[c.ID].recorder.Discard()
			}
			slow[c.ID] = c.Rand.IntN(20) == 0
			time.Sleep(time.Millisecond)
			if slow[c.ID] {
				time.Sleep(20 * time.Millisecond)
			}
			return nil
		}, func(c *crew) { members = c.members })
		require.Contains(t, k.contradiction(), " operations were done, and the latencies of ")
		k.kept = k.ops // as if it had counted them
		if s.Schedule != nil {
			require.Contains(t, k.contradiction(), "Little's law: ")
		} else {
			require.Contains(t, k.contradiction(), " clients were in operations for ")
		}
	}
}

// What the clients take for the moment at which an operation was due is another
// than that at which it was.
func TestShiftedStartsAreSeen(t *testing.T) {
	for _, shift := range []time.Duration{-time.Millisecond, time.Millisecond, 0} {
		s := Spec{Clients: 8, Schedule: load.Constant(200)}
		k := judged(t, s, 500, lasting(20*time.Millisecond), func(c *crew) {
			served := c.permits
			c.permits = make(chan permit, arrivalBuffer)
			go func(offered <-chan permit) {
				defer close(served)
				for p := range offered {
					p.due.start += shift
					served <- p
				}
			}(c.permits)
		})
		if shift != 0 {
			require.Contains(t, k.contradiction(), "Little's law: 3.976 operations were under way by their number, ")
		} else {
			require.Empty(t, k.contradiction())
		}
	}
}

// Latencies that begin when an operation does, and not when it was due: what
// coordinated omission is.
func TestOmittedWaitsAreSeen(t *testing.T) {
	k := judged(t, twoClients, 500, lasting(20*time.Millisecond), nil)
	k.recorded = 500 * 20e6
	require.Contains(t, k.contradiction(), "Little's law: ")
}

// A closed loop whose recorders know of a twentieth of the time.
func TestClientsAccountForTheirTime(t *testing.T) {
	s := Spec{Clients: 20}
	var members []*member
	k := judged(t, s, 2000, func(c *Client) error {
		time.Sleep(20 * time.Millisecond)
		// The end of the last one, moved.
		members[c.ID].failed -= 19e6
		return nil
	}, func(c *crew) { members = c.members })
	require.Equal(t, k.ops, k.kept)
	require.Contains(t, k.contradiction(), "latencies add up to 2s, and 20 clients were in operations for 40s of 40s")
}

// What a client spends between its operations is no latency, and it says so.
func TestClientsNoteWhatTheyDoBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		c := newCrew(t.Context(), Spec{Clients: 1, Seed: 1}, lasting(10*ms))
		defer c.dismiss()
		m := c.members[0]
		for range 2 { // the second begin forgets the first
			require.Equal(t, c.clock.Now(), c.begin())
			time.Sleep(1 * ms)
			m.work(c.clock, 2)
			time.Sleep(2 * ms)
			m.work(c.clock, 1)
			m.flushed(c.clock, c.clock.Now()-4*ms) // handing over took so long
			time.Sleep(8 * ms)
			c.over = c.clock.Now()
			require.Equal(t, 15*ms, c.away())
		}
	})
}

func TestSoundClosedLoopsAreNotRepeated(t *testing.T) {
	for _, benchtime := range []string{"1s", "300x"} {
		for _, clients := range []int{1, 8, 100} {
			var calls atomic.Int64
			var r Result
			inBubble(t, benchtime, func(b *testing.B) {
				calls.Store(0)
				r = Run(b, Spec{Clients: clients, Warmup: -1}, func(*Client) error {
					calls.Add(1)
					time.Sleep(7 * time.Millisecond)
					return nil
				})
			})
			require.Empty(t, r.Invalid)
			require.GreaterOrEqual(t, r.Ops, checkedFrom)
			require.EqualValues(t, r.Ops, calls.Load(), "%d clients, %s", clients, benchtime)
		}
	}
}
