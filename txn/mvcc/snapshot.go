package mvcc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/stream"
)

// magic tells the package's streams from others.
const magic = "PHMVCC01"

// A frozen is a consensus.View.
type frozen struct {
	s           *Store
	index, term uint64
	state       *State

	mu   sync.RWMutex
	snap *pebble.Snapshot // guarded by mu; nil once closed
}

// View implements consensus.StateMachine.
func (s *Store) View() (consensus.View, error) {
	if err := s.e.enter(); err != nil {
		return nil, err
	}
	defer s.e.leave()
	s.mu.RLock() // nothing is applied meanwhile
	defer s.mu.RUnlock()
	if !s.open {
		return nil, fmt.Errorf("mvcc: shard %d: view: %w", s.id, ErrClosed)
	}
	f := &frozen{s: s, index: s.applied.Load(), term: s.term, state: s.state.Load(), snap: s.e.db.NewSnapshot()}
	s.e.mu.Lock()
	s.e.views[f] = true
	s.e.mu.Unlock()
	return f, nil
}

// use calls fn with the snapshot, which stays meanwhile.
func (f *frozen) use(fn func(*pebble.Snapshot) error) error {
	if err := f.s.e.enter(); err != nil {
		return err
	}
	defer f.s.e.leave()
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.snap == nil {
		return fmt.Errorf("mvcc: view of shard %d at index %d: %w", f.s.id, f.index, ErrClosed)
	}
	return fn(f.snap)
}

// Position implements consensus.View.
func (f *frozen) Position() (index, term uint64) { return f.index, f.term }

// Row implements consensus.View.
func (f *frozen) Row(key []byte) (value []byte) {
	_ = f.use(func(snap *pebble.Snapshot) error { // what cannot be read is not there, for want of an error
		b, closer, err := snap.Get(appendKey(nil, f.s.shard, tableRows, string(rowHost)+string(key)))
		if err != nil {
			return err
		}
		value = append([]byte{}, b...)
		return closer.Close()
	})
	return value
}

// State implements consensus.View.
func (f *frozen) State() consensus.State {
	s := consensus.State{Index: f.index, Term: f.term}
	_ = f.use(func(snap *pebble.Snapshot) error { // likewise
		return f.each(snap, tableRows, string(rowHost), string(rowHost+1), func(key string, it *pebble.Iterator) error {
			s.Rows = append(s.Rows, consensus.Row{Key: []byte(key[1:]), Value: append([]byte{}, it.Value()...)})
			return nil
		})
	})
	return s
}

// each calls visit for each entry of a table with a key in [start, end).
func (f *frozen) each(snap *pebble.Snapshot, t table, start, end string, visit func(key string, it *pebble.Iterator) error) error {
	lower, upper := bounds(f.s.shard, t, start, end)
	it, err := snap.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		k := it.Key()
		err = visit(string(k[prefixBytes:split(k)-1]), it)
	}
	return errors.Join(err, it.Error(), it.Close())
}

// Close implements consensus.View.
func (f *frozen) Close() error {
	if f.s.e.enter() != nil {
		return nil // the engine has closed it
	}
	defer f.s.e.leave()
	f.s.e.mu.Lock()
	delete(f.s.e.views, f)
	f.s.e.mu.Unlock()
	return f.end()
}

func (f *frozen) end() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	snap := f.snap
	if f.snap = nil; snap == nil {
		return nil
	}
	return snap.Close()
}

// WriteTo implements consensus.View.
func (f *frozen) WriteTo(w io.Writer) (int64, error) { return f.write(w, "", "", f.State()) }

// WritePart implements shard.Part.
func (f *frozen) WritePart(w io.Writer, start, end string, at consensus.State) error {
	_, err := f.write(w, start, end, at)
	return err
}

// write writes what is of keys in [start, end), with the rows of another position. A
// stream is entries by key, each of a length, the key of Pebble behind the shard, a
// length, and a value; a length of zero ends it.
func (f *frozen) write(w io.Writer, start, end string, at consensus.State) (n int64, err error) {
	c := stream.NewWriter(w, magic)
	entry := func(key, value []byte) error {
		c.Uvarint(uint64(len(key)))
		c.Bytes(key)
		c.Uvarint(uint64(len(value)))
		if !c.Bytes(value) {
			return io.ErrClosedPipe // Close tells
		}
		return nil
	}
	for _, r := range f.rows(at) {
		_ = entry(appendKey(nil, 0, tableRows, string(r.Key))[8:], r.Value) // likewise
	}
	err = f.use(func(snap *pebble.Snapshot) error {
		for t := tableIntents; t < tableEnd; t++ {
			if err := f.each(snap, t, start, end, func(_ string, it *pebble.Iterator) error { return entry(it.Key()[8:], it.Value()) }); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, io.ErrClosedPipe) {
		c.Fail(err)
	}
	c.Uvarint(0)
	if n, err = c.Close(); err != nil {
		return n, fmt.Errorf("mvcc: snapshot of shard %d at index %d: byte %d: %w", f.s.id, f.index, n, err)
	}
	return n, nil
}

// rows are those of a stream: the Host's, and the view's own, at a position.
func (f *frozen) rows(at consensus.State) []consensus.Row {
	p := positionOf(f.state, at.Index, at.Term)
	list := []consensus.Row{{Key: []byte{rowPosition}, Value: p.encode()}}
	for _, r := range at.Rows {
		list = append(list, consensus.Row{Key: append([]byte{rowHost}, r.Key...), Value: r.Value})
	}
	f.state.rows(func(row string, value []byte) {
		list = append(list, consensus.Row{Key: []byte(row), Value: value})
	})
	slices.SortFunc(list, func(a, b consensus.Row) int { return cmp.Compare(string(a.Key), string(b.Key)) })
	return list
}

// Stage implements consensus.StateMachine. It writes files that Pebble takes in as they
// are, and needs one chunk and the Host's rows of memory.
func (s *Store) Stage(r io.Reader) (consensus.Staged, error) {
	if err := s.e.enter(); err != nil {
		return nil, err
	}
	defer s.e.leave()
	c, err := stream.NewReader(r, magic)
	if err != nil {
		return nil, fmt.Errorf("mvcc: stage for shard %d: %w", s.id, err)
	}
	st := &stagedPart{s: s, files: newTables(s)}
	if err := st.read(c); err != nil {
		return nil, errors.Join(fmt.Errorf("mvcc: stage for shard %d: %w", s.id, err), st.Discard())
	}
	return st, nil
}

// A stagedPart is a consensus.Staged. Its methods must not overlap.
type stagedPart struct {
	s     *Store
	files *tables
	state consensus.State
	own   State // the parts of it that are rows
	found bool  // whether there was a position
}

// read takes a stream into files.
func (st *stagedPart) read(c *stream.Reader) error {
	var last, key, value []byte
	for {
		n, err := c.Length("key", MaxKeyBytes+64)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		if key, err = c.Append(appendShard(key[:0], st.s.shard), n, true); err != nil {
			return err
		}
		if n, err = c.Length("value", MaxValueBytes+MaxKeyBytes+128); err != nil {
			return err
		}
		if value, err = c.Append(value[:0], n, true); err != nil {
			return err
		}
		if err := st.take(last, key, value); err != nil {
			return err
		}
		last = append(last[:0], key...)
	}
	if err := c.End(); err != nil {
		return err
	}
	if !st.found {
		return fmt.Errorf("%w: there is no position", stream.ErrDamaged)
	}
	return st.files.finish()
}

// take takes one entry.
func (st *stagedPart) take(last, key, value []byte) error {
	t, name, _, err := cutKey(key)
	switch {
	case err != nil || t < tableRows || t >= tableEnd:
		return fmt.Errorf("%w: key %x", stream.ErrDamaged, key)
	case len(last) > 0 && comparer.Compare(last, key) >= 0:
		return fmt.Errorf("%w: key %x after %x, expected ascending keys", stream.ErrDamaged, key, last)
	}
	switch t {
	case tableRows:
		err = st.takeRow(name, value)
	case tableIntents:
		_, err = parseIntent(value)
	case tableRecords:
		_, err = parseRecord(value)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", stream.ErrDamaged, err)
	}
	return st.files.set(key, value)
}

func (st *stagedPart) takeRow(name string, value []byte) error {
	switch {
	case name == "":
		return errMalformed
	case name[0] == rowHost:
		st.state.Rows = append(st.state.Rows, consensus.Row{Key: []byte(name[1:]), Value: append([]byte{}, value...)})
		return nil
	case name[0] == rowPosition:
		p, err := parsePosition(value)
		st.state.Index, st.state.Term, st.found = p.index, p.term, err == nil
		return err
	}
	return st.own.take(name, value)
}

// State implements consensus.Staged.
func (st *stagedPart) State() consensus.State { return st.state }

// Discard implements consensus.Staged.
func (st *stagedPart) Discard() error { return st.files.discard() }

// Install implements consensus.Staged. Contents that are not ahead of the store are
// refused, and stay staged. After another error the store must be closed.
func (st *stagedPart) Install(ctx context.Context) error {
	s := st.s
	if err := s.e.enter(); err != nil {
		return err
	}
	defer s.e.leave()
	if err := st.install(ctx); err != nil {
		return fmt.Errorf("mvcc: shard %d: install of index %d: %w", s.id, st.state.Index, err)
	}
	// Where the files meet what Pebble has yet to flush it keeps them beside that.
	if err := s.Flush(ctx, st.state.Index); err != nil {
		return err
	}
	return st.Discard()
}

func (st *stagedPart) install(ctx context.Context) error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	switch applied := s.applied.Load(); {
	case !s.open:
		return ErrClosed
	case st.state.Index <= applied:
		return fmt.Errorf("index %d is applied, expected less", applied)
	}
	if err := s.e.db.Ingest(ctx, st.files.names); err != nil {
		return err
	}
	s.forget()
	if err := s.e.lives(); err != nil {
		return err
	}
	if _, err := s.load(); err != nil {
		s.forget()
		return err
	}
	s.open = true
	for _, o := range s.observers {
		o.reset(st.state.Index)
	}
	return nil
}
