package shard

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// An aside is what a split took out of the shard: the store goes on holding it, behind
// the end of the span, until the new shard stands on its own. It is kept with the batch
// that narrowed the span, so that no crash can lose the one without the other. No
// snapshot of the shard has it.
type aside struct {
	header      *Header // of the new shard
	index, term uint64  // of the split
	rows        []consensus.Row
	done        chan struct{} // closed when it has gone
}

// asidePrefix begins the keys of the rows that keep asides, beside rowHeader. The new
// shard's number follows, and then the key of one of the rows that it begins with, or
// none for the aside itself.
var asidePrefix = append(slices.Clone(rowHeader), '/')

// ours says whether a row is the machine's, and not the Host's.
func ours(key []byte) bool { return strings.HasPrefix(string(key), string(rowHeader)) }

// ownRows leaves the machine's rows out.
func ownRows(rows []consensus.Row) []consensus.Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r consensus.Row) bool { return ours(r.Key) })
}

func (a *aside) key(row []byte) []byte {
	b := binary.BigEndian.AppendUint64(slices.Clone(asidePrefix), uint64(a.header.Shard))
	return append(b, row...)
}

// encode returns the rows that keep the aside.
func (a *aside) encode() []consensus.Row {
	b := binary.AppendUvarint(binary.AppendUvarint(nil, a.index), a.term)
	list := []consensus.Row{{Key: a.key(nil), Value: a.header.Append(b)}}
	for _, r := range a.rows {
		list = append(list, consensus.Row{Key: a.key(r.Key), Value: r.Value})
	}
	return list
}

// gone returns the rows that end it.
func (a *aside) gone() []consensus.Row {
	list := a.encode()
	for i := range list {
		list[i].Value = nil
	}
	return list
}

// decodeAsides finds the asides among the rows of a state.
func decodeAsides(rows []consensus.Row) ([]*aside, error) {
	byShard := map[uint64]*aside{}
	for _, r := range rows {
		rest, ok := strings.CutPrefix(string(r.Key), string(asidePrefix))
		if !ok {
			continue
		}
		if len(rest) < 8 {
			return nil, fmt.Errorf("shard: row %q is %w", r.Key, errMalformed)
		}
		id := binary.BigEndian.Uint64([]byte(rest))
		a := byShard[id]
		if a == nil {
			a = &aside{done: make(chan struct{})}
			byShard[id] = a
		}
		if rest = rest[8:]; rest != "" {
			a.rows = append(a.rows, consensus.Row{Key: []byte(rest), Value: r.Value})
		} else if err := a.decode(r.Value); err != nil {
			return nil, fmt.Errorf("shard: what is aside for shard %d: %w", id, err)
		}
	}
	var list []*aside
	for id, a := range byShard {
		if a.header == nil || a.header.Shard != meta.ShardID(id) {
			return nil, fmt.Errorf("shard: what is aside for shard %d is %w", id, errMalformed)
		}
		list = append(list, a)
	}
	slices.SortFunc(list, func(a, b *aside) int { return cmp.Compare(a.index, b.index) })
	return list, nil
}

func (a *aside) decode(b []byte) (err error) {
	r := reader{b: b}
	a.index, a.term = r.uvarint(), r.uvarint()
	if r.bad {
		return errMalformed
	}
	a.header, err = ParseHeader(r.b)
	return err
}

// takeAsides takes the asides out of the rows of the state that was opened, and has
// their replicas made.
func (m *Machine) takeAsides(s consensus.State) (consensus.State, error) {
	list, err := decodeAsides(s.Rows)
	if err != nil {
		return consensus.State{}, err
	}
	s.Rows = ownRows(s.Rows)
	m.mu.Lock()
	m.asides = nil
	m.mu.Unlock()
	for _, a := range list {
		if err := m.setAside(a); err != nil {
			return consensus.State{}, err
		}
	}
	return s, nil
}

// setAside notes what the store holds for a new shard, and has its replica here made.
func (m *Machine) setAside(a *aside) error {
	v, err := m.store.View()
	if err != nil {
		return err
	}
	part, ok := v.(Part)
	if !ok {
		return fmt.Errorf("shard %d: the store's %T cannot be written in part", m.o.Shard, v)
	}
	m.mu.Lock()
	m.asides = append(m.asides, a)
	m.mu.Unlock()
	m.o.Fork(a.header.Shard, &consensus.Fork{
		View: &asideView{Part: part, a: a}, Index: a.index, Term: a.term,
		Write: func(w io.Writer, at consensus.State) error {
			at.Rows = append(slices.Clone(at.Rows), consensus.Row{Key: rowHeader, Value: a.header.Append(nil)})
			return part.WritePart(w, a.header.Span.Start, a.header.Span.End, at)
		},
	}, sync.OnceFunc(func() { m.release(a) }))
	return nil
}

// release drops what is aside. If the store cannot, the next life of the machine tries
// again.
func (m *Machine) release(a *aside) {
	m.dropping.Lock()
	defer m.dropping.Unlock()
	_ = m.drop(a)
}

// drop drops what is aside, if it is still there. The caller holds dropping.
func (m *Machine) drop(a *aside) error {
	m.mu.Lock()
	there := slices.Contains(m.asides, a)
	m.mu.Unlock()
	if !there {
		return nil
	}
	if err := m.store.Drop(a.header.Span.Start, a.header.Span.End, a.gone()); err != nil {
		return fmt.Errorf("shard %d: what is aside for shard %d: %w", m.o.Shard, a.header.Shard, err)
	}
	m.mu.Lock()
	m.asides = slices.DeleteFunc(m.asides, func(o *aside) bool { return o == a })
	m.mu.Unlock()
	close(a.done)
	return nil
}

// dropAsides drops what is aside of a span that is coming back. The new shard is there,
// or it could not come.
func (m *Machine) dropAsides(span meta.Span) error {
	m.dropping.Lock()
	defer m.dropping.Unlock()
	m.mu.Lock()
	list := slices.Clone(m.asides)
	m.mu.Unlock()
	for _, a := range list {
		if s := a.header.Span; (s.End == "" || span.Start < s.End) && (span.End == "" || s.Start < span.End) {
			if err := m.drop(a); err != nil {
				return err
			}
		}
	}
	return nil
}

// settle waits until nothing is aside.
func (m *Machine) settle(ctx context.Context) error {
	for {
		m.mu.Lock()
		var a *aside
		if len(m.asides) > 0 {
			a = m.asides[0]
		}
		m.mu.Unlock()
		if a == nil {
			return nil
		}
		select {
		case <-a.done:
		case <-ctx.Done():
			return fmt.Errorf("shard %d: the split at index %d is not settled: %w", m.o.Shard, a.index, context.Cause(ctx))
		}
	}
}

// An asideView is a machine as it was before a split, for whoever makes the replica of
// the new shard.
type asideView struct {
	Part
	a *aside
}

func (v *asideView) Position() (index, term uint64) { return v.a.index - 1, v.a.term }

func (v *asideView) State() consensus.State {
	return consensus.State{Index: v.a.index - 1, Term: v.a.term, Rows: v.a.rows}
}

func (v *asideView) Row(key []byte) []byte {
	for _, r := range v.a.rows {
		if string(r.Key) == string(key) {
			return r.Value
		}
	}
	return nil
}

// View implements consensus.StateMachine.
func (m *Machine) View() (consensus.View, error) {
	v, err := m.store.View()
	if err != nil {
		return nil, err
	}
	part, ok := v.(Part)
	if !ok {
		return nil, fmt.Errorf("shard %d: the store's %T cannot be written in part", m.o.Shard, v)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return &view{Part: part, span: m.Header().Span, asides: len(m.asides) > 0}, nil
}

// A view is the store's, without what is aside, and without the machine's rows among
// those that it shows.
type view struct {
	Part
	span   meta.Span
	asides bool // whether the store may hold some
}

func (v *view) State() consensus.State {
	s := v.Part.State()
	s.Rows = ownRows(s.Rows)
	return s
}

// WriteTo implements consensus.View.
func (v *view) WriteTo(w io.Writer) (int64, error) {
	if !v.asides {
		return v.Part.WriteTo(w)
	}
	s := v.Part.State()
	s.Rows = slices.DeleteFunc(slices.Clone(s.Rows), func(r consensus.Row) bool {
		return strings.HasPrefix(string(r.Key), string(asidePrefix))
	})
	counted := &counter{w: w}
	err := v.WritePart(counted, v.span.Start, v.span.End, s)
	return counted.n, err
}

// A counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
