package consensus

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// Raft asks for entries on the worker and expects them at once, but the log
// keeps only the newest in memory. A worker that read the others would wait for
// the disk with all groups it serves. So Raft is told that there are none yet,
// they are read in the background, and Raft is made to ask again:
//
//   - For a follower that lags, an empty list is an empty append, which still
//     finds out where the follower's log ends. When the window is there, Raft
//     gets a heartbeat response in the follower's name.
//   - For entries to apply, an empty list is a Ready without them. When the
//     window is there, the replica is drained.
//   - Before a campaign Raft looks for changes of the configuration among
//     committed entries that are not applied. A list that ends early would
//     break it, so replicas campaign when they have caught up.

const (
	// windowBytes bounds what one read brings into memory, but for a single
	// larger entry. Four appends of the largest size: enough to have one under
	// way while the next is read.
	windowBytes = 4 << 20
	// maxWindows bounds the windows of one replica: a follower each, in a group
	// of five, would be four.
	maxWindows = 4
	// windowBudget bounds the windows of a host, and the reads under way.
	windowBudget = 64 << 20
)

// A warmth is the budget of a host's windows. Reads that it has no room for
// wait in line.
type warmth struct {
	mu    sync.Mutex
	limit int64      // guarded by mu
	used  int64      // guarded by mu. Invariant: used <= limit, but for one read alone.
	line  []*warming // guarded by mu
}

// A warming is a read of a replica's log that is under way or in line.
type warming struct {
	r     *replica
	lo    uint64
	bytes int64 // charged to the budget
}

// warm is what a replica has read ahead. It belongs to the worker.
type warm struct {
	windows  []warmed
	reading  *warming // at most one
	draining bool     // Raft asks for entries to apply
	resuming bool     // followers are tried again: what one used, the next may need
	clock    uint64   // counts uses of windows
}

// A warmed is a window and what is charged for it.
type warmed struct {
	*raftlog.Window
	bytes int64
	used  uint64 // when, by warm.clock
	idle  int    // ticks since it was used
	spent bool   // its last entry was handed out
}

// Entries implements raft.Storage. It never waits for the disk where Raft can
// do without the entries for a while.
func (s storage) Entries(lo, hi, maxSize uint64) ([]*pb.Entry, error) {
	r := s.r
	var space [maxWindows]*raftlog.Window
	windows := space[:0]
	for i := range r.warm.windows {
		windows = append(windows, r.warm.windows[i].Window)
	}
	list, err := s.InMemory(lo, hi, maxSize, windows)
	if err != nil {
		return s.unreadable(lo, err)
	}
	if lo >= hi {
		return list, nil
	}
	if len(list) > 0 {
		if len(windows) > 0 {
			r.consume(lo, lo+uint64(len(list)))
		}
		return list, nil
	}
	if r.rn != nil && (r.warm.draining || r.rn.BasicStatus().RaftState == raft.StateLeader) {
		r.readAhead(lo)
		return nil, nil
	}
	r.host.stats.coldReads.Add(1)
	if list, err = s.Group.Entries(lo, hi, maxSize); err != nil {
		return s.unreadable(lo, err)
	}
	return list, nil
}

// unreadable answers Raft when the log does not have what Raft asks for. Raft
// panics on nearly every error, and with it the process, whose other nodes have
// sound logs. So the host stops, and Raft gets an answer that lets it return
// without doing anything more: nothing yet to apply, an empty append, or, where
// it looks for changes of the configuration before a campaign, one, which
// forbids the campaign. Only a leader may meet what was cut off: the follower
// gets a snapshot.
func (s storage) unreadable(lo uint64, err error) ([]*pb.Entry, error) {
	r := s.r
	leads := r.rn != nil && r.rn.BasicStatus().RaftState == raft.StateLeader
	if leads && !r.warm.draining && errors.Is(err, raft.ErrCompacted) {
		return nil, raft.ErrCompacted
	}
	r.host.fail(fmt.Errorf("consensus: group %d: read log at index %d: %w", r.group, lo, err))
	if leads || r.warm.draining {
		return nil, nil
	}
	return []*pb.Entry{{Type: pb.EntryConfChangeV2.Enum(), Index: new(lo), Term: new(uint64(0))}}, nil
}

// consume notes that entries from lo up to hi were handed out: a window whose
// last is among them has served, and of one whose second half is begun the
// next is read.
func (r *replica) consume(lo, hi uint64) {
	next := uint64(0)
	for i := range r.warm.windows {
		w := &r.warm.windows[i]
		if hi > w.First() && lo < w.End() {
			r.warm.clock++
			w.used, w.idle = r.warm.clock, 0
			if hi > w.First()+(w.End()-w.First())/2 {
				next = max(next, w.End())
			}
			w.spent = w.spent || hi >= w.End()
		}
	}
	r.dropSpent()
	if last, err := r.log.LastIndex(); next > 0 && err == nil && next <= last && !r.log.Cached(next) && !r.holds(next) {
		r.readAhead(next)
	}
}

// dropSpent drops windows that have served, but not between followers that wait
// for the same one: those behind the first would have it read again, and the
// first would be tried again with them, and so on without an end.
func (r *replica) dropSpent() {
	if r.warm.resuming {
		return
	}
	r.warm.windows = slices.DeleteFunc(r.warm.windows, func(w warmed) bool {
		if w.spent {
			r.host.warmth.give(w.bytes)
		}
		return w.spent
	})
}

func (r *replica) holds(i uint64) bool {
	return slices.ContainsFunc(r.warm.windows, func(w warmed) bool { return w.First() <= i && i < w.End() })
}

// readAhead begins to read a window from lo on, unless another read is under
// way: whoever wants it asks again when that one has ended.
func (r *replica) readAhead(lo uint64) {
	if r.warm.reading != nil || r.gone || r.host.stopping.Load() || r.host.dead.Load() {
		return
	}
	// An entry larger than a window comes all the same.
	w := &warming{r: r, lo: lo, bytes: max(windowBytes, r.log.SizeTo(lo)-r.log.SizeTo(lo-1))}
	r.warm.reading = w
	r.host.warmth.take(w)
}

// take begins a read if there is room, or puts it in line.
func (b *warmth) take(w *warming) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.line = append(b.line, w)
	b.serve()
}

// give gives room back.
func (b *warmth) give(bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= bytes
	b.serve()
}

// bytes is what is charged to the budget.
func (b *warmth) bytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// serve begins the reads at the head of the line that there is room for. It is
// called on a worker of the host, so that no read begins behind a stop. The
// caller holds b.mu.
func (b *warmth) serve() {
	for len(b.line) > 0 {
		w := b.line[0]
		if w.r.host.stopping.Load() {
			return
		}
		if b.used > 0 && b.used+w.bytes > b.limit {
			return
		}
		b.line[0] = nil
		b.line = b.line[1:]
		b.used += w.bytes
		w.r.host.stats.readAheads.Add(1)
		w.r.host.wg.Go(w.read)
	}
	b.line = nil
}

// read reads a window and hands it to the worker.
func (w *warming) read() {
	got, err := w.r.log.ReadAhead(w.lo, windowBytes)
	w.r.later(func() { w.r.warmed(w, got, err) })
}

// warmed takes a window and lets Raft ask for it.
func (r *replica) warmed(w *warming, got *raftlog.Window, err error) {
	r.warm.reading = nil
	if r.gone || r.host.dead.Load() || err != nil {
		r.host.warmth.give(w.bytes)
	}
	switch {
	case r.gone || r.host.dead.Load():
		return
	case errors.Is(err, raft.ErrCompacted), errors.Is(err, raft.ErrUnavailable):
		// The log was cut or replaced meanwhile, and Raft finds out.
	case err != nil:
		r.host.fail(fmt.Errorf("consensus: group %d: read log at index %d: %w", r.group, w.lo, err))
		return
	default:
		if len(r.warm.windows) == maxWindows {
			r.dropOldest()
		}
		r.warm.clock++
		// The end of a log is less than a whole window, and others wait.
		spare := max(0, w.bytes-got.Bytes())
		r.host.warmth.give(spare)
		r.warm.windows = append(r.warm.windows, warmed{Window: got, bytes: w.bytes - spare, used: r.warm.clock})
	}
	if r.role == raft.StateLeader {
		r.wake() // asleep it would never drop what the follower does not come for
	}
	r.resume()
	r.touch()
}

// resume makes Raft try those followers again whose next entries are in memory
// now. Only a response makes it do so; one in the name of a follower that has
// answered lately anyway changes nothing for CheckQuorum, and without a context
// it confirms no read. The others answer the next heartbeat.
func (r *replica) resume() {
	if r.role != raft.StateLeader {
		return
	}
	var waiting []uint64
	r.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if ReplicaID(id) != r.id && p.RecentActive && p.State != tracker.StateSnapshot && r.holds(p.Next) {
			waiting = append(waiting, id)
		}
	})
	r.warm.resuming = true
	for _, id := range waiting {
		_ = r.rn.Step(&pb.Message{Type: pb.MsgHeartbeatResp.Enum(), From: new(id), To: new(uint64(r.id)), Term: new(r.term)})
	}
	r.warm.resuming = false
	r.dropSpent()
}

func (r *replica) dropOldest() {
	oldest := 0
	for i := range r.warm.windows {
		if r.warm.windows[i].used < r.warm.windows[oldest].used {
			oldest = i
		}
	}
	r.host.warmth.give(r.warm.windows[oldest].bytes)
	r.warm.windows = slices.Delete(r.warm.windows, oldest, oldest+1)
}

// cool drops all windows.
func (r *replica) cool() {
	for len(r.warm.windows) > 0 {
		r.dropOldest()
	}
}

// tickWarm drops windows that nobody came for: a follower that went away again
// must not keep others waiting.
func (r *replica) tickWarm() {
	for i := len(r.warm.windows) - 1; i >= 0; i-- {
		w := &r.warm.windows[i]
		if w.idle++; w.idle > r.host.opts.ElectionTicks {
			r.host.warmth.give(w.bytes)
			r.warm.windows = slices.Delete(r.warm.windows, i, i+1)
		}
	}
}

// replaying says whether committed entries wait that have to be read back
// first. Raft would read all of them before a campaign.
func (r *replica) replaying() bool {
	applied := r.applied.Load()
	return applied < r.committed.Load() && !r.log.Cached(applied+1)
}
