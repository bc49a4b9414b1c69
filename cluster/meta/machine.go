package meta

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/consensus/kv"
)

// A Machine is the replicated State of the meta group: a consensus.StateMachine.
type Machine struct {
	*kv.Machine
	table table
}

// New returns a machine that keeps its checkpoints as o says; o.Commands must be nil.
func New(o kv.Options) (*Machine, error) {
	m := new(Machine)
	m.table.state.Store(new(State))
	o.Commands = &m.table
	var err error
	m.Machine, err = kv.New(o)
	return m, err
}

// State returns what the machine holds after the latest batch.
func (m *Machine) State() *State { return m.table.state.Load() }

// Changed returns a channel that is closed at the next change of the State, other
// than of its index. Who looks at the State after the call misses none.
func (m *Machine) Changed() <-chan struct{} {
	t := &m.table
	t.waitMu.Lock()
	defer t.waitMu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// Since returns what changed since an index that the caller has, or all there is
// where that is too long ago.
func (m *Machine) Since(index uint64) Delta {
	if d, ok := m.table.log.since(index); ok {
		return d
	}
	d := Delta{Whole: true}
	// A batch may come between the two: the state is then the older one, and what
	// the scan finds of the newer one comes again with the next delta.
	d.Index = m.State().Index
	m.Scan(nil, nil, func(key, value []byte) bool {
		d.changes = append(d.changes, change{key: key, value: value})
		return true
	})
	return d
}

// A table is a State as the kv.Commands of its records.
type table struct {
	state atomic.Pointer[State] // published
	log   changeLog

	waitMu  sync.Mutex
	changed chan struct{} // guarded by waitMu; nil if nobody waits

	// Guarded by the kv machine's lock.
	next    State    // of the batch that is applied
	pending []change // of next against state
	whole   bool     // next was loaded
}

// Load implements kv.Commands.
func (t *table) Load(p kv.Pairs) error {
	var s State
	var err error
	p.Ascend(nil, func(key, value []byte) bool {
		err = s.set(key, value)
		return err == nil
	})
	if err != nil {
		return err
	}
	t.next, t.pending, t.whole = s, nil, true
	return nil
}

// Run implements kv.Commands.
func (t *table) Run(p kv.Pairs, command []byte) []byte {
	c, err := Decode(command)
	if err != nil {
		return refuse(ErrInvalid, "%v", err).Append(nil)
	}
	w := turn{State: &t.next, changed: func(kind byte, id uint64, value []byte) {
		key := recordKey(kind, id)
		if value == nil {
			p.Delete(key)
		} else {
			p.Put(key, value)
		}
		t.pending = append(t.pending, change{key: key, value: value})
	}}
	return c.run(&w).Append(nil)
}

// Applied implements kv.Commands.
func (t *table) Applied(index uint64) {
	t.next.Index = index
	switch {
	case t.whole:
		t.next.Changed = index
		t.log.restart(index)
	case len(t.pending) > 0:
		t.next.Changed = index
		t.log.add(index, t.pending)
	default:
		t.log.pass(index)
	}
	news := t.whole || len(t.pending) > 0
	t.pending, t.whole = nil, false
	t.state.Store(t.next.freeze())
	if !news {
		return
	}
	t.waitMu.Lock()
	defer t.waitMu.Unlock()
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// A change is a record's new value, nil if it is gone.
type change struct{ key, value []byte }

// maxLogBytes bounds what a changeLog keeps.
const maxLogBytes = 1 << 20

// A changeLog keeps the latest changes.
type changeLog struct {
	mu     sync.Mutex
	from   uint64 // Invariant: holds all changes of (from, index].
	index  uint64
	bytes  int
	recent []changesAt // ascending
}

type changesAt struct {
	index   uint64
	changes []change
}

func (l *changeLog) restart(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.index, l.bytes, l.recent = index, index, 0, nil
}

// pass notes that nothing changed up to an index.
func (l *changeLog) pass(index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index = index
}

func (l *changeLog) add(index uint64, list []change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.index = index
	l.recent = append(l.recent, changesAt{index, list})
	for l.bytes += sizeOf(list); l.bytes > maxLogBytes && len(l.recent) > 0; {
		l.from = l.recent[0].index
		l.bytes -= sizeOf(l.recent[0].changes)
		l.recent[0] = changesAt{}
		l.recent = l.recent[1:]
	}
}

func sizeOf(list []change) (n int) {
	for _, c := range list {
		n += len(c.key) + len(c.value) + 64
	}
	return n
}

func (l *changeLog) since(index uint64) (Delta, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if index < l.from || index > l.index || index == 0 {
		return Delta{}, false
	}
	d := Delta{Since: index, Index: l.index}
	for _, at := range l.recent {
		if at.index > index {
			d.changes = append(d.changes, at.changes...)
		}
	}
	return d, true
}

// A Delta leads from a State to a later one.
type Delta struct {
	Whole   bool   // from the zero State
	Since   uint64 // the index that it leads from
	Index   uint64 // and to
	changes []change
}

// Empty says whether the delta moves the index at most.
func (d *Delta) Empty() bool { return len(d.changes) == 0 && !d.Whole }

// maxRecordBytes bounds a record, key and value, on the wire.
const maxRecordBytes = 64 << 10

// Append encodes a delta.
func (d *Delta) Append(b []byte) []byte {
	b = appendNumbers(append(b, recordVersion), number(d.Whole), d.Since, d.Index, uint64(len(d.changes)))
	for _, c := range d.changes {
		b = append(binary.AppendUvarint(b, uint64(len(c.key))), c.key...)
		b = binary.AppendUvarint(b, uint64(len(c.value))) // no record is empty
		b = append(b, c.value...)
	}
	return b
}

// ParseDelta decodes a delta, and refuses what Append did not write.
func ParseDelta(b []byte) (Delta, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return Delta{}, fmt.Errorf("meta: delta %x has another version than %d", b[:min(1, len(b))], recordVersion)
	}
	r := &reader{b: b[1:]}
	d := Delta{Whole: r.bool(), Since: r.uvarint(), Index: r.uvarint()}
	for range r.within(uint64(len(r.b))) {
		c := change{key: []byte(r.text(maxRecordBytes))}
		if v := r.text(maxRecordBytes); v != "" {
			c.value = []byte(v)
		}
		if r.bad {
			break
		}
		d.changes = append(d.changes, c)
	}
	if err := r.end(); err != nil {
		return Delta{}, fmt.Errorf("meta: delta of %d bytes: %w", len(b), err)
	}
	return d, nil
}

// Follow returns the state that d leads to from s. It returns an error, and no
// state, where d does not lead on from s or is damaged. Calls for one s must not
// overlap.
func (s *State) Follow(d Delta) (*State, error) {
	next := &State{}
	next.place()
	switch {
	case d.Whole:
	case d.Since != s.Index:
		return nil, fmt.Errorf("meta: delta from index %d, expected %d", d.Since, s.Index)
	default:
		next = s.freeze()
	}
	for _, c := range d.changes {
		if err := next.set(c.key, c.value); err != nil {
			return nil, err
		}
	}
	next.Index = d.Index
	if !d.Empty() {
		next.Changed = d.Index
	}
	return next, nil
}
