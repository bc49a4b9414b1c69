package verify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// tick separates two operations: equal times would count as overlapping.
func tick() { time.Sleep(time.Millisecond) }

// story runs a scripted history in virtual time and returns what Check says.
func story(t *testing.T, tell func(h *History)) (err error) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		h := NewHistory(0)
		tell(h)
		err = h.Check(0)
	})
	return err
}

// violation returns the Violation in err.
func violation(t *testing.T, err error) *Violation {
	t.Helper()
	var v *Violation
	require.ErrorAs(t, err, &v)
	return v
}

func TestSequentialHistoryPasses(t *testing.T) {
	require.NoError(t, story(t, func(h *History) {
		for _, step := range []func(){
			func() { h.Get(1, "x").Value("", false) },
			func() { h.Put(1, "x", "a").Existed(false) },
			func() { h.Get(2, "x").Value("a", true) },
			func() { h.Put(2, "x", "").OK() },
			func() { h.Get(1, "x").Value("", true) },
			func() { h.Add(1, "x", 1).Sum(0, false) },
			func() { h.Delete(1, "x").Existed(true) },
			func() { h.Delete(1, "x").Existed(false) },
			func() { h.Add(1, "x", 5).Sum(5, true) },
			func() { h.Add(2, "x", -7).Sum(-2, true) },
			func() { h.Get(2, "x").Value("-2", true) },
			func() { h.Get(2, "y").Value("", false) },
		} {
			step()
			tick()
		}
	}))
}

func TestStaleReadIsCaught(t *testing.T) {
	v := violation(t, story(t, func(h *History) {
		h.Put(1, "x", "a").OK()
		tick()
		h.Put(1, "x", "b").OK()
		tick()
		h.Get(2, "x").Value("a", true)
	}))
	require.Equal(t, "x", v.Key)
	require.Equal(t, `"b"`, v.State)
	require.Equal(t, []string{`client 2: get x -> "a" [2ms, 2ms]`}, v.Stuck)
	require.ErrorContains(t, v, "of 3 operations 2 can be ordered, leaving \"b\"")
}

// Reading the old value is right while the write is still on its way.
func TestOverlappingReadMayBeOld(t *testing.T) {
	tell := func(second string) func(h *History) {
		return func(h *History) {
			h.Put(1, "x", "a").OK()
			tick()
			w := h.Put(1, "x", "b")
			tick()
			h.Get(2, "x").Value("b", true)
			tick()
			h.Get(3, "x").Value(second, true)
			tick()
			w.OK()
		}
	}
	require.NoError(t, story(t, tell("b")))
	violation(t, story(t, tell("a"))) // once seen, a write stays
}

func TestLostWriteIsCaught(t *testing.T) {
	v := violation(t, story(t, func(h *History) {
		h.Put(1, "y", "fine").OK()
		h.Put(1, "x", "a").OK()
		tick()
		h.Get(2, "x").Value("", false)
	}))
	require.Equal(t, "x", v.Key)
}

func TestDoubleAppliedAddIsCaught(t *testing.T) {
	v := violation(t, story(t, func(h *History) {
		h.Add(1, "n", 1).Sum(1, true)
		tick()
		h.Add(1, "n", 1).Unknown()
		tick()
		h.Get(2, "n").Value("3", true)
	}))
	require.Len(t, v.Calls, 3)
}

func TestWrongSumIsCaught(t *testing.T) {
	violation(t, story(t, func(h *History) {
		h.Add(1, "n", 1).Sum(1, true)
		tick()
		h.Add(1, "n", 1).Sum(3, true)
	}))
	violation(t, story(t, func(h *History) {
		h.Put(1, "n", "word").OK()
		tick()
		h.Add(1, "n", 1).Sum(1, true)
	}))
	violation(t, story(t, func(h *History) {
		h.Add(1, "n", 1).Sum(0, false)
	}))
}

func TestWrongExistenceIsCaught(t *testing.T) {
	violation(t, story(t, func(h *History) { h.Put(1, "x", "a").Existed(true) }))
	violation(t, story(t, func(h *History) { h.Delete(1, "x").Existed(true) }))
	violation(t, story(t, func(h *History) {
		h.Put(1, "x", "a").OK()
		tick()
		h.Delete(1, "x").Existed(false)
	}))
}

// An operation of unknown outcome may have happened at any time after its call,
// long after later ones too, or never; but not before its call, and not twice.
func TestUnknownOutcomes(t *testing.T) {
	after := func(read string, found bool, end func(*Call)) error {
		return story(t, func(h *History) {
			h.Put(1, "x", "a").OK()
			tick()
			end(h.Put(2, "x", "b"))
			tick()
			h.Put(1, "x", "c").OK()
			tick()
			h.Get(3, "x").Value(read, found)
		})
	}
	for name, end := range map[string]func(*Call){"said": (*Call).Unknown, "open": func(*Call) {}} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, after("c", true, end), "never, or before c")
			require.NoError(t, after("b", true, end), "late")
			violation(t, after("a", true, end))
			violation(t, after("", false, end))
		})
	}
	// What failed must not be seen, at no time, and covers nothing.
	failed := func(read string, found bool) error {
		return story(t, func(h *History) {
			h.Put(1, "x", "a").OK()
			tick()
			h.Put(2, "x", "b").Failed()
			tick()
			h.Get(3, "x").Value(read, found)
		})
	}
	require.NoError(t, failed("a", true))
	violation(t, failed("b", true))

	// Late, once, and not before its call.
	violation(t, story(t, func(h *History) {
		h.Get(1, "x").Value("b", true)
		tick()
		h.Put(2, "x", "b").Unknown()
	}))
	violation(t, story(t, func(h *History) {
		h.Put(2, "x", "b").Unknown()
		tick()
		h.Get(1, "x").Value("b", true)
		tick()
		h.Put(1, "x", "c").OK()
		tick()
		h.Get(1, "x").Value("b", true)
	}))
	require.NoError(t, story(t, func(h *History) {
		h.Get(1, "x").Unknown()
		h.Delete(1, "x").Unknown()
		h.Add(1, "x", 1).Unknown()
	}))
}

// A late answer to a call given up replaces "unknown".
func TestLateAnswerCounts(t *testing.T) {
	violation(t, story(t, func(h *History) {
		c := h.Put(1, "x", "a")
		c.Unknown()
		tick()
		c.OK()
		tick()
		h.Get(2, "x").Value("", false)
	}))
}

// A real register under real concurrency passes, with some answers thrown away;
// the same register with a cache in front of it does not.
func TestConcurrentClients(t *testing.T) {
	run := func(seed uint64, stale bool) error {
		h := NewHistory(0)
		var reg struct {
			sync.Mutex
			values map[string]int64
			cache  map[string]int64 // what stale reads see: every other value
		}
		reg.values, reg.cache = map[string]int64{}, map[string]int64{}
		var clients sync.WaitGroup
		for id := range 4 {
			clients.Go(func() {
				rng := rand.New(rand.NewPCG(seed, uint64(id)))
				for range 200 {
					key := strconv.Itoa(rng.IntN(5))
					if rng.IntN(2) == 0 {
						c := h.Get(id, key)
						reg.Lock()
						v, found := reg.values[key]
						if stale && found {
							v = reg.cache[key]
						}
						reg.Unlock()
						c.Value(strconv.FormatInt(v, 10), found)
						continue
					}
					c := h.Add(id, key, 1)
					reg.Lock()
					reg.values[key]++
					v := reg.values[key]
					if v%2 == 1 {
						reg.cache[key] = v
					}
					reg.Unlock()
					if rng.IntN(50) == 0 {
						c.Unknown()
					} else {
						c.Sum(v, true)
					}
				}
			})
		}
		clients.Wait()
		require.Equal(t, 800, h.Len())
		return h.Check(0)
	}
	for seed := range uint64(5) {
		require.NoError(t, run(seed, false), "seed %d", seed)
		violation(t, run(seed, true))
	}
}

func TestFullHistoryProvesNothing(t *testing.T) {
	h := NewHistory(2)
	for range 3 {
		h.Put(1, "x", "a").OK()
	}
	require.ErrorIs(t, h.Check(0), ErrFull)
	require.ErrorContains(t, h.Check(0), "2 operations kept, 1 lost")
}

// Twenty-two adds of unknown outcome and a sum that none of their subsets
// gives: the search cannot end in time, and that is not a pass.
func TestUndecidedIsNoPass(t *testing.T) {
	h := NewHistory(0)
	for i := range 22 {
		h.Add(1, "n", 1<<i)
	}
	h.Get(2, "n").Value("-1", true)
	err := h.Check(50 * time.Millisecond)
	require.ErrorIs(t, err, ErrUndecided)
	require.ErrorContains(t, err, `key "n": 23 operations, 22 of unknown outcome`)
}

func TestMisuseIsLoud(t *testing.T) {
	c := NewHistory(0).Put(1, "x", "a")
	require.Panics(t, func() { c.Value("a", true) }, "a put has no value to answer")
	c.OK()
	require.Panics(t, func() { c.OK() }, "a call ends once")
}

// recorder is a testing.TB that fails without failing.
type recorder struct {
	testing.TB
	dir, failure string
}

func (r *recorder) Helper()             {}
func (r *recorder) ArtifactDir() string { return r.dir }
func (r *recorder) Fatalf(format string, v ...any) {
	r.failure = fmt.Sprintf(format, v...)
	runtime.Goexit()
}

func TestRequireTellsSeedAndDraws(t *testing.T) {
	h := NewHistory(0)
	h.Put(1, "x", "a").OK()
	tick()
	h.Put(3, "x", "never answered")
	tick()
	h.Get(2, "x").Value("", false)
	r := &recorder{TB: t, dir: t.TempDir()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Require(r, h, 42)
	}()
	<-done
	picture := filepath.Join(r.dir, "violation.html")
	require.Contains(t, r.failure, "seed 42: verify: key \"x\" is not linearizable")
	require.Contains(t, r.failure, "client 2: get x -> absent")
	require.Contains(t, r.failure, picture)
	html, err := os.ReadFile(picture)
	require.NoError(t, err)
	require.Contains(t, string(html), "never answered")

	fine := NewHistory(0)
	fine.Put(1, "x", "a").OK()
	Require(t, fine, 1)
}

func TestPictureThatCannotBeWritten(t *testing.T) {
	err := violation(t, story(t, func(h *History) { h.Get(1, "x").Value("a", true) })).Draw(filepath.Join(t.TempDir(), "no", "where"))
	require.ErrorContains(t, err, `verify: picture of key "x"`)
	require.True(t, errors.Is(err, os.ErrNotExist), err)
}
