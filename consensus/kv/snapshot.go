package kv

import (
	"context"
	"fmt"
	"io"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/stream"
)

// magic tells the package's streams from others.
const magic = "PHKVSNP1"

// writeTo writes the state as a stream. It gives up once ctx is done.
func (s *state) writeTo(ctx context.Context, w io.Writer) (int64, error) {
	c := stream.NewWriter(w, magic)
	s.encode(ctx, c)
	return c.Close()
}

func (s *state) encode(ctx context.Context, c *stream.Writer) {
	c.Uint64(s.index)
	c.Uint64(s.term)
	c.Uint64(uint64(s.rows.Len()))
	c.Uint64(uint64(s.data.Len()))
	record := func(key string, value []byte) bool {
		c.Uvarint(uint64(len(key)))
		c.Bytes(bytesOf(key))
		c.Uvarint(uint64(len(value)))
		c.Fail(context.Cause(ctx))
		return c.Bytes(value)
	}
	s.rows.Scan(record)
	s.data.Scan(record)
}

// readState reads a stream up to its end and not further. Unless keep it only
// checks the pairs and returns the position and the rows.
func readState(r io.Reader, keep bool) (state, error) {
	c, err := stream.NewReader(r, magic)
	if err != nil {
		return state{}, err
	}
	var s state
	var rows, pairs uint64
	for _, field := range []*uint64{&s.index, &s.term, &rows, &pairs} {
		if *field, err = c.Uint64(); err != nil {
			return state{}, err
		}
	}
	if s.rows, err = s.readTree(c, rows, true); err != nil {
		return state{}, err
	}
	if s.data, err = s.readTree(c, pairs, keep); err != nil {
		return state{}, err
	}
	return s, c.End()
}

// readTree reads n records. It wants them ascending: the writer cannot do
// otherwise, and a pair that comes twice would make the counts lie.
func (s *state) readTree(c *stream.Reader, n uint64, keep bool) (*lazyTree, error) {
	var t *lazyTree
	var last []byte
	for i := range n {
		keyLen, err := c.Length("key", MaxKeyBytes)
		if err != nil {
			return nil, err
		}
		key, err := c.Append(make([]byte, 0, keyLen), keyLen, true)
		if err != nil {
			return nil, err
		}
		if i > 0 && string(key) <= string(last) {
			return nil, fmt.Errorf("%w: key %q after %q, expected ascending keys", stream.ErrDamaged, key, last)
		}
		last = key
		valueLen, err := c.Length("value", MaxValueBytes)
		if err != nil {
			return nil, err
		}
		s.bytes += int64(keyLen + valueLen)
		value := make([]byte, 0, min(valueLen, stream.ChunkBytes))
		if value, err = c.Append(value, valueLen, keep); err != nil {
			return nil, err
		}
		if !keep {
			continue
		}
		if t == nil {
			t = new(lazyTree)
		}
		t.Load(view(key), value)
	}
	return t, nil
}

// View implements consensus.StateMachine.
func (m *Machine) View() (consensus.View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		return nil, fmt.Errorf("kv: view: %w", ErrClosed)
	}
	return &frozen{state: m.state.freeze()}, nil
}

// frozen is a consensus.View.
type frozen struct{ state state }

func (f *frozen) State() consensus.State { return f.state.position() }

func (f *frozen) Position() (index, term uint64) { return f.state.index, f.state.term }

// Row looks one row up. The value is shared.
func (f *frozen) Row(key []byte) []byte {
	value, _ := f.state.rows.Get(view(key))
	return value
}

// WriteTo writes the stream that Stage reads. It needs one chunk of memory.
func (f *frozen) WriteTo(w io.Writer) (int64, error) {
	n, err := f.state.writeTo(context.Background(), w)
	if err != nil {
		return n, fmt.Errorf("kv: snapshot at index %d: byte %d: %w", f.state.index, n, err)
	}
	return n, nil
}

func (f *frozen) Close() error {
	f.state = state{}
	return nil
}

// Digest returns the index of the machine and a checksum over all it holds
// there: position, rows and pairs. Equal machines have equal digests.
func (m *Machine) Digest() (index uint64, sum uint32) {
	s := m.freeze()
	c := stream.NewWriter(io.Discard, magic)
	s.encode(context.Background(), c)
	// Discard does not fail.
	_, _ = c.Close()
	return s.index, c.Sum()
}
