package kv

import (
	"unsafe"

	"github.com/tidwall/btree"

	"github.com/phantomdb/phantomdb/consensus"
)

// tree is the ordered map of pairs or rows. The zero tree is empty and holds
// no node.
type tree = btree.Map[string, []byte]

// state is everything that a checkpoint holds. Keys and values are never
// changed in place: views, scans and callers of Get share them.
type state struct {
	index, term uint64
	bytes       int64 // Invariant: the sum of len(key)+len(value) over data and rows.
	data        *lazyTree
	rows        *lazyTree
}

// lazyTree is a tree that may be nil while it is empty, for the sake of the
// many idle machines of a process.
type lazyTree struct{ tree }

func (t *lazyTree) Get(key string) ([]byte, bool) {
	if t == nil {
		return nil, false
	}
	return t.tree.Get(key)
}

func (t *lazyTree) Len() int {
	if t == nil {
		return 0
	}
	return t.tree.Len()
}

func (t *lazyTree) Scan(visit func(key string, value []byte) bool) {
	if t != nil {
		t.tree.Scan(visit)
	}
}

func (t *lazyTree) Ascend(from string, visit func(key string, value []byte) bool) {
	if t != nil {
		t.tree.Ascend(from, visit)
	}
}

func (t *lazyTree) freeze() *lazyTree {
	if t == nil {
		return nil
	}
	return &lazyTree{*t.tree.IsoCopy()}
}

func (s *state) freeze() state {
	frozen := *s
	frozen.data, frozen.rows = s.data.freeze(), s.rows.freeze()
	return frozen
}

// position returns what the Host needs to know. The rows are shared.
func (s *state) position() consensus.State {
	p := consensus.State{Index: s.index, Term: s.term}
	if n := s.rows.Len(); n > 0 {
		p.Rows = make([]consensus.Row, 0, n)
		s.rows.Scan(func(key string, value []byte) bool {
			p.Rows = append(p.Rows, consensus.Row{Key: bytesOf(key), Value: value})
			return true
		})
	}
	return p
}

// put copies a pair into the data and reports whether key was there.
func (s *state) put(key, value []byte) (replaced bool) {
	if s.data == nil {
		s.data = new(lazyTree)
	}
	return s.set(s.data, key, value)
}

func (s *state) remove(key []byte) (removed bool) {
	return s.data != nil && s.unset(s.data, key)
}

// setRows sets rows, and deletes those without a value.
func (s *state) setRows(rows []consensus.Row) {
	for _, row := range rows {
		switch {
		case row.Value != nil && s.rows == nil:
			s.rows = new(lazyTree)
			fallthrough
		case row.Value != nil:
			s.set(s.rows, row.Key, row.Value)
		case s.rows != nil:
			s.unset(s.rows, row.Key)
		}
	}
}

// set copies key and value into one allocation: the tree takes the new key
// along with the new value, so the old pair is freed as a whole.
func (s *state) set(t *lazyTree, key, value []byte) (replaced bool) {
	pair := make([]byte, len(key)+len(value))
	copy(pair, key)
	copy(pair[len(key):], value)
	old, replaced := t.Set(view(pair[:len(key)]), pair[len(key):])
	s.bytes += int64(len(value) - len(old))
	if !replaced {
		s.bytes += int64(len(key))
	}
	return replaced
}

func (s *state) unset(t *lazyTree, key []byte) (removed bool) {
	old, removed := t.Delete(view(key))
	if removed {
		s.bytes -= int64(len(key) + len(old))
	}
	return removed
}

// view looks at bytes as a string without a copy. The bytes must not change
// for as long as the string is used.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf looks at a string as bytes, which nobody may change.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
