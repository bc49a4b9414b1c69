package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"slices"
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
		"purpose":         {with(func(h *hello) { h.purpose = 9 }), []string{"purpose 9, expected below 4"}},
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

// false friends answer a hello and then do what the test says.
func friend(t *testing.T, f func(c net.Conn, h hello)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				if h, err := readHello(c); err == nil {
					f(c, h)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		group.Wait()
	})
	return l.Addr().String()
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
			done := make(chan struct{})
			addr := friend(t, func(conn net.Conn, h hello) {
				conn.Write(c.answer(h))
				<-done
			})
			t.Cleanup(func() { close(done) })
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

// A peer that does not read costs at most its outbox, and is given up after
// WriteTimeout; the others go on.
func TestTCPSlowReader(t *testing.T) {
	done := make(chan struct{})
	addr := friend(t, func(c net.Conn, h hello) {
		c.Write(appendWelcome(nil, welcome, h.cluster, h.to))
		<-done
	})
	t.Cleanup(func() { close(done) })
	const outbox = 1 << 20
	s := newStreet()
	s.move(9, addr)
	a, lost := s.settle(t, 1, func(o *TCPOptions) { o.OutboxBytes, o.WriteTimeout = outbox, 300*time.Millisecond })
	_, in := s.settle(t, 2, nil)
	m := appends(4, 32<<10)
	box := a.peer(9).lanes[1]
	soon(t, "messages are dropped and told", func() bool {
		a.Send(9, Data, m)
		box.mu.Lock()
		defer box.mu.Unlock()
		require.LessOrEqual(t, box.bytes, int64(outbox))
		return a.Stats().Out[Data].Dropped > 1000 && lost.unreached() > 0
	})
	a.Send(2, Data, numbered(1))
	soon(t, "others go on", func() bool { return in.len() == 1 })
	soon(t, "given up and tried again", func() bool {
		a.Send(9, Data, m)
		return a.Stats().Reconnects > 0
	})
}

// A caller whose peer does not read or answer still hears of its context.
func TestTCPCallOfSilentPeer(t *testing.T) {
	done := make(chan struct{})
	addr := friend(t, func(c net.Conn, h hello) {
		c.Write(appendWelcome(nil, welcome, h.cluster, h.to))
		<-done
	})
	t.Cleanup(func() { close(done) })
	s := newStreet()
	s.move(9, addr)
	a := s.open(t, 1, func(o *TCPOptions) { o.WriteTimeout, o.OutboxBytes = time.Hour, 8<<20 })
	busy := 0
	for range 40 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := a.Call(ctx, 9, "x", make([]byte, 1<<20))
		cancel()
		if errors.Is(err, ErrBusy) {
			busy++
		} else {
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
	}
	require.Positive(t, busy, "what waits is bounded")
}

// A call without a deadline ends when its peer makes no room for WriteTimeout.
func TestTCPCallGivesUpWriting(t *testing.T) {
	done := make(chan struct{})
	addr := friend(t, func(c net.Conn, h hello) {
		c.Write(appendWelcome(nil, welcome, h.cluster, h.to))
		<-done
	})
	t.Cleanup(func() { close(done) })
	s := newStreet()
	s.move(9, addr)
	a := s.open(t, 1, func(o *TCPOptions) { o.WriteTimeout = 100 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := a.Call(ctx, 9, "x", make([]byte, 32<<20))
	require.ErrorIs(t, err, ErrBroken)
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
			addr := friend(t, func(conn net.Conn, h hello) {
				conn.Write(appendWelcome(nil, welcome, h.cluster, h.to))
				newFrameReader(conn, 1<<20).next()
				conn.Write(c.answer)
				io.Copy(io.Discard, conn)
			})
			s := newStreet()
			s.move(9, addr)
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
		addr := friend(t, func(conn net.Conn, h hello) {
			conn.Write(appendWelcome(nil, welcome, h.cluster, h.to))
			newFrameReader(conn, 1<<20).next()
			conn.Write(join(sealed(Bulk, frameOpen, statusDone), sealed(Bulk, frameChunk, 'a', 'b'), last))
		})
		s := newStreet()
		s.move(9, addr)
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
	c, err := net.Dial("tcp", b.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Write(hello{protocolVersion, forData, 0, 1, 2}.append(nil))
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

func TestTCPMaxConns(t *testing.T) {
	var log journal
	s := newStreet()
	b, _ := s.settle(t, 2, func(o *TCPOptions) { o.MaxConns, o.Logger = 3, log.logger() })
	h := hello{protocolVersion, forData, 0, 1, 2}
	var conns []net.Conn
	for range 3 {
		c, err := net.Dial("tcp", b.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		_, err = c.Write(h.append(nil))
		require.NoError(t, err)
		require.NoError(t, readWelcome(c, h))
		conns = append(conns, c)
	}
	a, _ := s.settle(t, 1, nil)
	_, err := a.Call(t.Context(), 2, "x", nil)
	require.ErrorContains(t, err, "too many connections")
	soon(t, "the reason is logged", func() bool { return strings.Contains(log.String(), "3 connections are open already") })
	conns[0].Close()
	soon(t, "there is room again", func() bool {
		_, err = a.Call(t.Context(), 2, "x", nil)
		return errors.Is(err, ErrNoService)
	})
}

// Those who come when all places are taken are told so, but only so many at a
// time: whoever says nothing must not cost more for that.
func TestTCPConnsBeyondTheLimitAreUnheard(t *testing.T) {
	s := newStreet()
	b, _ := s.settle(t, 2, func(o *TCPOptions) { o.MaxConns, o.DialTimeout = 1, time.Hour })
	dial := func() net.Conn {
		c, err := net.Dial("tcp", b.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { c.Close() })
		return c
	}
	counts := func() [2]int {
		b.connMu.Lock()
		defer b.connMu.Unlock()
		return [2]int{b.accepted, b.refused}
	}
	silent := make([]net.Conn, 1+maxRefusals)
	for i := range silent {
		silent[i] = dial()
	}
	soon(t, "all places are taken", func() bool { return counts() == [2]int{1, maxRefusals} })
	for range 3 {
		c := dial()
		require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
		_, err := c.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "closed unheard")
	}
	require.Equal(t, [2]int{1, maxRefusals}, counts())
	h := hello{protocolVersion, forData, 0, 1, 2}
	knock := func() error {
		c := dial()
		if _, err := c.Write(h.append(nil)); err != nil {
			return err
		}
		return readWelcome(c, h)
	}
	silent[maxRefusals].Close()
	soon(t, "one more is told", func() bool {
		err := knock()
		return err != nil && strings.Contains(err.Error(), "too many connections")
	})
	silent[0].Close()
	soon(t, "one more is welcome", func() bool { return knock() == nil })
}

// A peer that reads requests and never answers, however often its callers give
// up, does not make them remember more than MaxCalls.
func TestTCPUnansweredCallsAreBounded(t *testing.T) {
	addr := friend(t, func(c net.Conn, h hello) {
		c.Write(appendWelcome(nil, welcome, h.cluster, h.to))
		io.Copy(io.Discard, c)
	})
	s := newStreet()
	s.move(9, addr)
	a := s.open(t, 1, func(o *TCPOptions) { o.MaxCalls = 3 })
	soon(t, "calls are refused", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		_, err := a.Call(ctx, 9, "x", nil)
		if !errors.Is(err, ErrBusy) {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			return false
		}
		require.ErrorContains(t, err, "node 9 has 3 calls to answer, at most 3 may wait")
		return true
	})
}

func TestTCPMaxCalls(t *testing.T) {
	s := newStreet()
	a := s.open(t, 1, nil)
	b := s.open(t, 2, func(o *TCPOptions) { o.MaxCalls, o.MaxCallBytes = 3, 1000 })
	entered, leave := make(chan struct{}, 10), make(chan struct{})
	b.Handle("wait", func(context.Context, NodeID, []byte) ([]byte, error) {
		entered <- struct{}{}
		<-leave
		return nil, nil
	})
	results := make(chan error, 3)
	call := func(n int) {
		_, err := a.Call(t.Context(), 2, "wait", make([]byte, n))
		results <- err
	}
	go call(5000) // alone it may be larger than the bound
	<-entered
	call(1)
	require.ErrorIs(t, <-results, ErrBusy, "by bytes")
	leave <- struct{}{}
	require.NoError(t, <-results)
	for range 3 {
		go call(1)
		<-entered
	}
	_, err := a.Call(t.Context(), 2, "wait", nil)
	require.ErrorIs(t, err, ErrBusy, "by number")
	close(leave)
	for range 3 {
		require.NoError(t, <-results)
	}
}

func TestTCPSizesAreRefusedEarly(t *testing.T) {
	s := newStreet()
	small := func(o *TCPOptions) { o.MaxFrameBytes = 64 << 10 }
	a, lost := s.settle(t, 1, small)
	b, in := s.settle(t, 2, small)
	b.Handle("big", func(context.Context, NodeID, []byte) ([]byte, error) { return make([]byte, 1<<20), nil })
	_, err := a.Call(t.Context(), 2, "big", make([]byte, 64<<10))
	require.ErrorContains(t, err, "request of 65536 bytes, at most")
	_, err = a.Call(t.Context(), 2, "big", nil)
	var remote *RemoteError
	require.ErrorAs(t, err, &remote)
	require.ErrorContains(t, err, "answer of 1048576 bytes, at most")
	// A message that cannot be received is dropped alone.
	a.Send(2, Data, sequence(numbered(1), appends(1, 64<<10), numbered(1)))
	soon(t, "the others arrive", func() bool { return in.len() == 2 })
	require.Equal(t, uint64(1), a.Stats().Out[Data].Dropped)
	require.Equal(t, 1, lost.unreached())
}

func sequence(m ...[]Message) []Message { return slices.Concat(m...) }

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
