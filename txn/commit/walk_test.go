package commit

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

// everything is too large to visit: two transactions, each with two recoveries, in
// three shards of which one may be split, and whatever can go wrong.
func everything(p, q Protocol, floating bool) *scene {
	both := []string{"a", "b"}
	return &scene{
		txns:       []Plan{plan(1, p, floating, 10, both, c), plan(2, q, !floating, 12, c, []string{"d"}, b)},
		shards:     [][]string{both, c, {"d"}},
		recoveries: 2, together: 3,
		limits: budget{push: 2, wound: 1, double: 3, lose: 2, crash: 2, giveUp: 2, fence: 2, move: 2, split: 1},
	}
}

// TestWalks goes through that at random, for as long as there is a way on.
func TestWalks(t *testing.T) {
	walks := 500
	if testing.Short() || raceEnabled {
		walks = 100
	}
	rng := rand.New(rand.NewPCG(harness.Seed(), 1))
	for _, sc := range []*scene{
		everything(OneRound, OneRound, false), everything(OneRound, TwoPhase, false), everything(TwoPhase, OneRound, false),
	} {
		w := newWorld(sc)
		steps, ends := 0, 0
		for range walks {
			n, over := walk(t, w, rng)
			if steps += n; over {
				ends++
			}
		}
		t.Logf("seed %d: %d walks of %d steps in all, %d of them to a good end", harness.Seed(), walks, steps, ends)
		require.NotZero(t, ends)
	}
}

// walk walks once, and reports whether it came to a good end.
func walk(t *testing.T, w *world, rng *rand.Rand) (steps int, over bool) {
	s, err := w.first()
	require.NoError(t, err)
	path := []state{s}
	defer func() {
		if p := recover(); p != nil {
			t.Fatalf("%v:\n  %s", p, retell(w, path))
		}
	}()
	for !over && len(path) < 300 && slices.Index(s.mail[:], 0) < maxMail-8 {
		var next []state
		w.ways(s, false, func(_ string, to state, wrong error) {
			if wrong != nil {
				t.Fatalf("%v:\n  %s", wrong, retell(w, path))
			}
			next = append(next, to)
		})
		s = next[rng.IntN(len(next))]
		path = append(path, s)
		if over, err = w.over(&s); err != nil {
			t.Fatalf("%v:\n  %s", err, retell(w, path))
		}
	}
	return len(path), over
}

// retell tells a path.
func retell(w *world, path []state) string {
	x := &search{world: w, list: path, parents: make([]uint32, len(path))}
	for i := range path[1:] {
		x.parents[i+1] = uint32(i)
	}
	return strings.Join(x.story(uint32(len(path)-1)), "\n  ")
}
