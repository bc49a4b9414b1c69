package codec_test

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

func written() []byte {
	b := codec.AppendText(nil, "text")
	b = codec.AppendBytes(b, []byte{1, 2})
	b = codec.AppendBool(codec.AppendBool(b, true), false)
	b = append(b, 9)
	b = binary.AppendUvarint(b, math.MaxUint64)
	b = binary.AppendVarint(b, math.MinInt64)
	b = binary.BigEndian.AppendUint64(b, 7)
	return append(binary.AppendUvarint(b, 2), 'a', 'b')
}

// read reads it, and expects it if all is well.
func read(t *testing.T, b []byte, limit int) error {
	r := codec.Read(b)
	text, bytes, yes, no := r.Text(limit), r.Bytes(limit), r.Bool(), r.Bool()
	one, most, least, eight := r.Byte(), r.Uvarint(), r.Varint(), r.Uint64()
	n := r.Count(limit)
	things := string(r.Rest[:n])
	r.Rest = r.Rest[n:]
	if err := r.End(); err != nil {
		return err
	}
	require.Equal(t, []any{"text", []byte{1, 2}, true, false, byte(9), uint64(math.MaxUint64), int64(math.MinInt64), uint64(7), "ab"},
		[]any{text, bytes, yes, no, one, most, least, eight, things})
	return nil
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	require.NoError(t, read(t, written(), 4))
}

// What is cut short, too long, or beyond a limit is malformed, and nothing panics.
func TestMalformed(t *testing.T) {
	b := written()
	for n := range b {
		require.ErrorIs(t, read(t, b[:n:n], 4), codec.ErrMalformed, "%d bytes", n)
	}
	require.ErrorIs(t, read(t, append(b, 0), 4), codec.ErrMalformed)
	require.ErrorIs(t, read(t, b, 3), codec.ErrMalformed)
	r := codec.Read([]byte{2})
	require.False(t, r.Bool())
	require.ErrorIs(t, r.End(), codec.ErrMalformed)
	r = codec.Read([]byte{200, 1, 0})
	require.Zero(t, r.Count(1000), "there cannot be so many")
	require.ErrorIs(t, r.End(), codec.ErrMalformed)
}
