package consensus

import (
	"context"
	"fmt"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// Propose replicates c in group g and returns what the machine answered when
// it was applied here. The replica on this node must lead the group.
//
// It ends in one of three ways: applied, with a nil error; certainly not
// applied, with an error that wraps ErrRejected; or unknown, with one that
// wraps ErrUnknown, after which only a retry with the same session and
// sequence tells. A cancelled context gives ErrUnknown: the command may be on
// its way. Overload is refused early with an *OverloadError. A retry below the
// session's window gives ErrSequenceExpired, one in a session that has expired
// ErrNoSession: what came of the earlier attempt is forgotten. A command of a
// session that was applied, but with too large a result, ends as
// ErrResultTooLarge.
func (h *Host) Propose(ctx context.Context, g GroupID, c Command) (Result, error) {
	kind := byte(commandPlain)
	switch {
	case c.Session != 0 && c.Sequence == 0:
		return Result{}, rejected(g, fmt.Errorf("session %d: sequence is 0, expected 1 or more", c.Session))
	case c.Session != 0 && c.Alone:
		return Result{}, rejected(g, fmt.Errorf("session %d: a command that stands alone, expected none with a session", c.Session))
	case c.Session != 0:
		kind = commandOnce
	case c.Alone:
		kind = commandAlone
	}
	return h.propose(ctx, g, kind, c)
}

func (h *Host) propose(ctx context.Context, g GroupID, kind byte, c Command) (Result, error) {
	r, err := h.replica(g)
	if err != nil {
		return Result{}, err
	}
	b, pos, err := r.enqueue(kind, &c)
	if err != nil {
		return Result{}, err
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		select {
		case <-b.done: // both were ready: the answer counts
		default:
			return Result{}, unknown(g, context.Cause(ctx))
		}
	}
	return b.result(pos)
}

// commandOverhead is what a command costs beside its data, at most.
const commandOverhead = 32

// enqueue adds a command to the batch that waits for the worker.
func (r *replica) enqueue(kind byte, c *Command) (*batch, int, error) {
	o := &r.host.opts
	if len(c.Data) > o.MaxCommandBytes {
		return nil, 0, rejected(r.group, fmt.Errorf("%w: %d bytes, expected at most %d", ErrTooLarge, len(c.Data), o.MaxCommandBytes))
	}
	if !r.leading.Load() {
		if r.asleep.Load() { // what it knows of its leader may be old
			r.w.post(input{kind: inputWake, h: r.host, r: r})
		}
		return nil, 0, r.notLeader()
	}
	size := int64(len(c.Data) + commandOverhead)
	if err := r.admit(size); err != nil {
		return nil, 0, err
	}
	r.mu.Lock()
	if r.stopErr != nil {
		r.mu.Unlock()
		r.release(size)
		return nil, 0, rejected(r.group, r.stopErr)
	}
	var b *batch
	if n := len(r.queue); n > 0 {
		b = r.queue[n-1]
	}
	if b == nil || b.alone || kind == commandAlone || b.count >= o.MaxBatchCommands || len(b.buf)+int(size) > o.MaxBatchBytes {
		b = newBatch(r.spare)
		r.spare = nil
		r.queue = append(r.queue, b)
		r.queued = r.queued && len(r.queue) == 1 // the worker may take a full batch
	}
	pos := b.add(kind, c)
	b.bytes += size
	wake := !r.queued
	r.queued = true
	r.mu.Unlock()
	if wake {
		r.w.post(input{kind: inputPropose, h: r.host, r: r})
	}
	return b, pos, nil
}

// admit charges size to the quotas, or refuses.
func (r *replica) admit(size int64) error {
	o := &r.host.opts
	if n := r.bytes.Add(size); n > o.MaxGroupBytes {
		r.bytes.Add(-size)
		return r.overload("group", n, o.MaxGroupBytes)
	}
	if n := r.host.bytes.Add(size); n > o.MaxStoreBytes {
		r.release(size)
		return r.overload("store", n, o.MaxStoreBytes)
	}
	if n := r.host.log.Disk().Buffered(); n > o.MaxStoreBytes {
		r.release(size)
		return r.overload("log buffer", n, o.MaxStoreBytes)
	}
	return nil
}

func (r *replica) overload(what string, n, limit int64) error {
	r.host.stats.overloads.Add(1)
	return &OverloadError{Group: r.group, What: what, Bytes: n, Limit: limit}
}

func (r *replica) release(size int64) {
	r.bytes.Add(-size)
	r.host.bytes.Add(-size)
}

func (r *replica) notLeader() error {
	lead := ReplicaID(r.leader.Load())
	return &NotLeaderError{Group: r.group, Leader: lead, Node: r.published.Load().node(lead)}
}

// finish ends a batch and gives its bytes back.
func (r *replica) finish(b *batch, err error) {
	r.release(b.bytes)
	b.finish(err)
}

// pack hands waiting commands to Raft: one batch, one entry, and only while
// no batch of this replica waits to be locally stable. The log's own latency
// thus sets the size of the batches, and a slow network is filled with as many
// as the log can take in a round trip. Full batches do not wait: they would not
// grow, and a disk writes several at once in little more time than one. See
// gathers for the one time when pack waits.
func (r *replica) pack() {
	if r.role != raft.StateLeader {
		r.gathering = gathering{}
		r.refuseQueue()
		return
	}
	if r.gathers() {
		return
	}
	for r.mayPack() {
		b := r.dequeue()
		if b == nil {
			return
		}
		r.wake()
		r.idleTicks = 0
		data := b.seal()
		if err := r.rn.Propose(data); err != nil {
			r.finish(b, rejected(r.group, fmt.Errorf("raft: %w", err)))
			continue
		}
		r.own = append(r.own, b)
		r.reuse(b) // Raft has made a copy
		r.ready()
	}
}

// maxUnstable bounds the own batches that are not yet locally stable when all
// but the last are full: with batches of 256 KiB, to what the log puts in a frame.
const maxUnstable = 4

// mayPack tells whether the batch that has waited longest may go to Raft.
func (r *replica) mayPack() bool {
	n := r.unstable + len(r.own)
	if n == 0 || n >= maxUnstable {
		return n == 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) > 1 // it is full, or none would stand behind it
}

// noteEnded counts the commands whose clients this pass has woken.
func (r *replica) noteEnded(own []*batch) {
	if r.ended != r.w.passes {
		r.ended, r.gathering.woken = r.w.passes, 0
	}
	for _, b := range own {
		if b != nil {
			r.gathering.woken += int32(b.count)
		}
	}
}

// maxGather bounds the passes for which commands wait for others.
const maxGather = 8

// A gathering is a row of passes in which commands wait for others.
type gathering struct {
	last   uint64 // the last of them
	passes int32  // so far, 0: there is none
	seen   int32  // how many commands waited in the last
	all    int32  // with how many nobody is left to wait for
	woken  int32  // commands that ended in pass replica.ended, 0: gathers has done with them
}

// gathers puts the waiting commands off to the next pass while those clients come
// back that the end of a batch has woken: in a closed loop they are about to
// propose again, and what they propose would wait for the batch after this one.
// Clients would stay in groups that take turns, each in entries of its own. It
// ends when all are back or no more came in a pass, and before long: where batches
// end in every pass the pipe would run dry.
func (r *replica) gathers() bool {
	now, g := r.w.passes, &r.gathering
	if g.woken == 0 || g.passes == 0 && now-r.ended > maxGather {
		return false
	}
	r.mu.Lock()
	n := int32(0)
	if len(r.queue) > 0 {
		n = int32(r.queue[0].count)
		r.queued = true // the worker looks again, unasked
	}
	r.mu.Unlock()
	if n == 0 {
		return false
	}
	if g.passes == 0 {
		g.all = g.woken
		if now == r.ended {
			g.all += n // these have waited already
		}
	}
	if n >= g.all || g.passes == maxGather || g.passes > 0 && g.last == now-1 && n <= g.seen {
		g.woken, g.passes = 0, 0
		return false
	}
	g.passes, g.last, g.seen = g.passes+1, now, n
	r.w.held = append(r.w.held, r)
	return true
}

// dequeue takes the oldest batch. Once nothing is left the next command wakes
// the worker again.
func (r *replica) dequeue() *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.queued = false
		return nil
	}
	b := r.queue[0]
	r.queue[0] = nil
	r.queue = r.queue[1:]
	if len(r.queue) == 0 {
		r.queue = nil
	}
	return b
}

// maxSpareBatch bounds the buffer that an idle replica keeps.
const maxSpareBatch = 64 << 10

func (r *replica) reuse(b *batch) {
	buf := b.buf
	b.buf = nil
	if cap(buf) > maxSpareBatch {
		return
	}
	r.mu.Lock()
	r.spare = buf
	r.mu.Unlock()
}

// refuseQueue rejects what never reached Raft.
func (r *replica) refuseQueue() {
	for b := r.dequeue(); b != nil; b = r.dequeue() {
		r.finish(b, r.notLeader())
	}
}

// place notes index and term of the own entries in an append. A leader's
// entries of its own term are its proposals, in the order in which it made
// them; the entry without data that begins a term, and the one that leaves a
// joint configuration, are nobody's.
func (r *replica) place(entries []*pb.Entry) int {
	if len(r.own) == 0 || r.role != raft.StateLeader {
		return 0
	}
	n := 0
	for _, e := range entries {
		if len(r.own) == 0 || e.GetTerm() != r.term || len(e.GetData()) == 0 {
			continue
		}
		b := r.own[0]
		r.own = r.own[1:]
		b.index, b.term = e.GetIndex(), e.GetTerm()
		r.inflight = append(r.inflight, b)
		n++
	}
	if len(r.own) == 0 {
		r.own = nil
	}
	r.unstable += n
	return n
}

// settle finds the own batch of an entry that is about to be applied. An entry
// of another term at a batch's index took its place. One of a later term before
// it did so too: terms never fall along a log, so the batch's entry is in no
// log that can commit.
func (r *replica) settle(e *pb.Entry) *batch {
	for len(r.inflight) > 0 {
		b := r.inflight[0]
		switch {
		case b.index == e.GetIndex() && b.term == e.GetTerm():
			r.popInflight()
			return b
		case b.index <= e.GetIndex() || b.term < e.GetTerm():
			r.popInflight()
			r.finish(b, r.notLeader())
		default:
			return nil
		}
	}
	return nil
}

// settleSnapshot resolves the batches that a snapshot covers: they may be in
// it. Those above it are of earlier terms and in no log that can commit.
func (r *replica) settleSnapshot(index, term uint64) {
	for len(r.inflight) > 0 {
		b := r.inflight[0]
		switch {
		case b.index <= index:
			r.popInflight()
			r.finish(b, unknown(r.group, fmt.Errorf("a snapshot at index %d replaced the log at index %d", index, b.index)))
		case b.term < term:
			r.popInflight()
			r.finish(b, r.notLeader())
		default:
			return
		}
	}
}

func (r *replica) popInflight() {
	r.inflight[0] = nil
	r.inflight = r.inflight[1:]
	if len(r.inflight) == 0 {
		r.inflight = nil
	}
}
