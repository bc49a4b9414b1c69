package raftlog

// The buffer holds what was appended and not yet taken by a flush. A record's
// place in the log is known when it is appended, so that checksums can cover
// it and the index of a group needs no second pass.

// A run is a piece of the buffer that goes to one segment in one write.
type run struct {
	at      position // of buf[0]
	prevEnd uint32   // where the segment before ended
	buf     []byte
	frames  []frame
}

// A frame begins at buf[at] of its run.
type frame struct{ at, records int }

// A waiter is a Completion and the log whose crash silences it, nil if none.
type waiter struct {
	log  *Log
	done Completion
}

// A buffer is guarded by the Disk's mutex.
type buffer struct {
	runs    []run
	waiters []waiter
	bytes   int64
	sync    bool // somebody waits for it
	// open says that the last frame of the last run may still grow.
	open bool
}

// room makes sure that n bytes of records fit behind the open frame, or opens
// another frame or segment for them. All that is appended under one call of
// room is in one frame.
func (d *Disk) room(n int) *run {
	if d.buf.open {
		r := &d.buf.runs[len(d.buf.runs)-1]
		size := len(r.buf) - r.frames[len(r.frames)-1].at
		if size+n <= maxFrameBytes && int64(r.at.off)+int64(len(r.buf)+n+frameAlign) <= d.limit {
			return r
		}
		d.closeFrame()
	}
	if int64(d.tail.off)+int64(frameBytes(n)) > d.limit {
		d.roll(n)
	}
	runs := d.buf.runs
	if len(runs) == 0 || runs[len(runs)-1].at.seg != d.tail.seg {
		d.buf.runs = append(d.buf.runs, run{at: d.tail, prevEnd: d.prevEnd, buf: d.spareBuf[:0]})
		d.spareBuf = nil
	}
	r := &d.buf.runs[len(d.buf.runs)-1]
	r.frames = append(r.frames, frame{at: len(r.buf)})
	var header [frameHeaderBytes]byte
	r.buf = append(r.buf, header[:]...)
	d.buf.open = true
	return r
}

// roll moves the end of the log into a new segment in which a frame with n
// bytes of records fits.
func (d *Disk) roll(n int) {
	size := max(d.nextSize, int64(segmentHeaderBytes+frameBytes(n)))
	if d.tail.off == segmentHeaderBytes { // no segment stays empty
		d.limit = size
		d.segs[len(d.segs)-1].limit = size
		return
	}
	d.nextSize = min(2*d.nextSize, d.opts.MaxSegmentBytes)
	d.prevEnd = d.tail.off
	d.tail = position{d.tail.seg + 1, segmentHeaderBytes}
	d.limit = size
	d.segs = append(d.segs, &segment{num: d.tail.seg, limit: size})
}

// closeFrame ends the open frame and pads it.
func (d *Disk) closeFrame() {
	if !d.buf.open {
		return
	}
	d.buf.open = false
	r := &d.buf.runs[len(d.buf.runs)-1]
	f := r.frames[len(r.frames)-1]
	frameHeader{length: uint32(len(r.buf) - f.at - frameHeaderBytes), records: uint32(f.records), prevEnd: r.prevEnd}.
		encode(r.buf[f.at:], d.store, position{}) // checksum and durable position come with the flush
	var zeros [frameAlign]byte
	r.buf = append(r.buf, zeros[:-len(r.buf)&(frameAlign-1)]...)
	d.tail = position{r.at.seg, r.at.off + uint32(len(r.buf))}
	d.buf.bytes = 0
	for i := range d.buf.runs {
		d.buf.bytes += int64(len(d.buf.runs[i].buf))
	}
}

// put appends one record to the open frame, for which room was made.
func (d *Disk) put(r *run, rec *record) {
	start := len(r.buf)
	rec.at = position{r.at.seg, r.at.off + uint32(start)}
	r.buf = append(r.buf, 0, 0, 0, 0, 0, 0, 0, 0)
	r.buf = rec.appendBody(r.buf)
	rec.length = uint32(len(r.buf) - start)
	b := r.buf[start:]
	le.PutUint32(b, rec.length-recordHeaderBytes)
	le.PutUint32(b[4:], sum(d.store, rec.at, b[recordHeaderBytes:]))
	r.frames[len(r.frames)-1].records++
	d.buffered.Add(int64(rec.length))
	d.buf.bytes += int64(rec.length)
}

// enqueue lets done wait for what is buffered so far and wakes the flusher if
// somebody waits or much has gathered. The caller holds d.mu.
func (d *Disk) enqueue(l *Log, done Completion) {
	if done != nil {
		d.buf.waiters = append(d.buf.waiters, waiter{l, done})
		d.buf.sync = true
	} else if d.buf.bytes < d.opts.MaxBufferBytes {
		return
	}
	if !d.opts.Inline {
		signal(d.wake)
	}
}

// follow lets done wait for the record at a place, which is written before what
// is buffered now or with it, and for nothing behind it. It returns true if that
// record is durable already; then nobody tells done. The caller holds d.mu.
func (d *Disk) follow(l *Log, at position, done Completion) (stable bool) {
	switch {
	case at.before(d.durable) && d.Err() == nil:
		d.enqueue(l, nil)
		return true
	case at.before(d.syncing):
		// The flush under way syncs it, and the next need not.
		d.buf.waiters = append(d.buf.waiters, waiter{l, done})
		if !d.opts.Inline {
			signal(d.wake)
		}
	default:
		d.enqueue(l, done)
	}
	return false
}

// forget turns the buffered records of an owner into nothing. Its completions
// are dropped when their turn comes. The caller holds d.mu.
func (d *Disk) forget(l *Log) {
	d.closeFrame()
	for i := range d.buf.runs {
		r := &d.buf.runs[i]
		for _, f := range r.frames {
			rest := r.buf[f.at+frameHeaderBytes:]
			at := position{r.at.seg, r.at.off + uint32(f.at+frameHeaderBytes)}
			for range f.records {
				size := recordHeaderBytes + int(le.Uint32(rest))
				body := rest[recordHeaderBytes:size]
				var rec record
				if err := rec.decode(body); err != nil {
					panic(err) // the buffer is our own
				}
				if rec.kind != kindSkip && rec.owner == l.owner {
					body[0] = byte(kindSkip)
					le.PutUint32(rest[4:], sum(d.store, at, body))
				}
				rest, at.off = rest[size:], at.off+uint32(size)
			}
		}
	}
}

// signal wakes whoever listens on a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
