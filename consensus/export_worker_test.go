package consensus

import (
	"math"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Stopping says whether a stop of h has begun.
func (h *Host) Stopping() bool { return h.stopping.Load() }

// LimitWindows bounds what h reads ahead, and returns the size of one read.
func (h *Host) LimitWindows(bytes int64) int64 {
	h.warmth.mu.Lock()
	defer h.warmth.mu.Unlock()
	h.warmth.limit = bytes
	return windowBytes
}

// DestroyTwice destroys the replica of g as two callers do who found it at the
// same time, and returns what each is told.
func (h *Host) DestroyTwice(g GroupID) (first, second error) {
	r, err := h.replica(g)
	if err != nil {
		return err, err
	}
	a, b := make(waitWritten, 1), make(waitWritten, 1)
	h.run(r.w, func() { r.destroy(a); r.destroy(b) })
	return h.await(a), h.await(b)
}

// EntriesFor asks for entries of g as Raft does, to apply them or for a follower
// or a scan.
func (h *Host) EntriesFor(g GroupID, lo, hi uint64, apply bool) (list []*pb.Entry, err error) {
	r, err := h.replica(g)
	if err != nil {
		return nil, err
	}
	h.run(r.w, func() {
		r.warm.draining = apply
		list, err = storage{r.log, r}.Entries(lo, hi, math.MaxUint64)
		r.warm.draining = false
	})
	return list, err
}
