package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/consensus/stream"
)

const (
	checkpointPrefix = "checkpoint-"
	temporarySuffix  = ".tmp"
	flushName        = "flush" + temporarySuffix
)

func checkpointName(index uint64) string { return fmt.Sprintf("%s%016x", checkpointPrefix, index) }

// checkpointIndex reads the index out of a file name.
func checkpointIndex(name string) (uint64, bool) {
	digits, ok := strings.CutPrefix(name, checkpointPrefix)
	if !ok || len(digits) != 16 {
		return 0, false
	}
	index, err := strconv.ParseUint(digits, 16, 64)
	return index, err == nil && checkpointName(index) == name
}

// fs returns the file system, which a machine without one makes itself.
func (m *Machine) fs() vfs.FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.options.FS == nil {
		m.options.FS = vfs.NewMem()
	}
	return m.options.FS
}

// token returns the channel that holds a token while the disk is taken.
func (m *Machine) token() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disk == nil {
		m.disk = make(chan struct{}, 1)
	}
	return m.disk
}

func (m *Machine) acquireDisk() (release func()) {
	token := m.token()
	token <- struct{}{}
	return func() { <-token }
}

func (m *Machine) tryDisk(ctx context.Context) (release func(), err error) {
	token := m.token()
	select {
	case token <- struct{}{}:
		return func() { <-token }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Flush implements consensus.StateMachine. It writes the whole state, unless
// Durable has reached upTo already. Apply goes on meanwhile. If ctx ends first
// or the disk fails, Durable stays where it was and Flush may be tried again.
func (m *Machine) Flush(ctx context.Context, upTo uint64) error {
	if upTo <= m.durable.Load() {
		return nil
	}
	release, err := m.tryDisk(ctx)
	if err != nil {
		return fmt.Errorf("kv: flush up to index %d: %w", upTo, err)
	}
	defer release()
	if upTo <= m.durable.Load() {
		return nil
	}
	m.mu.Lock()
	if !m.open {
		m.mu.Unlock()
		return fmt.Errorf("kv: flush up to index %d: %w", upTo, ErrClosed)
	}
	s := m.state.freeze()
	m.mu.Unlock()
	if upTo > s.index {
		return fmt.Errorf("kv: flush up to index %d: only %d is applied", upTo, s.index)
	}
	if err := m.checkpoint(ctx, &s); err != nil {
		return fmt.Errorf("kv: flush of index %d to %s: %w", s.index, m.options.Dir, err)
	}
	return nil
}

// checkpoint makes s the newest checkpoint. The caller holds the disk.
func (m *Machine) checkpoint(ctx context.Context, s *state) error {
	if err := m.makeDir(); err != nil {
		return err
	}
	fs := m.fs()
	name := fs.PathJoin(m.options.Dir, flushName)
	err := writeFile(fs, name, func(w io.Writer) error {
		_, err := s.writeTo(ctx, w)
		return err
	})
	if err != nil {
		return err
	}
	return m.promote(name, s.index)
}

// writeFile creates a file, has it filled, and syncs it. It leaves no file
// behind when it fails.
func writeFile(fs vfs.FS, name string, fill func(io.Writer) error) error {
	file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	err = fill(file)
	if err == nil {
		err = file.Sync()
	}
	err = errors.Join(err, file.Close())
	if err != nil {
		// The error that counts is the first one; what stays behind is
		// removed by the next Open.
		_ = fs.Remove(name)
	}
	return err
}

// promote turns a synced file into the newest checkpoint and removes the older
// ones. The caller holds the disk.
func (m *Machine) promote(name string, index uint64) error {
	fs := m.fs()
	if err := fs.Rename(name, fs.PathJoin(m.options.Dir, checkpointName(index))); err != nil {
		return err
	}
	if err := syncDir(fs, m.options.Dir); err != nil {
		return err
	}
	m.durable.Store(index)
	// Only now may the older ones go. One that stays costs space and is tried
	// again after the next checkpoint.
	names, err := fs.List(m.options.Dir)
	for _, name := range names {
		if older, ok := checkpointIndex(name); ok && older < index {
			err = errors.Join(err, fs.Remove(fs.PathJoin(m.options.Dir, name)))
		}
	}
	if err != nil {
		m.options.Logger.Warn("kv: old checkpoints stay", "dir", m.options.Dir, "index", index, "err", err)
	}
	return nil
}

// makeDir creates the machine's directory, durably. It syncs two levels even
// if it found them, because another machine may be about to create the same
// parent.
func (m *Machine) makeDir() error {
	fs, dir := m.fs(), m.options.Dir
	if _, err := fs.Stat(dir); err == nil && m.durable.Load() > 0 {
		return nil
	}
	// Ancestors that are missing, and the first two that are not.
	var ancestors []string
	for child, found := dir, 0; found < 2; {
		parent := fs.PathDir(child)
		if parent == child {
			break
		}
		ancestors = append(ancestors, parent)
		if _, err := fs.Stat(parent); err == nil {
			found++
		} else if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		child = parent
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, ancestor := range slices.Backward(ancestors) {
		if err := syncDir(fs, ancestor); err != nil {
			return err
		}
	}
	return nil
}

// removeDir removes the machine's directory, durably.
func (m *Machine) removeDir() error {
	fs, dir := m.fs(), m.options.Dir
	if _, err := fs.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := fs.RemoveAll(dir); err != nil {
		return fmt.Errorf("kv: destroy %s: %w", dir, err)
	}
	if err := syncDir(fs, fs.PathDir(dir)); err != nil {
		return fmt.Errorf("kv: destroy %s: %w", dir, err)
	}
	return nil
}

func syncDir(fs vfs.FS, name string) error {
	dir, err := fs.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// load reads the newest checkpoint that is whole.
func (m *Machine) load() (state, error) {
	m.mu.RLock()
	never := m.options.FS == nil
	m.mu.RUnlock()
	if never {
		return state{}, nil
	}
	fs, dir := m.fs(), m.options.Dir
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("kv: open %s: %w", dir, err)
	}
	var indexes []uint64
	for _, name := range names {
		if index, ok := checkpointIndex(name); ok {
			indexes = append(indexes, index)
		} else if strings.HasSuffix(name, temporarySuffix) {
			if err := fs.Remove(fs.PathJoin(dir, name)); err != nil {
				return state{}, fmt.Errorf("kv: open %s: %w", dir, err)
			}
		}
	}
	slices.Sort(indexes)
	var damage error
	for _, index := range slices.Backward(indexes) {
		s, err := readFile(fs, fs.PathJoin(dir, checkpointName(index)), index)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, stream.ErrDamaged) {
			return state{}, err
		}
		m.options.Logger.Warn("kv: damaged checkpoint passed over", "err", err)
		if damage == nil {
			damage = err
		}
	}
	return state{}, damage
}

// readFile reads the checkpoint of index.
func readFile(fs vfs.FS, name string, index uint64) (state, error) {
	file, err := fs.Open(name, vfs.SequentialReadsOption)
	if err != nil {
		return state{}, fmt.Errorf("kv: checkpoint: %w", err)
	}
	s, err := readState(file, true)
	if err == nil && s.index != index {
		err = fmt.Errorf("%w: holds index %d, expected %d", stream.ErrDamaged, s.index, index)
	}
	if err == nil {
		err = atEnd(file)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return state{}, fmt.Errorf("kv: checkpoint %s: %w", name, err)
	}
	return s, nil
}

// atEnd checks that r has no more to give.
func atEnd(r io.Reader) error {
	// ReadFull wants a byte, so it says EOF only if there is none.
	_, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return fmt.Errorf("%w: goes on behind its last chunk", stream.ErrDamaged)
	default:
		return err
	}
}
