package mvcc

import (
	"slices"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A Change is a version that was written, or written anew: one that is added to below
// another is followed by that one.
type Change struct {
	Key string
	Version
}

// An Observer hears of what a store applies, in order. Its methods are called while
// nothing else can be applied to the store, and must not wait nor call it.
type Observer interface {
	// Applied hears of the changes up to an index.
	Applied(index uint64, changes []Change)
	// Reset says that the store holds something else now.
	Reset(index uint64)
}

type observer struct{ o Observer }

func (o *observer) see(index uint64, changes []Change) { o.o.Applied(index, changes) }
func (o *observer) reset(index uint64)                 { o.o.Reset(index) }

// Observe has an observer hear of all that is applied behind an index, which it returns,
// until stop is called. A Reader that is made by with sees the store at that index.
func (s *Store) Observe(o Observer, with func(index uint64)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one := &observer{o}
	s.observers = append(s.observers, one)
	with(s.applied.Load())
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.observers = slices.DeleteFunc(s.observers, func(o *observer) bool { return o == one })
	}
}

// tellReset tells observers that the store holds something else.
func (s *Store) tellReset(index uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, o := range s.observers {
		o.reset(index)
	}
}

// Versions calls visit for each version of keys in [start, end) above one timestamp and
// at or below another, by key and from the latest, until visit returns false. The value
// is valid during the call.
func (r *Reader) Versions(start, end string, after, upTo hlc.Timestamp, visit func(key string, v *Version) bool) error {
	return r.walk(start, end, func(string) hlc.Timestamp { return upTo }, func(key string, v *Version) (walk, error) {
		switch {
		case v.TS <= after:
			return nextKey, nil
		case !visit(key, v):
			return done, nil
		}
		return nextVersion, nil
	})
}
