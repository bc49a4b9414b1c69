package consensus

// Stopping says whether a stop of h has begun.
func (h *Host) Stopping() bool { return h.stopping.Load() }

// LimitWindows bounds what h reads ahead, and returns the size of one read.
func (h *Host) LimitWindows(bytes int64) int64 {
	h.warmth.mu.Lock()
	defer h.warmth.mu.Unlock()
	h.warmth.limit = bytes
	return windowBytes
}
