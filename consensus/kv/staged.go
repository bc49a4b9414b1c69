package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/phantomdb/phantomdb/consensus"
)

// Stage implements consensus.StateMachine. It copies the stream to a synced
// temporary file while it checks it, and needs one chunk and the Host's rows
// of memory. It reads r up to the end of the snapshot, not further.
func (m *Machine) Stage(r io.Reader) (consensus.Staged, error) {
	m.mu.Lock()
	open := m.open
	m.stages++
	name := fmt.Sprintf("stage-%d%s", m.stages, temporarySuffix)
	m.mu.Unlock()
	if !open {
		return nil, fmt.Errorf("kv: stage: %w", ErrClosed)
	}
	if err := m.makeDir(); err != nil {
		return nil, fmt.Errorf("kv: stage: %w", err)
	}
	fs := m.fs()
	name = fs.PathJoin(m.options.Dir, name)
	var s state
	err := writeFile(fs, name, func(w io.Writer) (err error) {
		s, err = readState(io.TeeReader(r, &copyWriter{w: w}), false)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("kv: stage: %w", err)
	}
	return &staged{m: m, name: name, state: s}, nil
}

// copyWriter hands copies to w, because a vfs.File may scribble on what it is
// given, which the reader of a tee has yet to look at.
type copyWriter struct {
	w   io.Writer
	buf []byte
}

func (c *copyWriter) Write(p []byte) (int, error) {
	c.buf = append(c.buf[:0], p...)
	return c.w.Write(c.buf)
}

// staged is a consensus.Staged. Its methods must not overlap.
type staged struct {
	m     *Machine
	name  string // empty once installed or discarded
	state state  // position and rows only
}

func (s *staged) State() consensus.State { return s.state.position() }

// Install implements consensus.Staged. Contents that are not ahead of the
// machine are refused, and stay staged. After another error the machine must
// be closed and opened: it holds either the old contents or the new ones.
func (s *staged) Install(ctx context.Context) error {
	if s.name == "" {
		return errors.New("kv: install: already installed or discarded")
	}
	m := s.m
	release, err := m.tryDisk(ctx)
	if err != nil {
		return fmt.Errorf("kv: install of index %d: %w", s.state.index, err)
	}
	defer release()
	m.mu.RLock()
	open, index := m.open, m.state.index
	m.mu.RUnlock()
	if !open {
		return fmt.Errorf("kv: install of index %d: %w", s.state.index, ErrClosed)
	}
	if s.state.index <= index {
		return fmt.Errorf("kv: install of index %d: index %d is applied, expected less", s.state.index, index)
	}
	// Everything is in memory before the rename, so that what can fail because
	// of the contents has failed while the old ones are untouched.
	contents, err := readFile(m.fs(), s.name, s.state.index)
	if err != nil {
		return fmt.Errorf("kv: install of index %d: %w", s.state.index, err)
	}
	m.mu.Lock()
	err = m.options.load(&contents)
	m.mu.Unlock()
	if err == nil {
		err = m.promote(s.name, contents.index)
	}
	if err != nil {
		return fmt.Errorf("kv: install of index %d: %w", s.state.index, err)
	}
	s.name = ""
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = contents
	m.options.applied(contents.index)
	return nil
}

// Discard implements consensus.Staged.
func (s *staged) Discard() error {
	if s.name == "" {
		return nil
	}
	name := s.name
	s.name = ""
	if err := s.m.fs().Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("kv: discard: %w", err)
	}
	return nil
}
