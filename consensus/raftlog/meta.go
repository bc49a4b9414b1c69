package raftlog

import (
	"fmt"
	"slices"
)

// maxOwnerMeta bounds what an owner keeps for itself, in bytes: it is a few
// numbers, copied whenever collection meets it.
const maxOwnerMeta = 1 << 10

// Meta returns what the newest SetMeta kept, whether or not it is durable yet;
// nil if there never was one, or after Close.
func (l *Log) Meta() []byte {
	l.state.mu.Lock()
	defer l.state.mu.Unlock()
	if l.shut.Load() {
		return nil
	}
	return slices.Clone(l.state.meta)
}

// SetMeta keeps up to 1 KiB for the owner, in place of what it kept before and
// beside all groups. It never blocks; done hears when it is durable, and a nil
// done asks for no sync. After a crash Meta returns the newest that was
// durable, or a later one, never a mixture. It returns an error, and done hears
// nothing, if meta is too large or the log is closed.
func (l *Log) SetMeta(meta []byte, done Completion) error {
	if len(meta) > maxOwnerMeta {
		return fmt.Errorf("raftlog: owner %d: meta of %d bytes, expected at most %d", l.owner, len(meta), maxOwnerMeta)
	}
	d, o := l.disk, l.state
	o.mu.Lock()
	defer o.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.shut.Load() || d.closed {
		return fmt.Errorf("raftlog: owner %d: set meta: %w", l.owner, ErrClosed)
	}
	o.meta = slices.Clone(meta)
	d.putOwner(o)
	d.enqueue(l, done)
	return nil
}

// putOwner writes what an owner keeps for itself. The caller holds o.mu and
// d.mu.
func (d *Disk) putOwner(o *owner) {
	rec := record{kind: kindOwner, owner: o.id, data: o.meta}
	d.put(d.room(len(o.meta)+stateOverhead), &rec)
	d.move(&o.at, span{rec.at, rec.length})
}

// moveMeta moves what o keeps for itself out of s. An owner that has left since
// it was listed has nothing anywhere, and no segment is numbered 0.
func (d *Disk) moveMeta(o *owner, s *segment) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at.at.seg != s.num {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.putOwner(o)
	d.enqueue(nil, nil)
	d.stats.rewritten.Add(int64(o.at.length))
}

// replayOwner takes an owner's record.
func (o *owner) replayOwner(r *record) {
	o.meta, o.at = slices.Clone(r.data), span{r.at, r.length}
}

// finishOwner accounts for an owner's record once replay has seen the newest.
// The caller holds d.mu or is alone.
func (d *Disk) finishOwner(o *owner) {
	if o.at.length > 0 {
		d.segment(o.at.at.seg).live += int64(o.at.length)
	}
}
