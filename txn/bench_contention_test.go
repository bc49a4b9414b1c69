package txn_test

import (
	"math"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/lock"
)

// contenders is how many clients are in each other's way.
const contenders = 64

// BenchmarkContention asks what is left of the throughput where 64 clients want the same
// rows: each transaction locks, reads and writes two of 10,000 that are spread over 20
// shards, row i with a probability in proportion to 1/(i+1)^theta. ops/s are those that
// committed; beside it the line has retries/op and aborts/op, how often a transaction is
// begun again and how often one ends in nothing; wait-ns, the time to get both locks,
// the messages included; and fairness, Jain's index of what the clients got done: 1 if
// all did the same, 1/64 if one did it all. Rows are locked as they were drawn, so that
// two transactions can each wait for the other.
//
//	go test -run='^$' -bench=Contention -count=10 ./txn
func BenchmarkContention(b *testing.B) {
	type point struct {
		theta  float64
		policy lock.Policy
	}
	few := []point{
		{0, lock.WoundWait}, {0.6, lock.WoundWait}, {0.9, lock.WoundWait}, {0.99, lock.WoundWait}, {1.2, lock.WoundWait},
		{0.99, lock.WaitDie}, {0.99, lock.NoWait}, {0.99, lock.Detect},
	}
	var all []point
	for _, theta := range []float64{0, 0.6, 0.9, 0.99, 1.2} {
		for policy := lock.WoundWait; policy <= lock.Detect; policy++ {
			all = append(all, point{theta, policy})
		}
	}
	for _, p := range harness.Points(few, all) {
		b.Run(harness.Name("theta", p.theta, "policy", p.policy), func(b *testing.B) {
			w := bootBench(b, benchSetup{participant: func(o *txn.Options) { o.Policy = p.policy }})
			rows := newZipf(10_000, p.theta)
			l := workload{
				spec: harness.Spec{Clients: contenders}, options: txn.ClientOptions{MaxTries: 1000}, level: isolation.Serializable,
				op: func(k *worker) error { return w.contend(k, rows) },
			}
			workers := w.hire(&l)
			var m strife
			l.after = func() { m = strifeOf(workers) }
			r := w.measure(b, l, workers)
			if r.Invalid == "" {
				m.report(b, r)
			}
		})
	}
}

// contend writes two rows.
func (w *bench) contend(k *worker, rows zipf) error {
	x, y := rows.draw(k.rand), rows.draw(k.rand)
	for y == x {
		y = rows.draw(k.rand)
	}
	return k.run(txn.TxOptions{}, func(s *session) error {
		for _, i := range []int{x, y} {
			key := w.key(i%len(w.ids), i)
			began := time.Now()
			_, _, err := s.lock(key)
			k.waited += time.Since(began)
			if err != nil {
				return err
			}
			if err := s.put(key, row); err != nil {
				return err
			}
		}
		return nil
	})
}

// A strife is what it cost clients to be in each other's way.
type strife struct {
	tries, done int64
	waited      time.Duration
	fairness    float64
}

func strifeOf(workers []*worker) (m strife) {
	squares := 0.0
	for _, k := range workers {
		m.tries += k.tries
		m.done += k.done
		m.waited += k.waited
		squares += float64(k.done) * float64(k.done)
	}
	m.fairness = float64(m.done) * float64(m.done) / max(squares*float64(len(workers)), 1)
	return m
}

func (m *strife) report(b *testing.B, r harness.Result) {
	b.Helper()
	ops := float64(r.Ops)
	b.ReportMetric((float64(m.tries)-ops)/ops, "retries/op")
	b.ReportMetric(float64(m.tries-m.done)/ops, "aborts/op")
	b.ReportMetric(float64(m.waited)/ops, "wait-ns")
	b.ReportMetric(m.fairness, "fairness")
}

// A zipf draws numbers from 0 with a probability in proportion to 1/(i+1)^theta, for any
// theta. It holds the sums of these up to each number.
type zipf []float64

func newZipf(n int, theta float64) zipf {
	z := make(zipf, n)
	sum := 0.0
	for i := range z {
		sum += math.Pow(float64(i+1), -theta)
		z[i] = sum
	}
	return z
}

func (z zipf) draw(r *rand.Rand) int {
	return min(sort.SearchFloat64s(z, r.Float64()*z[len(z)-1]), len(z)-1)
}
