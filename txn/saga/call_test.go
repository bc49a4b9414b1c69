package saga_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// An outside counts what it is asked to do, and remembers the keys that it was asked
// with.
type outside struct {
	mu     sync.Mutex
	asked  map[string]int // how often, by key
	done   map[string]int // how often it was carried out
	mood   error          // what it answers, nil: that it was done
	silent bool           // it does what it is asked to although it answers with an error
	known  bool           // it can be asked what happened
}

func newOutside() *outside { return &outside{asked: map[string]int{}, done: map[string]int{}} }

func (o *outside) set(mood error, silent, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mood, o.silent, o.known = mood, silent, known
}

func (o *outside) call(_ context.Context, c *saga.Context) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked[c.Key]++
	if o.mood == nil || o.silent {
		o.done[c.Key]++
	}
	return []byte("receipt"), o.mood
}

func (o *outside) check(_ context.Context, c *saga.Context) (saga.Verdict, []byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !o.known:
		return saga.Unknown, nil, nil
	case o.done[c.Key] > 0:
		return saga.Happened, []byte("receipt"), nil
	}
	return saga.NotHappened, nil, nil
}

func (o *outside) counts(key string) (asked, done int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[key], o.done[key]
}

// step is one that calls, and is taken back by a call.
func (o *outside) step(name string, check saga.CheckFunc, after ...string) saga.Step {
	call := saga.Call(o.call, check)
	return saga.Step{Name: name, After: after, Do: call, Undo: call, Retry: soon, UndoRetry: soon}
}

// What became of a call is never guessed: if nobody knows, the step is parked until
// somebody says.
func TestCalls(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	o := w.open(1, saga.Options{Name: "o", Scan: 10 * time.Millisecond, Definitions: []*saga.Definition{
		define("asks", adds("a", "10/a"), out.step("call", nil, "a"), adds("b", "40/b", "call")),
		define("checks", adds("a", "10/a"), out.step("call", out.check, "a"), adds("b", "40/b", "call")),
		define("fails", out.step("call", nil), failing("b", "call")),
		define("only", out.step("call", nil)),
	}})
	ctx := within(t, time.Minute)
	lost := errors.New("the line went dead")
	key := func(name string) string { return saga.CallKey(id(name), "call") }
	counts := func(name string, asked, done int) {
		t.Helper()
		a, d := out.counts(key(name))
		require.Equal(t, []int{asked, done}, []int{a, d})
	}

	// It answers.
	res := finish(t, start(t, o, "answered", "asks", ""))
	require.Equal(t, saga.Done, res.State)
	require.Equal(t, "receipt", string(res.Outputs["call"]))
	counts("answered", 1, 1)
	require.Equal(t, saga.Done, finish(t, start(t, o, "only", "only", "")).State)
	require.Equal(t, saga.Compensated, finish(t, start(t, o, "undone", "fails", "")).State)
	counts("undone", 1, 1)
	counts("undone/call/undo"[:len("undone")], 1, 1)
	asked, done := out.counts(key("undone") + "/undo")
	require.Equal(t, []int{1, 1}, []int{asked, done})

	// It says no, for now or for good.
	out.set(saga.Permanent(errors.New("no")), false, false)
	res = finish(t, start(t, o, "refused", "asks", ""))
	require.Equal(t, saga.Compensated, res.State)
	require.EqualValues(t, 101, w.counter("10/a/refused"))
	out.set(saga.Transient(errors.New("busy")), false, false)
	s := start(t, o, "busy", "asks", "")
	require.Eventually(t, func() bool { n, _ := out.counts(key("busy")); return n > 2 }, 10*time.Second, time.Millisecond)
	out.set(nil, false, false)
	require.Equal(t, saga.Done, finish(t, s).State)

	// Nobody knows.
	out.set(lost, true, false)
	s = start(t, o, "lost", "asks", "")
	step := stepOf(t, o, "lost", "call", saga.Parked)
	require.Equal(t, lost.Error(), step.Error)
	require.WithinDuration(t, time.Now(), step.Since, time.Minute)
	time.Sleep(30 * time.Millisecond)
	counts("lost", 1, 1)
	var state *saga.StateError
	require.ErrorAs(t, o.Resolve(ctx, id("lost"), "a", saga.Happened, nil), &state)
	var input *saga.InputError
	require.ErrorAs(t, o.Resolve(ctx, id("lost"), "call", saga.Unknown, nil), &input)
	require.ErrorAs(t, o.Resolve(ctx, id("lost"), "x", saga.Happened, nil), &input)
	require.NoError(t, o.Resolve(ctx, id("lost"), "call", saga.Happened, []byte("found")))
	res = finish(t, s)
	require.Equal(t, saga.Done, res.State)
	require.Equal(t, "found", string(res.Outputs["call"]))
	counts("lost", 1, 1)

	// It did not happen, says somebody at another orchestrator, and it is called again.
	out.set(lost, false, false)
	s = start(t, o, "dropped", "asks", "")
	stepOf(t, o, "dropped", "call", saga.Parked)
	out.set(nil, false, false)
	other := w.open(2, saga.Options{Name: "other", Definitions: []*saga.Definition{define("asks", adds("a", "10/a"), out.step("call", nil, "a"), adds("b", "40/b", "call"))}})
	require.NoError(t, other.Resolve(ctx, id("dropped"), "call", saga.NotHappened, nil))
	require.Equal(t, saga.Done, finish(t, s).State)
	counts("dropped", 2, 1)

	// A parked saga that is aborted takes back what happened, when that is known.
	out.set(lost, true, false)
	s = start(t, o, "aborted", "asks", "")
	stepOf(t, o, "aborted", "call", saga.Parked)
	require.NoError(t, o.Abort(ctx, id("aborted"), "changed my mind"))
	out.set(nil, false, false)
	time.Sleep(20 * time.Millisecond)
	require.EqualValues(t, 1, w.counter("10/a/aborted"))
	require.NoError(t, o.Resolve(ctx, id("aborted"), "call", saga.Happened, nil))
	res = finish(t, s)
	require.Equal(t, saga.Compensated, res.State)
	require.Equal(t, "changed my mind", res.Cause)
	require.EqualValues(t, 101, w.counter("10/a/aborted"))
	_, done = out.counts(key("aborted") + "/undo")
	require.Equal(t, 1, done)

	// The step finds out by itself.
	for _, silent := range []bool{true, false} {
		name := map[bool]string{true: "happened", false: "not"}[silent]
		out.set(lost, silent, false)
		s = start(t, o, name, "checks", "")
		stepOf(t, o, name, "call", saga.Parked)
		out.set(nil, false, true)
		require.Equal(t, saga.Done, finish(t, s).State)
		_, done = out.counts(key(name))
		require.Equal(t, 1, done)
	}
}

// A call that was about to be made when its orchestrator died is parked: nobody knows
// whether it was.
func TestCalledByTheDead(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	entered, leave := make(chan struct{}), make(chan struct{})
	hangs := out.step("call", nil, "a")
	hangs.Do = saga.Call(func(ctx context.Context, c *saga.Context) ([]byte, error) {
		b, err := out.call(ctx, c)
		close(entered)
		<-leave
		return b, err
	}, nil)
	list := []*saga.Definition{define("d", adds("a", "10/a"), hangs, adds("b", "40/b", "call"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list, Scan: -1})
	other := w.open(2, saga.Options{Name: "other", Definitions: list, Scan: -1})
	s := start(t, o, "one", "d", "")
	<-entered
	require.NoError(t, other.TakeOver(within(t, time.Minute), id("one")))
	stepOf(t, other, "one", "call", saga.Parked)
	close(leave)
	time.Sleep(20 * time.Millisecond)
	stepOf(t, other, "one", "call", saga.Parked) // what the other one hears counts no more
	require.NoError(t, other.Resolve(within(t, time.Minute), id("one"), "call", saga.Happened, []byte("seen")))
	require.Equal(t, "seen", string(finish(t, s).Outputs["call"]))
	asked, done := out.counts(saga.CallKey(id("one"), "call"))
	require.Equal(t, []int{1, 1}, []int{asked, done})
}

// A call that is answered when its saga has turned back already is taken back too, also
// if nothing else is left to do.
func TestCallIsAnsweredLate(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	failed := make(chan struct{})
	slow := func(ctx context.Context, c *saga.Context) ([]byte, error) {
		<-failed
		time.Sleep(20 * time.Millisecond) // until it turns back
		return out.call(ctx, c)
	}
	late := out.step("late", nil)
	late.Do = saga.Call(slow, nil)
	fails := failing("fails")
	fails.Do = saga.Data(func(context.Context, *saga.Context) ([]byte, error) {
		defer close(failed)
		return nil, saga.Permanent(errors.New("no"))
	})
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{define("d", late, fails)}})
	require.Equal(t, saga.Compensated, finish(t, start(t, o, "one", "d", "")).State)
	for _, key := range []string{"", "/undo"} {
		_, done := out.counts(saga.CallKey(id("one"), "late") + key)
		require.Equal(t, 1, done, key)
	}
}

// A call that is under way when its saga turns back is known of when the orchestrator
// dies then.
func TestCallIsUnderWay(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	out.set(nil, false, true)
	leave := make(chan struct{})
	first := out.step("first", out.check)
	first.Do = saga.Call(func(ctx context.Context, c *saga.Context) ([]byte, error) {
		b, err := out.call(ctx, c)
		<-leave
		return b, err
	}, out.check)
	list := []*saga.Definition{define("d", first, adds("a", "10/a"), failing("fails", "a"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list, Scan: -1})
	other := w.open(2, saga.Options{Name: "other", Definitions: list, Scan: -1})
	s := start(t, o, "one", "d", "")
	require.Eventually(t, func() bool {
		in, err := o.Inspect(within(t, time.Minute), id("one"))
		require.NoError(t, err)
		return in.Steps[1].Undo && in.Steps[1].State == saga.Finished
	}, 10*time.Second, time.Millisecond)
	o.Crash()
	close(leave)
	_, err := s.Wait(within(t, time.Minute))
	require.Error(t, err)
	require.NoError(t, other.TakeOver(within(t, time.Minute), id("one")))
	require.Equal(t, saga.Compensated, finish(t, start(t, other, "one", "d", "")).State)
	for _, key := range []string{"", "/undo"} {
		_, done := out.counts(saga.CallKey(id("one"), "first") + key)
		require.Equal(t, 1, done, key)
	}
}

// No two calls have the same key, whatever sagas and steps are called.
func TestKeysOfCalls(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{
		define("undo", out.step("b", nil), out.step("b/undo", nil, "b"), failing("c", "b/undo")), define("long", out.step("x/b", nil)),
	}})
	require.Equal(t, saga.Compensated, finish(t, start(t, o, "a/x", "undo", "")).State)
	require.Equal(t, saga.Done, finish(t, start(t, o, "a", "long", "")).State)
	require.Len(t, out.asked, 5)
}
