package measure

import (
	"sync"
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
	mu sync.Mutex
	h  Histogram // guarded by mu
}

// Recorder returns a recorder for one client.
func (p *Pool) Recorder() *Recorder { return &Recorder{pool: p} }

// Histogram returns the latencies flushed so far. The caller must not use it
// while a Recorder of p is in use.
func (p *Pool) Histogram() *Histogram { return &p.h }

// A Recorder records the latencies of one client. It belongs to one goroutine.
type Recorder struct {
	pool *Pool
	n    int
	buf  [pending]time.Duration
}

// Record notes one latency. It reports whether it flushed, which takes a
// microsecond or two: a caller that chains clock readings must read the clock
// again, or the next operation would be charged for it.
func (r *Recorder) Record(d time.Duration) (flushed bool) {
	r.buf[r.n] = d
	r.n++
	if r.n < pending {
		return false
	}
	r.Flush()
	return true
}

// Flush hands everything noted so far to the Pool.
func (r *Recorder) Flush() {
	if r.n == 0 {
		return
	}
	r.pool.mu.Lock()
	for _, d := range r.buf[:r.n] {
		r.pool.h.Record(d)
	}
	r.pool.mu.Unlock()
	r.n = 0
}

// Discard forgets what was noted and not yet flushed.
func (r *Recorder) Discard() { r.n = 0 }
