package mvcc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// versionAt reads the version that an iterator stands at. Its value is the iterator's.
func versionAt(it *pebble.Iterator) (Version, error) {
	k := it.Key()
	n := split(k)
	if len(k)-n != hlc.Size+1 {
		return Version{}, fmt.Errorf("mvcc: key %x is %w", k, errMalformed)
	}
	ts, err := hlc.Descending(k[n : len(k)-1])
	if err != nil {
		return Version{}, err
	}
	return parseVersion(ts, it.Value())
}

// A Reader reads what a store holds at one moment. It is for one goroutine, and must be
// closed.
type Reader struct {
	s   *Store
	it  *pebble.Iterator
	key []byte
}

// Reader begins to read what is applied now.
func (s *Store) Reader() (*Reader, error) {
	if err := s.e.enter(); err != nil {
		return nil, err
	}
	it, err := s.e.db.NewIter(nil)
	if err != nil {
		s.e.leave()
		return nil, fmt.Errorf("mvcc: shard %d: %w", s.id, err)
	}
	r, _ := s.e.pool.Get().(*Reader)
	if r == nil {
		r = &Reader{}
	}
	r.s, r.it = s, it
	return r, nil
}

// Close ends the reading.
func (r *Reader) Close() error {
	err := r.it.Close()
	e := r.s.e
	r.s, r.it = nil, nil
	e.pool.Put(r)
	e.leave()
	return err
}

// Get returns the latest version of a key at or below a timestamp, and the timestamp of
// the latest that is above it and at or below horizon, zero if there is none. The value
// is valid until the next read.
func (r *Reader) Get(key string, at, horizon hlc.Timestamp) (v Version, above hlc.Timestamp, err error) {
	r.key = appendVersion(r.key[:0], r.s.shard, key, max(at, horizon))
	for ok := r.it.SeekPrefixGE(r.key); ok; ok = r.it.Next() {
		v, err := versionAt(r.it)
		if err != nil || v.TS <= at {
			return v, above, err
		}
		above = max(above, v.TS)
	}
	return Version{}, above, r.it.Error()
}

// Latest returns the latest version of a key, whether a transaction wrote one, and at
// which timestamp. The value is valid until the next read.
func (r *Reader) Latest(key string, txn id.Key) (latest Version, wrote hlc.Timestamp, err error) {
	r.key = appendVersion(r.key[:0], r.s.shard, key, hlc.Max)
	for ok := r.it.SeekPrefixGE(r.key); ok; ok = r.it.Next() {
		v, err := versionAt(r.it)
		if err != nil {
			return latest, 0, err
		}
		if latest.TS == 0 {
			latest = v
			latest.Value = slices.Clone(v.Value)
		}
		if v.By(txn) {
			return latest, v.TS, nil
		}
		if v.TS < txn.Start {
			break
		}
	}
	return latest, 0, r.it.Error()
}

// Changed returns the timestamp of a version of a key in [start, end) above one
// timestamp and at or below another that a transaction did not write, zero if there is
// none.
func (r *Reader) Changed(start, end string, after, upTo hlc.Timestamp, except id.Key) (ts hlc.Timestamp, err error) {
	err = r.walk(start, end, func(string) hlc.Timestamp { return upTo }, func(_ string, v *Version) (walk, error) {
		switch {
		case v.TS <= after:
			return nextKey, nil
		case v.Writer == except && len(v.Others) == 0:
			return nextVersion, nil
		}
		ts = v.TS
		return done, nil
	})
	return ts, err
}

// Scan calls visit for each key in [start, end) that has a value at a timestamp, in
// order, until visit returns false. above is the latest timestamp of a version above
// that and at or below horizon of any key up to where it ended. An empty end is behind
// all keys. The value is valid during the call.
func (r *Reader) Scan(start, end string, at, horizon hlc.Timestamp, visit func(key string, v *Version) bool) (above hlc.Timestamp, err error) {
	err = r.walk(start, end, func(string) hlc.Timestamp { return max(at, horizon) }, func(key string, v *Version) (walk, error) {
		switch {
		case v.TS > at:
			above = max(above, v.TS)
			return nextVersion, nil
		case !v.Deleted && !visit(key, v):
			return done, nil
		}
		return nextKey, nil
	})
	return above, err
}

// walk is where a walk over versions goes on.
type walk int

const (
	nextVersion walk = iota
	nextKey
	done
)

// walk calls visit for versions of the keys in [start, end), those of a key from the
// one at or below from on.
func (r *Reader) walk(start, end string, from func(key string) hlc.Timestamp, visit func(key string, v *Version) (walk, error)) error {
	lower, upper := bounds(r.s.shard, tableVersions, start, end)
	it, err := r.it.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: lower, UpperBound: upper}})
	if err != nil {
		return err
	}
	return errors.Join(r.s.walkWith(it, from, visit), it.Close())
}

func (s *Store) walkWith(it *pebble.Iterator, from func(key string) hlc.Timestamp, visit func(key string, v *Version) (walk, error)) error {
	var key string
	var seek []byte
	ok := it.First()
	for ok {
		k := it.Key()
		n := split(k)
		if b := k[prefixBytes : n-1]; string(b) != key || seek == nil {
			key = string(b)
			seek = appendVersion(seek[:0], s.shard, key, from(key))
			if comparer.Compare(k, seek) < 0 {
				ok = it.SeekGE(seek)
				continue
			}
		}
		v, err := versionAt(it)
		if err != nil {
			return err
		}
		next, err := visit(key, &v)
		switch {
		case err != nil || next == done:
			return err
		case next == nextKey:
			ok = it.NextPrefix()
		default:
			ok = it.Next()
		}
	}
	return it.Error()
}

// Intents returns those at a key. They are shared and must not be changed.
func (s *Store) Intents(key string) []*Intent {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list, _ := s.intents.Get(key)
	return list
}

// IntentsIn calls visit for each intent in [start, end), by key, until visit returns
// false. An empty end is behind all keys.
func (s *Store) IntentsIn(start, end string, visit func(*Intent) bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.intents.Ascend(start, func(key string, list []*Intent) bool {
		if end != "" && key >= end {
			return false
		}
		for _, i := range list {
			if !visit(i) {
				return false
			}
		}
		return true
	})
}

// IntentsOf returns those of a transaction, in no order.
func (s *Store) IntentsOf(txn id.Key) (list []*Intent) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for key := range s.keys[txn] {
		list = append(list, s.intent(txn, key))
	}
	return list
}

// CountIntents is how many there are, and of how many transactions.
func (s *Store) CountIntents() (keys, txns int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.intents.Len(), len(s.keys)
}

// Record returns what is known of a transaction whose anchor is here, nil if nothing.
func (s *Store) Record(txn id.Txn) (*Record, error) {
	s.mu.RLock()
	r, aborted := s.records[txn.Key], s.aborted > 0
	s.mu.RUnlock()
	if r != nil || !aborted {
		return r, nil
	}
	b, err := s.get(appendOf(nil, s.shard, tableRecords, txn.Anchor, txn.Key))
	if err != nil || b == nil {
		return nil, err
	}
	return parseRecord(b)
}

// Records calls visit for each record that is not of an aborted transaction.
func (s *Store) Records(visit func(*Record) bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, r := range s.records {
		if !visit(r) {
			return
		}
	}
}

// Barred reports whether a transaction must not lay an intent at a key.
func (s *Store) Barred(txn id.Key, key string) (bool, error) {
	s.mu.RLock()
	some := s.bars > 0
	s.mu.RUnlock()
	if !some {
		return false, nil
	}
	b, err := s.get(appendOf(nil, s.shard, tableBars, key, txn))
	return b != nil, err
}

// get reads a row of Pebble, nil if there is none.
func (s *Store) get(key []byte) ([]byte, error) {
	if err := s.e.enter(); err != nil {
		return nil, err
	}
	defer s.e.leave()
	b, closer, err := s.e.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("mvcc: shard %d: %w", s.id, err)
	}
	return append([]byte{}, b...), closer.Close()
}
