package shard

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
)

// A Store is what a floor above keeps in a shard: the state machine of the commands
// that the fence lets pass. It becomes durable by FlushIf and Install alone. No answer
// of it begins with the byte 0xff, its Views are Parts, and View may be called at any
// time.
type Store interface {
	consensus.StateMachine
	// FlushIf is a Flush that asks whether the state at an index may become durable,
	// while no batch is applied, and fails if it may not.
	FlushIf(ctx context.Context, upTo uint64, may func(index uint64) bool) error
	// Retain applies b, which has no commands, and drops what is not of keys in
	// [start, end), in one step. An empty end is behind all keys.
	Retain(b *consensus.Batch, start, end string) error
	// Absorb applies b, which has no commands, and takes in all that from holds, a
	// View of another Store of the same kind, in one step.
	Absorb(b *consensus.Batch, from consensus.View) error
}

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
	// Fork is called when a split is applied, before Apply returns, and must not
	// wait: the replica here of the new shard is to be made of f. release must be
	// called when the new shard has committed something, or has no replica here.
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

	mu    sync.Mutex
	holds []*hold // guarded by mu
	bars  int     // guarded by mu; those who barred the header and have not undone it
}

var (
	_ consensus.StateMachine = (*Machine)(nil)
	_ consensus.Refuser      = (*Machine)(nil)
)

// A hold keeps the machine from being durable at an index and beyond.
type hold struct {
	index    uint64
	released chan struct{}
}

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
	return s, nil
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

// durableTo is the highest index at which nothing keeps the machine from being
// durable, and what does.
func (m *Machine) durableTo() (uint64, *hold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.holds) == 0 {
		return math.MaxUint64, nil
	}
	return m.holds[0].index - 1, m.holds[0]
}

// hold keeps the machine from being durable at index until release is called.
func (m *Machine) hold(index uint64) (release func()) {
	h := &hold{index: index, released: make(chan struct{})}
	m.mu.Lock()
	m.holds = append(m.holds, h)
	m.mu.Unlock()
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.holds = slices.DeleteFunc(m.holds, func(o *hold) bool { return o == h })
		m.mu.Unlock()
		close(h.released)
	})
}

// settle waits until nothing keeps the machine from being durable up to index.
func (m *Machine) settle(ctx context.Context, index uint64) error {
	for {
		to, h := m.durableTo()
		if to >= index {
			return nil
		}
		select {
		case <-h.released:
		case <-ctx.Done():
			return fmt.Errorf("shard %d: a split at index %d is not settled: %w", m.o.Shard, h.index, context.Cause(ctx))
		}
	}
}

// Durable implements consensus.StateMachine.
func (m *Machine) Durable() uint64 { return m.store.Durable() }

// Flush implements consensus.StateMachine. It waits for the splits up to an index.
func (m *Machine) Flush(ctx context.Context, upTo uint64) error {
	for {
		held := false
		err := m.store.FlushIf(ctx, upTo, func(index uint64) bool {
			to, _ := m.durableTo()
			held = to < index
			return !held
		})
		if err == nil || !held {
			return err
		}
		// The store would write all it has.
		if err := m.settle(ctx, math.MaxUint64); err != nil {
			return err
		}
	}
}

// Keep makes durable the change of the shard that Header shows, or a later one.
func (m *Machine) Keep(ctx context.Context) error { return m.Flush(ctx, m.changed.Load()) }

// View implements consensus.StateMachine.
func (m *Machine) View() (consensus.View, error) {
	v, err := m.store.View()
	if err != nil {
		return nil, err
	}
	return &view{View: v, m: m}, nil
}

// A view is the store's, without the header among the rows.
type view struct {
	consensus.View
	m *Machine
}

func (v *view) State() consensus.State {
	s := v.View.State()
	// What the machine wrote itself can be read.
	_, _ = v.m.takeHeader(&s)
	return s
}

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

// Install waits for the splits that were applied: what they need to be done again is
// about to go.
func (s *staged) Install(ctx context.Context) error {
	if err := s.m.settle(ctx, math.MaxUint64); err != nil {
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
