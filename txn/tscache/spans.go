package tscache

import (
	"slices"
	"sync"

	"github.com/tidwall/btree"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// spans are disjoint intervals of keys with a record each.
type spans struct {
	max int

	mu      sync.RWMutex
	tree    btree.Map[string, interval] // guarded by mu; by start
	touched []interval                  // guarded by mu; taken out by the read under way
	last    interval                    // guarded by mu; put by the read under way, not in tree yet
}

// An interval is of the keys from start up to but without end, which is behind all keys
// if it is empty.
type interval struct {
	start, end string
	record
}

// before reports whether a key is before the end of an interval.
func before(key, end string) bool { return end == "" || key < end }

// at is the highest timestamp of the interval with a key, but for one transaction.
func (s *spans) at(key string, except id.Key) (ts hlc.Timestamp) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.tree.Descend(key, func(_ string, iv interval) bool {
		if before(key, iv.end) {
			ts = iv.except(except)
		}
		return false
	})
	return ts
}

// read notes a read of all keys from start to end. Intervals that it covers with a
// higher timestamp become one with it, so that scans of the whole shard do not leave
// thousands to the next one. What others have read in any of them then counts for all
// of it, but only against the reader itself, and only up to its own timestamp, where
// it will not write anyway. mu is held.
func (s *spans) read(start, end string, r record) {
	s.take(start, end)
	fresh := interval{start: start, end: end, record: r}
	left := true // whether fresh has keys
	for i := range s.touched {
		iv := &s.touched[i]
		if iv.start < start {
			s.put(interval{start: iv.start, end: start, record: iv.record})
		}
		if iv.ts < r.ts || iv.ts == r.ts && iv.by == r.by {
			fresh.add(iv.record)
			continue
		}
		inner := interval{start: max(start, iv.start), end: end, record: iv.record}
		if before(iv.end, end) && iv.end != "" {
			inner.end = iv.end
		}
		if fresh.start < inner.start {
			s.put(interval{start: fresh.start, end: inner.start, record: fresh.record})
		}
		inner.add(r)
		s.put(inner)
		fresh.start, fresh.record = inner.end, r
		left = inner.end != end
	}
	if left {
		s.put(fresh)
	}
	if n := len(s.touched); n > 0 && end != "" && before(end, s.touched[n-1].end) {
		s.put(interval{start: end, end: s.touched[n-1].end, record: s.touched[n-1].record})
	}
	s.flush()
}

// take moves the intervals that have keys from start to end into touched.
func (s *spans) take(start, end string) {
	s.tree.Descend(start, func(key string, iv interval) bool {
		if key < start && before(start, iv.end) {
			s.touched = append(s.touched, iv)
		}
		return false
	})
	s.tree.Ascend(start, func(key string, iv interval) bool {
		if !before(key, end) {
			return false
		}
		s.touched = append(s.touched, iv)
		return true
	})
	for _, iv := range s.touched {
		s.tree.Delete(iv.start)
	}
}

// put adds an interval where the one that was put before ends. Those that are alike
// become one.
func (s *spans) put(iv interval) {
	if s.last.record == iv.record {
		s.last.end = iv.end
		return
	}
	s.flushLast()
	s.last = iv
}

// flush ends a row of puts.
func (s *spans) flush() {
	s.flushLast()
	s.last = interval{}
	clear(s.touched) // lets go of the keys
	s.touched = s.touched[:0]
}

func (s *spans) flushLast() {
	if s.last.ts > 0 {
		s.tree.Set(s.last.start, s.last)
	}
}

// oldest returns up to which timestamp intervals must be dropped, and false if there
// are not too many. It is a quarter of them at a time, which makes it cheap.
func (s *spans) oldest() (hlc.Timestamp, bool) {
	n := s.tree.Len()
	if n <= s.max {
		return 0, false
	}
	all := make([]hlc.Timestamp, 0, n)
	s.tree.Scan(func(_ string, iv interval) bool {
		all = append(all, iv.ts)
		return true
	})
	slices.Sort(all)
	return all[max(n/4, n-s.max-1)], true
}

// drop forgets the intervals that were read at low or below.
func (s *spans) drop(low hlc.Timestamp) {
	var old []string
	s.tree.Scan(func(start string, iv interval) bool {
		if iv.ts <= low {
			old = append(old, start)
		}
		return true
	})
	for _, start := range old {
		s.tree.Delete(start)
	}
}
