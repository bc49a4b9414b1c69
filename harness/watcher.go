package harness

import (
	"sync"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
)

const (
	// shortestInterval keeps the cost of watching, some 20 us an interval,
	// out of the figures.
	shortestInterval = 100 * time.Millisecond
	// wantedIntervals is how many a run of known length is cut into.
	wantedIntervals = 200
	// maxIntervals bounds the memory of a run of unknown length: beyond it
	// neighbours are joined, and intervals are twice as long from then on.
	maxIntervals = 2 * wantedIntervals
)

// A track is a pool of latencies that a run fills. Its tag names a kind of
// operation; the run's own track has none.
type track struct {
	tag  string
	pool *measure.Pool
}

// A watcher follows one benchmark through its measured part: a reading of
// everything at both ends and at the end of each interval between.
type watcher struct {
	// Fixed at the start.
	b      *testing.B
	ledger *ledger
	spec   *Spec
	tracks []track
	first  time.Duration // length of an interval at the start
	// perLoop says that nobody but the benchmark's goroutine may read the
	// system's counters, since its operations replace parts of the system.
	perLoop bool
	profile *profiler

	mu       sync.Mutex // guards the rest until the run has stopped
	began    time.Time  // zero between watch and start
	meters   *measure.Meters
	scrape   *measure.Snapshot // for live metrics
	interval time.Duration
	rows     []row // the first is the start
	spare    []*measure.Snapshot
	held     int // bytes of the captures in rows
	stopped  bool
	asking   sync.WaitGroup // scrapes that are calling Counters; grows under mu until stopped

	halt chan struct{} // closed to end the goroutine; nil without one
	done chan struct{}

	// Written by the benchmark's goroutine after the run.
	elapsed  time.Duration
	invalid  string // why the sample must not be used
	kinds    []artifact.Kind
	findings []artifact.Finding
}

// A row is the state at the end of an interval. Totals stay totals until the
// end, so that two rows are joined by dropping the first.
type row struct {
	at       time.Duration
	snapshot *measure.Snapshot
	counters Counters
	disk     diskUse
	captures []measure.Capture
	failed   []int64
	held     int // bytes of the captures before, which are in the heap that was read
}

// size returns the bytes that r adds to the heap; the rest of it was there
// before the run.
func (r *row) size() (n int) {
	for i := range r.captures {
		n += r.captures[i].Size()
	}
	return n
}

// watch begins to follow b, or returns nil when nobody wants to know. It must
// come before anything is counted for the line, because it allocates.
func watch(b *testing.B, s *Spec, perLoop bool, tracks ...track) *watcher {
	l := evidence.Load()
	if l == nil {
		return nil
	}
	_, length := benchtime()
	w := &watcher{
		b: b, ledger: l, spec: s, tracks: tracks, perLoop: perLoop,
		interval: max(shortestInterval, length/wantedIntervals),
		meters:   measure.OpenMeters(),
	}
	w.first = w.interval
	w.scrape = w.meters.NewSnapshot()
	// b.Loop runs up to a fifth longer than asked.
	rows := min(int(length+length/4)/int(w.interval)+4, maxIntervals)
	for range rows {
		w.spare = append(w.spare, w.meters.NewSnapshot())
	}
	w.rows = make([]row, 0, maxIntervals+1)
	l.adopt(w)
	w.profile = startProfiles(b, l)
	return w
}

// adopt makes w the watcher of its benchmark. A run that is repeated within its
// benchmark replaces the one before.
func (l *ledger) adopt(w *watcher) {
	l.mu.Lock()
	before := l.open[w.b]
	l.open[w.b] = w
	l.mu.Unlock()
	if before != nil {
		before.stop()
		before.meters.Close()
		return
	}
	b := w.b
	b.Cleanup(func() {
		l.mu.Lock()
		last := l.open[b]
		delete(l.open, b)
		l.mu.Unlock()
		last.stop()
		last.finish()
	})
}

// start takes the first reading and, unless the loop itself brings the others,
// starts the goroutine that does.
func (w *watcher) start() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.began = time.Now()
	w.mu.Unlock()
	w.take()
	if w.perLoop {
		return
	}
	w.halt, w.done = make(chan struct{}), make(chan struct{})
	go w.follow()
}

// follow takes a reading at the end of each interval.
func (w *watcher) follow() {
	defer close(w.done)
	ticker := time.NewTicker(w.first)
	defer ticker.Stop()
	for {
		select {
		case <-w.halt:
			return
		case <-ticker.C:
			if longer, changed := w.take(); changed {
				ticker.Reset(longer)
			}
		}
	}
}

// breathe takes a reading if one is due. Loops that are watched without a
// goroutine call it between operations.
func (w *watcher) breathe() {
	if w == nil {
		return
	}
	w.mu.Lock()
	due := time.Since(w.began)-w.rows[len(w.rows)-1].at >= w.interval
	w.mu.Unlock()
	if due {
		w.take()
	}
}

// take adds a row. When there is no room it joins the rows in pairs and returns
// the interval that now applies.
func (w *watcher) take() (interval time.Duration, changed bool) {
	var c Counters
	if w.spec.Counters != nil {
		c = w.spec.Counters()
	}
	disk := w.diskUsed()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rows) == cap(w.rows) {
		w.join()
		changed = true
	}
	r := row{snapshot: w.room(), counters: c, disk: disk, held: w.held}
	w.meters.Read(r.snapshot)
	r.at = r.snapshot.At.Sub(w.began)
	for _, t := range w.tracks {
		capture, failed := t.pool.Interval()
		r.captures = append(r.captures, capture)
		r.failed = append(r.failed, failed)
	}
	w.rows = append(w.rows, r)
	w.held += r.size()
	return w.interval, changed
}

// room returns a snapshot to read into.
func (w *watcher) room() *measure.Snapshot {
	if n := len(w.spare); n > 0 {
		s := w.spare[n-1]
		w.spare = w.spare[:n-1]
		return s
	}
	return w.meters.NewSnapshot()
}

// join halves the number of intervals, which is even when there is no room for
// more. The first row is the start and stays.
func (w *watcher) join() {
	kept := 1
	for i := 1; i+1 < len(w.rows); i += 2 {
		early, late := &w.rows[i], w.rows[i+1]
		for t := range late.captures {
			late.captures[t].Add(early.captures[t])
			late.failed[t] += early.failed[t]
		}
		w.spare = append(w.spare, early.snapshot)
		w.rows[kept] = late
		kept++
	}
	clear(w.rows[kept:])
	w.rows = w.rows[:kept]
	w.held = 0
	for i := range w.rows {
		w.held += w.rows[i].size()
	}
	w.interval *= 2
}

// stop takes the last reading and ends the goroutine. It may be called twice.
func (w *watcher) stop() {
	if w == nil || w.stopped {
		return
	}
	if w.halt != nil {
		close(w.halt)
		<-w.done
	}
	if !w.began.IsZero() {
		w.take()
	}
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.asking.Wait() // the benchmark may close its system now
	if err := w.profile.stop(); err != nil {
		w.ledger.complain(w.b, err)
	}
}
