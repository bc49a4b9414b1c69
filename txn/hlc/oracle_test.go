package hlc_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A ledger is what an oracle's reservations are kept in.
type ledger struct {
	mu    sync.Mutex
	upTo  hlc.Timestamp // guarded by mu
	times int           // guarded by mu
	fail  error         // guarded by mu
	gate  chan struct{} // if set, reservations wait for it
}

func (l *ledger) reserve(_ context.Context, upTo hlc.Timestamp) error {
	if l.gate != nil {
		<-l.gate
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	if upTo <= l.upTo {
		return errors.New("it goes back")
	}
	l.upTo = upTo
	l.times++
	return nil
}

func (l *ledger) end() hlc.Timestamp {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.upTo
}

func newOracle(t testing.TB, d *dial, l *ledger) *hlc.Oracle {
	o, err := hlc.NewOracle(hlc.OracleOptions{Floor: l.end(), Reserve: l.reserve, Wall: d.wall})
	require.NoError(t, err)
	return o
}

// Nothing is given out that is not reserved, and nothing twice, though one oracle comes
// after another.
func TestOracleAfterOracle(t *testing.T) {
	d, l := newDial(), &ledger{}
	last := hlc.Timestamp(0)
	for range 5 {
		o := newOracle(t, d, l)
		for i := range 300 {
			first, err := o.Take(t.Context(), 1+i%7)
			require.NoError(t, err)
			require.Greater(t, first, last)
			last = first + hlc.Timestamp(i%7)
			require.LessOrEqual(t, last, l.end())
			if i%10 == 0 {
				d.turn(time.Millisecond)
			}
		}
		d.turn(-20 * time.Millisecond) // another node's clock
	}
	require.Less(t, l.times, 50, "windows are reserved, not timestamps")
	ts, err := newOracle(t, d, &ledger{}).Take(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, hlc.At(d.wall()), ts, "it follows the wall clock")
}

func TestOracleWhoseReservationFails(t *testing.T) {
	d, l := newDial(), &ledger{fail: errors.New("no quorum")}
	o := newOracle(t, d, l)
	_, err := o.Take(t.Context(), 1)
	require.ErrorContains(t, err, "no quorum")
	l.mu.Lock()
	l.fail = nil
	l.mu.Unlock()
	_, err = o.Take(t.Context(), 1)
	require.NoError(t, err)

	l = &ledger{gate: make(chan struct{})}
	o = newOracle(t, d, l)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = o.Take(ctx, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(l.gate)
	_, err = o.Take(t.Context(), 1)
	require.NoError(t, err)
}

func TestOracleRefusesBadInput(t *testing.T) {
	o := newOracle(t, newDial(), &ledger{})
	for _, count := range []int{-1, 0, hlc.MaxBatch + 1} {
		_, err := o.Take(t.Context(), count)
		require.ErrorContains(t, err, "expected 1 to 65536")
	}
	_, err := hlc.NewOracle(hlc.OracleOptions{})
	require.ErrorContains(t, err, "Reserve is required")
	_, err = hlc.NewOracle(hlc.OracleOptions{Reserve: (&ledger{}).reserve, Window: time.Hour})
	require.ErrorContains(t, err, "expected 1ms to 1m")
}

// Callers share questions, and none gets an answer to one that was asked before it
// came.
func TestOracleClient(t *testing.T) {
	o := newOracle(t, newDial(), &ledger{})
	asked := make(chan int)
	c := hlc.NewOracleClient(func(ctx context.Context, count int) (hlc.Timestamp, error) {
		asked <- count
		first, err := o.Take(ctx, count)
		asked <- count
		return first, err
	})
	answers := make(chan hlc.Timestamp, 10)
	call := func() {
		ts, err := c.Timestamp(t.Context())
		if err != nil {
			t.Error(err)
		}
		answers <- ts
	}
	go call()
	require.Equal(t, 1, <-asked)
	var work sync.WaitGroup
	for range 5 {
		work.Go(call)
	}
	time.Sleep(20 * time.Millisecond) // they queue
	require.Empty(t, answers)
	require.Equal(t, 1, <-asked)
	require.Equal(t, 5, <-asked)
	require.Equal(t, 5, <-asked)
	work.Wait()
	var all []hlc.Timestamp
	for range 6 {
		all = append(all, <-answers)
	}
	slices.Sort(all)
	require.Len(t, slices.Compact(all), 6)
}

func TestOracleClientFails(t *testing.T) {
	lost := errors.New("lost")
	c := hlc.NewOracleClient(func(context.Context, int) (hlc.Timestamp, error) { return 0, lost })
	_, err := c.Timestamp(t.Context())
	require.ErrorIs(t, err, lost)

	hang := make(chan struct{})
	defer close(hang)
	c = hlc.NewOracleClient(func(context.Context, int) (hlc.Timestamp, error) { <-hang; return 0, lost })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = c.Timestamp(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
