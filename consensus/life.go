package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// A life is what a node must not forget of its earlier starts. It is kept in
// the node's log, so that it is lost only together with the groups whose
// replicas it concerns.
type life struct {
	epoch uint64        // the highest of all starts
	lease time.Duration // the longest for which a promise may still hold
}

const lifeVersion = 1

func (f life) encode() []byte {
	b := binary.AppendUvarint([]byte{lifeVersion}, f.epoch)
	return binary.AppendUvarint(b, uint64(f.lease))
}

// decodeLife reads what encode wrote; nothing is the life of a new log.
func decodeLife(b []byte) (life, error) {
	if len(b) == 0 {
		return life{}, nil
	}
	if b[0] != lifeVersion {
		return life{}, fmt.Errorf("consensus: record of earlier starts has version %d, expected %d", b[0], lifeVersion)
	}
	epoch, n := binary.Uvarint(b[1:])
	lease, k := binary.Uvarint(b[1+max(n, 0):])
	if n <= 0 || k <= 0 || 1+n+k != len(b) || epoch == 0 || lease > math.MaxInt64 {
		return life{}, fmt.Errorf("consensus: record of earlier starts is %x, expected an epoch above 0 and a duration", b)
	}
	return life{epoch, time.Duration(lease)}, nil
}

// next is the life of a start with the epoch and lease that were asked for.
func (f life) next(epoch uint64, lease time.Duration) (life, error) {
	if f.epoch == math.MaxUint64 {
		return f, errors.New("consensus: no epoch is left above the highest that the node's log has seen, 18446744073709551615")
	}
	if epoch == 0 {
		epoch = f.epoch + 1
	}
	if epoch <= f.epoch {
		return f, fmt.Errorf("consensus: option Epoch is %d, expected above %d, the highest that the node's log has seen", epoch, f.epoch)
	}
	return life{epoch, max(f.lease, lease)}, nil
}

// beginLife settles the epoch of this start and makes it durable, before
// anything is received or promised under it: a node that used one twice would
// be taken for its earlier life, whose promises it has forgotten.
func (h *Host) beginLife(recovered []raftlog.Info) error {
	last, err := decodeLife(h.log.Meta())
	if err != nil {
		return err
	}
	now, err := last.next(h.opts.Epoch, h.opts.LeaseDuration)
	if err != nil {
		return err
	}
	done := make(waitWritten, 1)
	if err := h.log.SetMeta(now.encode(), done); err != nil {
		return fmt.Errorf("consensus: keep epoch %d: %w", now.epoch, err)
	}
	if err := h.await(done); err != nil {
		return fmt.Errorf("consensus: keep epoch %d: %w", now.epoch, err)
	}
	h.opts.Epoch = now.epoch
	if len(recovered) > 0 { // without a replica nothing was bound by a promise
		h.votesFrom = h.opts.Clock.Mono() + now.lease
	}
	return nil
}

// Epoch returns the epoch of this start: Options.Epoch, or what stands for 0.
func (h *Host) Epoch() uint64 { return h.opts.Epoch }
