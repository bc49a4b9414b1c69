package mvcc

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/phantomdb/phantomdb/consensus"
)

// Drop implements shard.Store.
func (s *Store) Drop(start, end string, rows []consensus.Row) error {
	if err := s.e.enter(); err != nil {
		return err
	}
	defer s.e.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return fmt.Errorf("mvcc: shard %d: drop [%q, %q): %w", s.id, start, end, ErrClosed)
	}
	a := &s.apply
	a.begin(s)
	err := a.hostRows(rows)
	for t := tableIntents; t < tableEnd && err == nil; t++ {
		lower, upper := bounds(s.shard, t, start, end)
		err = a.batch.DeleteRange(lower, upper, nil)
	}
	if err == nil {
		err = s.e.lives()
	}
	if err == nil {
		err = a.batch.Commit(pebble.NoSync)
	}
	if err != nil {
		_ = a.batch.Close() // it was not committed
		return fmt.Errorf("mvcc: shard %d: drop [%q, %q): %w", s.id, start, end, err)
	}
	s.life++
	s.dropMemory(start, end)
	return a.batch.Close()
}

// dropMemory drops what is of keys in [start, end) from memory. The caller holds mu.
func (s *Store) dropMemory(start, end string) {
	var out []*Intent
	s.intents.Ascend(start, func(key string, list []*Intent) bool {
		if end != "" && key >= end {
			return false
		}
		out = append(out, list...)
		return true
	})
	for _, i := range out {
		s.lift(i)
	}
	for key, r := range s.records {
		if r.Txn.Anchor >= start && (end == "" || r.Txn.Anchor < end) {
			delete(s.records, key)
		}
	}
	clear(s.counters)
}

// Absorb implements shard.Store. All that it takes in is one batch in memory.
func (s *Store) Absorb(b *consensus.Batch, from consensus.View, start, end string) error {
	f, ok := from.(*frozen)
	if !ok {
		return fmt.Errorf("mvcc: shard %d: absorb a %T: expected a view of another store of this package", s.id, from)
	}
	err := s.change(b, func(a *applier) error {
		a.state.join(f.state)
		a.changed = true
		clear(s.counters)
		a.state.rows(a.ownRow)
		if err := f.use(func(snap *pebble.Snapshot) error { return a.absorb(f, snap, start, end) }); err != nil {
			return err
		}
		if b.ResultRows != nil {
			return a.hostRows(b.ResultRows(nil))
		}
		return nil
	})
	if err == nil {
		s.tellReset(b.Index)
	}
	return err
}

// absorb stages what a view holds of keys in [start, end).
func (a *applier) absorb(f *frozen, snap *pebble.Snapshot, start, end string) error {
	for t := tableIntents; t < tableEnd; t++ {
		err := f.each(snap, t, start, end, func(key string, it *pebble.Iterator) error {
			a.set(append(appendShard(a.buf[:0], a.s.shard), it.Key()[8:]...), it.Value())
			_, err := a.s.loadRow(nil, nil, t, key, it.Value())
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
