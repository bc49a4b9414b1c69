package raftlog

import (
	"cmp"
	"fmt"
	"slices"
)

// prepareLoop prepares segments ahead of need and collects old ones.
func (d *Disk) prepareLoop() {
	for {
		select {
		case <-d.chores:
		case <-d.preStop:
			return
		}
		if d.Err() != nil {
			continue
		}
		// Collection first: what it retires needs no filling.
		if d.worthCollecting() {
			d.maint <- struct{}{}
			d.collect()
			<-d.maint
		}
		if err := d.prepare(); err != nil {
			_ = d.fail(err)
		}
	}
}

// collectSlack is how many segments of garbage a log may keep besides as many
// bytes as are live, so that a small log is not rewritten for ever.
const collectSlack = 2

// worthCollecting tells whether the oldest segment should go: it is as good as
// empty, or the log as a whole is more garbage than not.
func (d *Disk) worthCollecting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	oldest := d.segs[0]
	if oldest.num >= d.written.seg || oldest.refs > 0 || d.closed || d.Err() != nil {
		return false
	}
	if oldest.live <= oldest.limit/8 {
		return true
	}
	var total, live int64
	for _, s := range d.segs {
		total += s.limit
		live += s.live
	}
	return total > 2*live+collectSlack*d.opts.MaxSegmentBytes
}

// collect retires old segments as long as that is worth it. The caller holds
// maint.
func (d *Disk) collect() {
	for d.worthCollecting() && !d.stopped() {
		d.mu.Lock()
		s, crashes := d.segs[0], d.crashes
		list := make([]*owner, 0, len(d.owners))
		for _, o := range d.owners {
			list = append(list, o)
		}
		d.mu.Unlock()
		slices.SortFunc(list, func(a, b *owner) int { return cmp.Compare(a.id, b.id) })
		for _, o := range list {
			if err := d.refresh(o); err != nil {
				return
			}
		}
		moved, err := d.evacuate(s, list)
		if err != nil {
			_ = d.fail(err)
			return
		}
		// Also what made the rest of the segment garbage, truncations for
		// example, must be durable before the segment goes.
		if d.settle() != nil {
			return
		}
		for _, m := range moved {
			m.take()
		}
		if !d.remove(s, crashes) {
			return // the next flush looks again
		}
		if err := d.retire(s); err != nil {
			_ = d.fail(err)
			return
		}
	}
}

// settle waits until everything appended so far is durable.
func (d *Disk) settle() error {
	done := make(waiting, 1)
	d.mu.Lock()
	d.enqueue(nil, done)
	d.mu.Unlock()
	if d.opts.Inline {
		d.flush(false)
	}
	return <-done
}

// remove takes the oldest segment off the log if nothing needs it, nobody
// reads it, and no owner has left since crashes were counted: what collection
// wrote for that owner may have gone with its buffer.
func (d *Disk) remove(s *segment, crashes uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashes != crashes || s.refs > 0 {
		return false
	}
	if s.live != 0 || d.segs[0] != s {
		panic(fmt.Sprintf("raftlog: segment %d is to go with %d live bytes, the oldest is %d", s.num, s.live, d.segs[0].num))
	}
	d.segs = append([]*segment(nil), d.segs[1:]...)
	return true
}

// evacuateBytes is how much collection puts into the buffer before it waits.
const evacuateBytes = 1 << 20

// A move is a group's entries that were copied, and where to.
type move struct {
	g     *Group
	items []moved
}

type moved struct {
	index    uint64
	from, to position
}

// evacuate writes what is live in s again. States and the owners' records have
// moved when it returns;
// the entries' copies take effect with move.take once they are durable.
func (d *Disk) evacuate(s *segment, owners []*owner) ([]move, error) {
	var moves []move
	var err error
	for _, o := range owners {
		d.moveMeta(o, s)
		o.each(func(g *Group) {
			if err != nil {
				return
			}
			var cold []coldEntry
			cold = g.liveIn(d, s)
			for len(cold) > 0 && err == nil {
				var m move
				if m, cold, err = d.copyOut(g, s, cold); err == nil && len(m.items) > 0 {
					moves = append(moves, m)
				}
			}
		})
	}
	return moves, err
}

// liveIn moves the state of g out of s and lists the entries that lie in it.
func (g *Group) liveIn(d *Disk, s *segment) []coldEntry {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return nil
	}
	if g.state.at.seg == s.num {
		d.mu.Lock()
		d.putState(g, 0)
		d.enqueue(nil, nil)
		d.stats.rewritten.Add(int64(g.state.length))
		d.mu.Unlock()
	}
	var cold []coldEntry
	before := g.baseSum
	for i := g.ring.first; i < g.ring.end(); i++ {
		e := g.ring.at(i)
		if e.at.seg == s.num {
			cold = append(cold, coldEntry{i, e.term, span{e.at, uint32(e.sum - before)}})
		}
		before = e.sum
	}
	return cold
}

// copyOut copies the first of cold, up to a window of them, and returns the
// rest. It reads without a mutex and then looks whether each entry is still
// where it was.
func (d *Disk) copyOut(g *Group, s *segment, cold []coldEntry) (m move, rest []coldEntry, err error) {
	if d.Buffered() > evacuateBytes {
		if err := d.settle(); err != nil {
			return m, nil, err
		}
	}
	type body struct {
		rec  record
		cold coldEntry
	}
	var list []body
	_, err = d.readWindow(s, cold, func(rec *record) error {
		list = append(list, body{*rec, cold[len(list)]})
		return nil
	})
	if err != nil {
		return m, nil, err
	}
	m.g = g
	g.mu.Lock()
	defer g.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range list {
		if b.cold.index < g.ring.first || b.cold.index >= g.ring.end() || g.ring.at(b.cold.index).at != b.cold.at {
			continue // truncated or replaced meanwhile
		}
		b.rec.kind = kindRewrite
		d.put(d.room(int(b.cold.length)), &b.rec)
		m.items = append(m.items, moved{b.cold.index, b.cold.at, b.rec.at})
		d.stats.rewritten.Add(int64(b.rec.length))
	}
	d.enqueue(nil, nil)
	return m, cold[len(list):], nil
}

// take lets the copies be the entries.
func (m *move) take() {
	g := m.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gone {
		return
	}
	d := g.log.disk
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, it := range m.items {
		if it.index < g.ring.first || it.index >= g.ring.end() {
			continue
		}
		e := g.ring.at(it.index)
		if e.at != it.from {
			continue
		}
		length := int64(e.sum - g.sumBefore(it.index))
		d.segment(it.from.seg).live -= length
		d.segment(it.to.seg).live += length
		e.at = it.to
	}
}
