package kv_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/consensus/stream"
)

// filled returns a machine with rows and pairs, some larger than a chunk.
func filled(t testing.TB, pairs int, large ...int) *kv.Machine {
	t.Helper()
	m := open(t, kv.Options{})
	b := &consensus.Batch{Index: 41, Term: 6, Rows: []consensus.Row{
		{Key: []byte("conf"), Value: []byte("state")},
		{Key: []byte("empty"), Value: []byte{}},
	}}
	for i := range pairs {
		b.Commands = append(b.Commands, kv.EncodePut(nil, fmt.Appendf(nil, "key%04d", i), fmt.Appendf(nil, "value %d", i)))
	}
	for _, size := range large {
		b.Commands = append(b.Commands, kv.EncodePut(nil, fmt.Appendf(nil, "large%d", size), bytes.Repeat([]byte("x"), size)))
	}
	require.NoError(t, m.Apply(b, make([]consensus.Result, len(b.Commands))))
	return m
}

func TestSnapshotRoundTrip(t *testing.T) {
	from := filled(t, 1000, 0, 65535, 65536, 65537, 1<<20)
	data := streamOf(t, from)
	fs := vfs.NewMem()
	to := open(t, kv.Options{FS: fs, Dir: "kv"})
	apply(t, to, kv.EncodePut(nil, []byte("old"), []byte("gone")))

	// What stands behind the snapshot on the wire is somebody else's.
	r := bytes.NewReader(append(bytes.Clone(data), "next"...))
	staged, err := to.Stage(r)
	require.NoError(t, err)
	require.Equal(t, len("next"), r.Len())
	require.Equal(t, consensus.State{Index: 41, Term: 6, Rows: []consensus.Row{
		{Key: []byte("conf"), Value: []byte("state")},
		{Key: []byte("empty"), Value: []byte{}},
	}}, staged.State())
	// Staged is beside the machine.
	value, _ := to.Get([]byte("old"))
	require.Equal(t, "gone", string(value))
	index, _ := to.Position()
	require.EqualValues(t, 1, index)

	require.NoError(t, staged.Install(context.Background()))
	require.EqualValues(t, 41, to.Durable())
	require.Equal(t, data, streamOf(t, to))
	require.Equal(t, from.SizeBytes(), to.SizeBytes())
	require.NoError(t, staged.Discard(), "after Install")
	require.Error(t, staged.Install(context.Background()), "twice")

	again := open(t, kv.Options{FS: fs, Dir: "kv"})
	require.Equal(t, data, streamOf(t, again))
	wantIndex, wantSum := from.Digest()
	index, sum := again.Digest()
	require.Equal(t, wantIndex, index)
	require.Equal(t, wantSum, sum)
	apply(t, again, kv.EncodeNop(nil, nil))
	_, sum = again.Digest()
	require.NotEqual(t, wantSum, sum, "the digest covers the position")
}

// TestSnapshotDamage cuts a stream at every byte and flips every bit of it.
// Nothing of that is staged, and nothing is left on the disk.
func TestSnapshotDamage(t *testing.T) {
	data := streamOf(t, filled(t, 10))
	fs := vfs.NewMem()
	m := open(t, kv.Options{FS: fs, Dir: "kv"})
	refuse := func(damaged []byte, what string, at int) {
		_, err := m.Stage(bytes.NewReader(damaged))
		require.ErrorIs(t, err, stream.ErrDamaged, "%s %d", what, at)
		names, err := fs.List("kv")
		require.NoError(t, err)
		require.Empty(t, names)
	}
	for n := range data {
		refuse(data[:n], "cut at byte", n)
	}
	for n := range data {
		for bit := range 8 {
			damaged := bytes.Clone(data)
			damaged[n] ^= 1 << bit
			refuse(damaged, "flipped bit", 8*n+bit)
		}
	}
	_, err := m.Stage(bytes.NewReader(data))
	require.NoError(t, err)
}

// TestSnapshotChunks shows that a chunk cannot be lost, repeated or moved.
func TestSnapshotChunks(t *testing.T) {
	data := streamOf(t, filled(t, 0, 5<<16))
	const magic, chunk = 8, 8 + 64<<10
	require.Greater(t, len(data), magic+4*chunk)
	head, one, two, rest := data[:magic], data[magic:magic+chunk], data[magic+chunk:magic+2*chunk], data[magic+2*chunk:]
	m := open(t, kv.Options{})
	for name, parts := range map[string][][]byte{
		"lost":     {head, one, rest},
		"repeated": {head, one, one, two, rest},
		"moved":    {head, two, one, rest},
	} {
		_, err := m.Stage(bytes.NewReader(bytes.Join(parts, nil)))
		require.ErrorIs(t, err, stream.ErrDamaged, name)
	}
	_, err := m.Stage(bytes.NewReader(bytes.Join([][]byte{head, one, two, rest}, nil)))
	require.NoError(t, err)
}

func TestStageReportsTheReader(t *testing.T) {
	cause := errors.New("connection reset")
	data := streamOf(t, filled(t, 10))
	_, err := open(t, kv.Options{}).Stage(io.MultiReader(bytes.NewReader(data[:50]), readerOf(cause)))
	require.ErrorIs(t, err, cause)
	require.NotErrorIs(t, err, stream.ErrDamaged)
}

// scribblingDisk changes what it was given to write, as a vfs.File may.
type scribblingDisk struct{ vfs.FS }

func (s scribblingDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return scribblingFile{f}, err
}

type scribblingFile struct{ vfs.File }

func (s scribblingFile) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	clear(p)
	return n, err
}

func TestScribblingDisk(t *testing.T) {
	ctx := context.Background()
	from := filled(t, 10, 1<<18)
	m := open(t, kv.Options{FS: scribblingDisk{vfs.NewMem()}, Dir: "kv"})
	staged, err := m.Stage(bytes.NewReader(streamOf(t, from)))
	require.NoError(t, err)
	require.NoError(t, staged.Install(ctx))
	apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
	require.NoError(t, m.Flush(ctx, 42))
	_, sum := m.Digest()
	require.NoError(t, m.Close())
	_, err = m.Open()
	require.NoError(t, err)
	_, again := m.Digest()
	require.Equal(t, sum, again)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func readerOf(err error) io.Reader { return failing{err} }

type failingWriter struct {
	left int
	err  error
}

func (f *failingWriter) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.err
	}
	return len(p), nil
}

func TestWriteToReportsTheWriter(t *testing.T) {
	v, err := filled(t, 10, 1<<20).View()
	require.NoError(t, err)
	cause := errors.New("connection reset")
	_, err = v.WriteTo(&failingWriter{200_000, cause})
	require.ErrorIs(t, err, cause)
}

func TestInstallRefusesToGoBack(t *testing.T) {
	data := streamOf(t, filled(t, 10)) // at index 41
	m := open(t, kv.Options{})
	staged, err := m.Stage(bytes.NewReader(data))
	require.NoError(t, err)
	require.NoError(t, m.Apply(&consensus.Batch{Index: 41, Term: 6}, nil))
	require.ErrorContains(t, staged.Install(context.Background()), "index 41 is applied")
	require.Zero(t, m.Len())
	require.NoError(t, staged.Discard())
}

func TestDiscardAndOpenRemoveWhatWasStaged(t *testing.T) {
	data := streamOf(t, filled(t, 10))
	fs := vfs.NewMem()
	m := open(t, kv.Options{FS: fs, Dir: "kv"})
	one, err := m.Stage(bytes.NewReader(data))
	require.NoError(t, err)
	_, err = m.Stage(bytes.NewReader(data))
	require.NoError(t, err)
	requireFiles(t, fs, "stage-1.tmp", "stage-2.tmp")
	require.NoError(t, one.Discard())
	requireFiles(t, fs, "stage-2.tmp")
	require.NoError(t, m.Close())
	_, err = m.Open()
	require.NoError(t, err)
	requireFiles(t, fs)
}

func requireFiles(t *testing.T, fs vfs.FS, want ...string) {
	t.Helper()
	names, err := fs.List("kv")
	require.NoError(t, err)
	require.ElementsMatch(t, want, names)
}
