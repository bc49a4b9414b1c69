package consensus

import (
	"fmt"
	"sort"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// compact cuts the log behind the tail that is kept, and asks the machine to
// be durable further up where that stands in the way. It works by bytes: a
// thousand large entries cost more than a million small ones.
func (r *replica) compact() {
	tail := r.host.opts.LogTailBytes
	if r.log.Bytes() <= tail {
		return
	}
	r.truncate(tail / 2)
}

// truncate cuts the log so that about keep bytes stay.
func (r *replica) truncate(keep int64) {
	first, err := r.log.FirstIndex()
	if err != nil {
		return
	}
	applied := r.applied.Load()
	bytes := r.log.Bytes()
	// The lowest index behind which no more than keep bytes lie.
	n := sort.Search(int(applied+1-min(first, applied+1)), func(i int) bool {
		return bytes-r.log.SizeTo(first+uint64(i)) <= keep
	})
	want := min(first+uint64(n), applied)
	if r.holdsLog() {
		want = min(want, r.pin.index)
	}
	if durable := r.sm.Durable(); want > durable {
		r.flushMachine()
		want = durable
	}
	if want >= first {
		r.log.Truncate(want)
		r.shard.wrote()
		r.host.stats.truncations.Add(1)
	}
}

// holdsLog says whether a follower that gets a snapshot still needs the log
// behind it: until it follows, or the snapshot's time is over.
func (r *replica) holdsLog() bool {
	if r.pin.index == 0 {
		return false
	}
	held := r.role == raft.StateLeader && r.now() < r.pin.until
	if held && r.outgoing == 0 {
		held = false
		r.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
			held = held || ReplicaID(id) == r.pin.to && p.Match < r.pin.index
		})
	}
	if !held && r.outgoing == 0 {
		r.pin = pin{}
	}
	return held || r.outgoing > 0
}

// flushMachine makes the machine durable in the background; the log is cut
// when it is.
func (r *replica) flushMachine() {
	if r.flushing || r.install != nil || r.host.stopping.Load() {
		return
	}
	r.flushing = true
	r.busy++
	h, upTo := r.host, r.applied.Load()
	h.wg.Go(func() {
		err := r.sm.Flush(h.ctx, upTo)
		r.later(func() { r.flushed(err) })
	})
}

func (r *replica) flushed(err error) {
	r.flushing = false
	r.letGo()
	if r.gone || r.host.dead.Load() || r.host.stopping.Load() {
		return
	}
	if err != nil {
		r.host.fail(fmt.Errorf("consensus: group %d: flush machine: %w", r.group, err))
		return
	}
	if r.install != nil {
		r.runInstall()
		return
	}
	if r.log.Bytes() > r.host.opts.LogTailBytes {
		r.truncate(r.host.opts.LogTailBytes / 2)
		r.touch()
	}
}

// relieve flushes and cuts the longest logs of the shard while the store's
// live log exceeds its bound.
func (s *hostShard) relieve(over int64) {
	list := make([]*replica, 0, len(s.replicas))
	for _, r := range s.replicas {
		if !r.gone {
			list = append(list, r)
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].log.Bytes() > list[j].log.Bytes() })
	for _, r := range list {
		if over <= 0 {
			return
		}
		over -= r.log.Bytes()
		r.truncate(0)
		r.touch()
	}
}
