package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/consensus"
)

// ErrClosed says that the machine is not open: Open was not called yet, or
// Close or Destroy was.
var ErrClosed = errors.New("kv: machine is not open")

// Options configures a Machine. A zero field selects its default.
type Options struct {
	// FS holds the checkpoints. Default: a file system in memory of the
	// machine's own, made when first needed; then what was flushed survives
	// Close and Open of this Machine and nothing else.
	FS vfs.FS
	// Dir is the machine's own directory in FS, which the machine creates
	// when first needed and Destroy removes. Machines that have a missing
	// directory more than two levels up in common should find it made and
	// synced, because each makes only what it finds missing.
	// Required if FS is set; default without FS: "kv".
	Dir string
	// Commands run in the place of the package's own. Default: none.
	Commands Commands
	// Logger hears of damaged and left-over files. Default: discarded.
	Logger *slog.Logger
	_      struct{}
}

func (o *Options) validate() error {
	if o.Dir == "" {
		if o.FS != nil {
			return errors.New("kv: options: Dir is empty, expected the machine's own directory in FS")
		}
		o.Dir = "kv"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A Machine is a consensus.StateMachine over ordered keys.
type Machine struct {
	options Options

	durable atomic.Uint64 // Invariant: durable <= state.index once open.

	mu    sync.RWMutex // never held while waiting for FS
	open  bool
	state state
	// disk holds a token while somebody changes the set of checkpoints. It is
	// a channel because its holder waits for the disk, and made when first
	// needed because most machines of a process are idle.
	disk   chan struct{}
	stages uint64 // numbers the staged files
}

var _ consensus.StateMachine = (*Machine)(nil)

// New returns a machine that is not open yet. It touches no file. It fails
// only on Options.
func New(o Options) (*Machine, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Machine{options: o}, nil
}

// Open implements consensus.StateMachine. It reads the newest whole
// checkpoint and removes temporary files of an earlier life.
func (m *Machine) Open() (consensus.State, error) {
	m.mu.RLock()
	open := m.open
	m.mu.RUnlock()
	if open {
		return consensus.State{}, errors.New("kv: open: the machine is open already")
	}
	s, err := m.load()
	if err != nil {
		return consensus.State{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.options.load(&s); err != nil {
		return consensus.State{}, fmt.Errorf("kv: open %s: %w", m.options.Dir, err)
	}
	m.options.applied(s.index)
	m.state, m.open = s, true
	m.durable.Store(s.index)
	return s.position(), nil
}

// Apply implements consensus.StateMachine. An index at or below the present
// one, a number of results other than that of the commands, and a row beyond
// the limits of keys and values are errors, and nothing was applied. Only when
// ResultRows gives such a row it is too late for that: the machine is then
// closed, with the state of its last checkpoint.
func (m *Machine) Apply(b *consensus.Batch, results []consensus.Result) error {
	return m.change(b, results, func() error {
		for i, data := range b.Commands {
			results[i].Data = m.run(data)
		}
		return nil
	})
}

// change applies b, whose commands fn runs. After an error of fn the machine is
// closed, with the state of its last checkpoint.
func (m *Machine) change(b *consensus.Batch, results []consensus.Result, fn func() error) error {
	if len(results) != len(b.Commands) {
		return fmt.Errorf("kv: apply at index %d: %d results for %d commands", b.Index, len(results), len(b.Commands))
	}
	if err := checkRows(b.Index, b.Rows); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		return fmt.Errorf("kv: apply at index %d: %w", b.Index, ErrClosed)
	}
	if b.Index <= m.state.index {
		return fmt.Errorf("kv: apply at index %d: %d is applied already", b.Index, m.state.index)
	}
	if err := fn(); err != nil {
		m.open, m.state = false, state{}
		return fmt.Errorf("kv: apply at index %d: %w", b.Index, err)
	}
	m.state.setRows(b.Rows)
	if b.ResultRows != nil {
		rows := b.ResultRows(results)
		if err := checkRows(b.Index, rows); err != nil {
			m.open, m.state = false, state{}
			return err
		}
		m.state.setRows(rows)
	}
	m.state.index, m.state.term = b.Index, b.Term
	m.options.applied(b.Index)
	return nil
}

// run runs a command, the caller's or the package's own.
func (m *Machine) run(data []byte) []byte {
	if c := m.options.Commands; c != nil {
		return c.Run(Pairs{&m.state}, data)
	}
	return m.state.apply(data)
}

// checkRows wants rows that a checkpoint can hold.
func checkRows(index uint64, rows []consensus.Row) error {
	for _, row := range rows {
		if k, v := len(row.Key), len(row.Value); k > MaxKeyBytes || v > MaxValueBytes {
			return fmt.Errorf("kv: apply at index %d: row with a key of %d and a value of %d bytes, expected at most %d and %d",
				index, k, v, MaxKeyBytes, MaxValueBytes)
		}
	}
	return nil
}

// Get returns the value at key. The value is shared and must not be changed;
// it stays as it is when key is written again.
func (m *Machine) Get(key []byte) (value []byte, ok bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.data.Get(view(key))
}

// Scan calls visit for every pair with start <= key < end in ascending order,
// until visit returns false. A nil end is the end of all keys. The scan sees
// one batch boundary however long it takes, and visit may use the machine. Key
// and value are shared and must not be changed.
func (m *Machine) Scan(start, end []byte, visit func(key, value []byte) bool) {
	m.freeze().data.Ascend(view(start), func(key string, value []byte) bool {
		if end != nil && key >= view(end) {
			return false
		}
		return visit(bytesOf(key), value)
	})
}

// Len returns the number of pairs.
func (m *Machine) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.data.Len()
}

// SizeBytes returns the sum of the lengths of all keys and values, those of
// the Host's rows included.
func (m *Machine) SizeBytes() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.bytes
}

// Position returns the index and term of the last batch.
func (m *Machine) Position() (index, term uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.index, m.state.term
}

// Durable implements consensus.StateMachine: the index of the newest
// checkpoint, zero without one.
func (m *Machine) Durable() uint64 { return m.durable.Load() }

// Close implements consensus.StateMachine. It waits for a Flush or an Install
// that is under way. Closing twice does nothing.
func (m *Machine) Close() error {
	release := m.acquireDisk()
	defer release()
	m.forget()
	return nil
}

// Destroy implements consensus.StateMachine. A machine that is closed can be
// destroyed too. A Stage must not be under way.
func (m *Machine) Destroy() error {
	release := m.acquireDisk()
	defer release()
	m.forget()
	m.durable.Store(0)
	return m.removeDir()
}

func (m *Machine) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open, m.state = false, state{}
}

// freeze returns a copy of the state that later batches do not change. It
// costs two small allocations; the trees part as they are written.
func (m *Machine) freeze() state {
	// The exclusive lock, because parting marks both copies.
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.freeze()
}

// apply runs one command and returns its answer.
func (s *state) apply(data []byte) []byte {
	c, ok := parseCommand(data)
	if !ok {
		return answers[bitMalformed]
	}
	switch c.kind {
	case kindPut:
		return answers[bitDone|found(s.put(c.key, c.value))]
	case kindDelete:
		if s.remove(c.key) {
			return answers[bitDone|bitFound]
		}
		return answers[0]
	case kindAdd:
		return s.add(c.key, c.delta)
	case kindSwap:
		return s.swap(&c)
	default:
		return answers[bitDone]
	}
}

func (s *state) add(key []byte, delta int64) []byte {
	old, present := s.data.Get(view(key))
	sum := delta
	if present {
		n, ok := Counter(old)
		if !ok {
			return answers[bitFound]
		}
		sum += n
	}
	var value [counterBytes]byte
	binary.LittleEndian.PutUint64(value[:], uint64(sum))
	s.put(key, value[:])
	return append([]byte{bitDone | found(present)}, value[:]...)
}

func (s *state) swap(c *command) []byte {
	now, present := s.data.Get(view(c.key))
	if present != c.oldPresent || present && string(now) != string(c.old) {
		return append([]byte{found(present)}, now...)
	}
	s.put(c.key, c.value)
	return answers[bitDone|found(present)]
}

func found(present bool) byte {
	if present {
		return bitFound
	}
	return 0
}
