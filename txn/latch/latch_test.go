package latch

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func newManager(t testing.TB, o Options) *Manager {
	m, err := New(o)
	require.NoError(t, err)
	return m
}

func acquire(t testing.TB, m *Manager, want ...Want) Guard {
	t.Helper()
	g, err := m.Acquire(t.Context(), want)
	require.NoError(t, err)
	return g
}

// A pending is a call that has not returned.
type pending struct {
	guard Guard
	err   error
	done  chan struct{}
}

// begin starts a call and returns when it waits.
func begin(ctx context.Context, t testing.TB, m *Manager, want ...Want) *pending {
	t.Helper()
	before := m.Waiting()
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.guard, p.err = m.Acquire(ctx, want)
	}()
	waitFor(t, func() bool { return m.Waiting() == before+1 })
	return p
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, 50*time.Microsecond)
}

func (p *pending) granted(t testing.TB) Guard {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		t.Fatal("it still waits")
	}
	require.NoError(t, p.err)
	return p.guard
}

func (p *pending) waits(t testing.TB) {
	t.Helper()
	select {
	case <-p.done:
		t.Fatal("it does not wait")
	case <-time.After(2 * time.Millisecond):
	}
}

// Of two requests the second one waits exactly if they conflict.
func TestWhoConflicts(t *testing.T) {
	for _, c := range []struct {
		first, second Want
		conflict      bool
	}{
		{Point("k", Read), Point("k", Read), false},
		{Point("k", Read), Point("k", Add), true},
		{Point("k", Read), Point("k", Write), true},
		{Point("k", Add), Point("k", Read), true},
		{Point("k", Add), Point("k", Add), false},
		{Point("k", Add), Point("k", Write), true},
		{Point("k", Write), Point("k", Read), true},
		{Point("k", Write), Point("k", Add), true},
		{Point("k", Write), Point("k", Write), true},
		{Point("k", Write), Point("l", Write), false},
		{Point("", Write), Point("", Write), true},
		{Span("b", "d", Read), Point("b", Write), true},
		{Span("b", "d", Read), Point("b", Read), false},
		{Span("b", "d", Read), Point("d", Write), false},
		{Span("b", "d", Read), Point("a", Write), false},
		{Span("b", "", Read), Point("\xff\xff", Write), true},
		{Span("", "", Read), Point("", Write), true},
		{Span("b", "d", Read), Span("", "", Read), false},
		{Span("b", "d", Write), Span("c", "", Read), true},
		{Span("b", "d", Write), Span("d", "", Read), false},
		{Span("b", "d", Add), Span("a", "c", Add), false},
		{Span("b", "d", Add), Span("a", "b", Write), false},
	} {
		for _, w := range [][2]Want{{c.first, c.second}, {c.second, c.first}} {
			m := newManager(t, Options{})
			g := acquire(t, m, w[0])
			if !c.conflict {
				acquire(t, m, w[1]).Release()
				g.Release()
				continue
			}
			p := begin(t.Context(), t, m, w[1])
			p.waits(t)
			g.Release()
			p.granted(t).Release()
		}
	}
}

// Readers that come while a writer waits stand behind it.
func TestNobodyOvertakes(t *testing.T) {
	m := newManager(t, Options{})
	reader := acquire(t, m, Point("k", Read))
	writer := begin(t.Context(), t, m, Point("k", Write))
	late := begin(t.Context(), t, m, Point("k", Read))
	scan := begin(t.Context(), t, m, Span("a", "z", Read))
	reader.Release()
	w := writer.granted(t)
	late.waits(t)
	scan.waits(t)
	w.Release()
	l, s := late.granted(t), scan.granted(t) // together
	l.Release()
	s.Release()
}

// A set is taken as a whole: two that want the same keys in opposite orders both end.
func TestSetsDoNotDeadlock(t *testing.T) {
	m := newManager(t, Options{})
	g := acquire(t, m, Point("b", Write))
	ab := begin(t.Context(), t, m, Point("a", Write), Point("b", Write))
	ba := begin(t.Context(), t, m, Point("b", Write), Point("a", Write))
	g.Release()
	first := ab.granted(t)
	ba.waits(t)
	first.Release()
	ba.granted(t).Release()
}

// A key that is wanted twice is in the mode that both are in, in any order, and does
// not wait for itself.
func TestStrongerModeCounts(t *testing.T) {
	for _, twice := range [][]Want{
		{Point("k", Read), Point("k", Write)},
		{Point("k", Write), Point("k", Read)},
		{Point("k", Read), Point("k", Add)},
		{Span("a", "z", Read), Point("k", Write)},
		{Point("k", Write), Span("a", "z", Read)},
		{Span("a", "z", Write), Span("k", "", Read)},
	} {
		m := newManager(t, Options{})
		g := acquire(t, m, twice...)
		for _, mode := range []Mode{Read, Add} {
			p := begin(t.Context(), t, m, Point("k", mode))
			p.waits(t)
			g.Release()
			p.granted(t).Release()
			g = acquire(t, m, twice...)
		}
		g.Release()
	}
}

// Who gives up lets those through who only waited for it.
func TestGivingUp(t *testing.T) {
	m := newManager(t, Options{})
	reader := acquire(t, m, Point("k", Read))
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	writer := begin(ctx, t, m, Point("k", Write))
	late := begin(t.Context(), t, m, Point("k", Read))
	cancel(gone)
	late.granted(t).Release()
	<-writer.done
	require.ErrorIs(t, writer.err, gone)
	reader.Release()
	acquire(t, m, Point("k", Write)).Release()

	// Without a conflict ctx does not matter.
	g, err := m.Acquire(ctx, []Want{Point("k", Write)})
	require.NoError(t, err)
	g.Release()
}

// Who gives up in the moment in which it is granted keeps nothing.
func TestGivingUpWhenGranted(t *testing.T) {
	m := newManager(t, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 200 {
		g := acquire(t, m, Point("k", Write))
		m.mu.Lock()
		s := m.enter([]Want{Point("k", Write)})
		m.park(s)
		m.mu.Unlock()
		g.Release()
		_, err := m.abandon(ctx, s)
		require.ErrorIs(t, err, context.Canceled)
	}
	acquire(t, m, Point("k", Write)).Release()
}

func TestTooManyWait(t *testing.T) {
	m := newManager(t, Options{MaxWaiting: 2})
	g := acquire(t, m, Point("k", Write))
	first := begin(t.Context(), t, m, Point("k", Read))
	second := begin(t.Context(), t, m, Point("k", Read))
	var overload *OverloadError
	_, err := m.Acquire(t.Context(), []Want{Point("j", Write), Point("k", Read)})
	require.ErrorAs(t, err, &overload)
	require.Equal(t, 2, overload.Waiting)
	require.EqualError(t, err, "latch: 2 requests wait already")
	require.ErrorAs(t, m.Wait(t.Context(), []Want{Point("k", Read)}), &overload)
	acquire(t, m, Point("j", Write)).Release() // it has kept nothing
	g.Release()
	first.granted(t).Release()
	second.granted(t).Release()
	acquire(t, m, Point("k", Write)).Release()
}

// Wait waits for those that are there, and only for them; and nobody waits for it.
func TestWait(t *testing.T) {
	m := newManager(t, Options{})
	require.NoError(t, m.Wait(t.Context(), []Want{Span("", "", Write)}))
	reader, scan := acquire(t, m, Point("k", Read)), acquire(t, m, Span("j", "", Read))
	require.NoError(t, m.Wait(t.Context(), []Want{Point("k", Read), Span("", "j", Write)}))
	queued := begin(t.Context(), t, m, Point("k", Write))
	done := make(chan error, 1)
	go func() { done <- m.Wait(t.Context(), []Want{Point("k", Write), Span("j", "", Write)}) }()
	waitFor(t, func() bool { return m.Waiting() == 2 })

	later := acquire(t, m, Point("l", Read), Point("m", Read))
	scan.Release()
	reader.Release()
	last := queued.granted(t)
	select {
	case <-done:
		t.Fatal("it has not waited for one that was in the queue")
	case <-time.After(2 * time.Millisecond):
	}
	last.Release()
	require.NoError(t, <-done)

	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, m.Wait(ctx, []Want{Point("l", Write)}), context.DeadlineExceeded)
	require.Zero(t, m.Waiting())
	later.Release()
}

func TestClose(t *testing.T) {
	m := newManager(t, Options{})
	g := acquire(t, m, Point("k", Write))
	first := begin(t.Context(), t, m, Point("k", Write))
	second := begin(t.Context(), t, m, Point("k", Write), Span("a", "", Read))
	drained := make(chan error, 1)
	go func() { drained <- m.Wait(t.Context(), []Want{Point("k", Read)}) }()
	waitFor(t, func() bool { return m.Waiting() == 3 })
	moved := errors.New("another node leads")
	m.Close(moved)
	m.Close(errors.New("a second time"))
	<-first.done
	<-second.done
	for _, err := range []error{first.err, second.err, <-drained, m.Wait(t.Context(), nil)} {
		require.ErrorIs(t, err, moved)
	}
	_, err := m.Acquire(t.Context(), []Want{Point("free", Read)})
	require.ErrorIs(t, err, moved)
	g.Release()
	m.mu.Lock()
	defer m.mu.Unlock()
	require.NoError(t, m.check())
	require.Equal(t, 1, m.points.Len())
	require.Panics(t, func() { newManager(t, Options{}).Close(nil) })
}

// A guard that is released twice would release what somebody else has by then.
func TestReleasedTwice(t *testing.T) {
	m := newManager(t, Options{})
	g := acquire(t, m, Point("k", Write))
	g.Release()
	again := acquire(t, m, Point("k", Write))
	require.Same(t, g.set, again.set, "it is used again")
	require.Panics(t, g.Release)
	again.Release()
	require.Panics(t, again.Release)
	Guard{}.Release()
}

// Where nobody is in the way nothing is allocated; and after many were there at once
// only so much is kept.
func TestMemory(t *testing.T) {
	m := newManager(t, Options{})
	acquire(t, m, Point("", Write)).Release()
	want := []Want{Point("a", Write), Span("b", "c", Read), Point("d", Add)}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		g, err := m.Acquire(t.Context(), want)
		require.NoError(t, err)
		g.Release()
	}))
	var all []Guard
	for i := range 2 * spares {
		all = append(all, acquire(t, m, Point(fmt.Sprint(i), Write)))
	}
	for _, g := range all {
		g.Release()
	}
	require.Len(t, m.sets, spares)
	require.Len(t, m.queues, spares)
	m.sets = nil
	acquire(t, m, points(largeSet+1)...).Release()
	require.Empty(t, m.sets)
	acquire(t, m, points(largeSet)...).Release()
	require.Len(t, m.sets, 1)
}

func points(n int) (want []Want) {
	for i := range n {
		want = append(want, Point(fmt.Sprint(i), Read))
	}
	return want
}

func TestRefusesBadInput(t *testing.T) {
	_, err := New(Options{MaxWaiting: -1})
	require.ErrorContains(t, err, "MaxWaiting is -1, expected at least 1")
	m := newManager(t, Options{})
	for text, want := range map[string][]Want{
		`latch: mode 0 "k": mode is 0, expected 1 to 3`:               {Point("k", 0)},
		`latch: mode 4 ["k",): mode is 4, expected 1 to 3`:            {Span("k", "", 4)},
		`latch: read ["b","a"): the span is empty`:                    {Span("b", "a", Read)},
		`latch: add ["b","b"): the span is empty`:                     {Span("b", "b", Add)},
		"latch: 65537 latches wanted at once, expected at most 65536": make([]Want, maxWanted+1),
	} {
		if len(want) > maxWanted {
			for i := range want {
				want[i] = Point("k", Write)
			}
		}
		_, err := m.Acquire(t.Context(), want)
		require.EqualError(t, err, text)
		require.EqualError(t, m.Wait(t.Context(), want), text)
	}
	acquire(t, m).Release()
}
