package kv

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus/stream"
)

// payload joins words of eight bytes and, as they are, strings.
func payload(parts ...any) (p []byte) {
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			p = binary.LittleEndian.AppendUint64(p, uint64(part))
		case string:
			p = append(p, part...)
		}
	}
	return p
}

// TestPayloads reads streams whose checksums are right and whose contents are
// not: what a faulty writer would make.
func TestPayloads(t *testing.T) {
	const index, term = 5, 1
	length := func(n uint64) string { return string(binary.AppendUvarint(nil, n)) }
	for _, c := range []struct {
		name    string
		payload []byte
		want    string // empty if the payload is sound
	}{
		{"empty state", payload(index, term, 0, 0), ""},
		{"row and pairs", payload(index, term, 1, 2, "\x01r\x01v", "\x00\x00", "\x01a\x00"), ""},
		{"nothing", nil, "data ends in chunk 1"},
		{"no counts", payload(index, term), "data ends in chunk 1"},
		{"pair missing", payload(index, term, 0, 2, "\x01a\x00"), "data ends in chunk 1"},
		{"pair too many", payload(index, term, 0, 1, "\x01a\x00", "\x01b\x00"), "3 bytes too many in chunk 0"},
		{"equal keys", payload(index, term, 0, 2, "\x01a\x00", "\x01a\x00"), "expected ascending keys"},
		{"keys descend", payload(index, term, 2, 0, "\x01b\x00", "\x01a\x00"), "expected ascending keys"},
		{"long key", payload(index, term, 0, 1, length(MaxKeyBytes+1), strings.Repeat("k", MaxKeyBytes+1), "\x00"), "key of 65537 bytes"},
		{"long value", payload(index, term, 0, 1, "\x01a", length(MaxValueBytes+1)), "value of 67108865 bytes"},
		{"huge count", payload(index, term, 0, -1), "data ends in chunk 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var buf bytes.Buffer
			w := stream.NewWriter(&buf, magic)
			w.Bytes(c.payload)
			_, err := w.Close()
			require.NoError(t, err)
			for _, keep := range []bool{false, true} {
				_, err := readState(bytes.NewReader(buf.Bytes()), keep)
				if c.want == "" {
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, stream.ErrDamaged)
				require.ErrorContains(t, err, c.want)
			}
		})
	}
}

// TestEmptyChunks: a last chunk may be empty, which is what a state that fills
// its chunks exactly ends with; the reader must find it.
func TestEmptyChunks(t *testing.T) {
	value := strings.Repeat("v", stream.ChunkBytes-32-1-1-3)
	data := payload(5, 1, 0, 1, "\x01a", string(binary.AppendUvarint(nil, uint64(len(value)))), value)
	require.Len(t, data, stream.ChunkBytes)
	var buf bytes.Buffer
	w := stream.NewWriter(&buf, magic)
	w.Bytes(data)
	n, err := w.Close()
	require.NoError(t, err)
	require.EqualValues(t, len(magic)+2*stream.HeaderBytes+stream.ChunkBytes, n)
	s, err := readState(bytes.NewReader(slices.Clone(buf.Bytes())), true)
	require.NoError(t, err)
	require.Equal(t, 1, s.data.Len())
	_, err = readState(bytes.NewReader(buf.Bytes()[:n-stream.HeaderBytes]), true)
	require.ErrorIs(t, err, stream.ErrDamaged, "without its last chunk")
}
