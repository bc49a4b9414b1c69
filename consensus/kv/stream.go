package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// ErrDamaged says that a checkpoint or a snapshot stream is not what a machine
// wrote: cut short or changed.
var ErrDamaged = errors.New("damaged")

const (
	magic = "PHKVSNP1"
	// chunkBytes bounds a chunk's payload, and with it what a reader must
	// take on trust before it has seen a checksum.
	chunkBytes       = 64 << 10
	chunkHeaderBytes = 8
	lastChunk        = 1 << 31
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkWriter cuts what is written to it into checksummed chunks.
type chunkWriter struct {
	w       io.Writer
	written int64
	crc     uint32
	err     error // sticky
	buf     []byte
}

func newChunkWriter(w io.Writer) *chunkWriter {
	c := &chunkWriter{w: w, buf: make([]byte, chunkHeaderBytes, chunkHeaderBytes+chunkBytes)}
	c.crc = crc32.Checksum([]byte(magic), castagnoli)
	c.write([]byte(magic))
	return c
}

func (c *chunkWriter) uint64(v uint64)  { c.bytes(binary.LittleEndian.AppendUint64(nil, v)) }
func (c *chunkWriter) uvarint(v uint64) { c.bytes(binary.AppendUvarint(nil, v)) }

// bytes appends p to the stream. It reports false once the stream has failed.
func (c *chunkWriter) bytes(p []byte) bool {
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

// close ends the stream.
func (c *chunkWriter) close() (int64, error) {
	c.flush(lastChunk)
	return c.written, c.err
}

func (c *chunkWriter) flush(flag uint32) {
	payload := c.buf[chunkHeaderBytes:]
	binary.LittleEndian.PutUint32(c.buf, uint32(len(payload))|flag)
	c.crc = crc32.Update(c.crc, castagnoli, c.buf[:4])
	c.crc = crc32.Update(c.crc, castagnoli, payload)
	binary.LittleEndian.PutUint32(c.buf[4:], c.crc)
	c.write(c.buf)
	c.buf = c.buf[:chunkHeaderBytes]
}

func (c *chunkWriter) write(p []byte) {
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

// chunkReader reads what a chunkWriter wrote. It hands out no byte that its
// chunk's checksum does not cover, and reads no byte behind the last chunk.
type chunkReader struct {
	r     io.Reader
	read  int64
	crc   uint32
	last  bool
	rest  []byte // Invariant: the unread part of buf's payload.
	buf   []byte
	chunk int
}

func newChunkReader(r io.Reader) (*chunkReader, error) {
	c := &chunkReader{r: r, buf: make([]byte, chunkBytes)}
	head := c.buf[:len(magic)]
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
func (c *chunkReader) fill(p []byte) error {
	n, err := io.ReadFull(c.r, p)
	c.read += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: ends at byte %d, expected %d more", ErrDamaged, c.read, len(p)-n)
	}
	return err
}

// next reads a chunk. It returns an error at the end of the stream.
func (c *chunkReader) next() error {
	if c.last {
		return fmt.Errorf("%w: data ends in chunk %d at byte %d, expected more", ErrDamaged, c.chunk, c.read)
	}
	var header [chunkHeaderBytes]byte
	start := c.read
	if err := c.fill(header[:]); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(header[:])
	size := length &^ lastChunk
	if size > chunkBytes {
		return fmt.Errorf("%w: chunk %d at byte %d has %d bytes, expected at most %d", ErrDamaged, c.chunk, start, size, chunkBytes)
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
func (c *chunkReader) more() error {
	for len(c.rest) == 0 {
		if err := c.next(); err != nil {
			return err
		}
	}
	return nil
}

// ReadByte implements io.ByteReader, for varints.
func (c *chunkReader) ReadByte() (byte, error) {
	if err := c.more(); err != nil {
		return 0, err
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return b, nil
}

func (c *chunkReader) uint64() (uint64, error) {
	var word [8]byte
	if _, err := c.append(word[:0], len(word), true); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(word[:]), nil
}

// length reads a length and checks it against limit.
func (c *chunkReader) length(what string, limit int) (int, error) {
	n, err := binary.ReadUvarint(c)
	if err != nil {
		return 0, err
	}
	if n > uint64(limit) {
		return 0, fmt.Errorf("%w: %s of %d bytes at byte %d, expected at most %d", ErrDamaged, what, n, c.read, limit)
	}
	return int(n), nil
}

// append reads n bytes to the end of p, or skips them unless keep. It lets p
// grow only as data arrives: n alone is not to be trusted with memory.
func (c *chunkReader) append(p []byte, n int, keep bool) ([]byte, error) {
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

// end checks that the stream ends here.
func (c *chunkReader) end() error {
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
