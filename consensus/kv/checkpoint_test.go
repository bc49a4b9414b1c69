package kv_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/stream"
)

func TestDestroyRemovesEverything(t *testing.T) {
	fs := vfs.NewCrashableMem()
	m := open(t, kv.Options{FS: fs, Dir: "kv/1"})
	apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
	require.NoError(t, m.Flush(context.Background(), 1))
	_, err := m.Stage(bytes.NewReader(streamOf(t, filled(t, 1))))
	require.NoError(t, err)
	require.NoError(t, m.Destroy())
	require.Zero(t, m.Durable())
	// Also after a loss of power.
	state, err := open(t, kv.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{}), Dir: "kv/1"}).Open()
	require.ErrorContains(t, err, "open already")
	require.Zero(t, state)
	names, err := fs.CrashClone(vfs.CrashCloneCfg{}).List("kv")
	require.NoError(t, err)
	require.Empty(t, names)
}

// TestRealDisk goes through a life on the operating system's files.
func TestRealDisk(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "data", "7")
	m := open(t, kv.Options{FS: vfs.Default, Dir: dir})
	apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
	require.NoDirExists(t, dir)
	require.NoError(t, m.Flush(ctx, 1))
	staged, err := m.Stage(bytes.NewReader(streamOf(t, filled(t, 100))))
	require.NoError(t, err)
	require.NoError(t, staged.Install(ctx))
	require.NoError(t, m.Close())
	state, err := m.Open()
	require.NoError(t, err)
	require.EqualValues(t, 41, state.Index)
	require.Equal(t, 100, m.Len())
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.NoError(t, m.Destroy())
	require.NoDirExists(t, dir)
}

// TestDamagedCheckpoints: a newer checkpoint that is torn yields to an older
// one that is whole; if there is none, Open names the file.
func TestDamagedCheckpoints(t *testing.T) {
	fs := vfs.NewMem()
	options := kv.Options{FS: fs, Dir: "kv"}
	m := open(t, options)
	apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
	require.NoError(t, m.Flush(context.Background(), 1))
	require.NoError(t, m.Close())
	const older, newer = "kv/checkpoint-0000000000000001", "kv/checkpoint-0000000000000002"
	whole := read(t, fs, older)

	for n := range len(whole) {
		write(t, fs, newer, whole[:n])
		state, err := m.Open()
		require.NoError(t, err, "torn at byte %d", n)
		require.EqualValues(t, 1, state.Index)
		require.EqualValues(t, 1, m.Durable())
		require.NoError(t, m.Close())
	}
	write(t, fs, newer, whole)
	require.NoError(t, fs.Remove(older))
	_, err := m.Open()
	require.ErrorIs(t, err, stream.ErrDamaged, "a checkpoint under another's name")
	require.ErrorContains(t, err, "holds index 1, expected 2")
	require.NoError(t, fs.Remove(newer))

	refuse := func(damaged []byte, what string, at int) {
		write(t, fs, older, damaged)
		_, err := m.Open()
		require.ErrorIs(t, err, stream.ErrDamaged, "%s at byte %d", what, at)
		require.ErrorContains(t, err, older)
	}
	for n := range len(whole) {
		refuse(whole[:n], "cut", n)
		damaged := bytes.Clone(whole)
		damaged[n] ^= 0x10
		refuse(damaged, "flipped", n)
	}
	refuse(append(bytes.Clone(whole), 0), "longer", len(whole))
}

// TestOpenReportsTheDisk: a disk that fails now is no reason to take an older
// checkpoint.
func TestOpenReportsTheDisk(t *testing.T) {
	fs := vfs.NewMem()
	m := open(t, kv.Options{FS: fs, Dir: "kv"})
	apply(t, m, kv.EncodeNop(nil, nil))
	require.NoError(t, m.Flush(context.Background(), 1))
	older := read(t, fs, "kv/checkpoint-0000000000000001")
	apply(t, m, kv.EncodeNop(nil, nil))
	require.NoError(t, m.Flush(context.Background(), 2))
	write(t, fs, "kv/checkpoint-0000000000000001", older)
	m, err := kv.New(kv.Options{Dir: "kv", FS: errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileRead && op.Path == "kv/checkpoint-0000000000000002" {
			return errorfs.ErrInjected
		}
		return nil
	}))})
	require.NoError(t, err)
	_, err = m.Open()
	require.ErrorIs(t, err, errorfs.ErrInjected)
}

func read(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	require.NoError(t, err)
	data, err := io.ReadAll(f)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return data
}

func write(t *testing.T, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(bytes.Clone(data))
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestFlush(t *testing.T) {
	ctx := context.Background()
	fs := vfs.NewMem()
	m := open(t, kv.Options{FS: fs, Dir: "kv"})
	require.ErrorContains(t, m.Flush(ctx, 1), "only 0 is applied")
	for range 3 {
		apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
		index, _ := m.Position()
		require.NoError(t, m.Flush(ctx, index))
	}
	requireFiles(t, fs, "checkpoint-0000000000000003")

	done, cancel := context.WithCancel(ctx)
	cancel()
	apply(t, m, kv.EncodeNop(nil, nil))
	require.ErrorIs(t, m.Flush(done, 4), context.Canceled)
	require.EqualValues(t, 3, m.Durable())
	require.NoError(t, m.Flush(done, 3), "durable already")
	requireFiles(t, fs, "checkpoint-0000000000000003")
}

// TestFlushStopsWriting: a Flush that nobody waits for any more ends in the
// middle of its file.
func TestFlushStopsWriting(t *testing.T) {
	fs := vfs.NewMem()
	ctx, cancel := context.WithCancel(context.Background())
	m := open(t, kv.Options{Dir: "kv", FS: errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite {
			cancel()
		}
		return nil
	}))})
	apply(t, m, puts(10_000, 128)...)
	require.ErrorIs(t, m.Flush(ctx, 1), context.Canceled)
	require.Zero(t, m.Durable())
	requireFiles(t, fs)
}
