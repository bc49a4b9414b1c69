package saga_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

var errLost = errors.New("the answer was lost")

// randomDefinition is of any graph: of steps on rows, of calls, which take a moment and
// the answers of which are lost sometimes, and of steps that fail for good.
func randomDefinition(rng *rand.Rand, name string, out *outside, d *death) *saga.Definition {
	def := &saga.Definition{Name: name, Version: 1}
	n := 2 + rng.IntN(6)
	for i := range n {
		var after []string
		for j := range i {
			if rng.IntN(3) == 0 {
				after = append(after, def.Steps[j].Name)
			}
		}
		step, pause := fmt.Sprint("s", i), time.Duration(rng.IntN(3000))*time.Microsecond
		switch rng.IntN(5) {
		case 0, 1:
			loses := rng.IntN(6)
			call := saga.Call(func(ctx context.Context, c *saga.Context) ([]byte, error) {
				time.Sleep(pause)
				switch {
				case d.die():
					return nil, errDead
				case loses == 1 && c.Attempt == 1:
					return nil, errLost
				}
				b, err := out.call(ctx, c)
				if loses == 2 && c.Attempt == 1 {
					return nil, errLost
				}
				return b, err
			}, out.check)
			def.Steps = append(def.Steps, saga.Step{Name: step, After: after, Do: call, Undo: call, Retry: soon, UndoRetry: soon})
		case 2:
			if rng.IntN(2) == 0 {
				def.Steps = append(def.Steps, failing(step, after...))
				break
			}
			fallthrough
		default:
			place := []string{"10/", "40/", "80/"}[rng.IntN(3)]
			s := adds(step, place+step, after...)
			if rng.IntN(3) == 0 {
				add := s.Do
				s.Do = saga.Data(func(ctx context.Context, c *saga.Context) ([]byte, error) {
					if c.Attempt == 1 {
						return nil, errors.New("not yet")
					}
					return saga.Act(ctx, add, c)
				})
			}
			if rng.IntN(2) == 0 {
				s.At = func([]byte) string { return place }
			}
			def.Steps = append(def.Steps, s)
		}
	}
	return def
}

// doubtful is a runner that does not tell sometimes whether a transaction committed.
func doubtful(seed uint64, inner saga.Runner) saga.Runner {
	var n atomic.Uint64
	return func(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error {
		unknown := fmt.Errorf("it is in doubt: %w", consensus.ErrUnknown)
		switch rand.New(rand.NewPCG(seed, n.Add(1))).IntN(20) {
		case 0:
			return unknown
		case 1:
			if err := inner(ctx, o, fn); err != nil {
				return err
			}
			return unknown
		}
		return inner(ctx, o, fn)
	}
}

// Of any graph, and whenever its orchestrator dies, either all is done, or nothing is
// left of what was.
func TestRandomGraphs(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	w := boot(t, 3, cluster.LocalOptions{})
	out := newOutside()
	out.set(nil, false, true)
	rounds := 100
	if harness.CurrentMode() == harness.ModeStandard {
		rounds = 2000
	}
	states, deaths := map[saga.State]int{}, 0
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		name := fmt.Sprint("random ", round)
		d := &death{at: int64(rng.IntN(40))}
		list := []*saga.Definition{randomDefinition(rng, name, out, d)}
		o, err := saga.OpenStill(within(t, time.Minute), d.runner(w.clients[0]), saga.Options{Name: "mortal", Homes: []string{home}, Definitions: list})
		require.NoError(t, err)
		d.o = o
		o.Through(func(r saga.Runner) saga.Runner { return doubtful(seed+uint64(round), r) })
		s, err := o.Start(within(t, 20*time.Second), id(name), name, 1, nil)
		if err == nil {
			_, err = s.Wait(within(t, 20*time.Second))
		}
		require.Equal(t, o.Crashed(), err != nil, "%v", err)
		_ = o.Close(context.Background())
		if err != nil {
			deaths++
		}
		d.at = 0
		rescuer := w.open(2, saga.Options{Name: "rescuer", Definitions: list, Scan: -1})
		if err := rescuer.TakeOver(within(t, 20*time.Second), id(name)); !errors.Is(err, saga.ErrNotFound) {
			require.NoError(t, err)
		}
		res := finish(t, start(t, rescuer, name, name, ""))
		states[res.State]++
		for _, step := range list[0].Steps {
			if step.NoUndo {
				require.Equal(t, saga.Compensated, res.State)
				continue
			}
			_, done := out.counts(saga.CallKey(id(name), step.Name))
			_, undone := out.counts(saga.CallKey(id(name), step.Name) + "/undo")
			for _, place := range []string{"10/", "40/", "80/"} {
				n := int(w.counter(place + step.Name + "/" + name))
				done, undone = done+n%100, undone+n/100
			}
			if res.State == saga.Done {
				require.Equal(t, []int{1, 0}, []int{done, undone}, "%s of %v", step.Name, res)
			}
			require.LessOrEqual(t, done, 1, "%s of %v", step.Name, res)
			require.Equal(t, res.State == saga.Compensated && done == 1, undone == 1, "%s of %v: %d, %d", step.Name, res, done, undone)
		}
		require.NoError(t, rescuer.Close(t.Context()))
	}
	t.Logf("%v, %d died", states, deaths)
	require.Len(t, states, 2)
	require.Positive(t, deaths)
}
