package saga_test

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

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/saga"
)

// A death lets an orchestrator die at one of the moments that it passes: before a
// transaction and behind it, with or without knowing that it committed, and around
// what a call does.
type death struct {
	at     int64 // the moment, from 1; 0: never
	passed atomic.Int64
	o      *saga.Orchestrator
}

// die reports whether it dies, or has died, at the next moment.
func (d *death) die() bool {
	n := d.passed.Add(1)
	if d.at == 0 || n < d.at {
		return false
	}
	d.o.Crash()
	return true
}

var errDead = errors.New("it died")

// runner is a client that d lets die.
func (d *death) runner(c *txn.Client) saga.Runner {
	return func(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error {
		if d.o == nil || o.ReadOnly {
			return c.Run(ctx, o, fn) // it is being opened
		}
		if d.die() {
			return errDead
		}
		if err := c.Run(ctx, o, fn); err != nil {
			return err
		}
		if d.die() {
			return fmt.Errorf("%w: %w", errDead, consensus.ErrUnknown)
		}
		return nil
	}
}

// open opens an orchestrator that dies at a moment.
func (d *death) open(t testing.TB, w *world, node int, o saga.Options) *saga.Orchestrator {
	t.Helper()
	o.Homes = []string{home}
	orc, err := saga.OpenStill(within(t, time.Minute), d.runner(w.clients[node-1]), o)
	require.NoError(t, err)
	d.o = orc
	t.Cleanup(func() { _ = orc.Close(context.Background()) })
	return orc
}

// Whenever an orchestrator dies, another one goes on, and all that a saga does has been
// done once in the end, or once and taken back once.
func TestEveryCrash(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	out.set(nil, false, true)
	var mortal *death
	mortalCall := func(ctx context.Context, c *saga.Context) ([]byte, error) {
		if mortal.die() {
			return nil, errDead
		}
		b, err := out.call(ctx, c)
		if mortal.die() {
			return nil, errDead
		}
		return b, err
	}
	call := out.step("b", out.check, "a")
	call.Do, call.Undo = saga.Call(mortalCall, out.check), saga.Call(mortalCall, out.check)
	away := adds("b", "40/b", "a")
	away.At = func([]byte) string { return "40/" }
	list := []*saga.Definition{
		define("good", adds("a", "10/a"), adds("b", "40/b", "a"), adds("c", "80/c", "b")),
		define("away", adds("a", "10/a"), away, adds("c", "80/c", "b")),
		define("bad", adds("a", "10/a"), away, locks("80/c", adds("c", "80/c", "b")), failing("d", "c")),
		define("wide", adds("a", "10/a"), adds("b", "40/b"), adds("c", "80/c")),
		define("calls", adds("a", "10/a"), call, adds("c", "80/c", "b")),
		define("calls back", adds("a", "10/a"), call, failing("c", "b")),
	}
	rescuer := w.open(2, saga.Options{Name: "rescuer", Definitions: list, Scan: -1})
	for _, d := range list {
		t.Run(d.Name, func(t *testing.T) {
			for at := int64(1); ; at++ {
				name := fmt.Sprintf("%s %d", d.Name, at)
				mortal = &death{at: at}
				o := mortal.open(t, w, 1, saga.Options{Name: "mortal", Definitions: list})
				s, err := o.Start(within(t, 20*time.Second), id(name), d.Name, 1, []byte("in"))
				if err == nil {
					_, err = s.Wait(within(t, 20*time.Second))
				}
				survived := mortal.passed.Load() < at
				if survived {
					mortal.at = 0
				}
				require.NoError(t, o.Close(t.Context()))
				require.Equal(t, survived, err == nil, "moment %d: %v", at, err)
				mortal = &death{}
				err = rescuer.TakeOver(within(t, 20*time.Second), id(name))
				if !errors.Is(err, saga.ErrNotFound) { // then it was not started, and is now
					require.NoError(t, err)
				}
				s, err = rescuer.Start(within(t, 20*time.Second), id(name), d.Name, 1, []byte("in"))
				require.NoError(t, err)
				check(t, w, out, d, finish(t, s))
				if survived {
					t.Logf("%d moments", at-1)
					break
				}
			}
		})
	}
}

// check requires that a finished saga has done everything once, and taken back
// everything once if it is.
func check(t *testing.T, w *world, out *outside, d *saga.Definition, res *saga.Result) {
	t.Helper()
	want, state := int64(1), saga.Done
	for _, s := range d.Steps {
		if s.NoUndo {
			want, state = 101, saga.Compensated // it fails
		}
	}
	require.Equal(t, state, res.State, "%v", res)
	for i, key := range []string{"10/a", "40/b", "80/c"} {
		if d.Steps[i].NoUndo {
			continue
		}
		if i == 1 && (d.Name == "calls" || d.Name == "calls back") {
			_, done := out.counts(saga.CallKey(res.ID, "b"))
			_, undone := out.counts(saga.CallKey(res.ID, "b") + "/undo")
			require.Equal(t, []int{1, int(want / 100)}, []int{done, undone}, "%v", res.ID)
			continue
		}
		require.Equal(t, want, w.counter(key+"/"+res.ID.Name), "%s of %v", key, res.ID)
	}
	require.Empty(t, w.rows("10/", func(key string) bool {
		return key == "10/\x00saga/o/"+res.ID.Name || key == "80/c\x00saga/k"
	}), "it is not finished, or holds locks")
}

// Orchestrators take sagas from each other while these run, and die at any moment, and
// the line to the database fails. Nothing is done twice.
func TestTakingTurns(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	w := boot(t, 3, cluster.LocalOptions{})
	away := adds("b", "40/b", "a")
	away.At = func([]byte) string { return "40/" }
	list := []*saga.Definition{
		define("good", adds("a", "10/a"), away, adds("c", "80/c", "b")),
		define("bad", adds("a", "10/a"), away, adds("c", "80/c", "a"), failing("d", "b", "c")),
	}
	const sagas = 40
	length := 2 * time.Second
	if harness.CurrentMode() == harness.ModeStandard {
		length = 30 * time.Second
	}
	var work sync.WaitGroup
	end := time.Now().Add(length)
	for i := range 3 {
		mine := rand.New(rand.NewPCG(rng.Uint64(), 2))
		work.Go(func() {
			for time.Now().Before(end) {
				d := &death{at: 1 + mine.Int64N(200)}
				o := d.open(t, w, 1+mine.IntN(3), saga.Options{Name: fmt.Sprint("o", i), Definitions: list})
				for !d.o.Crashed() && time.Now().Before(end) {
					n := mine.IntN(sagas)
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if mine.IntN(2) == 0 {
						_ = o.TakeOver(ctx, id(fmt.Sprint(n)))
					} else {
						_, _ = o.Start(ctx, id(fmt.Sprint(n)), list[n%2].Name, 1, nil)
					}
					cancel()
				}
				if err := o.Close(context.Background()); !errors.Is(err, errDead) {
					require.NoError(t, err)
				}
			}
		})
	}
	work.Wait()
	last := w.open(1, saga.Options{Name: "last", Definitions: list, Scan: -1})
	for n := range sagas {
		err := last.TakeOver(within(t, 20*time.Second), id(fmt.Sprint(n)))
		if !errors.Is(err, saga.ErrNotFound) {
			require.NoError(t, err)
		}
		check(t, w, nil, list[n%2], finish(t, start(t, last, fmt.Sprint(n), list[n%2].Name, "")))
	}
}

// What an orchestrator has begun before another one took over does not commit.
func TestFence(t *testing.T) {
	w := boot(t, 3, cluster.LocalOptions{})
	var first atomic.Bool
	first.Store(true)
	entered, leave := make(chan struct{}), make(chan struct{})
	for _, at := range []string{"10/", "40/"} {
		slow := adds("b", at+"b", "a")
		slow.At = func([]byte) string { return at }
		do := func(_ context.Context, c *saga.Context) ([]byte, error) {
			if first.Swap(false) {
				entered <- struct{}{}
				<-leave
			}
			return nil, c.Tx.Add(at+"b/"+c.Saga.Name, 1)
		}
		slow.Do = saga.Data(do)
		list := []*saga.Definition{define("d", adds("a", "10/a"), slow)}
		name := "at" + at[:2]
		old := w.open(1, saga.Options{Name: "old" + name, Definitions: list, Scan: -1})
		next := w.open(2, saga.Options{Name: "next" + name, Definitions: list, Scan: -1})
		first.Store(true)
		s := start(t, old, name, "d", "")
		<-entered
		require.NoError(t, next.TakeOver(within(t, time.Minute), id(name)))
		require.Equal(t, saga.Done, finish(t, start(t, next, name, "d", "")).State)
		leave <- struct{}{}
		require.Equal(t, saga.Done, finish(t, s).State)
		require.EqualValues(t, 1, w.counter(at+"b/"+name))
		in, err := old.Inspect(within(t, time.Minute), id(name))
		require.NoError(t, err)
		require.EqualValues(t, 2, in.Token)
		require.Contains(t, in.Orchestrator, "next"+name)
	}
}
