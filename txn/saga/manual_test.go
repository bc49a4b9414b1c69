package saga_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// A gate is a step that does not succeed before it is opened.
type gate struct{ open atomic.Bool }

func (g *gate) step(name, key string, after ...string) saga.Step {
	s := adds(name, key, after...)
	s.Do = saga.Data(func(_ context.Context, c *saga.Context) ([]byte, error) {
		if !g.open.Load() {
			return nil, errors.New("closed")
		}
		return nil, c.Tx.Add(key+"/"+c.Saga.Name, 1)
	})
	return s
}

// To start a saga again does nothing, and to start another one under its name is
// refused.
func TestStartAgain(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	list := []*saga.Definition{define("d", adds("a", "10/a"), g.step("b", "40/b", "a")), define("e", adds("a", "10/a"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list})
	other := w.open(2, saga.Options{Name: "other", Definitions: list})
	s := start(t, o, "one", "d", "in")
	again := []*saga.Saga{start(t, o, "one", "d", "in"), start(t, other, "one", "d", "in")}
	var different *saga.DifferentError
	for _, orc := range []*saga.Orchestrator{o, other} {
		_, err := orc.Start(within(t, time.Minute), id("one"), "d", 1, []byte("out"))
		require.ErrorAs(t, err, &different)
		_, err = orc.Start(within(t, time.Minute), id("one"), "e", 1, []byte("in"))
		require.ErrorAs(t, err, &different)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	_, err := s.Wait(ctx)
	cancel()
	require.ErrorIs(t, err, context.DeadlineExceeded)
	g.open.Store(true)
	for _, s := range append(again, s, start(t, other, "one", "d", "in")) {
		require.Equal(t, saga.Done, finish(t, s).State)
	}
	require.EqualValues(t, 1, w.counter("10/a/one"))
	require.EqualValues(t, 1, w.counter("40/b/one"))
}

// What cannot be is refused, and nothing is done.
func TestBadInput(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	ctx := within(t, time.Minute)
	far := adds("a", "10/a")
	far.At = func([]byte) string { return strings.Repeat("x", 257) }
	big := adds("a", "10/a")
	big.Do = saga.Data(func(context.Context, *saga.Context) ([]byte, error) { return make([]byte, 16<<10+1), nil })
	list := []*saga.Definition{define("d", adds("a", "10/a")), define("far", far), define("big", big)}
	for _, o := range []saga.Options{
		{}, {Name: "o"}, {Homes: []string{home}}, {Name: "o", Homes: []string{strings.Repeat("x", 257)}},
		{Name: "o\x00", Homes: []string{home}}, {Name: "o", Homes: []string{home}, Limit: -1}, {Name: "o", Homes: []string{home}, Lease: 1},
		{Name: "o", Homes: []string{home}, Definitions: []*saga.Definition{list[0], list[0]}},
		{Name: "o", Homes: []string{home}, Definitions: []*saga.Definition{{Name: "x"}}},
	} {
		_, err := saga.Open(ctx, w.clients[0], o)
		require.Error(t, err)
	}
	o := w.open(1, saga.Options{Name: "o", Definitions: list})
	var input *saga.InputError
	for _, c := range []struct {
		id   saga.ID
		def  string
		size int
	}{
		{saga.ID{Home: "20/", Name: "x"}, "d", 0}, {id(""), "d", 0}, {id("a\x00b"), "d", 0},
		{id(strings.Repeat("x", 257)), "d", 0}, {id("x"), "d", 1<<20 + 1}, {id("x"), "far", 0},
	} {
		_, err := o.Start(ctx, c.id, c.def, 1, make([]byte, c.size))
		require.ErrorAs(t, err, &input)
	}
	var unknown *saga.UnknownDefinitionError
	_, err := o.Start(ctx, id("x"), "d", 2, nil)
	require.ErrorAs(t, err, &unknown)
	require.Equal(t, saga.Compensated, finish(t, start(t, o, "big", "big", "")).State)
	for _, err := range []error{
		o.Abort(ctx, id("none"), ""), o.Retry(ctx, id("none")), o.TakeOver(ctx, id("none")),
		o.Resolve(ctx, id("none"), "a", saga.Happened, nil),
	} {
		require.ErrorIs(t, err, saga.ErrNotFound)
	}
	_, err = o.Inspect(ctx, id("none"))
	require.ErrorIs(t, err, saga.ErrNotFound)
	var state *saga.StateError
	require.ErrorAs(t, o.Abort(ctx, id("big"), ""), &state)
}

// A saga that is aborted before its pivot takes back what was done, wherever it runs and
// whoever asks.
func TestAbort(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	list := []*saga.Definition{define("d", adds("a", "10/a"), g.step("b", "40/b", "a"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list})
	other := w.open(2, saga.Options{Name: "other", Definitions: list})
	for name, who := range map[string]*saga.Orchestrator{"here": o, "there": other} {
		s := start(t, o, name, "d", "")
		require.NoError(t, who.Abort(within(t, time.Minute), id(name), "no more"))
		res := finish(t, s)
		require.Equal(t, saga.Compensated, res.State)
		require.Equal(t, "no more", res.Cause)
		require.Empty(t, res.Failed)
		require.EqualValues(t, 101, w.counter("10/a/"+name))
		require.Zero(t, w.counter("40/b/"+name))
	}
}

// A step that is under way when its saga is aborted does not commit.
func TestAbortMeetsStep(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b := adds("b", "40/b", "a")
	b.Do = saga.Data(func(_ context.Context, c *saga.Context) ([]byte, error) {
		once.Do(func() {
			close(entered)
			<-leave
		})
		return nil, c.Tx.Add("40/b/"+c.Saga.Name, 1)
	})
	list := []*saga.Definition{define("d", adds("a", "10/a"), b, adds("c", "80/c", "b"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list})
	other := w.open(2, saga.Options{Name: "other", Definitions: list})
	s := start(t, o, "one", "d", "")
	<-entered
	require.NoError(t, other.Abort(within(t, time.Minute), id("one"), "no more"))
	close(leave)
	require.Equal(t, saga.Compensated, finish(t, s).State)
	require.EqualValues(t, 101, w.counter("10/a/one"))
	require.Zero(t, w.counter("40/b/one"))
	require.Zero(t, w.counter("80/c/one"))
}

// A pause between attempts ends when somebody asks for a retry.
func TestRetryEndsPauses(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	slow := g.step("b", "40/b", "a")
	slow.Retry = saga.Retry{Initial: time.Hour}
	o := w.open(1, saga.Options{Name: "o", Definitions: []*saga.Definition{define("d", adds("a", "10/a"), slow)}})
	s := start(t, o, "one", "d", "")
	require.Eventually(t, func() bool {
		in, err := o.Inspect(within(t, time.Minute), id("one"))
		return err == nil && in.Steps[1].Attempts == 1 && in.Steps[1].Error == "closed"
	}, 10*time.Second, time.Millisecond)
	g.open.Store(true)
	require.NoError(t, o.Retry(within(t, time.Minute), id("one")))
	require.Equal(t, saga.Done, finish(t, s).State)
}

// Finished sagas are forgotten after a while, unfinished ones are not.
func TestRetention(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	away := adds("a", "40/a")
	away.At = func([]byte) string { return "40/" }
	list := []*saga.Definition{define("d", away, adds("b", "10/b", "a")), define("open", adds("a", "10/a"), g.step("b", "10/b", "a"))}
	o := w.open(1, saga.Options{Name: "o", Definitions: list, Retention: time.Millisecond, Scan: -1})
	ctx := within(t, time.Minute)
	finish(t, start(t, o, "one", "d", ""))
	s := start(t, o, "open", "open", "")
	require.Eventually(t, func() bool {
		_, err := o.Sweep(ctx)
		require.NoError(t, err)
		_, err = o.Inspect(ctx, id("one"))
		return errors.Is(err, saga.ErrNotFound)
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, w.rows("", func(key string) bool { return strings.Contains(key, "one") && saga.Reserved(key) }))
	g.open.Store(true)
	require.Equal(t, saga.Done, finish(t, s).State)
}

// No more sagas are under way than there may be: the next one waits, or is refused.
func TestLimit(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var g gate
	list := []*saga.Definition{define("d", adds("a", "10/a"), g.step("b", "10/b", "a"))}
	refuses := w.open(1, saga.Options{Name: "o", Definitions: list, Limit: 1, Refuse: true})
	waits := w.open(2, saga.Options{Name: "w", Definitions: list, Limit: 1})
	s := start(t, refuses, "one", "d", "")
	_, err := refuses.Start(t.Context(), id("two"), "d", 1, nil)
	require.ErrorIs(t, err, saga.ErrBusy)
	s2 := start(t, waits, "three", "d", "")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	_, err = waits.Start(ctx, id("four"), "d", 1, nil)
	cancel()
	require.ErrorIs(t, err, saga.ErrBusy)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	g.open.Store(true)
	require.Equal(t, saga.Done, finish(t, start(t, waits, "four", "d", "")).State)
	require.Equal(t, saga.Done, finish(t, s).State)
	require.Equal(t, saga.Done, finish(t, s2).State)
	require.NoError(t, waits.Close(t.Context()))
	_, err = waits.Start(t.Context(), id("five"), "d", 1, nil)
	require.ErrorIs(t, err, saga.ErrClosed)
}
