package consensus

import (
	"cmp"
	"fmt"
	"slices"
	"sort"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// compact cuts the log behind the tail that is kept, and asks the machine to
// be durable further up where that stands in the way. It works by bytes: a
// thousand large entries cost more than a million small ones.
func (r *replica) compact() {
	tail := r.host.opts.LogTailBytes
	if r.log.Bytes() <= tail {
		return
	}
	if !r.cut(tail / 2) {
		r.flushMachine()
	}
}

// shorten cuts the log so that about keep bytes stay, for the good of the store:
// where that needs a durable machine, as soon as it is.
func (r *replica) shorten(keep int64) {
	if r.cut(keep) {
		return
	}
	r.flushMachine()
	if !r.flushing {
		return // a snapshot is being installed, which empties the log, or the host stops
	}
	if !r.cutting {
		r.cutting, r.keep = true, keep
	}
	r.keep = min(r.keep, keep)
}

// cut cuts the log so that about keep bytes stay, but no further than the
// machine is durable, and tells whether that was as far as it should.
func (r *replica) cut(keep int64) (whole bool) {
	first, err := r.log.FirstIndex()
	if err != nil {
		return true
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
	durable := r.sm.Durable()
	if upTo := min(want, durable); upTo >= first {
		r.log.Truncate(upTo)
		r.shard.wrote()
		r.host.stats.truncations.Add(1)
	}
	return want <= durable
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
	cutting := r.cutting
	r.cutting = false
	r.letGo()
	if r.gone || r.host.dead.Load() || r.host.stopping.Load() {
		return
	}
	if err != nil {
		r.fail(fmt.Errorf("flush machine: %w", err))
		return
	}
	if r.install != nil {
		r.runInstall()
		return
	}
	if cutting {
		r.cut(r.keep)
	} else {
		r.compact()
	}
	r.touch()
}

// relieveTicks is how often the size of the store's log is looked at.
const relieveTicks = 20

// relieve has the longest logs cut while the store's log is beyond its bound:
// to a quarter, because a follower whose entries are gone needs a snapshot, and
// if that is not enough, to nothing.
func (h *Host) relieve() {
	st := h.log.Disk().Stats()
	over := st.LiveBytes + st.LiveEntries*raftlog.IndexBytes - h.opts.MaxStoreLogBytes
	if over <= 0 {
		return
	}
	type victim struct {
		r           *replica
		bytes, cost int64
	}
	var list []victim
	h.replicas.Range(func(_, v any) bool {
		r := v.(*replica)
		if r.failed.Load() != nil {
			return true // nothing of its log can be cut: what it holds must come from the others
		}
		bytes, entries := r.log.Size()
		list = append(list, victim{r, bytes, bytes + entries*raftlog.IndexBytes})
		return true
	})
	slices.SortFunc(list, func(a, b victim) int {
		return cmp.Or(cmp.Compare(b.cost, a.cost), cmp.Compare(a.r.group, b.r.group))
	})
	for _, part := range []struct{ keep, saves int64 }{{1, 3}, {0, 1}} {
		for _, v := range list {
			if over <= 0 {
				return
			}
			over -= v.cost * part.saves / 4
			v.r.w.post(input{kind: inputRelieve, h: h, r: v.r, n: int(v.bytes * part.keep / 4)})
		}
	}
}
