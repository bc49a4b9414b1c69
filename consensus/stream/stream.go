package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrDamaged says that a stream is not what was written: cut short or changed.
var ErrDamaged = errors.New("damaged")

const (
	// MagicBytes is the length of what tells one kind of stream from others.
	MagicBytes = 8
	// ChunkBytes bounds a chunk's payload, and with it what a reader must
	// take on trust before it has seen a checksum.
	ChunkBytes = 64 << 10
	// HeaderBytes is what a chunk has beside its payload.
	HeaderBytes = 8

	lastChunk = 1 << 31
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Writer cuts what is written to it into checksummed chunks.
type Writer struct {
	w       io.Writer
	written int64
	crc     uint32
	err     error // sticky
	buf     []byte
}

// NewWriter begins a stream with its magic, of MagicBytes.
func NewWriter(w io.Writer, magic string) *Writer {
	c := &Writer{w: w, buf: make([]byte, HeaderBytes, HeaderBytes+ChunkBytes)}
	c.crc = crc32.Checksum([]byte(magic), castagnoli)
	c.write([]byte(magic))
	return c
}

// Uint64 appends eight bytes.
func (c *Writer) Uint64(v uint64) { c.Bytes(binary.LittleEndian.AppendUint64(nil, v)) }

// Uvarint appends an unsigned varint.
func (c *Writer) Uvarint(v uint64) { c.Bytes(binary.AppendUvarint(nil, v)) }

// Bytes appends p to the stream. It reports false once the stream has failed.
func (c *Writer) Bytes(p []byte) bool {
	for len(p) > 0 && c.err == nil {
		n := min(len(p), cap(c.buf)-len(c.buf))
		c.buf = append(c.buf, p[:n]...)
		p = p[n:]
		if len(c.buf) == cap(c.buf) {
			c.flush(0)
		}
	}
	return c.err == nil
}

// Fail ends the stream with an error, unless it has failed before.
func (c *Writer) Fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// Close ends the stream and returns how many bytes it has.
func (c *Writer) Close() (int64, error) {
	c.flush(lastChunk)
	return c.written, c.err
}

// Sum is the checksum of what was written, behind Close.
func (c *Writer) Sum() uint32 { return c.crc }

func (c *Writer) flush(flag uint32) {
	payload := c.buf[HeaderBytes:]
	binary.LittleEndian.PutUint32(c.buf, uint32(len(payload))|flag)
	c.crc = crc32.Update(c.crc, castagnoli, c.buf[:4])
	c.crc = crc32.Update(c.crc, castagnoli, payload)
	binary.LittleEndian.PutUint32(c.buf[4:], c.crc)
	c.write(c.buf)
	c.buf = c.buf[:HeaderBytes]
}

func (c *Writer) write(p []byte) {
	if c.err != nil {
		return
	}
	n, err := c.w.Write(p)
	c.written += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	c.err = err
}

// A Reader reads what a Writer wrote. It hands out no byte that its
// chunk's checksum does not cover, and reads no byte behind the last chunk.
type Reader struct {
	r     io.Reader
	read  int64
	crc   uint32
	last  bool
	rest  []byte // Invariant: the unread part of buf's payload.
	buf   []byte
	chunk int
}

// NewReader begins to read a stream, which must have this magic.
func NewReader(r io.Reader, magic string) (*Reader, error) {
	c := &Reader{r: r, buf: make([]byte, ChunkBytes)}
	head := c.buf[:MagicBytes]
	if err := c.fill(head); err != nil {
		return nil, err
	}
	if string(head) != magic {
		return nil, fmt.Errorf("%w: starts with %q, expected %q", ErrDamaged, head, magic)
	}
	c.crc = crc32.Checksum(head, castagnoli)
	return c, nil
}

// fill reads exactly len(p) bytes of the raw stream.
func (c *Reader) fill(p []byte) error {
	n, err := io.ReadFull(c.r, p)
	c.read += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: ends at byte %d, expected %d more", ErrDamaged, c.read, len(p)-n)
	}
	return err
}

// next reads a chunk. It returns an error at the end of the stream.
func (c *Reader) next() error {
	if c.last {
		return fmt.Errorf("%w: data ends in chunk %d at byte %d, expected more", ErrDamaged, c.chunk, c.read)
	}
	var header [HeaderBytes]byte
	start := c.read
	if err := c.fill(header[:]); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(header[:])
	size := length &^ lastChunk
	if size > ChunkBytes {
		return fmt.Errorf("%w: chunk %d at byte %d has %d bytes, expected at most %d", ErrDamaged, c.chunk, start, size, ChunkBytes)
	}
	payload := c.buf[:size]
	if err := c.fill(payload); err != nil {
		return err
	}
	c.crc = crc32.Update(c.crc, castagnoli, header[:4])
	c.crc = crc32.Update(c.crc, castagnoli, payload)
	if sum := binary.LittleEndian.Uint32(header[4:]); sum != c.crc {
		return fmt.Errorf("%w: chunk %d at byte %d has checksum %08x, expected %08x", ErrDamaged, c.chunk, start, sum, c.crc)
	}
	c.rest, c.last = payload, length&lastChunk != 0
	c.chunk++
	return nil
}

// more makes rest hold at least a byte.
func (c *Reader) more() error {
	for len(c.rest) == 0 {
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// ReadByte implements io.ByteReader, for varints.
func (c *Reader) ReadByte() (byte, error) {
	if err := c.more(); err != nil {
		return 0, err
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b, nil
}

// Uint64 reads eight bytes.
func (c *Reader) Uint64() (uint64, error) {
	var word [8]byte
	if _, err := c.Append(word[:0], len(word), true); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(word[:]), nil
}

// Length reads a length and checks it against limit.
func (c *Reader) Length(what string, limit int) (int, error) {
	n, err := binary.ReadUvarint(c)
	if err != nil {
		return 0, err
	}
	if n > uint64(limit) {
		return 0, fmt.Errorf("%w: %s of %d bytes at byte %d, expected at most %d", ErrDamaged, what, n, c.read, limit)
	}
	return int(n), nil
}

// Append reads n bytes to the end of p, or skips them unless keep. It lets p
// grow only as data arrives: n alone is not to be trusted with memory.
func (c *Reader) Append(p []byte, n int, keep bool) ([]byte, error) {
	for n > 0 {
		if err := c.more(); err != nil {
			return nil, err
		}
		part := c.rest[:min(n, len(c.rest))]
		if keep {
			p = append(p, part...)
		}
		c.rest, n = c.rest[len(part):], n-len(part)
	}
	return p, nil
}

// End checks that the stream ends here.
func (c *Reader) End() error {
	for !c.last && len(c.rest) == 0 {
		if err := c.next(); err != nil {
			return err
		}
	}
	if len(c.rest) > 0 {
		return fmt.Errorf("%w: %d bytes too many in chunk %d", ErrDamaged, len(c.rest), c.chunk-1)
	}
	return nil
}
