package mvcc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/tidwall/btree"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Store is one replica's part of an Engine. See package consensus for what may be
// called when.
type Store struct {
	e     *Engine
	id    meta.ShardID
	shard uint64

	applied atomic.Uint64
	durable atomic.Uint64 // Invariant: durable <= applied while the store is open
	state   atomic.Pointer[State]

	mu        sync.RWMutex
	open      bool                         // guarded by mu
	life      uint64                       // guarded by mu; rises when the store comes to hold something else
	term      uint64                       // guarded by mu; of the entry at applied
	intents   btree.Map[string, []*Intent] // guarded by mu; all there are
	keys      map[id.Key]map[string]bool   // guarded by mu; where a transaction has intents
	records   map[id.Key]*Record           // guarded by mu; those that are not Aborted
	aborted   int                          // guarded by mu; no fewer than there are records that are
	bars      int                          // guarded by mu; no fewer than there are
	counters  map[string]counter           // guarded by mu; the latest versions of some
	observers []*observer                  // guarded by mu
	swept     sweep                        // guarded by mu

	apply applier // scratch of Apply
}

var (
	_ shard.Store = (*Store)(nil)
	_ shard.Part  = (*frozen)(nil)
)

func newStore(e *Engine, s meta.ShardID) *Store {
	st := &Store{e: e, id: s, shard: uint64(s)}
	st.forget()
	return st
}

// forget drops what is in memory. The caller holds mu, or nobody else has the store.
func (s *Store) forget() {
	s.open, s.term, s.life = false, 0, s.life+1
	s.intents = btree.Map[string, []*Intent]{}
	s.keys, s.records, s.counters = map[id.Key]map[string]bool{}, map[id.Key]*Record{}, map[string]counter{}
	s.aborted, s.bars = 0, 0
	s.applied.Store(0)
	s.state.Store(&State{})
}

// State is what holds against each command now.
func (s *Store) State() *State { return s.state.Load() }

// Applied is the index of the last entry that was applied.
func (s *Store) Applied() uint64 { return s.applied.Load() }

// Open implements consensus.StateMachine.
func (s *Store) Open() (consensus.State, error) {
	if err := s.e.enter(); err != nil {
		return consensus.State{}, err
	}
	defer s.e.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open {
		return consensus.State{}, fmt.Errorf("mvcc: shard %d is open already", s.id)
	}
	s.forget()
	rows, err := s.load()
	if err != nil {
		s.forget()
		return consensus.State{}, fmt.Errorf("mvcc: open shard %d: %w", s.id, err)
	}
	if err := s.loadDurable(); err != nil {
		s.forget()
		return consensus.State{}, fmt.Errorf("mvcc: open shard %d: %w", s.id, err)
	}
	s.open = true
	return consensus.State{Index: s.applied.Load(), Term: s.term, Rows: rows}, nil
}

// loadDurable finds out how much of what is there a crash leaves. An earlier store of
// the shard may have written the rest a moment ago.
func (s *Store) loadDurable() error {
	s.durable.Store(0)
	it, err := s.e.db.NewIter(&pebble.IterOptions{OnlyReadGuaranteedDurable: true})
	if err != nil {
		return err
	}
	p, ok, err := s.readPosition(it)
	if ok && s.e.lives() == nil {
		s.raise(p.index)
	}
	return errors.Join(err, it.Close())
}

// load reads into memory what belongs there, and returns the Host's rows.
func (s *Store) load() (rows []consensus.Row, err error) {
	lower, _ := bounds(s.shard, tableRows, "", "")
	_, upper := bounds(s.shard, tableBars, "", "")
	it, err := s.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	st := &State{}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var t table
		var key string
		if t, key, _, err = cutKey(it.Key()); err == nil {
			rows, err = s.loadRow(st, rows, t, key, it.Value())
		}
	}
	s.state.Store(st)
	return rows, errors.Join(err, it.Error(), it.Close())
}

func (s *Store) loadRow(st *State, rows []consensus.Row, t table, key string, value []byte) ([]consensus.Row, error) {
	switch t {
	case tableRows:
		switch {
		case key == "":
			return rows, errMalformed
		case key[0] == rowHost:
			return append(rows, consensus.Row{Key: []byte(key[1:]), Value: append([]byte{}, value...)}), nil
		case key[0] == rowPosition:
			p, err := parsePosition(value)
			if err != nil {
				return rows, err
			}
			s.applied.Store(p.index)
			s.term, st.Lease, st.Closed, st.Threshold, st.Reads = p.term, p.lease, p.closed, p.threshold, p.reads
			return rows, nil
		}
		return rows, st.take(key, value)
	case tableIntents:
		i, err := parseIntent(append([]byte{}, value...))
		if err == nil {
			s.lay(i)
		}
		return rows, err
	case tableRecords:
		r, err := parseRecord(value)
		if err == nil {
			s.record(r)
		}
		return rows, err
	case tableBars:
		s.bars++
	}
	return rows, nil
}

// lay notes an intent. The caller holds mu.
func (s *Store) lay(i *Intent) {
	key := i.Write.Key
	list, _ := s.intents.Get(key)
	next := make([]*Intent, 0, len(list)+1)
	for _, o := range list {
		if o.Txn.Key != i.Txn.Key {
			next = append(next, o)
		}
	}
	s.intents.Set(key, append(next, i)) // never in place: readers share it
	m := s.keys[i.Txn.Key]
	if m == nil {
		m = map[string]bool{}
		s.keys[i.Txn.Key] = m
	}
	m[key] = true
}

// intent finds a transaction's intent at a key. The caller holds mu.
func (s *Store) intent(txn id.Key, key string) *Intent {
	list, _ := s.intents.Get(key)
	for _, i := range list {
		if i.Txn.Key == txn {
			return i
		}
	}
	return nil
}

// lift drops an intent. The caller holds mu.
func (s *Store) lift(i *Intent) {
	key := i.Write.Key
	list, _ := s.intents.Get(key)
	if len(list) <= 1 {
		s.intents.Delete(key)
	} else {
		next := make([]*Intent, 0, len(list)-1)
		for _, o := range list {
			if o != i {
				next = append(next, o)
			}
		}
		s.intents.Set(key, next)
	}
	m := s.keys[i.Txn.Key]
	if delete(m, key); len(m) == 0 {
		delete(s.keys, i.Txn.Key)
	}
}

// record notes a record. The caller holds mu.
func (s *Store) record(r *Record) {
	if r.Status == Aborted {
		delete(s.records, r.Txn.Key)
		s.aborted++
		return
	}
	s.records[r.Txn.Key] = r
}

// positionKey is the key of Pebble at which the position is kept.
func (s *Store) positionKey() []byte {
	return appendKey(nil, s.shard, tableRows, string([]byte{rowPosition}))
}

// readPosition reads the position that an iterator sees.
func (s *Store) readPosition(it *pebble.Iterator) (p position, ok bool, err error) {
	key := s.positionKey()
	if !it.SeekGE(key) || !comparer.Equal(it.Key(), key) {
		return p, false, it.Error()
	}
	p, err = parsePosition(it.Value())
	return p, err == nil, err
}

// raise notes that the store is durable up to an index.
func (s *Store) raise(index uint64) {
	for {
		old := s.durable.Load()
		if old >= index || s.durable.CompareAndSwap(old, index) {
			return
		}
	}
}

// Durable implements consensus.StateMachine.
func (s *Store) Durable() uint64 { return s.durable.Load() }

// Flush implements consensus.StateMachine. It makes durable what all stores of the
// engine have applied.
func (s *Store) Flush(ctx context.Context, upTo uint64) error {
	for s.durable.Load() < upTo {
		if applied := s.applied.Load(); applied < upTo {
			return fmt.Errorf("mvcc: shard %d: flush up to index %d: only %d is applied", s.id, upTo, applied)
		}
		if err := s.e.flush(ctx); err != nil {
			return fmt.Errorf("mvcc: shard %d: flush up to index %d: %w", s.id, upTo, err)
		}
	}
	return nil
}

// Close implements consensus.StateMachine. The engine keeps what the store has.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	return nil
}

// Destroy implements consensus.StateMachine. The replica is gone for good when it
// returns.
func (s *Store) Destroy() error {
	if err := s.e.enter(); err != nil {
		return err
	}
	defer s.e.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	s.durable.Store(0)
	lower, upper := appendKey(nil, s.shard, tableRows, ""), appendKey(nil, s.shard, tableEnd, "")
	err := s.e.db.DeleteRange(lower, upper, pebble.NoSync)
	if err == nil {
		err = s.e.flush(context.Background())
	}
	if err != nil {
		return fmt.Errorf("mvcc: destroy shard %d: %w", s.id, err)
	}
	return nil
}
