package raftlog

import (
	"fmt"
	"log/slog"
	"time"
)

// Options configures a Disk. A zero field selects its default.
type Options struct {
	// MinSegmentBytes is the size of the first segment, in bytes; each next
	// one doubles up to MaxSegmentBytes. A small beginning keeps a store of
	// little traffic small. From 4 KiB to MaxSegmentBytes. Default: 1 MiB, or
	// MaxSegmentBytes if that is less.
	MinSegmentBytes int64
	// MaxSegmentBytes bounds a segment, in bytes. A larger single entry is
	// still accepted, in a segment of its own. From 4 KiB to 1 GiB.
	// Default: 64 MiB.
	MaxSegmentBytes int64
	// CacheBytes bounds the entries that one Disk keeps in memory for all its
	// groups, in bytes. Entries not yet written out are kept in any case;
	// older ones are read back from the segments. Default: 64 MiB.
	CacheBytes int64
	// MaxBufferBytes is how much may wait in the buffer when no Completion
	// asks for a flush, in bytes; beyond it the flusher writes unasked.
	// Append never blocks: a caller that outruns the disk looks at Buffered.
	// Default: 1 MiB.
	MaxBufferBytes int64
	// Inline runs no goroutine: the caller drives the log with Flush, and
	// segments are neither filled with zeros nor prepared ahead. For file
	// systems in memory and for manual scheduling.
	Inline bool
	// Delay is the simulated latency of writing so many bytes, with or
	// without a sync. The flusher sleeps it with no mutex held. Not with
	// Inline. Default: none.
	Delay func(bytes int, sync bool) time.Duration
	// Logger hears of recovery, collection and the fatal error. Default:
	// discard.
	Logger *slog.Logger

	_ struct{} // keyed literals only, so that fields can be added
}

const (
	leastSegmentBytes = 4 << 10
	mostSegmentBytes  = 1 << 30
)

// validate fills defaults and checks the fields.
func (o *Options) validate() error {
	for _, f := range []struct {
		field *int64
		value int64
	}{
		{&o.MaxSegmentBytes, 64 << 20},
		{&o.CacheBytes, 64 << 20},
		{&o.MaxBufferBytes, 1 << 20},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	if o.MinSegmentBytes == 0 {
		o.MinSegmentBytes = min(1<<20, o.MaxSegmentBytes)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.MaxSegmentBytes < leastSegmentBytes || o.MaxSegmentBytes > mostSegmentBytes:
		return fmt.Errorf("raftlog: MaxSegmentBytes: %d, expected %d to %d", o.MaxSegmentBytes, leastSegmentBytes, mostSegmentBytes)
	case o.MinSegmentBytes < leastSegmentBytes || o.MinSegmentBytes > o.MaxSegmentBytes:
		return fmt.Errorf("raftlog: MinSegmentBytes: %d, expected %d to MaxSegmentBytes (%d)", o.MinSegmentBytes, leastSegmentBytes, o.MaxSegmentBytes)
	case o.CacheBytes < 0:
		return fmt.Errorf("raftlog: CacheBytes: %d, expected at least 1, or 0 for the default", o.CacheBytes)
	case o.MaxBufferBytes < 0:
		return fmt.Errorf("raftlog: MaxBufferBytes: %d, expected at least 1, or 0 for the default", o.MaxBufferBytes)
	case o.Inline && o.Delay != nil:
		return fmt.Errorf("raftlog: Delay: set together with Inline, expected one of them: there is no flusher to sleep")
	}
	return nil
}
