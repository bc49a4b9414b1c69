package mvcc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableBytes bounds a file of what is staged.
const tableBytes = 32 << 20

// tables are files that hold all of a store, in the place of what it has. Each also
// says that nothing else is there from where it begins to where the next one does.
type tables struct {
	s      *Store
	names  []string
	w      *sstable.Writer
	from   []byte // where w begins
	last   []byte // the key before the suffix of the latest entry
	filled int
}

func newTables(s *Store) *tables { return &tables{s: s, from: appendKey(nil, s.shard, tableRows, "")} }

func appendShard(b []byte, shard uint64) []byte { return binary.BigEndian.AppendUint64(b, shard) }

// stageDir is where staged files are.
func (e *Engine) stageDir() string { return e.o.FS.PathJoin(e.o.Dir, "stage") }

// begin begins a file.
func (t *tables) begin() error {
	e := t.s.e
	e.mu.Lock()
	e.stages++
	name := e.o.FS.PathJoin(e.stageDir(), fmt.Sprintf("%d.sst", e.stages))
	e.mu.Unlock()
	if err := e.o.FS.MkdirAll(e.stageDir(), 0o755); err != nil {
		return err
	}
	f, err := e.o.FS.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	t.names = append(t.names, name)
	t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), e.options.MakeWriterOptions(0, e.db.TableFormat()))
	t.filled = 0
	return nil
}

// set adds an entry. Entries come in order.
func (t *tables) set(key, value []byte) error {
	prefix := key[:split(key)]
	if t.w != nil && t.filled > tableBytes && !bytes.Equal(prefix, t.last) {
		if err := t.end(prefix); err != nil {
			return err
		}
	}
	t.last = append(t.last[:0], prefix...)
	if t.w == nil {
		if err := t.begin(); err != nil {
			return err
		}
	}
	t.filled += len(key) + len(value)
	return t.w.Set(key, value)
}

// end ends a file, of what is below a key.
func (t *tables) end(to []byte) error {
	w := t.w
	t.w = nil
	err := errors.Join(w.DeleteRange(t.from, to), w.Close())
	t.from = append([]byte{}, to...)
	return err
}

// finish ends the last file.
func (t *tables) finish() error { return t.end(appendKey(nil, t.s.shard, tableEnd, "")) }

// discard removes the files.
func (t *tables) discard() (err error) {
	if t.w != nil {
		err = t.w.Close()
		t.w = nil
	}
	for _, name := range t.names {
		if e := t.s.e.o.FS.Remove(name); !errors.Is(e, os.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	t.names = nil
	return err
}
