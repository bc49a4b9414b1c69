package raftlog

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A Disk is a physical log. It is safe for concurrent use.
type Disk struct {
	// Fixed after OpenDisk.
	fs    vfs.FS
	dir   string
	opts  Options
	lock  io.Closer
	store uint64 // names the store in every checksum

	wake   chan struct{} // for the flusher, capacity 1
	chores chan struct{} // for the preparer, capacity 1
	stop   chan struct{} // closed when the goroutines are to end
	wg     sync.WaitGroup
	// prepared ends the preparer before the flusher, which it waits for.
	prepared sync.WaitGroup
	preStop  chan struct{}

	// flushing is held by whoever flushes, maint by whoever scans or collects
	// segments. They are channels because they are held during I/O. Order:
	// maint, flushing, a group's mutex, mu.
	flushing chan struct{}
	maint    chan struct{}
	scratch  chan []byte // windows for reads with gaps, for the next ones

	buffered atomic.Int64  // bytes appended and not yet written
	step     atomic.Uint64 // of flushes, odd while one is under way; changed by who holds flushing
	spareNum atomic.Uint32
	stats    counters
	fatal    atomic.Pointer[failure]

	// Owned by who holds flushing.
	dirty   bool // something is written and not synced
	inUse   buffer
	current *segment // the last one written to
	synced  position // durable, without the mutex

	mu       sync.Mutex
	closed   bool              // guarded by mu
	buf      buffer            // guarded by mu
	spareBuf []byte            // guarded by mu; the next run's memory
	tail     position          // guarded by mu; where the next frame begins
	limit    int64             // guarded by mu; of the segment at the tail
	prevEnd  uint32            // guarded by mu; where the segment before it ended
	nextSize int64             // guarded by mu; of the next segment
	segs     []*segment        // guarded by mu; consecutive numbers, never empty
	spares   []spare           // guarded by mu
	written  position          // guarded by mu; written out up to here
	durable  position          // guarded by mu. Invariant: durable <= written <= tail.
	syncing  position          // guarded by mu; the latest flush that syncs makes all before it durable
	owners   map[uint64]*owner // guarded by mu
	crashes  uint64            // guarded by mu; counts Close and Crash of Logs
	cache    cache             // guarded by mu
	entries  int64             // guarded by mu; live ones of all groups
}

type failure struct{ err error }

// OpenDisk opens the physical log in dir, which is made if it does not exist,
// and recovers what it holds. It returns a *CorruptionError if stable bytes
// are damaged or missing, a *VersionError for a format from the future, and an
// error if another Disk has dir open.
func OpenDisk(fs vfs.FS, dir string, o Options) (*Disk, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	d := &Disk{
		fs: fs, dir: dir, opts: o,
		wake: make(chan struct{}, 1), chores: make(chan struct{}, 1),
		stop: make(chan struct{}), preStop: make(chan struct{}),
		flushing: make(chan struct{}, 1), maint: make(chan struct{}, 1),
		scratch:  make(chan []byte, maxScratch),
		nextSize: o.MinSegmentBytes,
		owners:   make(map[uint64]*owner),
	}
	if err := d.makeDir(); err != nil {
		return nil, err
	}
	lock, err := fs.Lock(fs.PathJoin(dir, lockName))
	if err != nil {
		return nil, fmt.Errorf("raftlog: lock %s: %w", dir, err)
	}
	d.lock = lock
	if err := d.recover(); err != nil {
		return nil, errors.Join(err, d.closeFiles(), lock.Close())
	}
	if !o.Inline {
		d.wg.Go(d.flushLoop)
		d.prepared.Go(d.prepareLoop)
		signal(d.chores)
	}
	return d, nil
}

// Log opens the logical log of an owner. It returns an error that wraps
// ErrOwned if it is open already. An owner that was closed or has crashed is
// read back from the segments, while the others go on.
func (d *Disk) Log(id uint64) (*Log, error) {
	d.maint <- struct{}{}
	defer func() { <-d.maint }()
	d.mu.Lock()
	o := d.owners[id]
	if o == nil {
		o = d.newOwner(id)
	}
	closed, open := d.closed, o.log != nil
	d.mu.Unlock()
	switch {
	case closed:
		return nil, fmt.Errorf("raftlog: open owner %d: %w", id, ErrClosed)
	case open:
		return nil, fmt.Errorf("raftlog: open owner %d: %w", id, ErrOwned)
	}
	if err := d.Err(); err != nil {
		return nil, fmt.Errorf("raftlog: open owner %d: %w", id, err)
	}
	if err := d.refresh(o); err != nil {
		return nil, fmt.Errorf("raftlog: open owner %d: %w", id, err)
	}
	l := &Log{disk: d, owner: id, state: o}
	d.mu.Lock()
	o.log = l
	d.mu.Unlock()
	o.each(func(g *Group) {
		g.mu.Lock()
		g.log = l
		g.mu.Unlock()
	})
	return l, nil
}

// Inline tells whether the caller drives the log with Flush.
func (d *Disk) Inline() bool { return d.opts.Inline }

// Buffered tells how many bytes were appended and are not yet written.
func (d *Disk) Buffered() int64 { return d.buffered.Load() }

// Err returns the error that stopped the Disk, nil while it works.
func (d *Disk) Err() error {
	if f := d.fatal.Load(); f != nil {
		return f.err
	}
	return nil
}

// fail stops the Disk. The first error stays.
func (d *Disk) fail(err error) error {
	if d.fatal.CompareAndSwap(nil, &failure{err}) {
		d.opts.Logger.Error("raftlog: stopped", "dir", d.dir, "err", err)
	}
	return d.Err()
}

// Close writes and syncs what is buffered, tells whoever waits, and releases
// the directory. Logs that are still open get ErrClosed from then on. It
// returns the error that stopped the Disk before or now.
func (d *Disk) Close() error {
	d.mu.Lock()
	again := d.closed
	d.closed = true
	d.mu.Unlock()
	if again {
		return nil
	}
	close(d.preStop)
	d.prepared.Wait()
	d.maint <- struct{}{} // what is scanned ends first
	defer func() { <-d.maint }()
	close(d.stop)
	d.wg.Wait()
	d.flush(true)
	d.seal()
	return errors.Join(d.Err(), d.closeFiles(), d.lock.Close())
}

// stopped tells whether the background work is to end.
func (d *Disk) stopped() bool {
	select {
	case <-d.preStop:
		return true
	default:
		return false
	}
}

func (d *Disk) closeFiles() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	for _, s := range d.segs {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
			s.file = nil
		}
	}
	return err
}

// counters are the figures behind Stats.
type counters struct {
	flushes, syncs, syncNanos, bytes, segmentsMade, recycled, retired, rewritten, readBack atomic.Int64
	prepared, prepareSyncs                                                                 atomic.Int64
}

// Stats are figures of a Disk since it was opened.
type Stats struct {
	Flushes  int64         // writes of the buffer
	Syncs    int64         // flushes that synced, and syncs at segment ends
	SyncTime time.Duration // spent in syncs; divide by Syncs for the mean
	Bytes    int64         // written, with headers and padding
	// PreparedBytes and PrepareSyncs are what the disk had to do beside the log
	// itself: zeros that fill files ahead of use or follow the end of a recovered
	// log, headers of segments, and syncs of these and of directories. All that
	// was written is Bytes + PreparedBytes, all syncs are Syncs + PrepareSyncs.
	PreparedBytes, PrepareSyncs int64
	// RewrittenBytes were written again by collection, ReadBytes read back
	// because the cache no longer had them.
	RewrittenBytes, ReadBytes int64
	SegmentsMade              int64 // files that became segments
	SegmentsRecycled          int64 // of them made of a file that was ready
	SegmentsRetired           int64 // that left the log

	Segments   int   // in the log now
	DiskBytes  int64 // of those segments, without spares
	LiveBytes  int64 // of live entries, states and owners' records in them
	CacheBytes int64 // bound of entries in memory that are written out
	// LiveEntries of all groups take at most IndexBytes each in memory, besides
	// the cache.
	LiveEntries int64
}

// Stats returns the figures so far.
func (d *Disk) Stats() Stats {
	c := &d.stats
	s := Stats{
		Flushes: c.flushes.Load(), Syncs: c.syncs.Load(), SyncTime: time.Duration(c.syncNanos.Load()),
		Bytes: c.bytes.Load(), RewrittenBytes: c.rewritten.Load(), ReadBytes: c.readBack.Load(),
		PreparedBytes: c.prepared.Load(), PrepareSyncs: c.prepareSyncs.Load(),
		SegmentsMade: c.segmentsMade.Load(), SegmentsRecycled: c.recycled.Load(), SegmentsRetired: c.retired.Load(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Segments, s.CacheBytes, s.LiveEntries = len(d.segs), d.cache.bytes, d.entries
	for _, seg := range d.segs {
		s.DiskBytes += seg.limit
		s.LiveBytes += seg.live
	}
	return s
}

// newStore draws the name of a store.
func newStore() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("raftlog: name a new store: %w", err)
	}
	return le.Uint64(b[:]), nil
}
