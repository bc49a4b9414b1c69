package shard

import (
	"fmt"
	"slices"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// control applies a batch of one command that is not the store's.
func (m *Machine) control(b *consensus.Batch, results []consensus.Result) error {
	h := m.header.Load()
	c, err := decodeControl(b.Commands[0])
	if err != nil {
		results[0].Data = []byte{refused, badCommand}
		return m.pass(b, results, nil)
	}
	if again(h, c) {
		results[0].Data = say(controlled, h)
		return m.pass(b, results, nil)
	}
	next, err := m.change(b, h, c, results)
	if err != nil {
		return fmt.Errorf("shard %d: %v at index %d: %w", m.o.Shard, c.Kind, b.Index, err)
	}
	if next == nil {
		results[0].Data = say(stale, h)
		return m.pass(b, results, nil)
	}
	m.closed.Store(next.Generation)
	return nil
}

// again says whether the header is what c led to.
func again(h *Header, c *Control) bool {
	switch c.Kind {
	case Begin:
		return h.Generation > 0
	case Split:
		return h.Generation == c.Generation+1 && h.Right == c.Other && h.Span.End == c.Key
	case Freeze:
		return h.Frozen != 0 && h.Into == c.Other && h.Generation == c.Generation+1
	case Thaw, Fence:
		// What was carried out has not been given up.
		return h.Generation == c.Generation+1 && h.Over == c.Move && h.Carried != c.Move
	case Subsume:
		return h.Generation == later(c) && h.Right == c.Right && h.Span.End == c.Span.End
	}
	return false
}

// change carries a control out and returns the new header, nil if c does not fit.
func (m *Machine) change(b *consensus.Batch, h *Header, c *Control, results []consensus.Result) (*Header, error) {
	next := *h
	next.barred = ""
	next.Generation++
	frozen := h.Frozen != 0
	switch {
	case c.Generation != h.Generation || c.Kind != Begin && (h.Generation == 0 || c.Move <= h.Over):
		return nil, nil
	case c.Kind == Begin:
		next.Span = c.Span
	case c.Kind == Freeze && !frozen:
		next.Frozen, next.Into, next.By = b.Index, c.Other, c.Move
	case c.Kind == Fence && !frozen, c.Kind == Thaw:
		next.Frozen, next.Into, next.By, next.Over = 0, 0, 0, c.Move
	case c.Kind == Split && !frozen:
		return m.split(b, h, c, results)
	case c.Kind == Subsume && !frozen:
		return m.subsume(b, h, c, results)
	default:
		return nil, nil
	}
	results[0].Data = say(controlled, &next)
	if err := m.pass(b, results, &next); err != nil {
		return nil, err
	}
	m.replace(&next, b.Index)
	return &next, nil
}

// replace has the header that the command at an index made.
func (m *Machine) replace(h *Header, index uint64) {
	m.changed.Store(index) // first, for Keep
	m.header.Store(h)
}

// pass has the store apply a batch without its command, and keeps next, if there is
// one. results are answered already.
func (m *Machine) pass(b *consensus.Batch, results []consensus.Result, next *Header) error {
	return m.store.Apply(m.without(b, results, next), nil)
}

// without is a batch without its command, and with a new header.
func (m *Machine) without(b *consensus.Batch, results []consensus.Result, next *Header) *consensus.Batch {
	inner := &consensus.Batch{Index: b.Index, Term: b.Term, Rows: b.Rows}
	if next != nil {
		inner.Rows = append(slices.Clone(b.Rows), consensus.Row{Key: rowHeader, Value: next.Append(nil)})
	}
	if b.ResultRows != nil {
		inner.ResultRows = func([]consensus.Result) []consensus.Row { return b.ResultRows(results) }
	}
	return inner
}

// split narrows the span and sets the rest aside for the new shard.
func (m *Machine) split(b *consensus.Batch, h *Header, c *Control, results []consensus.Result) (*Header, error) {
	if c.Other == 0 || c.Key <= h.Span.Start || !h.Span.Contains(c.Key) {
		return nil, nil
	}
	before, err := m.store.View()
	if err != nil {
		return nil, err
	}
	members, err := consensus.MembershipIn(before)
	at := before.State()
	_ = before.Close()
	if err != nil || members.Joint {
		return nil, err
	}
	next, child := *h, *h
	next.barred, child.barred = "", ""
	next.Span.End, next.Right = c.Key, c.Other
	next.Over, next.Carried, child.Over, child.Carried = c.Move, c.Move, c.Move, c.Move
	next.Generation++
	child.Shard, child.Span.Start = c.Other, c.Key
	child.Generation, child.Parent, child.Born = next.Generation, h.Shard, next.Generation
	results[0].Data = say(controlled, &next)
	a := &aside{header: &child, index: b.Index, term: b.Term, rows: ownRows(at.Rows), done: make(chan struct{})}
	inner := m.without(b, results, &next)
	inner.Rows = append(inner.Rows, a.encode()...)
	if err := m.store.Apply(inner, nil); err != nil {
		return nil, err
	}
	// It must be known of before the header says that the split was applied: by that
	// others see whether a replica of the new shard may begin with nothing.
	if err := m.setAside(a); err != nil {
		return nil, err
	}
	m.replace(&next, b.Index)
	return &next, nil
}

// later is the generation behind a Subsume: above both, so that no command that was
// made for either passes.
func later(c *Control) uint64 { return max(c.Generation, c.OtherGeneration) + 1 }

// subsume takes in a neighbour that is frozen.
func (m *Machine) subsume(b *consensus.Batch, h *Header, c *Control, results []consensus.Result) (*Header, error) {
	own, err := m.store.View()
	if err != nil {
		return nil, err
	}
	members, err := consensus.MembershipIn(own)
	_ = own.Close()
	if err != nil || members.Joint || members.Index != c.Members || c.Span.Start != h.Span.End || h.Span.End == "" {
		return nil, err
	}
	right, err := m.o.Neighbour(c.Other)
	if err != nil {
		return nil, err
	}
	r := right.Header()
	if r.Into != h.Shard || r.By != c.Move || r.Generation != c.OtherGeneration || r.Span != c.Span {
		return nil, fmt.Errorf("the replica here of the neighbour is %v, expected %v frozen with generation %d", r, c.Span, c.OtherGeneration)
	}
	// What comes back is not to meet what was left of it.
	if err := m.dropAsides(c.Span); err != nil {
		return nil, err
	}
	from, err := right.store.View()
	if err != nil {
		return nil, err
	}
	defer func() { _ = from.Close() }()
	next := *h
	next.barred = ""
	next.Span, next.Right = meta.Span{Start: h.Span.Start, End: c.Span.End}, c.Right
	next.Generation, next.Over, next.Carried = later(c), c.Move, c.Move
	results[0].Data = say(controlled, &next)
	if err := m.store.Absorb(m.without(b, results, &next), from, c.Span.Start, c.Span.End); err != nil {
		return nil, err
	}
	m.replace(&next, b.Index)
	return &next, nil
}
