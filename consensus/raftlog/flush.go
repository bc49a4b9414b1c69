package raftlog

import (
	"fmt"
	"time"
)

// keepBufferBytes bounds the memory that a buffer keeps between flushes.
const keepBufferBytes = 4 << 20

// Flush writes everything that is buffered, syncs it if a Completion waits,
// and delivers completions on this goroutine, in order. It is how a Disk with
// Inline moves on; without Inline it does the same ahead of the flusher. Safe
// from several goroutines: a call that finds another one under way waits for
// it and then flushes what is left. It returns the error that stopped the
// Disk, if any. Completions must not call it.
func (d *Disk) Flush() error {
	d.flush(false)
	if d.opts.Inline && d.worthCollecting() {
		select {
		case d.maint <- struct{}{}:
			d.collect()
			<-d.maint
		default: // somebody scans or collects; the next Flush looks again
		}
	}
	return d.Err()
}

// flushLoop is the flusher.
func (d *Disk) flushLoop() {
	for {
		select {
		case <-d.wake:
			d.flush(false)
			if d.worthCollecting() {
				signal(d.chores)
			}
		case <-d.stop:
			return // Close does the last flush
		}
	}
}

// flush writes the buffer, syncs if somebody waits or force says so, and
// delivers. A buffer fills while the one before it is written.
func (d *Disk) flush(force bool) {
	d.flushing <- struct{}{}
	d.advance(true)
	defer func() {
		d.advance(false)
		<-d.flushing
	}()
	d.mu.Lock()
	d.closeFrame()
	b := d.buf
	if b.sync || force {
		d.syncing = d.tail
	}
	d.buf = buffer{runs: d.inUse.runs[:0], waiters: d.inUse.waiters[:0]}
	d.mu.Unlock()

	err := d.Err()
	if err == nil {
		err = d.write(b.runs, b.sync || force)
		if err != nil {
			err = d.fail(err)
		}
	}
	for _, w := range b.waiters {
		if w.log == nil || !w.log.dead.Load() {
			w.done.Written(err)
		}
	}
	d.recycle(b)
	d.evict()
}

// advance notes a step of a flush, or its end.
func (d *Disk) advance(busy bool) {
	n := d.step.Load() | 1
	if busy {
		n += 2
	} else {
		n++
	}
	d.step.Store(n)
}

// Progress tells whether a flush is under way, and a number that changes with
// every step it takes: a busy log whose number stays the same stands still.
func (d *Disk) Progress() (step uint64, busy bool) {
	n := d.step.Load()
	return n, n&1 == 1
}

// recycle keeps the memory of a buffer for the one after next.
func (d *Disk) recycle(b buffer) {
	var largest []byte
	var bytes int64
	for i := range b.runs {
		r := &b.runs[i]
		for _, f := range r.frames {
			bytes += int64(le.Uint32(r.buf[f.at+4:]))
		}
		if cap(r.buf) > cap(largest) && cap(r.buf) <= keepBufferBytes {
			largest = r.buf
		}
	}
	d.buffered.Add(-bytes)
	clear(b.waiters)
	clear(b.runs)
	d.inUse = b
	d.mu.Lock()
	if cap(largest) > cap(d.spareBuf) {
		d.spareBuf = largest
	}
	d.mu.Unlock()
}

// write brings runs to their segments.
func (d *Disk) write(runs []run, sync bool) error {
	bytes, start := 0, time.Now()
	synced := d.stats.syncs.Load()
	for i := range runs {
		r := &runs[i]
		d.advance(true)
		if err := d.enter(r.at.seg); err != nil {
			return err
		}
		d.stamp(r)
		if _, err := d.current.file.WriteAt(r.buf, int64(r.at.off)); err != nil {
			return fmt.Errorf("raftlog: write %d bytes to segment %d at offset %d: %w", len(r.buf), r.at.seg, r.at.off, err)
		}
		d.dirty = true
		bytes += len(r.buf)
		d.mu.Lock()
		d.written = position{r.at.seg, r.at.off + uint32(len(r.buf))}
		d.mu.Unlock()
	}
	if sync {
		d.advance(true)
		if err := d.sync(); err != nil {
			return err
		}
	}
	if bytes > 0 {
		d.stats.flushes.Add(1)
		d.stats.bytes.Add(int64(bytes))
	}
	if synced != d.stats.syncs.Load() || bytes > 0 {
		d.delay(bytes, synced != d.stats.syncs.Load(), start)
	}
	return nil
}

// delay sleeps the simulated latency of a write that began at start.
func (d *Disk) delay(bytes int, synced bool, start time.Time) {
	if d.opts.Delay == nil {
		return
	}
	wait := d.opts.Delay(bytes, synced) - time.Since(start)
	if wait <= 0 {
		return
	}
	time.Sleep(wait)
	if synced {
		d.stats.syncNanos.Add(int64(wait))
	}
}

// enter makes a segment the current one. The one before it is synced first,
// also if nobody waits: what a frame states as durable spans segments, and
// recovery syncs none but the last.
func (d *Disk) enter(num uint32) error {
	d.mu.Lock()
	s := d.segment(num)
	d.mu.Unlock()
	if d.current == s {
		return nil
	}
	if err := d.sync(); err != nil {
		return err
	}
	if err := d.makeSegment(s); err != nil {
		return err
	}
	d.current = s
	return nil
}

// stamp completes the headers of a run's frames.
func (d *Disk) stamp(r *run) {
	for _, f := range r.frames {
		b := r.buf[f.at:]
		frameHeader{
			length: le.Uint32(b[4:]), records: le.Uint32(b[8:]),
			prevEnd: r.prevEnd, durable: d.synced,
		}.encode(b, d.store, position{r.at.seg, r.at.off + uint32(f.at)})
	}
}

// sync makes everything written durable. There is no second try: a kernel
// that reported an error may have dropped the pages that it could not write.
func (d *Disk) sync() error {
	if !d.dirty {
		return nil
	}
	start := time.Now()
	if err := d.current.file.SyncData(); err != nil {
		return fmt.Errorf("raftlog: sync segment %d: %w", d.current.num, err)
	}
	d.stats.syncNanos.Add(int64(time.Since(start)))
	d.stats.syncs.Add(1)
	d.dirty = false
	d.mu.Lock()
	d.durable = d.written
	d.synced = d.written
	d.mu.Unlock()
	return nil
}

// seal ends the log with an empty frame that states all before it as durable,
// so that damage to the last writes is told from a torn end.
func (d *Disk) seal() {
	d.mu.Lock()
	virgin := d.written == position{d.segs[0].num, segmentHeaderBytes}
	if !virgin {
		d.room(0)
	}
	d.mu.Unlock()
	if !virgin && d.Err() == nil {
		d.flush(true)
	}
}

// A batch is a row of entries that the cache holds.
type batch struct {
	g     *Group
	first uint64
	n     int
	bytes int64
	last  position // of the last entry
}

// A cache remembers which entries are in memory, oldest first. It counts what
// was put in; entries that were cut meanwhile count until their turn comes, so
// that the queue is bounded too.
type cache struct {
	queue []batch
	head  int
	bytes int64
}

// cachedOverhead is what an entry in memory costs besides its data.
const cachedOverhead = 128

func (c *cache) push(b batch) {
	if c.head > 1024 && c.head*2 > len(c.queue) {
		n := copy(c.queue, c.queue[c.head:])
		clear(c.queue[n:])
		c.queue, c.head = c.queue[:n], 0
	}
	c.queue = append(c.queue, b)
	c.bytes += b.bytes
}

// pop takes the oldest batch if the cache holds more than limit and the batch
// is written out.
func (c *cache) pop(limit int64, written position) (b batch, ok bool) {
	if c.bytes <= limit || c.head == len(c.queue) || !c.queue[c.head].last.before(written) {
		return b, false
	}
	b = c.queue[c.head]
	c.queue[c.head] = batch{}
	c.head++
	c.bytes -= b.bytes
	return b, true
}

// evict drops the oldest entries from memory until the cache keeps its bound.
func (d *Disk) evict() {
	for {
		d.mu.Lock()
		written := d.written
		b, ok := d.cache.pop(d.opts.CacheBytes, written)
		d.mu.Unlock()
		if !ok {
			return
		}
		b.g.evict(b, written)
	}
}
