package consensus

import (
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/consensus/transport"
)

// tickBuckets is the number of slices into which a tick is cut, so that the
// groups of a node do not all tick at once.
const tickBuckets = 8

// maxInboxBytes bounds what messages from other nodes carry while they wait for
// one worker, per host, and what waits for the disk. Beyond it appends are
// dropped, and Raft sends them again.
const maxInboxBytes = 128 << 20

// A hostShard is the part of a host that one worker owns.
type hostShard struct {
	host  *Host
	w     *worker
	inbox atomic.Int64 // bytes admitted and not yet stepped

	// Owned by the worker.
	replicas map[GroupID]*replica
	ending   map[*replica]struct{} // destroyed, their machines are still there
	rest     []func() error        // left to do for machines when the host stops
	out      []outbox
	waking   []*replica // sleep without a node that is back
	used     bool       // in worker.hosts
	log      bool       // the log has something to flush
	buckets  [tickBuckets][]*replica
	active   [tickBuckets]atomic.Int32 // len of the bucket, for the ticker
	delayed  atomic.Int32              // len of waking, for the ticker
	ticking  [tickBuckets]atomic.Bool  // a tick of the bucket waits for the worker
}

// An outbox gathers what one pass sends to one node.
type outbox struct {
	to    NodeID
	class transport.Class
	msgs  []transport.Message
}

func newHostShard(h *Host, w *worker) *hostShard {
	return &hostShard{host: h, w: w, replicas: map[GroupID]*replica{}, ending: map[*replica]struct{}{}}
}

func (s *hostShard) admit(bytes int64) bool {
	if s.inbox.Add(bytes) > maxInboxBytes || s.host.log.Disk().Buffered() > maxInboxBytes {
		s.inbox.Add(-bytes)
		s.host.stats.dropped.Add(1)
		return false
	}
	return true
}

// admitControl is admit for messages that must get through while appends wait
// for the disk, or leases would end and elections begin: they have as much room
// again, which only somebody who means harm fills.
func (s *hostShard) admitControl(bytes int64) bool {
	if s.inbox.Add(bytes) > 2*maxInboxBytes {
		s.inbox.Add(-bytes)
		s.host.stats.dropped.Add(1)
		return false
	}
	return true
}

// add takes over a new replica.
func (s *hostShard) add(r *replica) {
	if r.gone {
		return // removed before it was handed over
	}
	s.replicas[r.group] = r
	r.awake = false
	r.wake()
	r.touch()
}

// remove forgets a replica.
func (s *hostShard) remove(r *replica) {
	r.halt()
	delete(s.replicas, r.group)
	s.host.peers.refer(nil, r.conf)
	s.host.replicas.CompareAndDelete(r.group, r)
}

// send queues m for the end of the pass.
func (s *hostShard) send(to NodeID, class transport.Class, m transport.Message) {
	if to == 0 {
		return
	}
	s.w.use(s)
	for i := range s.out {
		if o := &s.out[i]; o.to == to && o.class == class {
			o.msgs = append(o.msgs, m)
			return
		}
	}
	s.out = append(s.out, outbox{to: to, class: class, msgs: []transport.Message{m}})
}

// wrote notes that the pass appended to the log.
func (s *hostShard) wrote() {
	s.log = true
	s.w.use(s)
}

// flush ends a pass: messages leave first, then the log is flushed if nobody
// else does it.
func (s *hostShard) flush() {
	s.used = false
	if s.host.dead.Load() {
		return
	}
	for i := range s.out {
		o := &s.out[i]
		if len(o.msgs) == 0 {
			continue
		}
		s.host.net.Send(o.to, o.class, o.msgs)
		clear(o.msgs)
		o.msgs = o.msgs[:0]
	}
	if s.log && s.host.log.Disk().Inline() {
		if err := s.host.log.Disk().Flush(); err != nil {
			s.host.fail(err)
		}
	}
	s.log = false
}

// close ends every replica and hands out what is left to do for their
// machines. That may wait for a disk, and the worker serves other hosts too.
func (s *hostShard) close() []func() error {
	rest := s.rest
	for _, r := range s.replicas {
		rest = append(rest, r.close()...)
	}
	for r := range s.ending {
		if r.destroyed && r.busy == 0 {
			rest = append(rest, func() error { r.removeMachine(); return nil })
			continue
		}
		r.destroyed = false
		rest = append(rest, r.sm.Close) // Create removes what it leaves
	}
	s.out = nil
	return rest
}

// tick ticks the active replicas of one bucket.
func (s *hostShard) tick(bucket int) {
	s.ticking[bucket].Store(false)
	if bucket == 0 {
		s.wakeSome()
	}
	now := s.host.opts.Clock.Mono()
	b := s.buckets[bucket]
	kept := b[:0]
	for _, r := range b {
		if r.gone || !r.awake {
			r.bucketed = false
			continue
		}
		r.tick(now)
		r.touch()
		kept = append(kept, r)
	}
	clear(b[len(kept):])
	s.buckets[bucket] = kept
	s.active[bucket].Store(int32(len(kept)))
}

// bucketOf returns the bucket of a group. A worker may have groups in few of
// them: they share the hash that chooses it.
func bucketOf(g GroupID) int { return int(uint64(g) * 0x9E3779B97F4A7C15 >> 61) }

// enlist puts an awake replica into its bucket.
func (s *hostShard) enlist(r *replica) {
	if r.bucketed {
		return
	}
	r.bucketed = true
	b := bucketOf(r.group)
	s.buckets[b] = append(s.buckets[b], r)
	s.active[b].Store(int32(len(s.buckets[b])))
}

// tickLoop drives the host's ticks and frames. Nothing is posted where no
// replica is awake.
func (h *Host) tickLoop() {
	t := time.NewTicker(max(h.opts.TickInterval/tickBuckets, time.Microsecond))
	defer t.Stop()
	for n := 0; ; n++ {
		select {
		case <-t.C:
			h.tickBucket(n)
		case <-h.ctx.Done():
			return
		}
	}
}

func (h *Host) tickBucket(n int) {
	if h.dead.Load() {
		return // a node that failed must not promise life to its peers
	}
	bucket := n % tickBuckets
	if bucket == 0 {
		h.watch.look()
	}
	for i, s := range h.shards {
		// A worker that lags gets one tick, not all it missed: without messages
		// between them they would only add up to elections.
		due := s.active[bucket].Load() > 0 || bucket == 0 && s.delayed.Load() > 0
		if due && s.ticking[bucket].CompareAndSwap(false, true) {
			h.pool.workers[i].post(input{kind: inputTick, h: h, n: bucket})
		}
	}
	if bucket != 0 {
		return
	}
	tick := n / tickBuckets
	h.peers.tick(tick)
	if tick%relieveTicks == 0 {
		h.relieve()
	}
}

// Tick advances a host with Options.Manual by one tick.
func (h *Host) Tick() {
	for range tickBuckets {
		h.tickBucket(int(h.stats.ticks.Add(1) - 1))
	}
}
