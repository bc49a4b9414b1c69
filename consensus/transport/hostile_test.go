package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A journal keeps what was logged.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// sealed makes a frame with a right checksum.
func sealed(c Class, kind byte, body ...byte) []byte {
	b := append(beginFrame(nil, c, kind, 0), body...)
	endFrame(b, 0)
	return b
}

// changed returns b with one byte replaced, and resealed its checksum if it is
// a frame.
func changed(b []byte, at int, to byte, reseal bool) []byte {
	b = bytes.Clone(b)
	b[at] = to
	if reseal {
		endFrame(b, 0)
	}
	return b
}

func join(b ...[]byte) []byte { return bytes.Join(b, nil) }

func TestTCPDropsHostilePeers(t *testing.T) {
	const cluster = 77
	ours := hello{version: protocolVersion, purpose: forData, cluster: cluster, from: 1, to: 2}
	with := func(change func(*hello)) []byte {
		h := ours
		change(&h)
		return h.append(nil)
	}
	data, calls, stream := ours.append(nil), with(func(h *hello) { h.purpose = forCalls }), with(func(h *hello) { h.purpose = forStream })
	messages := sealed(Data, frameMessages, appendBody(nil, numbered(1), sumOf(numbered(1)))...)
	request := sealed(Calls, frameRequest, 5, 0, 4, 'h', 'a', 'n', 'g')
	for name, tc := range map[string]struct {
		send  []byte
		found []string
	}{
		"garbage":         {bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 10), []string{`begins with`, `GET `, `expected`, `PhDB`}},
		"version":         {with(func(h *hello) { h.version = 9 }), []string{"version 9, expected 1"}},
		"hello checksum":  {changed(data, 20, 99, false), []string{"handshake has checksum"}},
		"cluster":         {with(func(h *hello) { h.cluster = 78 }), []string{"cluster 0x4e, expected 0x4d"}},
		"node":            {with(func(h *hello) { h.to = 3 }), []string{"looks for node 3, this is 2"}},
		"node 0":          {with(func(h *hello) { h.from = 0 }), []string{"from node 0"}},
		"purpose":         {with(func(h *hello) { h.purpose = 9 }), []string{"purpose 9, expected below 5"}},
		"oversized":       {join(data, changed(messages, 3, 0x7f, false)), []string{"length 21", "expected 11 to 65536"}},
		"undersized":      {join(data, make([]byte, 40)), []string{"length 0, expected"}},
		"checksum":        {join(data, changed(messages, 4, 0, false)), []string{"checksum", "expected"}},
		"flipped bit":     {join(data, changed(messages, len(messages)-1, 0xff, false)), []string{"checksum"}},
		"frame version":   {join(data, changed(messages, 8, 2, true)), []string{"version 2, expected 1"}},
		"class":           {join(data, changed(messages, 9, 50, true)), []string{"class 50"}},
		"kind":            {join(data, changed(messages, 10, 40, true)), []string{"kind 40"}},
		"kind elsewhere":  {join(data, request), []string{"frame of kind 1 among messages"}},
		"body":            {join(data, sealed(Data, frameMessages, 1, 1, 0, 0, 1)), []string{"malformed frame"}},
		"cut off":         {join(data, messages[:len(messages)-3]), []string{"unexpected EOF"}},
		"call: kind":      {join(calls, messages), []string{"among calls"}},
		"call: empty":     {join(calls, sealed(Calls, frameRequest)), []string{"request of 0 bytes is cut off"}},
		"call: name":      {join(calls, sealed(Calls, frameRequest, 1, 0, 200, 'x')), []string{"request of 4 bytes is cut off"}},
		"call: timeout":   {join(calls, sealed(Calls, frameRequest, 1)), []string{"is cut off"}},
		"call: twice":     {join(calls, request, request), []string{"request 5 is open already"}},
		"stream: kind":    {join(stream, messages), []string{"stream begins with a frame of kind 0"}},
		"stream: long":    {join(stream, sealed(Bulk, frameOpen, make([]byte, tcpChunkBytes+1)...)), []string{"length 65548, expected 11 to 65547"}},
		"stream: no name": {stream, []string{"i/o timeout"}},
		"silence":         {nil, []string{"no handshake", "i/o timeout"}},
		"half a hello":    {data[:20], []string{"handshake cut off", "i/o timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log journal
			s := newStreet()
			a := s.open(t, 1, func(o *TCPOptions) { o.Cluster = cluster })
			b, in := s.settle(t, 2, func(o *TCPOptions) {
				o.Cluster, o.Logger, o.MaxFrameBytes, o.DialTimeout = cluster, log.logger(), 64<<10, 200*time.Millisecond
			})
			b.Handle("hang", func(ctx context.Context, _ NodeID, _ []byte) ([]byte, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			})
			a.Send(2, Data, numbered(1))
			soon(t, "a good peer is heard before", func() bool { return in.len() == 1 })

			c, err := net.Dial("tcp", b.Addr().String())
			require.NoError(t, err)
			defer c.Close()
			_, err = c.Write(tc.send)
			require.NoError(t, err)
			if strings.Contains(name, "cut off") {
				require.NoError(t, c.(*net.TCPConn).CloseWrite())
			}
			require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
			_, err = io.Copy(io.Discard, c)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the node drops the connection")
			soon(t, "the reason is logged", func() bool { return strings.Contains(log.String(), tc.found[0]) })
			for _, found := range append(tc.found, c.LocalAddr().String()) {
				require.Contains(t, log.String(), found)
			}
			a.Send(2, Data, numbered(1))
			soon(t, "a good peer is heard after", func() bool { return in.len() == 2 })
			require.Zero(t, a.Stats().Reconnects, "on the same connection")
		})
	}
}

// A friend reads a hello and then does what the test says, until it returns or,
// if it likes, until the test is over. It may be a false one.
func friend(t *testing.T, f func(c net.Conn, h hello, over <-chan struct{})) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	over := make(chan struct{})
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				if h, err := readHello(c); err == nil {
					f(c, h, over)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(over)
		group.Wait()
	})
	return l.Addr().String()
}

// welcomes settles a friend that welcomes everybody first.
func (s *street) welcomes(t *testing.T, id NodeID, f func(c net.Conn, h hello, over <-chan struct{})) {
	s.move(id, friend(t, func(c net.Conn, h hello, over <-chan struct{}) {
		c.Write(appendWelcome(nil, welcome, h.cluster, h.to))
		f(c, h, over)
	}))
}

// silence neither reads nor answers.
func silence(_ net.Conn, _ hello, over <-chan struct{}) { <-over }

// knock connects to a node by hand and says hello.
func knock(t *testing.T, b *TCP, h hello) (net.Conn, error) {
	c, err := net.Dial("tcp", b.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	if _, err := c.Write(h.append(nil)); err != nil {
		return c, err
	}
	w, err := readWelcome(c)
	if err == nil {
		err = w.admits(h)
	}
	return c, err
}

func TestTCPRefusesFalseFriends(t *testing.T) {
	right := func(h hello) []byte { return appendWelcome(nil, welcome, h.cluster, h.to) }
	for name, c := range map[string]struct {
		answer func(h hello) []byte
		found  string
	}{
		"garbage":  {func(hello) []byte { return []byte("220 mail ready\r\n") }, "begins with"},
		"version":  {func(h hello) []byte { return changed(right(h), 4, 7, false) }, "version 7, expected 1"},
		"checksum": {func(h hello) []byte { return changed(right(h), 9, 7, false) }, "checksum"},
		"cluster":  {func(h hello) []byte { return appendWelcome(nil, wrongCluster, 5, h.to) }, "cluster 0x5, expected 0x0"},
		"node":     {func(h hello) []byte { return appendWelcome(nil, welcome, h.cluster, 8) }, "node is 8, expected 9"},
		"full":     {func(h hello) []byte { return appendWelcome(nil, tooMany, h.cluster, h.to) }, "too many connections"},
		"verdict":  {func(h hello) []byte { return appendWelcome(nil, 77, h.cluster, h.to) }, "answered 77"},
		"silence":  {func(hello) []byte { return nil }, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := friend(t, func(conn net.Conn, h hello, over <-chan struct{}) {
				conn.Write(c.answer(h))
				<-over
			})
			var log journal
			s := newStreet()
			s.move(9, addr)
			a, lost := s.settle(t, 1, func(o *TCPOptions) { o.Logger, o.DialTimeout = log.logger(), 300*time.Millisecond })
			_, in := s.settle(t, 2, nil)
			a.Send(9, Data, numbered(1))
			a.Send(2, Data, numbered(1))
			soon(t, "told", func() bool { return lost.unreached() == 1 })
			require.Contains(t, log.String(), c.found)
			require.Contains(t, log.String(), addr)
			_, err := a.Call(t.Context(), 9, "x", nil)
			require.ErrorIs(t, err, ErrUnreachable)
			require.ErrorContains(t, err, c.found)
			soon(t, "others go on", func() bool { return in.len() == 1 })
		})
	}
}

func TestTCPSilentPeerSpeaksNonsense(t *testing.T) {
	for name, c := range map[string]struct {
		answer []byte
		found  string
	}{
		"kind":    {sealed(Calls, frameRequest, 1, 0, 1, 'x'), "expected an answer"},
		"status":  {sealed(Calls, frameAnswer, 1, 9), "expected an answer"},
		"empty":   {sealed(Calls, frameAnswer), "expected an answer"},
		"unasked": {sealed(Calls, frameAnswer, 55, 0), "answer to request 55, which is not open"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStreet()
			s.welcomes(t, 9, func(conn net.Conn, _ hello, _ <-chan struct{}) {
				newFrameReader(conn, 1<<20).next()
				conn.Write(c.answer)
				io.Copy(io.Discard, conn)
			})
			_, err := s.open(t, 1, nil).Call(t.Context(), 9, "x", nil)
			require.ErrorIs(t, err, ErrBroken)
			require.ErrorContains(t, err, c.found)
		})
	}
}

// A connection that ends without the stream's end frame broke.
func TestTCPStreamWithoutEndIsBroken(t *testing.T) {
	for name, last := range map[string][]byte{
		"end missing": nil, "half a chunk": sealed(Bulk, frameChunk, 1, 2, 3)[:10], "nonsense": sealed(Bulk, frameAnswer, 1),
		"long chunk": sealed(Bulk, frameChunk, make([]byte, tcpChunkBytes+1)...),
	} {
		s := newStreet()
		s.welcomes(t, 9, func(conn net.Conn, _ hello, _ <-chan struct{}) {
			newFrameReader(conn, 1<<20).next()
			conn.Write(join(sealed(Bulk, frameOpen, statusDone), sealed(Bulk, frameChunk, 'a', 'b'), last))
		})
		st, err := s.open(t, 1, nil).Stream(t.Context(), 9, "x")
		require.NoError(t, err)
		all, err := io.ReadAll(st)
		require.ErrorIs(t, err, ErrBroken, name)
		require.Equal(t, "ab", string(all))
		require.NoError(t, st.Close())
	}
}

// A length alone must not make the receiver allocate.
func TestFrameLengthIsNotBelieved(t *testing.T) {
	header := sealed(Data, frameMessages|frameKept)
	binary.LittleEndian.PutUint32(header, 1<<30)
	r := newFrameReader(io.MultiReader(bytes.NewReader(header), bytes.NewReader(make([]byte, 3000))), 1<<30)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.next()
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4*growStep))
}

// A frame that decodes to parts of itself is not read over even if its sender
// did not say so.
func TestTCPKeepsWhatIsReferredTo(t *testing.T) {
	s := newStreet()
	b, in := s.settle(t, 2, nil)
	c, err := knock(t, b, hello{protocolVersion, forData, 0, 1, 2})
	require.NoError(t, err)
	var all []Message
	for i := range 20 {
		m := []Message{{Group: 1, Kind: 1, Payload: bytes.Repeat([]byte{byte(i)}, 100)}}
		all = append(all, m...)
		_, err = c.Write(sealed(Data, frameMessages, appendBody(nil, m, sumOf(m))...))
		require.NoError(t, err)
	}
	soon(t, "all arrive", func() bool { return in.len() == 20 })
	require.NoError(t, equal(all, in.got))
}

func TestTCPOptionsRefuseBadInput(t *testing.T) {
	for name, o := range map[string]TCPOptions{
		"Node":          {},
		"MaxFrameBytes": {Node: 1, MaxFrameBytes: 100},
		"OutboxBytes":   {Node: 1, OutboxBytes: -1},
		"DialBackoff":   {Node: 1, DialBackoff: time.Hour},
		"TLS":           {Node: 1, TLS: &tls.Config{}},
		"listen":        {Node: 1, Listen: "nowhere at all"},
	} {
		_, err := ListenTCP(o)
		require.ErrorContains(t, err, name)
	}
}
