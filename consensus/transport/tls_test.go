package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTLS(t *testing.T) {
	ca := newAuthority(t, "ours")
	s := newStreet()
	a := s.open(t, 1, ca.secured(1))
	b, in := s.settle(t, 2, ca.secured(2))
	a.Send(2, Data, numbered(100))
	soon(t, "messages arrive", func() bool { return in.len() == 100 })
	b.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
	got, err := a.Call(t.Context(), 2, "echo", []byte("x"))
	require.NoError(t, err)
	require.Equal(t, "x", string(got))
	b.HandleStream("echo", func(_ context.Context, _ NodeID, s io.ReadWriteCloser) { io.Copy(s, s) })
	echo(t, a, 2, "echo", 5<<20)
	require.NoError(t, b.Close())
	require.NoError(t, a.Close())
}

func TestTLSRefuses(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	for name, c := range map[string]struct {
		client *tls.Config
		dialer string // what the dialer's error says
		server string // what the server logs
	}{
		"client that does not trust us":  {ours.config(1, theirs), "certificate", "certificate"},
		"client that we do not trust":    {theirs.config(1, ours), "", "certificate"},
		"client that speaks without TLS": {nil, "", "tls: first record does not look like"},
	} {
		t.Run(name, func(t *testing.T) {
			var log journal
			s := newStreet()
			b, in := s.settle(t, 2, func(o *TCPOptions) { o.TLS, o.Logger = ours.config(2, ours), log.logger() })
			b.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
			a, lost := s.settle(t, 1, func(o *TCPOptions) { o.TLS = c.client })
			_, err := a.Call(t.Context(), 2, "echo", nil)
			require.ErrorIs(t, err, ErrUnreachable)
			require.ErrorContains(t, err, c.dialer)
			a.Send(2, Data, numbered(1))
			soon(t, "told", func() bool { return lost.unreached() == 1 })
			soon(t, "logged", func() bool { return strings.Contains(log.String(), c.server) })
			require.Contains(t, log.String(), "level=WARN")
			require.Zero(t, in.len())
		})
	}
	// A client without a certificate, which ListenTCP itself would not allow.
	s := newStreet()
	b := s.open(t, 2, ours.secured(2))
	c, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: ours.pool()})
	if err == nil { // TLS 1.3 hears of it with the first read only
		defer c.Close()
		h := hello{protocolVersion, forData, 0, 1, 2}
		_, err = c.Write(h.append(nil))
		if err == nil {
			_, err = readWelcome(c)
		}
	}
	require.ErrorContains(t, err, "certificate required")
}

// Nothing of a message crosses the wire in clear.
func TestTLSHidesData(t *testing.T) {
	ca := newAuthority(t, "ours")
	s := newStreet()
	_, in := s.settle(t, 2, ca.secured(2))
	real_, err := s.resolve(2)
	require.NoError(t, err)
	var seen journal
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		far, err := net.Dial("tcp", real_)
		if err != nil {
			return
		}
		defer far.Close()
		back := make(chan struct{})
		go func() { defer close(back); io.Copy(c, far); c.Close() }()
		io.Copy(far, io.TeeReader(c, &seen))
		far.Close()
		<-back
	}()
	s.move(2, l.Addr().String())
	a := s.open(t, 1, ca.secured(1))
	secret := bytes.Repeat([]byte("secret"), 10)
	a.Send(2, Data, []Message{{Group: 1, Kind: 1, Payload: secret}})
	soon(t, "arrives", func() bool { return in.len() == 1 })
	require.NotContains(t, seen.String(), "secret")
	require.NotContains(t, seen.String(), helloMagic)
	require.NoError(t, a.Close())
	<-done
}
