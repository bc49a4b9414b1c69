package consensus

import (
	"fmt"

	"go.etcd.io/raft/v3"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// destroy removes the replica; the log's tombstone tells done.
func (r *replica) destroy(done raftlog.Completion) {
	if r.destroyed || r.gone && r.failed.Load() == nil {
		done.Written(rejected(r.group, ErrNoReplica))
		return
	}
	r.host.leaving.Store(r.group, struct{}{})
	r.shard.remove(r)
	r.abandon(ErrClosed, true)
	r.shard.ending[r] = struct{}{}
	r.destroyed = true
	r.busy++
	r.log.Destroy(&tombstone{r: r, done: done})
	r.shard.wrote()
}

// fail stops the replica after an error of its machine, which cannot be asked
// again: nobody knows what of the batch it holds. The node's other groups go on.
// Log and machine stay as they are, so that a start after the cause was mended
// goes on behind what the machine has stored.
func (r *replica) fail(err error) {
	if r.gone {
		return
	}
	err = fmt.Errorf("consensus: group %d: %w", r.group, err)
	r.host.logger.Error("consensus: replica stopped", "group", uint64(r.group), "err", err)
	r.host.stats.failures.Add(1)
	r.failed.Store(&err)
	r.halt()
	r.abandon(fmt.Errorf("%w: %w", ErrClosed, err), true)
}

// halt ends the part that the replica takes in its group.
func (r *replica) halt() {
	if r.gone {
		return
	}
	if r.asleep.Swap(false) {
		r.sleepEvent(EventWake)
	}
	if r.role == raft.StateLeader {
		r.stepDown() // followers that sleep would not miss it
	}
	r.leader.Store(0)
	r.cool()
	if v := r.takeView(); v != nil {
		r.aside("close view", v.Close, nil)
	}
	r.gone = true
}

// A tombstone is the end of a replica in the log. The machine goes after it: if
// the machine went first, a loss of power between the two would leave a log
// that was cut, and nothing that holds what was cut off.
type tombstone struct {
	r    *replica
	done raftlog.Completion
}

// Written is called by the log.
func (t *tombstone) Written(err error) {
	r := t.r
	r.later(func() {
		if err != nil {
			r.host.fail(fmt.Errorf("consensus: group %d: tombstone: %w", r.group, err))
			return
		}
		r.letGo()
	})
	t.done.Written(err)
}

// beginStaging keeps the machine open for a snapshot that is received, one at a
// time, from any goroutine but the worker's own; letGo ends that.
func (r *replica) beginStaging() bool {
	ok := false
	c := &call{done: make(chan struct{}), fn: func() {
		if ok = !r.gone && !r.staging; ok {
			r.staging = true
			r.busy++
		}
	}}
	r.w.post(input{kind: inputCall, h: r.host, msg: c})
	select {
	case <-c.done:
		return ok
	case <-r.host.ctx.Done():
		return false
	}
}

func (r *replica) letGo() {
	r.busy--
	if r.destroyed && r.busy == 0 {
		r.destroyMachine()
	}
}

// later runs fn on the worker, even when the replica is gone by then.
func (r *replica) later(fn func()) {
	r.w.postLate(input{kind: inputCall, h: r.host, msg: &call{fn: fn, done: make(chan struct{})}})
}

// aside does work on the machine that may wait for a disk in the background, or
// leaves it to whoever stops the host. The machine stays until it is done, and
// then runs on the worker, unless the host stops.
func (r *replica) aside(what string, work func() error, then func()) {
	do := func() error {
		if err := work(); err != nil {
			r.host.logger.Warn("consensus: "+what, "group", uint64(r.group), "err", err)
		}
		return nil
	}
	if r.host.stopping.Load() {
		r.shard.rest = append(r.shard.rest, do)
		return
	}
	r.busy++
	r.host.wg.Go(func() {
		_ = do()
		r.later(func() {
			if then != nil {
				then()
			}
			r.letGo()
		})
	})
}

// destroyMachine has the machine removed in the background, for the worker must
// not wait for a disk, or by whoever stops the host.
func (r *replica) destroyMachine() {
	if r.host.stopping.Load() {
		return
	}
	delete(r.shard.ending, r)
	if r.host.opts.Manual {
		r.removeMachine()
		return
	}
	r.host.wg.Go(r.removeMachine)
}

func (r *replica) removeMachine() {
	if err := r.sm.Destroy(); err != nil {
		// The tombstone stands; Create removes what is left.
		r.host.logger.Error("consensus: destroy machine", "group", uint64(r.group), "err", err)
	}
	r.host.leaving.Delete(r.group)
}

// close ends the replica for a stop of the host and returns what is left to do
// for its machine.
func (r *replica) close() []func() error {
	var rest []func() error
	if v := r.takeView(); v != nil {
		rest = append(rest, v.Close)
	}
	r.gone = true
	r.abandon(ErrClosed, true)
	return append(rest, r.sm.Close)
}

// abandon ends everything that clients wait for: what never reached Raft is
// rejected, all else is unknown. Safe from any goroutine for the client side;
// the worker's side is ended by the worker or after it has stopped.
func (r *replica) abandon(why error, onWorker bool) {
	r.mu.Lock()
	r.stopErr = why
	queue, reads := r.queue, r.reads
	r.queue, r.reads = nil, nil
	r.mu.Unlock()
	for _, b := range queue {
		r.finish(b, rejected(r.group, why))
	}
	if reads != nil {
		reads.finish(rejected(r.group, why))
	}
	r.grant.Store(nil)
	r.leading.Store(false)
	if onWorker {
		r.abandonWorker(why)
		return
	}
	r.later(func() { r.abandonWorker(why) })
}

func (r *replica) abandonWorker(why error) {
	for _, list := range [][]*batch{r.own, r.inflight} {
		for _, b := range list {
			r.finish(b, unknown(r.group, why))
		}
	}
	r.own, r.inflight = nil, nil
	if r.read.round != nil {
		r.read.round.finish(rejected(r.group, why))
		r.read.round = nil
	}
	for _, round := range r.read.waiting {
		round.finish(rejected(r.group, why))
	}
	r.read.waiting = nil
	if r.change != nil && !r.change.b.ended() { // its entry has been handed over
		r.change.b.finish(unknown(r.group, why))
	}
	r.change = nil
	if r.transfer != nil {
		r.transfer.finish(unknown(r.group, why))
		r.transfer = nil
	}
}
