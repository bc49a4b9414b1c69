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

// Sweep removes up to about limit versions that no reader at or above the threshold
// sees, and then what was kept of aborted transactions that began below it. It goes on
// where the last one stopped, and reports whether it has come to the end. What it
// removes is no part of what replicas agree on.
func (s *Store) Sweep(limit int) (removed int, ended bool, err error) {
	if err := s.e.enter(); err != nil {
		return 0, false, err
	}
	defer s.e.leave()
	s.mu.Lock()
	open, from, under := s.open, s.swept.key, s.swept.under
	s.swept.under = true
	s.mu.Unlock()
	if under {
		return 0, false, nil
	}
	defer func() {
		s.mu.Lock()
		s.swept = sweep{key: from}
		s.mu.Unlock()
	}()
	if !open {
		return 0, false, fmt.Errorf("mvcc: shard %d: sweep: %w", s.id, ErrClosed)
	}
	threshold := s.State().Threshold
	removed, from, err = s.sweepVersions(from, threshold, limit)
	if err != nil || from != "" {
		return removed, false, wrapSweep(s, err)
	}
	n, err := s.sweepRows(threshold)
	return removed + n, true, wrapSweep(s, err)
}

func wrapSweep(s *Store, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("mvcc: shard %d: sweep: %w", s.id, err)
}

// sweepVersions removes versions of keys from one on, and returns the key to go on at,
// empty at the end. The versions of one key go at once, so that one that deletes is not
// gone before those that it hides.
func (s *Store) sweepVersions(from string, threshold hlc.Timestamp, limit int) (removed int, next string, err error) {
	r, err := s.Reader()
	if err != nil {
		return 0, "", err
	}
	b := s.e.db.NewBatch()
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
			removed++
			_ = b.Delete(appendVersion(nil, s.shard, k, v.TS), nil) // fails only on a batch that was committed
		}
		below = true
		return nextVersion, nil
	})
	err = errors.Join(err, r.Close())
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	return removed, next, errors.Join(err, b.Close())
}

// sweepRows removes records of aborted transactions and bars.
func (s *Store) sweepRows(threshold hlc.Timestamp) (removed int, err error) {
	lower, _ := bounds(s.shard, tableRecords, "", "")
	_, upper := bounds(s.shard, tableBars, "", "")
	s.mu.Lock()
	aborted, bars := s.aborted, s.bars
	var it *pebble.Iterator
	if aborted+bars > 0 {
		it, err = s.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	}
	s.mu.Unlock()
	if it == nil || err != nil {
		return 0, err
	}
	b := s.e.db.NewBatch()
	left := [tableEnd]int{}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var gone bool
		var t table
		if t, gone, err = oldRow(it, threshold); gone {
			removed++
			_ = b.Delete(it.Key(), nil) // likewise
		} else {
			left[t]++
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err = errors.Join(err, b.Close()); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.aborted, s.bars = max(0, s.aborted-aborted+left[tableRecords]), max(0, s.bars-bars+left[tableBars])
	return removed, nil
}

// oldRow says whether a record or a bar is of a transaction that nobody asks for.
func oldRow(it *pebble.Iterator, threshold hlc.Timestamp) (t table, old bool, err error) {
	t, _, suffix, err := cutKey(it.Key())
	if err != nil {
		return t, false, err
	}
	r := reader{b: suffix}
	start := r.txnKey().Start
	if r.bad {
		return t, false, fmt.Errorf("mvcc: key %x is %w", it.Key(), errMalformed)
	}
	if t == tableRecords {
		rec, err := parseRecord(it.Value())
		if err != nil || rec.Status != Aborted {
			return t, false, err
		}
	}
	return t, start <= threshold, nil
}
