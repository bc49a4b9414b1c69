package consensus

import (
	"context"
	"encoding/binary"

	"go.etcd.io/raft/v3"
)

// A readRound is one confirmation of leadership that all reads share which
// arrived before it began.
type readRound struct {
	done  chan struct{}
	err   error // set before done is closed
	index uint64
	ctx   uint64 // context under way
}

func (rr *readRound) finish(err error) {
	rr.err = err
	close(rr.done)
}

// readState is the worker's side of linearizable reads.
type readState struct {
	round   *readRound   // under way with Raft, nil if none
	ticks   int          // since its context was sent
	last    uint64       // last context used; never used again
	waiting []*readRound // confirmed, waiting for their index to be applied
	early   int          // other replicas' reads that Raft holds for this leader to be ready
}

// maxEarlyReads bounds what Raft holds of the reads of others while a leader has
// not committed an entry of its term, which it may never do. A sound replica asks
// once in a while; who is refused asks again.
const maxEarlyReads = 64

// ReadIndex returns when everything that was committed in group g before the
// call has been applied to this node's machine: a read of the machine is then
// linearizable (Raft thesis, section 6.4). It works on the leader and, by
// asking it, on any other replica. Reads that arrive while a round is under
// way share the next one. It returns an error that wraps ErrRejected, or ctx's.
func (h *Host) ReadIndex(ctx context.Context, g GroupID) error {
	r, err := h.replica(g)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.stopErr != nil {
		r.mu.Unlock()
		return rejected(g, r.stopErr)
	}
	round := r.reads
	if round == nil {
		round = &readRound{done: make(chan struct{})}
		r.reads = round
	}
	wake := !r.polled
	r.polled = true
	r.mu.Unlock()
	if wake {
		r.w.post(input{kind: inputPropose, h: h, r: r})
	}
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return rejected(g, context.Cause(ctx))
	}
}

// startRead begins the next round if none is under way.
func (r *replica) startRead() {
	if r.read.round != nil {
		return
	}
	r.mu.Lock()
	round := r.reads
	r.reads = nil
	r.polled = round != nil
	r.mu.Unlock()
	if round == nil {
		return
	}
	r.wake()
	r.idleTicks = 0
	r.read.round = round
	r.askRead()
}

// askRead sends the round to Raft under a context that was never used before.
// A context that is used again could be confirmed by acknowledgements of its
// first use, which are older than the reads that joined since.
func (r *replica) askRead() {
	r.read.last++
	r.read.round.ctx = r.read.last
	r.read.ticks = 0
	ctx := binary.LittleEndian.AppendUint64(make([]byte, 0, 16), r.host.opts.Epoch)
	r.rn.ReadIndex(binary.LittleEndian.AppendUint64(ctx, r.read.last))
}

// askNewLeader asks at once when a round may have gone to a leader that is none any
// more: until tickRead is a long time for a read.
func (r *replica) askNewLeader() {
	if r.read.round != nil && r.lead != 0 {
		r.askRead()
	}
}

// takesRead says whether Raft is to hear of another replica's read. A replica that
// does not lead would hand it on in the asker's name, and the next one would learn
// a wrong address of the asker's; who asks learns of the leader in time.
func (r *replica) takesRead() bool {
	if r.role != raft.StateLeader {
		return false
	}
	if r.leadReady {
		return true
	}
	r.read.early++
	return r.read.early <= maxEarlyReads
}

// readConfirmed takes a read state from Raft. One for an abandoned context is
// of no use to anybody.
func (r *replica) readConfirmed(rs raft.ReadState) {
	round := r.read.round
	if round == nil || len(rs.RequestCtx) != 16 ||
		binary.LittleEndian.Uint64(rs.RequestCtx) != r.host.opts.Epoch ||
		binary.LittleEndian.Uint64(rs.RequestCtx[8:]) != round.ctx {
		return
	}
	r.read.round = nil
	round.index = rs.Index
	if rs.Index <= r.applied.Load() {
		round.finish(nil)
	} else {
		r.read.waiting = append(r.read.waiting, round)
	}
	r.startRead()
}

// releaseReads lets go of the rounds whose index has been applied.
func (r *replica) releaseReads() {
	if len(r.read.waiting) == 0 {
		return
	}
	applied := r.applied.Load()
	kept := r.read.waiting[:0]
	for _, round := range r.read.waiting {
		if round.index <= applied {
			round.finish(nil)
		} else {
			kept = append(kept, round)
		}
	}
	clear(r.read.waiting[len(kept):])
	r.read.waiting = kept
}

// tickRead asks again, with a new context, when a round got no answer: Raft
// drops reads while there is no leader, and the wire may lose them.
func (r *replica) tickRead() {
	if r.read.round == nil {
		return
	}
	r.read.ticks++
	if r.read.ticks > max(2, r.host.opts.ElectionTicks/2) {
		r.askRead()
	}
}
