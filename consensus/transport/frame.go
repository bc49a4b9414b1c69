package transport

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A frame:
//
//	length u32 | crc32c u32 | version u8 | class u8 | kind u8 | stamp u64 | body
//
// little endian. length counts what follows the checksum, and the checksum
// covers it. The body of messages is
//
//	count | Raft messages | entries | numbers | messages
//
// where the counts before the messages let the receiver allocate each kind of
// value in one piece; it believes them only within limits.
const (
	prefixBytes     = 8
	headerBytes     = prefixBytes + 11
	maxServiceBytes = 255
	// protocolVersion changes when the bytes of frames or handshakes do. Nodes
	// of different versions do not talk.
	protocolVersion = 1
)

// Kinds of frames. Whoever reads a connection knows which belong there.
const (
	frameMessages = iota
	frameRequest
	frameAnswer
	frameCancel
	frameOpen
	frameChunk
	frameEnd
	// frameKept is set if what the frame decodes to points into it, so that
	// its memory is not read into again.
	frameKept = 0x80
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameBytes is the length of a frame of count messages of shape s.
func frameBytes(count int, s shape) int {
	return headerBytes + uvarintLen(uint64(count)) + uvarintLen(uint64(s.messages)) +
		uvarintLen(uint64(s.entries)) + uvarintLen(uint64(s.numbers)) + s.bytes
}

// beginFrame appends a header, to be completed by endFrame with the same at,
// which is len(dst) before.
func beginFrame(dst []byte, c Class, kind byte, stamp uint64) []byte {
	var h [headerBytes]byte
	h[prefixBytes], h[prefixBytes+1], h[prefixBytes+2] = protocolVersion, byte(c), kind
	binary.LittleEndian.PutUint64(h[prefixBytes+3:], stamp)
	return append(dst, h[:]...)
}

func endFrame(buf []byte, at int) {
	content := buf[at+prefixBytes:]
	binary.LittleEndian.PutUint32(buf[at:], uint32(len(content)))
	binary.LittleEndian.PutUint32(buf[at+4:], crc32.Checksum(content, castagnoli))
}

// A frame as read. body is valid until the next read unless kept is set.
type frame struct {
	class Class
	kind  byte
	kept  bool
	stamp uint64
	body  []byte
	bytes int // on the wire
}

// A frameReader reads frames from one connection.
type frameReader struct {
	r       *bufio.Reader
	limit   int    // of length, in bytes
	scratch []byte // memory of bodies that nothing points into
}

// readAhead is the buffer of a connection; bodies are copied out of it or,
// if longer, read past it.
const readAhead = 64 << 10

func newFrameReader(r io.Reader, limit int) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, readAhead), limit: limit}
}

// next reads a frame. io.EOF says that the connection ended between frames.
func (f *frameReader) next() (frame, error) {
	h, err := f.r.Peek(headerBytes)
	if err != nil {
		if errors.Is(err, io.EOF) && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return frame{}, err
	}
	length := binary.LittleEndian.Uint32(h)
	sum := binary.LittleEndian.Uint32(h[4:])
	if length < headerBytes-prefixBytes || int64(length) > int64(f.limit) {
		return frame{}, fmt.Errorf("transport: %w: length %d, expected %d to %d", errFormat, length, headerBytes-prefixBytes, f.limit)
	}
	version := h[prefixBytes]
	fr := frame{
		class: Class(h[prefixBytes+1]),
		kind:  h[prefixBytes+2] &^ frameKept,
		kept:  h[prefixBytes+2]&frameKept != 0,
		stamp: binary.LittleEndian.Uint64(h[prefixBytes+3:]),
		bytes: int(length) + prefixBytes,
	}
	got := crc32.Checksum(h[prefixBytes:], castagnoli)
	if _, err := f.r.Discard(headerBytes); err != nil {
		return frame{}, err
	}
	if fr.body, err = f.read(int(length)-(headerBytes-prefixBytes), fr.kept); err != nil {
		return frame{}, err
	}
	if got = crc32.Update(got, castagnoli, fr.body); got != sum {
		return frame{}, fmt.Errorf("transport: %w: checksum %#08x of %d bytes, expected %#08x", errFormat, got, length, sum)
	}
	if version != protocolVersion {
		return frame{}, fmt.Errorf("transport: %w: version %d, expected %d", errFormat, version, protocolVersion)
	}
	if fr.class >= Classes {
		return frame{}, fmt.Errorf("transport: %w: class %d, expected below %d", errFormat, fr.class, Classes)
	}
	return fr, nil
}

// growStep is how much memory a frame gets ahead of its bytes: a length alone
// must not cost the receiver more.
const growStep = 1 << 20

func (f *frameReader) read(n int, kept bool) ([]byte, error) {
	var body []byte
	switch {
	case !kept && n <= cap(f.scratch):
		body = f.scratch[:n]
	case n <= growStep:
		body = make([]byte, n)
	default:
		return f.readLong(n)
	}
	if !kept {
		f.scratch = body
	}
	_, err := io.ReadFull(f.r, body)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return body, err
}

func (f *frameReader) readLong(n int) ([]byte, error) {
	body := make([]byte, 0, growStep)
	for len(body) < n {
		if len(body) == cap(body) {
			grown := make([]byte, len(body), min(n, 2*cap(body)))
			copy(grown, body)
			body = grown
		}
		got, err := io.ReadFull(f.r, body[len(body):min(n, cap(body))])
		body = body[:len(body)+got]
		if err != nil {
			return nil, io.ErrUnexpectedEOF
		}
	}
	return body, nil
}

// keep says that something points into the last frame although its sender did
// not say so.
func (f *frameReader) keep() { f.scratch = nil }
