package kv

import (
	"context"
	"fmt"
	"io"

	"github.com/phantomdb/phantomdb/consensus"
)

// Retain applies b, which has no commands, and drops all pairs whose keys are not in
// [start, end), in one step. An empty end is behind all keys. It takes time in
// proportion to what it drops.
func (m *Machine) Retain(b *consensus.Batch, start, end string) error {
	return m.change(b, nil, func() error {
		var out []string
		collect := func(key string, _ []byte) bool {
			out = append(out, key)
			return true
		}
		m.state.data.Scan(func(key string, value []byte) bool { return key < start && collect(key, value) })
		if end != "" {
			m.state.data.Ascend(end, collect)
		}
		for _, key := range out {
			m.state.remove(bytesOf(key))
		}
		return m.options.load(&m.state)
	})
}

// Absorb applies b, which has no commands, and takes in all pairs of from, a view of
// another Machine, in one step. Where both have a key, from's value counts.
func (m *Machine) Absorb(b *consensus.Batch, from consensus.View) error {
	f, ok := from.(*frozen)
	if !ok {
		return fmt.Errorf("kv: absorb a %T: expected a view of another machine of this package", from)
	}
	return m.change(b, nil, func() error {
		f.state.data.Scan(func(key string, value []byte) bool {
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
