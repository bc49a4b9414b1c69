package shard

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// A Store is what a floor above keeps in a shard: the state machine of the commands
// that the fence lets pass. No answer of it begins with the byte 0xff, its Views are
// Parts, and View may be called at any time.
type Store interface {
	consensus.StateMachine
	// Drop removes what is of keys in [start, end) and replaces rows, in one step, and
	// moves neither index nor durability. It may be called while Apply runs, and a
	// crash that undoes it undoes all that was applied after it. An empty end is
	// behind all keys.
	Drop(start, end string, rows []consensus.Row) error
	// Absorb applies b, which has no commands, and takes in what from holds of keys in
	// [start, end), a View of another Store of the same kind, in one step.
	Absorb(b *consensus.Batch, from consensus.View, start, end string) error
}

// Stores are the stores of a node's replicas.
type Stores interface {
	// Store returns the store of the node's replica of a shard, which is to be opened.
	// There is never more than one at a time for a shard.
	Store(id meta.ShardID) (Store, error)
	// Close comes after that of all stores. What they have made durable it keeps, and
	// more than that it need not.
	Close() error
}

// Each is Stores that have nothing in common.
type Each func(id meta.ShardID) (Store, error)

// Store implements Stores.
func (e Each) Store(id meta.ShardID) (Store, error) { return e(id) }

// Close implements Stores.
func (e Each) Close() error { return nil }

// A Part is a View of which a part can be written.
type Part interface {
	consensus.View
	// WritePart writes what the view holds of keys in [start, end), as a Store at a
	// position and with rows, in the form that Stage reads.
	WritePart(w io.Writer, start, end string, at consensus.State) error
}

// Options configures a Machine. All fields are required.
type Options struct {
	Shard meta.ShardID
	Store Store
	// Fork is called when a split is applied, before Apply returns, and by Open if
	// release was not called before a crash. It must not wait: the replica here of
	// the new shard is to be made of f, unless it is there. release must be called when
	// the new shard has committed something, or has no replica here.
	Fork func(child meta.ShardID, f *consensus.Fork, release func())
	// Neighbour returns the machine of the replica here of a shard that is being
	// subsumed.
	Neighbour func(meta.ShardID) (*Machine, error)
}

// A Machine is a Store behind a fence.
type Machine struct {
	o      Options
	store  Store
	header atomic.Pointer[Header]

	commands [][]byte           // scratch of Apply
	results  []consensus.Result // scratch of Apply

	ops     atomic.Uint64
	closed  atomic.Uint64 // the generation that the latest change applied here led to
	changed atomic.Uint64 // the index of that change

	mu     sync.Mutex
	asides []*aside // guarded by mu
	bars   int      // guarded by mu; those who barred the header and have not undone it

	dropping sync.Mutex // held while what is aside is dropped
}

var (
	_ consensus.StateMachine = (*Machine)(nil)
	_ consensus.Refuser      = (*Machine)(nil)
)

// New returns a machine that is not open yet.
func New(o Options) *Machine {
	m := &Machine{o: o, store: o.Store}
	m.header.Store(&Header{Shard: o.Shard})
	return m
}

// Header is what the shard knows of itself here. It is never nil.
func (m *Machine) Header() *Header { return m.header.Load() }

// Store is what the fence is around, for reads.
func (m *Machine) Store() Store { return m.store }

// Worked counts an operation that the replica did for somebody, as leader.
func (m *Machine) Worked() { m.ops.Add(1) }

// Ops is how many operations were counted.
func (m *Machine) Ops() uint64 { return m.ops.Load() }

// Closed says whether the shard has left a generation by a change that this replica
// applied, rather than by a snapshot that it took in. What was proposed to it for that
// generation, and has no answer when the replica ends, was not applied and never will
// be.
func (m *Machine) Closed(generation uint64) bool { return generation < m.closed.Load() }

// rowHeader is the key of the row that holds the header, beside the Host's.
var rowHeader = []byte("shard")

// takeHeader takes the header out of the rows of a state.
func (m *Machine) takeHeader(s *consensus.State) (*Header, error) {
	h := &Header{Shard: m.o.Shard}
	i := slices.IndexFunc(s.Rows, func(r consensus.Row) bool { return string(r.Key) == string(rowHeader) })
	if i < 0 {
		return h, nil
	}
	h, err := ParseHeader(s.Rows[i].Value)
	if err != nil {
		return nil, fmt.Errorf("shard %d: at index %d: %w", m.o.Shard, s.Index, err)
	}
	if h.Shard != m.o.Shard {
		return nil, fmt.Errorf("shard %d: at index %d: the header is that of shard %d", m.o.Shard, s.Index, h.Shard)
	}
	s.Rows = slices.Delete(slices.Clone(s.Rows), i, i+1)
	return h, nil
}

// Open implements consensus.StateMachine.
func (m *Machine) Open() (consensus.State, error) {
	s, err := m.store.Open()
	if err != nil {
		return s, err
	}
	h, err := m.takeHeader(&s)
	if err != nil {
		return consensus.State{}, err
	}
	m.header.Store(h)
	return m.takeAsides(s)
}

// Refuses implements consensus.Refuser.
func (m *Machine) Refuses(command []byte) (answer []byte, ok bool) {
	h := m.header.Load()
	if generation, _, known := cutCommand(command); known && (generation != h.Generation || !h.open()) {
		return say(stale, h), true
	}
	return nil, false
}

// Apply implements consensus.StateMachine.
func (m *Machine) Apply(b *consensus.Batch, results []consensus.Result) error {
	if b.Alone && (len(b.Commands[0]) == 0 || b.Commands[0][0] != kindStore) {
		return m.control(b, results)
	}
	h := m.header.Load()
	passed := m.commands[:0]
	for i, c := range b.Commands {
		switch generation, command, ok := cutCommand(c); {
		case !ok:
			results[i].Data = []byte{refused, badCommand}
		case generation != h.Generation || !h.open():
			results[i].Data = say(stale, h)
		default:
			results[i].Data = nil
			passed = append(passed, command)
		}
	}
	m.commands = passed
	inner := *b
	inner.Commands = passed
	if len(passed) == len(b.Commands) {
		if err := m.store.Apply(&inner, results); err != nil {
			return err
		}
		return m.checkAnswers(b.Index, results)
	}
	return m.applySome(b, &inner, results)
}

// applySome applies a batch of which the fence refuses a part. The answers that it
// gave itself are in results.
func (m *Machine) applySome(b, inner *consensus.Batch, results []consensus.Result) error {
	m.results = slices.Grow(m.results[:0], len(inner.Commands))[:len(inner.Commands)]
	clear(m.results)
	spread := func() {
		next := 0
		for i := range results {
			if results[i].Data == nil {
				results[i] = m.results[next]
				next++
			}
		}
	}
	done := false
	if b.ResultRows != nil {
		inner.ResultRows = func([]consensus.Result) []consensus.Row {
			spread()
			done = true
			return b.ResultRows(results)
		}
	}
	if err := m.store.Apply(inner, m.results); err != nil {
		return err
	}
	if err := m.checkAnswers(b.Index, m.results); err != nil {
		return err
	}
	if !done {
		spread()
	}
	return nil
}

// checkAnswers holds the store to its promise.
func (m *Machine) checkAnswers(index uint64, results []consensus.Result) error {
	for i := range results {
		if d := results[i].Data; len(d) > 0 && d[0] == refused {
			return fmt.Errorf("shard %d: at index %d: the store's answer %d begins with %#x, which is kept for the fence", m.o.Shard, index, i, refused)
		}
	}
	return nil
}

// Durable implements consensus.StateMachine.
func (m *Machine) Durable() uint64 { return m.store.Durable() }

// Flush implements consensus.StateMachine.
func (m *Machine) Flush(ctx context.Context, upTo uint64) error { return m.store.Flush(ctx, upTo) }

// Keep makes durable the change of the shard that Header shows, or a later one.
func (m *Machine) Keep(ctx context.Context) error { return m.Flush(ctx, m.changed.Load()) }

// Stage implements consensus.StateMachine.
func (m *Machine) Stage(r io.Reader) (consensus.Staged, error) {
	s, err := m.store.Stage(r)
	if err != nil {
		return nil, err
	}
	st := &staged{Staged: s, m: m, state: s.State()}
	if st.header, err = m.takeHeader(&st.state); err != nil {
		return nil, fmt.Errorf("%w (%w)", err, s.Discard())
	}
	return st, nil
}

type staged struct {
	consensus.Staged
	m      *Machine
	state  consensus.State
	header *Header
}

func (s *staged) State() consensus.State { return s.state }

// Install waits for the splits that were applied: what is aside for them is about to
// go.
func (s *staged) Install(ctx context.Context) error {
	if err := s.m.settle(ctx); err != nil {
		return err
	}
	// Nobody may read what comes with the span that goes, nor the other way round.
	s.m.header.Store(&Header{Shard: s.m.o.Shard})
	if err := s.Staged.Install(ctx); err != nil {
		return err
	}
	s.m.header.Store(s.header)
	return nil
}

// Destroy implements consensus.StateMachine.
func (m *Machine) Destroy() error { return m.store.Destroy() }

// Close implements consensus.StateMachine.
func (m *Machine) Close() error { return m.store.Close() }

// Bar has the shard take no reads of keys that are not below key, until its header
// changes or all that called Bar have called undo. A leader calls it before it
// proposes a split: the new shard may be read and written before this replica has
// applied that. undo is for whoever knows that its split is not, and will not be,
// applied. Bar returns a *StaleError if the shard has another generation.
func (m *Machine) Bar(generation uint64, key string) (undo func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		h := m.header.Load()
		if h.Generation != generation || !h.open() || h.barred != "" && h.barred != key {
			return nil, &StaleError{h}
		}
		if h.barred == "" {
			next := *h
			next.barred = key
			if !m.header.CompareAndSwap(h, &next) {
				continue
			}
			m.bars = 0
		}
		m.bars++
		return sync.OnceFunc(func() { m.unbar(generation, key) }), nil
	}
}

func (m *Machine) unbar(generation uint64, key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.header.Load()
	if h.Generation != generation || h.barred != key {
		return
	}
	if m.bars--; m.bars > 0 {
		return
	}
	next := *h
	next.barred = ""
	m.header.CompareAndSwap(h, &next) // or the shard has changed just now
}
