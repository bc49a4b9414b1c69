package latch

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

// check compares what is kept with the invariants of the package comment. mu is held.
func (m *Manager) check() (err error) {
	complain := func(format string, args ...any) { err = errors.Join(err, fmt.Errorf(format, args...)) }
	counts := map[*set]int{}
	var all []*latch
	m.points.Scan(func(key string, q *queue) bool {
		all = append(all, q.check(key, counts, complain)...)
		return true
	})
	for x := m.spans.head; x != nil; x = x.next {
		all = append(all, x)
	}
	for _, x := range all {
		counts[x.set] += 0
		for _, o := range all {
			if o.set.seq < x.set.seq && (o.span || x.span) && o.conflicts(x.Want) {
				counts[x.set]++
			}
		}
	}
	waiting := 0
	for s, n := range counts {
		if s.count != n {
			complain("set %d counts %d, expected %d", s.seq, s.count, n)
		}
		if s.waits() != (n > 0) {
			complain("set %d with %d in its way: waits is %v", s.seq, n, s.waits())
		}
		if s.waits() {
			waiting++
		}
	}
	if m.count != waiting+len(m.drains) || m.count > m.maxWaiting {
		complain("%d wait, expected %d", m.count, waiting)
	}
	for _, s := range m.sets {
		if s.seq != 0 || s.count != 0 || len(s.latches) != 0 || len(s.watchers) != 0 || len(s.ready) != 0 {
			complain("set %+v is not blank", *s)
		}
	}
	return err
}

// check looks at a queue, counts for each set its points that are not clear, and returns
// all points.
func (q *queue) check(key string, counts map[*set]int, complain func(string, ...any)) (all []*latch) {
	if q.head == nil && key != "" {
		complain("the queue of %q is empty", key)
	}
	var blocked *latch
	for x := q.head; x != nil; x = x.next {
		if blocked == nil && x != q.head && x.Mode.conflicts(q.head.Mode) {
			blocked = x
		}
		if blocked != nil {
			counts[x.set]++
		}
		all = append(all, x)
	}
	if q.blocked != blocked {
		complain("the queue of %q is clear up to %p, expected %p", key, q.blocked, blocked)
	}
	return all
}

// modelWant is a latch as the model sees it: a mode on some of the keys a to f.
func modelWant(r *rand.Rand) Want {
	key := func() string { return string(rune('a' + r.IntN(6))) }
	mode := Read + Mode(r.IntN(3))
	if r.IntN(4) > 0 {
		return Point(key(), mode)
	}
	start := key()
	if r.IntN(3) == 0 {
		return Span(start, "", mode)
	}
	return Span(start, start+"\x00", mode)
}

// modelSet is what the slow and obvious version knows of a request.
type modelSet struct {
	set   *set
	modes [6]Mode
}

func modelOf(want []Want) (ms modelSet) {
	for _, w := range want {
		for i := range ms.modes {
			if !w.meets(Point(string(rune('a'+i)), Read)) {
				continue
			}
			if ms.modes[i] == 0 {
				ms.modes[i] = w.Mode
			} else {
				ms.modes[i] = ms.modes[i].join(w.Mode)
			}
		}
	}
	return ms
}

func (ms modelSet) conflicts(o modelSet) bool {
	for i, mode := range ms.modes {
		if mode != 0 && o.modes[i] != 0 && mode.conflicts(o.modes[i]) {
			return true
		}
	}
	return false
}

// A set is granted exactly if it conflicts with no earlier one that has not left, after
// every step of any order of coming, going and giving up.
func TestModel(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	for round := range 200 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		m := newManager(t, Options{})
		var live []modelSet
		for range 100 {
			m.mu.Lock()
			if len(live) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(live))
				s := live[i].set
				live = append(live[:i], live[i+1:]...)
				if s.waits() {
					m.unpark(s)
				} else if len(s.ready) > 0 {
					<-s.ready
				}
				m.leave(s)
				m.recycle(s)
			} else {
				var want []Want
				for range 1 + r.IntN(4) {
					want = append(want, modelWant(r))
				}
				ms := modelOf(want)
				if ms.set = m.enter(want); ms.set.count > 0 {
					m.park(ms.set)
				}
				live = append(live, ms)
			}
			require.NoError(t, m.check(), "round %d", round)
			for i, ms := range live {
				blocked := false
				for _, earlier := range live[:i] {
					blocked = blocked || ms.conflicts(earlier)
				}
				require.Equal(t, blocked, ms.set.waits(), "round %d, set %d", round, ms.set.seq)
			}
			m.mu.Unlock()
		}
	}
}

// Many goroutines come, give up, wait and go. Nobody meets another one's conflicting
// latch, everybody comes to an end, and nothing is left.
func TestConcurrentRequests(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	m := newManager(t, Options{})
	var held [6][Write + 1]atomic.Int32
	var work sync.WaitGroup
	for g := range 8 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			for range 500 {
				want := []Want{modelWant(r), modelWant(r)}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(2000))*time.Microsecond)
				if r.IntN(10) == 0 {
					if err := m.Wait(ctx, want); err != nil && !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
				} else if guard, err := m.Acquire(ctx, want); err == nil {
					meet(t, &held, modelOf(want))
					guard.Release()
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	work.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	require.NoError(t, m.check())
	require.Zero(t, m.count)
	require.Nil(t, m.spans.head)
	require.Equal(t, 1, m.points.Len())
	require.NotEmpty(t, m.sets)
}

// meet takes what a set allows and looks whether anybody else is there.
func meet(t *testing.T, held *[6][Write + 1]atomic.Int32, ms modelSet) {
	for i, mode := range ms.modes {
		held[i][mode].Add(1)
	}
	for i, mode := range ms.modes {
		if mode == 0 {
			continue
		}
		for o := Read; o <= Write; o++ {
			own := int32(0)
			if o == mode {
				own = 1
			}
			if n := held[i][o].Load() - own; n > 0 && mode.conflicts(o) {
				t.Errorf("%v with %d others that have %v on key %d", mode, n, o, i)
			}
		}
	}
	for i, mode := range ms.modes {
		held[i][mode].Add(-1)
	}
}
