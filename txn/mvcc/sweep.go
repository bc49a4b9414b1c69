package mvcc

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A sweep is how far a store has got with what nobody reads any more.
type sweep struct {
	under bool   // whether one is under way
	key   string // where it goes on
}

// A removal is what a sweep is to remove from what the store held when it looked.
type removal struct {
	life    uint64 // of the store then
	batch   *pebble.Batch
	removed int
	// Of records of aborted transactions and of bars, how many were counted then, and how
	// many of these are left.
	aborted, bars int
	left          [tableEnd]int
}

// Sweep removes up to about limit versions that no reader at or above the threshold
// sees, and then what was kept of aborted transactions that began below it. It goes on
// where the last one stopped, and reports whether it has come to the end. What it
// removes is no part of what replicas agree on. When the store has come to hold
// something else meanwhile it removes nothing, and the next one begins anew.
func (s *Store) Sweep(limit int) (removed int, ended bool, err error) {
	if err := s.e.enter(); err != nil {
		return 0, false, err
	}
	defer s.e.leave()
	s.mu.Lock()
	open, from, under := s.open, s.swept.key, s.swept.under
	life, threshold := s.life, s.State().Threshold
	s.swept.under = true
	s.mu.Unlock()
	if under {
		return 0, false, nil
	}
	next := ""
	defer func() {
		s.mu.Lock()
		s.swept = sweep{key: next}
		s.mu.Unlock()
	}()
	if !open {
		return 0, false, fmt.Errorf("mvcc: shard %d: sweep: %w", s.id, ErrClosed)
	}
	r, to, err := s.oldVersions(life, from, threshold, limit)
	ok, err := s.remove(r, err)
	if !ok {
		return 0, false, err
	}
	if next = to; next != "" {
		return r.removed, false, nil
	}
	rows, err := s.oldRows(life, threshold)
	if ok, err = s.remove(rows, err); !ok {
		return r.removed, false, err
	}
	return r.removed + rows.removed, true, nil
}

// remove carries out a removal, unless gathering it met an error or the store holds
// something else now: what has a later version in one state may not in another, from a
// replica that was swept less. It reports whether it did.
func (s *Store) remove(r *removal, err error) (ok bool, _ error) {
	if err == nil {
		ok, err = s.commitRemoval(r)
	}
	if err = errors.Join(err, r.batch.Close()); err != nil {
		return false, fmt.Errorf("mvcc: shard %d: sweep: %w", s.id, err)
	}
	return ok, nil
}

func (s *Store) commitRemoval(r *removal) (ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != r.life {
		return false, nil
	}
	if r.removed > 0 {
		if err := s.e.lives(); err != nil {
			return false, err
		}
		if err := r.batch.Commit(pebble.NoSync); err != nil {
			return false, err
		}
	}
	s.aborted += r.left[tableRecords] - r.aborted
	s.bars += r.left[tableBars] - r.bars
	return true, nil
}

// oldVersions gathers versions of keys from one on, and returns the key to go on at,
// empty at the end. The versions of one key go at once, so that one that deletes is not
// gone before those that it hides.
func (s *Store) oldVersions(life uint64, from string, threshold hlc.Timestamp, limit int) (g *removal, next string, err error) {
	g = &removal{life: life, batch: s.e.db.NewBatch()}
	r, err := s.Reader()
	if err != nil {
		return g, "", err
	}
	key, seen, below := "", 0, false // below: one at or below the threshold was met
	err = r.walk(from, "", func(string) hlc.Timestamp { return threshold }, func(k string, v *Version) (walk, error) {
		if k != key || seen == 0 {
			if seen >= limit {
				next = k
				return done, nil
			}
			key, below = k, false
		}
		seen++
		if below || v.Deleted {
			g.removed++
			_ = g.batch.Delete(appendVersion(nil, s.shard, k, v.TS), nil) // fails only on a batch that was committed
		}
		below = true
		return nextVersion, nil
	})
	return g, next, errors.Join(err, r.Close())
}

// oldRows gathers records of aborted transactions and bars.
func (s *Store) oldRows(life uint64, threshold hlc.Timestamp) (g *removal, err error) {
	g = &removal{life: life, batch: s.e.db.NewBatch()}
	lower, _ := bounds(s.shard, tableRecords, "", "")
	_, upper := bounds(s.shard, tableBars, "", "")
	s.mu.Lock()
	g.aborted, g.bars = s.aborted, s.bars
	var it *pebble.Iterator
	if g.aborted+g.bars > 0 {
		it, err = s.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	}
	s.mu.Unlock()
	if it == nil || err != nil {
		return g, err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var t table
		var start hlc.Timestamp
		var counted bool
		t, start, counted, err = rowOf(it)
		switch {
		case err != nil || !counted:
		case start <= threshold:
			g.removed++
			_ = g.batch.Delete(it.Key(), nil) // likewise
		default:
			g.left[t]++
		}
	}
	return g, errors.Join(err, it.Error(), it.Close())
}

// rowOf says when the transaction of a record or a bar began, and whether it is one of
// those that are counted.
func rowOf(it *pebble.Iterator) (t table, start hlc.Timestamp, counted bool, err error) {
	t, _, suffix, err := cutKey(it.Key())
	if err != nil {
		return t, 0, false, err
	}
	r := reader{b: suffix}
	start = r.txnKey().Start
	if r.bad {
		return t, 0, false, fmt.Errorf("mvcc: key %x is %w", it.Key(), errMalformed)
	}
	if t == tableRecords {
		rec, err := parseRecord(it.Value())
		return t, start, err == nil && rec.Status == Aborted, err
	}
	return t, start, true, nil
}
