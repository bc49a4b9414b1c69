package saga_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// A saga is done step by step; when one fails, those that were done are taken back.
func TestSagas(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	away := adds("b", "40/b", "a")
	away.At = func([]byte) string { return "40/" }
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{
		define("good", adds("a", "10/a"), adds("b", "40/b", "a"), adds("c", "80/c", "b")),
		define("away", adds("a", "10/a"), away, adds("c", "80/c", "b")),
		define("bad", adds("a", "10/a"), away, failing("c", "b")),
		define("first", failing("c"), adds("a", "10/a", "c")),
		define("single", adds("a", "10/a")),
	}})
	for _, c := range []struct {
		name    string
		state   saga.State
		counts  map[string]int64
		outputs int
	}{
		{"good", saga.Done, map[string]int64{"10/a": 1, "40/b": 1, "80/c": 1}, 3},
		{"away", saga.Done, map[string]int64{"10/a": 1, "40/b": 1, "80/c": 1}, 3},
		{"bad", saga.Compensated, map[string]int64{"10/a": 101, "40/b": 101}, 2},
		{"first", saga.Compensated, map[string]int64{"10/a": 0}, 0},
		{"single", saga.Done, map[string]int64{"10/a": 1}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, o, c.name, c.name, "in")
			res := finish(t, s)
			require.Equal(t, c.state, res.State)
			require.Len(t, res.Outputs, c.outputs)
			for key, want := range c.counts {
				require.Equal(t, want, w.counter(key+"/"+c.name), key)
			}
			if c.state == saga.Compensated {
				require.Equal(t, "c", res.Failed)
				require.Equal(t, "it fails", res.Cause)
			}
			// Whoever looks later, or elsewhere, sees the same.
			require.Equal(t, res, finish(t, start(t, o, c.name, c.name, "in")))
			in, err := o.Inspect(within(t, time.Minute), id(c.name))
			require.NoError(t, err)
			require.Equal(t, c.state, in.State)
			require.False(t, in.Ended.Before(in.Began))
			open, err := o.List(within(t, time.Minute), home, false, "", 10)
			require.NoError(t, err)
			require.Empty(t, open)
		})
	}
	all, err := o.List(within(t, time.Minute), home, true, "away", 3)
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, "bad", all[0].ID.Name)
}

// Steps begin when those that they depend on are done, and are taken back when those
// that depend on them are. What is independent happens at the same time: here each of
// two waits for the other.
func TestOrder(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var d diary
	meet := func(mine, other *atomic.Bool) {
		mine.Store(true)
		for !other.Load() {
			time.Sleep(100 * time.Microsecond)
		}
	}
	var b, c, unB, unC atomic.Bool
	step := func(name string, do, undo func(), after ...string) saga.Step {
		action := func(what string, fn func()) saga.Action {
			return saga.Data(func(_ context.Context, c *saga.Context) ([]byte, error) {
				if fn != nil {
					fn()
				}
				d.note("%s %s", what, c.Step)
				return nil, c.Tx.Add("10/"+c.Step, 1)
			})
		}
		return saga.Step{Name: name, After: after, Do: action("do", do), Undo: action("undo", undo)}
	}
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{define("diamond",
		step("a", nil, nil),
		step("b", func() { meet(&b, &c) }, func() { meet(&unB, &unC) }, "a"),
		step("c", func() { meet(&c, &b) }, func() { meet(&unC, &unB) }, "a"),
		step("d", nil, nil, "b", "c"),
		failing("e", "d"),
	)}})
	res := finish(t, start(t, o, "one", "diamond", ""))
	require.Equal(t, saga.Compensated, res.State)
	t.Log(d.lines())
	for _, pair := range [][2]string{
		{"do a", "do b"}, {"do a", "do c"}, {"do b", "do d"}, {"do c", "do d"}, {"do d", "undo d"},
		{"undo d", "undo b"}, {"undo d", "undo c"}, {"undo b", "undo a"}, {"undo c", "undo a"},
	} {
		require.GreaterOrEqual(t, d.at(pair[0]), 0, pair[0])
		require.Less(t, d.at(pair[0]), d.at(pair[1]), "%v", pair)
	}
}

// A graph with several ends is done when all of them are, and one that turns back while
// a step is under way waits for it.
func TestParallelEnds(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{
		define("wide", adds("a", "10/a"), adds("b", "40/b"), adds("c", "80/c"), adds("d", "10/d", "a")),
		define("torn", adds("a", "10/a"), adds("b", "40/b"), failing("c", "a"), adds("d", "80/d", "b"), adds("e", "80/e", "d")),
	}})
	require.Equal(t, saga.Done, finish(t, start(t, o, "wide", "wide", "")).State)
	for _, key := range []string{"10/a", "40/b", "80/c", "10/d"} {
		require.EqualValues(t, 1, w.counter(key+"/wide"), key)
	}
	require.Equal(t, saga.Compensated, finish(t, start(t, o, "torn", "torn", "")).State)
	for _, key := range []string{"10/a", "40/b", "80/d", "80/e"} {
		require.Contains(t, []int64{0, 101}, w.counter(key+"/torn"), key)
	}
	require.EqualValues(t, 101, w.counter("10/a/torn"))
}

// Before the pivot a step that has failed often enough turns the saga back. Behind it
// nothing does: steps are tried until they are done, and one that fails for good waits.
func TestPivot(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var failures atomic.Int64
	var broken atomic.Bool
	flaky := func(name, key string, after ...string) saga.Step {
		s := adds(name, key, after...)
		s.Do = saga.Data(func(_ context.Context, c *saga.Context) ([]byte, error) {
			if broken.Load() {
				return nil, saga.Permanent(errors.New("broken"))
			}
			if failures.Add(-1) >= 0 {
				return nil, errors.New("not yet")
			}
			return nil, c.Tx.Add(key+"/"+c.Saga.Name, 1)
		})
		return s
	}
	forward := func(s saga.Step) saga.Step { s.Undo = saga.Action{}; return s }
	pivot := func(s saga.Step) saga.Step { s.Undo, s.Pivot = saga.Action{}, true; return s }
	thrice := flaky("b", "40/b", "a")
	thrice.Retry.Attempts = 3
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{
		define("early", adds("a", "10/a"), thrice, pivot(adds("c", "80/c", "b"))),
		define("late", adds("a", "10/a"), pivot(adds("b", "40/b", "a")), forward(flaky("c", "80/c", "b"))),
	}})
	failures.Store(2)
	require.Equal(t, saga.Done, finish(t, start(t, o, "early", "early", "")).State)
	failures.Store(3)
	res := finish(t, start(t, o, "never", "early", ""))
	require.Equal(t, saga.Compensated, res.State)
	require.Equal(t, "not yet", res.Cause)
	require.EqualValues(t, 101, w.counter("10/a/never"))
	in, err := o.Inspect(within(t, time.Minute), id("never"))
	require.NoError(t, err)
	require.Equal(t, 3, in.Steps[1].Attempts)

	failures.Store(20)
	require.Equal(t, saga.Done, finish(t, start(t, o, "late", "late", "")).State)
	require.EqualValues(t, 1, w.counter("80/c/late"))

	broken.Store(true)
	s := start(t, o, "stuck", "late", "")
	step := stepOf(t, o, "stuck", "c", saga.Stuck)
	require.Equal(t, "broken", step.Error)
	var state *saga.StateError
	require.ErrorAs(t, o.Abort(within(t, time.Minute), id("stuck"), "too late"), &state)
	require.Equal(t, "b", state.Step)
	broken.Store(false)
	failures.Store(0)
	require.NoError(t, o.Retry(within(t, time.Minute), id("stuck")))
	require.Equal(t, saga.Done, finish(t, s).State)
}

// What takes a step back is tried until it is done, or is stuck until somebody says so.
func TestUndoIsTried(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var failures atomic.Int64
	a := adds("a", "10/a")
	a.UndoRetry.Attempts = 4
	a.Undo = saga.Data(func(_ context.Context, c *saga.Context) ([]byte, error) {
		if failures.Add(-1) >= 0 {
			return nil, errors.New("not yet")
		}
		return nil, c.Tx.Add("10/a/"+c.Saga.Name, 100)
	})
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{define("d", a, failing("b", "a"))}})
	failures.Store(3)
	require.Equal(t, saga.Compensated, finish(t, start(t, o, "few", "d", "")).State)
	require.EqualValues(t, 101, w.counter("10/a/few"))
	failures.Store(4)
	s := start(t, o, "many", "d", "")
	step := stepOf(t, o, "many", "a", saga.Stuck)
	require.True(t, step.Undo)
	require.Equal(t, 4, step.Attempts)
	list, err := o.List(within(t, time.Minute), home, false, "", 0)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, saga.Compensating, list[0].State)
	require.NoError(t, o.Retry(within(t, time.Minute), id("many")))
	require.Equal(t, saga.Compensated, finish(t, s).State)
	require.EqualValues(t, 101, w.counter("10/a/many"))
}
