package consensus

// Stopping says whether a stop of h has begun.
func (h *Host) Stopping() bool { return h.stopping.Load() }
