package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// tcpChunkBytes is the most that one frame of a stream carries, and what
	// a stream thus costs its reader in memory.
	tcpChunkBytes  = 64 << 10
	maxStreamFrame = tcpChunkBytes + headerBytes - prefixBytes
	// drainTime is how long a closed stream goes on reading: to close a socket
	// with unread bytes would destroy what the peer has yet to receive.
	drainTime = time.Second
)

// Stream implements Transport.
func (t *TCP) Stream(ctx context.Context, to NodeID, svc string) (io.ReadWriteCloser, error) {
	if t.shut.Load() {
		return nil, fmt.Errorf("%w: node %d", ErrClosed, t.id)
	}
	if to == t.id {
		return t.streamSelf(ctx, svc)
	}
	conn, err := t.dial(ctx, to, forStream)
	if err != nil {
		return nil, streamError(to, svc, err)
	}
	s := newTCPStream(t, conn)
	s.unbind = context.AfterFunc(ctx, func() { _ = s.Abort() })
	if err := s.open(svc); err != nil {
		_ = s.Abort()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, streamError(to, svc, err)
	}
	return s, nil
}

// streamSelf joins two ends in memory.
func (t *TCP) streamSelf(ctx context.Context, svc string) (io.ReadWriteCloser, error) {
	h := t.streamHandler(svc)
	if h == nil {
		return nil, streamError(t.id, svc, ErrNoService)
	}
	p := newPipe(t.id, t.id)
	here, cancel := context.WithCancel(t.life)
	p.onBreak(cancel)
	stop := context.AfterFunc(t.life, func() { p.breakOff(fmt.Errorf("%w: node %d closed", ErrBroken, t.id)) })
	if !t.start(func() {
		defer cancel()
		defer stop()
		defer p.there.Close()
		h(here, t.id, p.there)
	}) {
		cancel()
		return nil, fmt.Errorf("%w: node %d", ErrClosed, t.id)
	}
	p.watch(ctx)
	return p.here, nil
}

// serveStream runs the handler of an accepted stream.
func (t *TCP) serveStream(c net.Conn, from NodeID) error {
	s := newTCPStream(t, c)
	if err := c.SetReadDeadline(time.Now().Add(t.o.DialTimeout)); err != nil {
		return err
	}
	f, err := s.next()
	if err != nil {
		return err
	}
	if f.kind != frameOpen {
		return fmt.Errorf("transport: %w: stream begins with a frame of kind %d, expected %d", errFormat, f.kind, frameOpen)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	t.observe(f.stamp)
	h := t.streamHandler(string(f.body))
	status := byte(statusDone)
	if h == nil {
		status = statusNoService
	}
	if err := s.put(frameOpen, t.stamp(), []byte{status}); err != nil {
		return err
	}
	if h != nil {
		ctx, cancel := context.WithCancel(t.life)
		defer cancel()
		h(ctx, from, s)
	}
	s.Close()
	<-s.gone
	return nil
}

// A tcpStream is one end of a stream, on a connection of its own:
//
//	open (name) | open (status) | chunks both ways | end both ways
//
// A connection that ends without an end frame broke.
type tcpStream struct {
	t      *TCP
	conn   net.Conn
	unbind func() bool
	gone   chan struct{} // closed when the connection is

	closed atomic.Bool
	once   sync.Once

	// Of the reader.
	frames *frameReader
	rest   []byte
	eof    atomic.Bool

	writeMu sync.Mutex
	buf     []byte
	ended   bool
}

func newTCPStream(t *TCP, c net.Conn) *tcpStream {
	return &tcpStream{t: t, conn: c, frames: newFrameReader(c, maxStreamFrame), gone: make(chan struct{}), unbind: func() bool { return true }}
}

// open is the opener's part of the beginning.
func (s *tcpStream) open(svc string) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(s.t.o.DialTimeout)); err != nil {
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	if err := s.put(frameOpen, s.t.stamp(), []byte(svc)); err != nil {
		return err
	}
	f, err := s.next()
	if err != nil {
		return s.broken(err)
	}
	if f.kind != frameOpen || len(f.body) != 1 || f.body[0] >= statuses {
		return fmt.Errorf("transport: %w: frame of kind %d and %d bytes, expected the stream's status", errFormat, f.kind, len(f.body))
	}
	s.t.observe(f.stamp)
	if f.body[0] == statusNoService {
		return ErrNoService
	}
	if err := s.conn.SetReadDeadline(time.Time{}); err != nil {
		return s.broken(err)
	}
	return nil
}

func (s *tcpStream) broken(err error) error {
	if s.closed.Load() {
		return fmt.Errorf("transport: stream: %w", io.ErrClosedPipe)
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

func (s *tcpStream) next() (frame, error) {
	f, err := s.frames.next()
	if err == nil {
		s.t.in[Bulk].count(1, f.bytes)
	}
	return f, err
}

// Read implements Duplex.
func (s *tcpStream) Read(b []byte) (int, error) {
	if s.closed.Load() {
		return 0, s.broken(nil)
	}
	for len(s.rest) == 0 && len(b) > 0 {
		if s.eof.Load() {
			return 0, io.EOF
		}
		f, err := s.next()
		if err != nil {
			return 0, s.broken(err)
		}
		switch f.kind {
		case frameChunk:
			s.rest = f.body
		case frameEnd:
			s.eof.Store(true)
		default:
			return 0, s.broken(fmt.Errorf("transport: %w: frame of kind %d in a stream", errFormat, f.kind))
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Write implements Duplex.
func (s *tcpStream) Write(b []byte) (int, error) {
	written := 0
	for written < len(b) {
		chunk := b[written:min(len(b), written+tcpChunkBytes)]
		if err := s.put(frameChunk, 0, chunk); err != nil {
			return written, err
		}
		written += len(chunk)
	}
	return written, nil
}

// CloseWrite implements Duplex.
func (s *tcpStream) CloseWrite() error {
	err := s.put(frameEnd, 0, nil)
	if errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

func (s *tcpStream) put(kind byte, stamp uint64, body []byte) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if s.ended {
		return fmt.Errorf("transport: stream: %w", io.ErrClosedPipe)
	}
	s.ended = kind == frameEnd
	s.buf = append(beginFrame(s.buf[:0], Bulk, kind, stamp), body...)
	endFrame(s.buf, 0)
	if _, err := s.conn.Write(s.buf); err != nil {
		return s.broken(err)
	}
	s.t.out[Bulk].count(1, len(s.buf))
	return nil
}

// Close implements Duplex. It does not wait for the peer.
func (s *tcpStream) Close() error {
	s.once.Do(func() {
		s.unbind()
		s.closed.Store(true)
		// Ends a Read or Write that runs, so that the end frame can follow.
		s.conn.SetReadDeadline(time.Unix(1, 0))
		s.conn.SetWriteDeadline(time.Now().Add(drainTime))
		if !s.t.start(s.drain) {
			s.hangUp()
		}
	})
	return nil
}

// drain says that this side ended and reads until the other one did.
func (s *tcpStream) drain() {
	defer s.hangUp()
	if s.CloseWrite() != nil || s.eof.Load() {
		return
	}
	if half, ok := s.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	s.conn.SetReadDeadline(time.Now().Add(drainTime))
	_, _ = io.Copy(io.Discard, s.conn)
}

func (s *tcpStream) hangUp() {
	s.t.drop(s.conn)
	close(s.gone)
}

// Abort implements Duplex. The peer sees a break instead of an end, and the
// kernel does not go on sending what it holds.
func (s *tcpStream) Abort() error {
	s.once.Do(func() {
		s.unbind()
		s.closed.Store(true)
		c := s.conn
		if secure, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = secure.NetConn()
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		c.Close()
		s.hangUp()
	})
	return nil
}
