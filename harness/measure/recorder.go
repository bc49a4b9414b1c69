package measure

import (
	"sync"
	"sync/atomic"
	"time"
)

// pending is how many latencies a Recorder holds back before it takes the lock
// of its Pool: 1 KiB a client, and one lock for 128 operations.
const pending = 128

// A Pool gathers the latencies of many clients in one Histogram.
//
// A histogram of its own for every client would be the obvious way, and is a
// poor one: each takes a quarter of a megabyte, 256 of them raise the live heap
// by 60 MB, and the collector of the process under test then runs at a
// different pace. Clients share one and buffer in front of it.
//
// The zero value is ready for use.
type Pool struct {
	watched bool // fixed before the first Recorder

	mu        sync.Mutex
	h         Histogram   // guarded by mu
	interval  *tally      // guarded by mu; nil unless watched
	recorders []*Recorder // guarded by mu; empty unless watched
}

// Watch lets p be read while it is recorded into: Interval and Quantiles then
// see every latency noted so far. It makes a Record dearer by some nanoseconds,
// and must come before the first Recorder.
func (p *Pool) Watch() {
	p.watched = true
	p.interval = newTally()
}

// Recorder returns a recorder for one client. The first takes the memory of the
// Histogram, a quarter of a megabyte: left to the first flush, it would fall into
// the warm-up or into the measured part, by how many operations there are.
func (p *Pool) Recorder() *Recorder {
	r := &Recorder{pool: p, watched: p.watched}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.h.hdr == nil {
		p.h.hdr = newHDR()
	}
	if p.watched {
		p.recorders = append(p.recorders, r)
	}
	return r
}

// Histogram returns the latencies flushed so far. The caller must not use it
// while a Recorder of p is in use.
func (p *Pool) Histogram() *Histogram { return &p.h }

// Interval returns the latencies noted since the last call and how many
// operations failed, and forgets them for the next. The Histogram of p keeps
// them. p must be watched.
func (p *Pool) Interval() (c Capture, failed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	failed = p.gather()
	return p.interval.capture(), failed
}

// Quantiles returns the count, the sum in nanoseconds and, one for each of qs
// in increasing order, the quantiles of everything noted so far. p must be
// watched. Clients that flush meanwhile wait for 5 us, the time of one pass over
// the buckets; a copy to look at afterwards would cost them five times that.
func (p *Pool) Quantiles(qs []float64) (count int64, sum float64, values []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.recorders {
		r.hand()
	}
	return p.h.count, p.h.sum, p.h.Quantiles(qs)
}

// Failed returns how many operations failed since the last Reset. p must be
// watched.
func (p *Pool) Failed() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.recorders {
		n += r.failed.Load() - r.forgotten
	}
	return n
}

// gather takes what the recorders hold back, and returns the failures since the
// last time.
func (p *Pool) gather() (failed int64) {
	for _, r := range p.recorders {
		r.hand()
		n := r.failed.Load()
		failed += n - r.told
		r.told = n
	}
	return failed
}

// Reset forgets everything, which the end of a warm-up wants. Nobody may record
// meanwhile, and what recorders still hold back they must discard themselves.
func (p *Pool) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.recorders {
		r.told = r.failed.Load()
		r.forgotten = r.told
	}
	p.h.Reset()
	if p.interval != nil {
		p.interval.capture()
	}
}

// note adds one latency. The caller holds mu.
func (p *Pool) note(d time.Duration) {
	p.h.Record(d)
	if p.interval != nil {
		p.interval.add(d)
	}
}

// A Recorder records the latencies of one client. It belongs to one goroutine.
type Recorder struct {
	pool    *Pool
	watched bool
	n       int
	buf     [pending]time.Duration

	// A watched pool reads buf while its owner writes on. seen says how far
	// that is safe, handed how far it was read already.
	// Invariant: handed <= seen <= n.
	seen   atomic.Int32
	handed int32 // guarded by pool.mu

	failed atomic.Int64
	// Guarded by pool.mu: failures that the pool has handed on, and those among
	// them that came before a Reset.
	told, forgotten int64
}

// Record notes one latency. It reports whether it flushed, which takes a
// microsecond or two: a caller that chains clock readings must read the clock
// again, or the next operation would be charged for it.
func (r *Recorder) Record(d time.Duration) (flushed bool) {
	r.buf[r.n] = d
	r.n++
	if r.watched {
		r.seen.Store(int32(r.n))
	}
	if r.n < pending {
		return false
	}
	r.Flush()
	return true
}

// Fail notes an operation that failed. Its latency must not be recorded.
func (r *Recorder) Fail() {
	if r.watched {
		r.failed.Add(1)
	}
}

// Flush hands everything noted so far to the Pool.
func (r *Recorder) Flush() {
	if r.n == 0 {
		return
	}
	r.pool.mu.Lock()
	for _, d := range r.buf[r.handed:r.n] {
		r.pool.note(d)
	}
	r.empty()
	r.pool.mu.Unlock()
}

// Discard forgets what was noted and not yet flushed.
func (r *Recorder) Discard() {
	r.pool.mu.Lock()
	r.empty()
	r.pool.mu.Unlock()
}

// hand notes what the owner has written and nobody read. The caller holds
// pool.mu and need not be the owner.
func (r *Recorder) hand() {
	seen := r.seen.Load()
	for _, d := range r.buf[r.handed:seen] {
		r.pool.note(d)
	}
	r.handed = seen
}

// empty begins the buffer anew. The caller holds pool.mu and is the owner.
func (r *Recorder) empty() {
	r.n, r.handed = 0, 0
	r.seen.Store(0)
}
