package lock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A walk is a random schedule: what each owner does next is chosen by a seed, and the
// invariants are checked after every step. Requests are put into line without waiting
// for them, so that every step is known.
type walk struct {
	t        *testing.T
	r        *rand.Rand
	table    *Table
	parallel bool // an owner may have several requests under way
	waits    map[int][]*wait
	ended    map[int]bool // was told to give up
	ready    map[int]bool // has prepared, and asks for no more
	round    int
}

const (
	walkOwners = 6
	walkKeys   = 4
)

func (w *walk) key() string { return string(rune('a' + w.r.IntN(walkKeys))) }

// fatal reports whether an owner has lost its locks.
func fatal(err error) bool {
	var wounded *WoundedError
	var deadlock *DeadlockError
	return errors.As(err, &wounded) || errors.As(err, &deadlock)
}

// note takes in what requests have come to.
func (w *walk) note() {
	for i, list := range w.waits {
		var left []*wait
		for _, x := range list {
			if x.queued {
				left = append(left, x)
				continue
			}
			require.Len(w.t, x.ready, 1)
			w.told(i, x.err)
		}
		w.waits[i] = left
	}
}

// told takes in an error: an owner that has lost its locks, or was refused, gives up.
func (w *walk) told(i int, err error) {
	if err != nil && (fatal(err) || w.table.o.Policy != Detect) {
		w.ended[i] = true
	}
}

func (w *walk) step() {
	i := w.r.IntN(walkOwners)
	who := txn(i)
	waits := len(w.waits[i]) > 0
	before := w.locks(i)
	switch action := w.r.IntN(20); {
	case w.ended[i] || action == 0:
		w.end(i)
	case waits && action == 1:
		x := w.waits[i][0]
		w.table.mu.Lock()
		w.table.end(x, context.Canceled)
		w.table.unlock()
		if !w.parallel { // else another one may have been behind this one
			require.Equal(w.t, before, w.locks(i), "what it had it still has")
		}
	case w.ready[i] || waits && !w.parallel:
	case action == 2:
		w.told(i, w.table.Prepare(who, Exclusive+Mode(w.r.IntN(2)), w.key()))
		w.ready[i] = w.table.owners[who] != nil && w.table.owners[who].prepared > 0
		w.cancel(i)
	case action == 3 && !waits:
		err := w.table.Restore(who, Exclusive+Mode(w.r.IntN(2)), w.key())
		w.ready[i] = err == nil
	case action == 4:
		w.table.Release(who, w.key(), w.key())
	default:
		w.table.mu.Lock()
		x, err := w.table.ask(who, w.key(), Shared+Mode(w.r.IntN(4)))
		w.table.unlock()
		if x != nil {
			w.waits[i] = append(w.waits[i], x)
		}
		w.told(i, err)
		if err != nil && !fatal(err) && !w.parallel {
			require.Equal(w.t, before, w.locks(i), "%v", err)
		}
	}
	w.note()
}

// cancel ends the requests of an owner.
func (w *walk) cancel(i int) {
	if !w.ready[i] {
		return
	}
	for _, x := range w.waits[i] {
		if x.queued {
			w.table.mu.Lock()
			w.table.end(x, context.Canceled)
			w.table.unlock()
		}
	}
}

// end ends a transaction. The next one of this number has its age.
func (w *walk) end(i int) {
	for _, x := range w.waits[i] {
		if x.queued {
			w.table.mu.Lock()
			w.table.end(x, context.Canceled)
			w.table.unlock()
		}
	}
	w.table.ReleaseAll(txn(i))
	w.table.Forget(txn(i))
	w.ended[i], w.ready[i] = false, false
}

// locks is what an owner has.
func (w *walk) locks(i int) string {
	s := ""
	for k := range walkKeys {
		s += fmt.Sprint(w.table.Held(txn(i), string(rune('a'+k))), " ")
	}
	return s
}

// finish lets all go on that can, until nobody waits: who waits for nobody else ends.
func (w *walk) finish() {
	for step := 0; ; step++ {
		require.Less(w.t, step, 10*walkOwners, "round %d: nobody goes on", w.round)
		waiting := false
		for i := range walkOwners {
			w.note()
			if len(w.waits[i]) == 0 || w.ended[i] || w.ready[i] {
				w.end(i)
				require.NoError(w.t, w.table.check(), "round %d", w.round)
			} else {
				waiting = true
			}
		}
		if w.note(); !waiting {
			return
		}
	}
}

// Under every policy, whatever owners do in whatever order, the invariants hold after
// every step, prepared owners are not wounded, and all come to an end.
func TestWalk(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	for policy := WoundWait; policy <= Detect; policy++ {
		for _, parallel := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/parallel=%v", policy, parallel), func(t *testing.T) {
				for round := range 150 {
					w := &walk{
						t: t, r: rand.New(rand.NewPCG(seed, uint64(round))), parallel: parallel, round: round,
						waits: map[int][]*wait{}, ended: map[int]bool{}, ready: map[int]bool{},
					}
					w.table = newTable(t, Options{
						Policy: policy,
						Wounded: func(owner, _ id.Key) {
							require.False(t, w.ready[int(owner.Seq)], "round %d: %v was prepared", round, owner)
						},
					})
					for step := range 150 {
						w.step()
						require.NoError(t, w.table.check(), "round %d, step %d", round, step)
					}
					w.finish()
					require.NoError(t, w.table.check())
					require.Empty(t, w.table.owners)
					require.Empty(t, w.table.keys)
				}
			})
		}
	}
}

// Transactions run in goroutines and take locks in random orders. Every one of them is
// done at last, since it keeps its age, no lock is had by two, and nothing is left.
func TestConcurrentTransactions(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	for policy := WoundWait; policy <= Detect; policy++ {
		t.Run(policy.String(), func(t *testing.T) {
			table := newTable(t, Options{Policy: policy})
			counters := make([]int, walkKeys) // each under its key's lock
			var total [walkKeys]int
			var mu sync.Mutex // of total
			var work sync.WaitGroup
			for g := range 6 {
				work.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(g)))
					for n := range 60 {
						keys := r.Perm(walkKeys)[:1+r.IntN(3)]
						for !attempt(t, table, txn(1+g+n*10), keys, counters) {
						}
						mu.Lock()
						for _, k := range keys {
							total[k]++
						}
						mu.Unlock()
					}
				})
			}
			work.Wait()
			require.Equal(t, total[:], counters)
			require.NoError(t, table.check())
			require.Empty(t, table.owners)
			require.Empty(t, table.keys)
			require.Empty(t, table.ended.of)
		})
	}
}

// attempt runs a transaction that adds one to counters, and reports whether it is done.
func attempt(t *testing.T, table *Table, who id.Key, keys []int, counters []int) bool {
	defer table.Forget(who)
	defer table.ReleaseAll(who)
	for i, k := range keys {
		mode := Exclusive
		if i%2 == 1 {
			mode = Shared // and upgraded below
		}
		if err := table.Acquire(t.Context(), who, string(rune('a'+k)), mode); err != nil {
			return false
		}
	}
	for _, k := range keys {
		if table.Acquire(t.Context(), who, string(rune('a'+k)), Exclusive) != nil {
			return false
		}
	}
	var names []string
	for _, k := range keys {
		names = append(names, string(rune('a'+k)))
	}
	if table.Prepare(who, Exclusive, names...) != nil {
		return false
	}
	for _, k := range keys {
		counters[k]++
	}
	return true
}
