package consensus

import (
	"sync/atomic"
	"time"
)

// A watchdog notices when the log's disk or a worker stands still. The host's
// ticker would go on: its frames and heartbeats would bind the followers of
// groups that nobody serves, though a healthy quorum exists. Huang et al., "Gray
// Failure" (HotOS 2017), call such a failure gray, because those who watch a
// node and those who use it see two different things.
//
// A stalled host sends nothing that vouches for it: no frames, no appends and
// heartbeats of its leaders, no requests for votes. The promises made to it end
// and others take over; its leases end no later, because only frames renew
// them. Its leaders hear from nobody and step down (Raft's CheckQuorum), so that
// commands which never reached Raft are refused. Votes and acknowledgements are
// not held back: that the log took part is what they say.
type watchdog struct {
	h       *Host
	stalled atomic.Bool

	// Owned by the ticker.
	last    time.Duration // of the clock, when look was called
	began   time.Duration // of the stall, as far as it was seen
	log     stint
	workers []stint
}

// A stint is a step that something has been at for as long as held.
type stint struct {
	step uint64
	held time.Duration
}

// at notes which step is under way and returns for how long that was seen.
func (s *stint) at(step uint64, busy bool, passed time.Duration) time.Duration {
	if !busy || s.step != step {
		s.step, s.held = step, 0
		return 0
	}
	s.held += passed
	return s.held
}

func newWatchdog(h *Host) *watchdog {
	return &watchdog{h: h, last: h.opts.Clock.Mono(), workers: make([]stint, len(h.pool.workers))}
}

// look is called at every tick. It adds up time between looks instead of
// comparing moments: a process that gets no processor looks seldom, and a gap
// counts as two ticks at most, because in the rest the worker and the flusher
// did not run either.
func (d *watchdog) look() {
	o := &d.h.opts
	if o.StallTimeout < 0 {
		return
	}
	now := o.Clock.Mono()
	passed := min(now-d.last, 2*o.TickInterval)
	d.last = now
	step, busy := d.h.log.Disk().Progress()
	longest, what, worker := d.log.at(step, busy, passed), "log", -1
	for i, w := range d.h.pool.workers {
		busy := w.on.Load() == d.h
		if held := d.workers[i].at(w.step.Load(), busy, passed); held > longest {
			longest, what, worker = held, "worker", i
		}
	}
	switch stalled := longest >= o.StallTimeout; {
	case stalled == d.stalled.Load():
	case stalled:
		d.began = now - longest
		d.stalled.Store(true)
		d.h.stats.stalls.Add(1)
		d.h.logger.Warn("consensus: node stands still and vouches for itself no more", "what", what, "worker", worker, "for", longest)
		d.h.event(Event{Kind: EventStall})
	default:
		d.stalled.Store(false)
		d.h.logger.Info("consensus: node goes on", "after", now-d.began)
		d.h.event(Event{Kind: EventResume})
	}
}
