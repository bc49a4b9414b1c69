package transport

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An authority signs certificates for the loopback interface.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T, name string) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &authority{t: t, key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// sign makes a certificate for both sides of a connection.
func (a *authority) sign() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) config(trust *authority) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{a.sign()}, RootCAs: trust.pool()}
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t, "ours")
	s := newStreet()
	a := s.open(t, 1, func(o *TCPOptions) { o.TLS = ca.config(ca) })
	b, in := s.settle(t, 2, func(o *TCPOptions) { o.TLS = ca.config(ca) })
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
		"client that does not trust us":  {ours.config(theirs), "certificate", "certificate"},
		"client that we do not trust":    {theirs.config(ours), "", "certificate"},
		"client that speaks without TLS": {nil, "", "tls: first record does not look like"},
	} {
		t.Run(name, func(t *testing.T) {
			var log journal
			s := newStreet()
			b, in := s.settle(t, 2, func(o *TCPOptions) { o.TLS, o.Logger = ours.config(ours), log.logger() })
			b.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
			a, lost := s.settle(t, 1, func(o *TCPOptions) { o.TLS = c.client })
			_, err := a.Call(t.Context(), 2, "echo", nil)
			require.ErrorIs(t, err, ErrUnreachable)
			require.ErrorContains(t, err, c.dialer)
			a.Send(2, Data, numbered(1))
			soon(t, "told", func() bool { return lost.unreached() == 1 })
			soon(t, "logged", func() bool { return strings.Contains(log.String(), c.server) })
			require.Zero(t, in.len())
		})
	}
	// A client without a certificate, which ListenTCP itself would not allow.
	s := newStreet()
	b := s.open(t, 2, func(o *TCPOptions) { o.TLS = ours.config(ours) })
	c, err := tls.Dial("tcp", b.Addr().String(), &tls.Config{RootCAs: ours.pool()})
	if err == nil { // TLS 1.3 hears of it with the first read only
		defer c.Close()
		h := hello{protocolVersion, forData, 0, 1, 2}
		_, err = c.Write(h.append(nil))
		if err == nil {
			err = readWelcome(c, h)
		}
	}
	require.ErrorContains(t, err, "certificate required")
}

// Nothing of a message crosses the wire in clear.
func TestTLSHidesData(t *testing.T) {
	ca := newAuthority(t, "ours")
	s := newStreet()
	_, in := s.settle(t, 2, func(o *TCPOptions) { o.TLS = ca.config(ca) })
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
	a := s.open(t, 1, func(o *TCPOptions) { o.TLS = ca.config(ca) })
	secret := bytes.Repeat([]byte("secret"), 10)
	a.Send(2, Data, []Message{{Group: 1, Kind: 1, Payload: secret}})
	soon(t, "arrives", func() bool { return in.len() == 1 })
	require.NotContains(t, seen.String(), "secret")
	require.NotContains(t, seen.String(), helloMagic)
	require.NoError(t, a.Close())
	<-done
}
