package transport

import (
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Both ends of every connection are watched by the kernel while it is idle, and
// but for streams while something is under way.
func TestTCPWatchesItsConnections(t *testing.T) {
	s := newStreet()
	a, _ := s.settle(t, 1, nil)
	b, in := s.settle(t, 2, nil)
	b.Handle("x", func(context.Context, NodeID, []byte) ([]byte, error) { return nil, nil })
	b.HandleStream("x", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { io.Copy(io.Discard, s) })
	a.Send(2, Control, numbered(1))
	a.Send(2, Data, numbered(1))
	soon(t, "both arrive", func() bool { return in.len() == 2 })
	_, err := a.Call(t.Context(), 2, "x", nil)
	require.NoError(t, err)
	st, err := a.Stream(t.Context(), 2, "x")
	require.NoError(t, err)
	for _, n := range []*TCP{a, b} {
		limits := map[int]int{}
		n.connMu.Lock()
		conns := slices.Collect(maps.Keys(n.conns))
		n.connMu.Unlock()
		for _, c := range conns {
			raw, err := c.(*net.TCPConn).SyscallConn()
			require.NoError(t, err)
			require.NoError(t, raw.Control(func(fd uintptr) {
				get := func(level, option int) int {
					v, err := unix.GetsockoptInt(int(fd), level, option)
					require.NoError(t, err)
					return v
				}
				require.Equal(t, 1, get(unix.SOL_SOCKET, unix.SO_KEEPALIVE))
				require.Equal(t, 10, get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE))
				require.Equal(t, 5, get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL))
				require.Equal(t, 4, get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT))
				limits[get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)]++
			}))
		}
		require.Equal(t, map[int]int{10000: 3, 0: 1}, limits, "node %d", n.Node())
	}
	require.NoError(t, st.Close())
}

// A peer with data under way that it does not take is given up although nobody
// writes any more: no write has to hang for that. A stream waits.
func TestTCPUnackedDataEndsAConnection(t *testing.T) {
	s := newStreet()
	s.welcomes(t, 9, func(c net.Conn, h hello, over <-chan struct{}) {
		if h.purpose == forStream {
			newFrameReader(c, 1<<20).next()
			c.Write(sealed(Bulk, frameOpen, statusDone))
		}
		<-over
	})
	a, lost := s.settle(t, 1, func(o *TCPOptions) { o.WriteTimeout = 400 * time.Millisecond })
	st, err := a.Stream(t.Context(), 9, "x")
	require.NoError(t, err)
	full := make(chan error, 1)
	go func() { // until both kernels are full
		_, err := st.Write(make([]byte, 64<<20))
		full <- err
	}()

	// As much as fits the two kernels' buffers, but not the peer's alone.
	a.Send(9, Control, numbered(1))
	soon(t, "connected", func() bool { return a.Stats().Out[Control].Messages == 1 })
	fill(t, a.peer(9).lanes[0].conn)
	soon(t, "the messages' connection is given up", func() bool { return lost.unreached() > 0 })

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	go a.Call(ctx, 9, "x", nil)
	session := func() net.Conn {
		c := a.peer(9).calls
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.now == nil {
			return nil
		}
		return c.now.conn
	}
	soon(t, "connected", func() bool { return session() != nil })
	fill(t, session())
	_, err = a.Call(ctx, 9, "x", nil)
	require.Error(t, err)
	require.NoError(t, ctx.Err(), "the calls' connection is given up")

	require.Empty(t, full, "the stream waits for its reader")
	require.NoError(t, st.(Duplex).Abort())
	require.ErrorIs(t, <-full, io.ErrClosedPipe)
}

// fill writes to a connection until nothing fits any more.
func fill(t *testing.T, c net.Conn) {
	for {
		require.NoError(t, c.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
		if _, err := c.Write(make([]byte, 64<<10)); err != nil {
			require.NoError(t, c.SetWriteDeadline(time.Time{}))
			return
		}
	}
}
