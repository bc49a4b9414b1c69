package kv

import (
	"context"
	"fmt"
	"io"

	"github.com/phantomdb/phantomdb/consensus"
)

// Drop removes all pairs whose keys are in [start, end) and sets rows, in one step, at
// the index that is applied. An empty end is behind all keys. It takes time in
// proportion to what it removes, and may be called while Apply runs.
func (m *Machine) Drop(start, end string, rows []consensus.Row) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		return fmt.Errorf("kv: drop [%q, %q): %w", start, end, ErrClosed)
	}
	if err := checkRows(m.state.index, rows); err != nil {
		return err
	}
	var out []string
	m.state.data.Ascend(start, func(key string, _ []byte) bool {
		if end != "" && key >= end {
			return false
		}
		out = append(out, key)
		return true
	})
	for _, key := range out {
		m.state.remove(bytesOf(key))
	}
	m.state.setRows(rows)
	return m.options.load(&m.state)
}

// Absorb applies b, which has no commands, and takes in the pairs of from, a view of
// another Machine, whose keys are in [start, end), in one step. Where both have a key,
// from's value counts.
func (m *Machine) Absorb(b *consensus.Batch, from consensus.View, start, end string) error {
	f, ok := from.(*frozen)
	if !ok {
		return fmt.Errorf("kv: absorb a %T: expected a view of another machine of this package", from)
	}
	return m.change(b, nil, func() error {
		f.state.data.Ascend(start, func(key string, value []byte) bool {
			if end != "" && key >= end {
				return false
			}
			m.state.put(bytesOf(key), value)
			return true
		})
		return m.options.load(&m.state)
	})
}

// WritePart writes the pairs of the view whose keys are in [start, end), as a Machine
// at a position and with rows, in the form that Stage reads. An empty end is behind
// all keys.
func (f *frozen) WritePart(w io.Writer, start, end string, at consensus.State) error {
	part := state{index: at.Index, term: at.Term}
	part.setRows(at.Rows)
	f.state.data.Ascend(start, func(key string, value []byte) bool {
		if end != "" && key >= end {
			return false
		}
		if part.data == nil {
			part.data = new(lazyTree)
		}
		part.data.Load(key, value)
		return true
	})
	if _, err := part.writeTo(context.Background(), w); err != nil {
		return fmt.Errorf("kv: part [%q, %q) at index %d: %w", start, end, at.Index, err)
	}
	return nil
}
