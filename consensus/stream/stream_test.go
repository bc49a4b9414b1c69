package stream_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus/stream"
	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

const magic = "ANYMAGIC"

// written is a stream of a number, a length, and a text that long.
func written(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := stream.NewWriter(&b, magic)
	w.Uint64(7)
	w.Uvarint(uint64(len(text)))
	w.Bytes([]byte(text))
	n, err := w.Close()
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	return b.Bytes()
}

func read(b []byte, limit int) (number uint64, text string, err error) {
	r, err := stream.NewReader(bytes.NewReader(b), magic)
	if err != nil {
		return 0, "", err
	}
	if number, err = r.Uint64(); err != nil {
		return 0, "", err
	}
	n, err := r.Length("text", limit)
	if err != nil {
		return 0, "", err
	}
	data, err := r.Append(nil, n, true)
	return number, string(data), errors.Join(err, r.End())
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, size := range []int{0, 1, stream.ChunkBytes - 11, stream.ChunkBytes, 3 * stream.ChunkBytes} {
		text := strings.Repeat("x", size)
		number, got, err := read(written(t, text), size)
		require.NoError(t, err)
		require.EqualValues(t, 7, number)
		require.True(t, text == got, "%d bytes", size)
	}
}

// No byte can be changed or be missing, and nothing is asked for without limit.
func TestDamage(t *testing.T) {
	whole := written(t, strings.Repeat("ab", stream.ChunkBytes))
	for _, at := range []int{0, stream.MagicBytes, stream.MagicBytes + 4, stream.MagicBytes + stream.HeaderBytes, len(whole) / 2, len(whole) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		_, _, err := read(bad, len(whole))
		require.ErrorIs(t, err, stream.ErrDamaged, "byte %d", at)
		_, _, err = read(whole[:at], len(whole))
		require.ErrorIs(t, err, stream.ErrDamaged, "%d bytes", at)
	}
	_, _, err := read(whole, 5)
	require.ErrorContains(t, err, "expected at most 5")
	_, err = stream.NewReader(bytes.NewReader(whole), "ANOTHER!")
	require.ErrorContains(t, err, `expected "ANOTHER!"`)
}

// A reader leaves what follows a stream.
func TestWhatFollowsIsLeft(t *testing.T) {
	all := bytes.NewReader(append(written(t, "text"), "rest"...))
	r, err := stream.NewReader(all, magic)
	require.NoError(t, err)
	_, err = r.Append(nil, 8+1+4, false)
	require.NoError(t, err)
	require.NoError(t, r.End())
	rest, err := io.ReadAll(all)
	require.NoError(t, err)
	require.Equal(t, "rest", string(rest))
}

func TestAFailedWriterStaysFailed(t *testing.T) {
	first := errors.New("first")
	w := stream.NewWriter(io.Discard, magic)
	w.Fail(nil)
	require.True(t, w.Bytes([]byte("x")))
	w.Fail(first)
	w.Fail(errors.New("second"))
	require.False(t, w.Bytes([]byte("x")))
	_, err := w.Close()
	require.ErrorIs(t, err, first)
}
