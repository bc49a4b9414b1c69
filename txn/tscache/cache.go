package tscache

import (
	"fmt"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// Options configures a Cache. A zero field selects its default.
type Options struct {
	// MaxSpans is how many disjoint intervals are remembered. More means that scans
	// that are longer ago still get only into the way of those who write where they
	// read. One takes about 100 bytes and its bounds. Default: 4096.
	MaxSpans int
	_        struct{} // keyed literals only, so that fields can be added
}

// A Cache remembers the reads of one shard. Use New.
type Cache struct {
	low    atomic.Uint64
	points points
	spans  spans
}

// New returns a cache in which every key was read at low, by unknown transactions.
func New(o Options, low hlc.Timestamp) (*Cache, error) {
	if o.MaxSpans == 0 {
		o.MaxSpans = 4096
	}
	if o.MaxSpans < 1 {
		return nil, fmt.Errorf("tscache: MaxSpans is %d, expected at least 1", o.MaxSpans)
	}
	c := &Cache{}
	c.low.Store(uint64(low))
	c.points.init()
	c.spans.max = o.MaxSpans
	return c, nil
}

// Read notes that a transaction has read a key, or its absence, at a timestamp. The
// zero Key is a reader that no transaction is.
func (c *Cache) Read(key string, ts hlc.Timestamp, by id.Key) {
	if ts > c.Low() {
		c.points.read(key, ts, by)
	}
}

// ReadSpan notes that a transaction has read all keys from start up to but without end,
// which is behind all keys if it is empty. A span without keys is nothing.
func (c *Cache) ReadSpan(start, end string, ts hlc.Timestamp, by id.Key) {
	if end != "" && end <= start {
		return
	}
	c.spans.mu.Lock()
	defer c.spans.mu.Unlock()
	if ts <= c.Low() {
		return
	}
	c.spans.read(start, end, record{ts: ts, by: by})
	if cut, full := c.spans.oldest(); full {
		c.raise(cut) // before they are dropped
		c.spans.drop(cut)
	}
}

// Max returns a timestamp not below any at which somebody other than a transaction has
// read the key. Nobody is excepted for the zero Key.
func (c *Cache) Max(key string, except id.Key) hlc.Timestamp {
	ts := max(c.points.max(key, except), c.spans.at(key, except))
	// Last: what was dropped before it was looked for is in it by now.
	return max(ts, c.Low())
}

// Low is the low-water: what Max returns at least, for any key.
func (c *Cache) Low() hlc.Timestamp { return hlc.Timestamp(c.low.Load()) }

// Raise lifts the low-water, if it is below low, and drops what it makes superfluous.
// It visits all that is remembered, which takes up to a millisecond.
func (c *Cache) Raise(low hlc.Timestamp) {
	c.raise(low)
	c.points.drop(low)
	c.spans.mu.Lock()
	defer c.spans.mu.Unlock()
	c.spans.drop(low)
}

func (c *Cache) raise(low hlc.Timestamp) {
	for old := c.low.Load(); old < uint64(low) && !c.low.CompareAndSwap(old, uint64(low)); {
		old = c.low.Load()
	}
}
