package txn_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
)

// A workload is what the clients of a case do.
type workload struct {
	spec    harness.Spec // of the measured part
	options txn.ClientOptions
	level   isolation.Level // that the history of the other part is held against
	op      func(k *worker) error
	after   func() // right behind the measured part; default: nothing
	// check, where there is one, is in place of the recorded part: it returns for how
	// many transactions it can tell that nothing is wrong.
	check func() int
}

// A worker is a client of a case. It does the same in two parts: in the first it is
// measured, in the second what it reads and writes is recorded. Nothing of the first
// pays for recording.
type worker struct {
	id      int
	c       *txn.Client
	numbers *atomic.Uint64
	audit   *audit // nil while it is measured

	ctx  context.Context
	rand *rand.Rand
	kind int // in spec.Mix

	done, tries int64         // since the measured part began
	waited      time.Duration // for locks, since then
	money       int64         // that it has brought, since it was hired
}

// A session is a transaction of a worker.
type session struct {
	*txn.Tx
	k *worker
	h *isolation.Txn // nil while it is measured
}

// hire returns the workers of a case, on all nodes alike.
func (w *bench) hire(l *workload) []*worker {
	numbers := new(atomic.Uint64)
	clients := make([]*txn.Client, len(w.Nodes()))
	for i := range clients {
		clients[i] = w.client(i+1, l.options)
	}
	workers := make([]*worker, l.spec.Clients)
	for i := range workers {
		workers[i] = &worker{id: i, c: clients[i%len(clients)], numbers: numbers, ctx: w.t.Context()}
	}
	return workers
}

// measure has workers do their work, measured, and then a part of it again, recorded
// and checked: verified-ops is how many transactions committed in that. A line comes
// only if nothing is wrong with them.
func (w *bench) measure(b *testing.B, l workload, workers []*worker) harness.Result {
	b.Helper()
	first := l.spec.Start
	l.spec.Start = func() {
		for _, k := range workers {
			k.done, k.tries, k.waited = 0, 0, 0
		}
		if first != nil {
			first()
		}
	}
	l.spec.Counters = w.counters
	r := harness.Run(b, l.spec, func(cl *harness.Client) error {
		k := workers[cl.ID]
		k.ctx, k.rand, k.kind = cl.Context, cl.Rand, cl.Kind
		err := l.op(k)
		if err == nil {
			k.done++
		}
		return err
	})
	if l.after != nil {
		l.after()
	}
	verified := 0
	if l.check != nil {
		verified = l.check()
	} else {
		verified = w.verify(b, &l, workers, r.Ops)
	}
	if r.Invalid == "" {
		b.ReportMetric(float64(verified), "verified-ops")
	}
	return r
}

// verify is the part that is recorded: about as many operations as were measured, by
// the same clients from the same seed.
func (w *bench) verify(b *testing.B, l *workload, workers []*worker, ops int) int {
	b.Helper()
	most := 4000
	if harness.Quick() {
		most = 400
	}
	each := (max(min(ops, most), 50) + len(workers) - 1) / len(workers)
	a := &audit{began: time.Now(), first: workers[0].numbers.Load() + 1}
	errs := make([]error, len(workers))
	var work sync.WaitGroup
	for i, k := range workers {
		k.audit, k.ctx = a, b.Context()
		k.rand = rand.New(rand.NewPCG(harness.Seed(), uint64(k.id)))
		work.Go(func() {
			for range each {
				if l.spec.Mix.Len() > 0 {
					k.kind = l.spec.Mix.Pick(k.rand)
				}
				if err := l.op(k); err != nil {
					errs[i] = err
				}
			}
		})
	}
	work.Wait()
	committed, err := a.check(l.level)
	if err != nil {
		b.Fatalf("%v; the last errors of clients: %v", err, errors.Join(errs...))
	}
	if committed == 0 {
		b.Fatalf("none of %d transactions committed: %v", each*len(workers), errors.Join(errs...))
	}
	return committed
}

// run runs fn in a transaction, as often as it takes.
func (k *worker) run(o txn.TxOptions, fn func(*session) error) error {
	var h *isolation.Txn
	var own error          // of fn
	began := k.audit.now() // before the transaction has its timestamp
	tell := func(e error) error { own = e; began = k.audit.now(); return e }
	err := k.c.Run(k.ctx, o, func(tx *txn.Tx) error {
		k.tries++
		k.audit.end(h, isolation.Aborted) // which is why it is tried again
		h = k.audit.begin(k.id, began)
		return tell(fn(&session{Tx: tx, k: k, h: h}))
	})
	var aborted *txn.AbortedError
	switch {
	case err == nil:
		k.audit.end(h, isolation.Committed)
	case own != nil || errors.As(err, &aborted):
		k.audit.end(h, isolation.Aborted)
	default:
		k.audit.end(h, isolation.Unknown)
	}
	return err
}

// recorded says whether what is done is for the checker. Then a case may draw from
// fewer keys, so that transactions meet.
func (k *worker) recorded() bool { return k.audit != nil }

// latest reads all that has been answered. Others may read what was before, if their
// node's clock has not come to the timestamp of what others have committed.
var latest = txn.TxOptions{Set: true, Level: txn.Strict, ReadOnly: true}

// numberBytes begin every value: a number that no other value has.
const numberBytes = 8

// get returns what is in a row, and false if there is none.
func (s *session) get(key string) ([]byte, bool, error) { return s.noted(key, s.Get) }

// lock is get of a row that is going to be written.
func (s *session) lock(key string) ([]byte, bool, error) { return s.noted(key, s.GetForUpdate) }

func (s *session) noted(key string, get func(context.Context, string) ([]byte, bool, error)) ([]byte, bool, error) {
	b, there, err := get(s.k.ctx, key)
	if err != nil {
		return nil, false, err
	}
	number := uint64(0)
	if there {
		if len(b) < numberBytes {
			return nil, false, fmt.Errorf("row %q has %d bytes, expected %d or more", key, len(b), numberBytes)
		}
		number, b = binary.BigEndian.Uint64(b), b[numberBytes:]
	}
	if s.h != nil {
		s.h.Ops = append(s.h.Ops, isolation.Op{Kind: isolation.Read, Key: key, Value: number})
	}
	return b, there, nil
}

// put writes a row.
func (s *session) put(key string, payload []byte) error {
	number := s.k.numbers.Add(1)
	b := binary.BigEndian.AppendUint64(make([]byte, 0, numberBytes+len(payload)), number)
	if err := s.Put(key, append(b, payload...)); err != nil {
		return err
	}
	if s.h != nil {
		s.h.Ops = append(s.h.Ops, isolation.Op{Kind: isolation.Write, Key: key, Value: number})
	}
	return nil
}

// overwrite writes a row that it does not care about. Where it is recorded it reads the
// row before: of blind writes nobody could say in which order they came.
func (s *session) overwrite(key string, payload []byte) error {
	if s.h != nil {
		if _, _, err := s.get(key); err != nil {
			return err
		}
	}
	return s.put(key, payload)
}
