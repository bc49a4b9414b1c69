package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func named(uris ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.URIs = nil
		for _, s := range uris {
			u, err := url.Parse(s)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func TestNodeOfCertificate(t *testing.T) {
	require.Equal(t, "phantomdb://0x4d/node/7", NodeURI(77, 7).String())
	for uris, want := range map[string]string{
		"phantomdb://0x4d/node/7":                    "",
		"phantomdb://0x4d/node/18446744073709551615": "",
		"spiffe://a.b/c phantomdb://0x4d/node/7":     "",
		"":                                           "names no node, expected a URI such as phantomdb://0x4d/node/7",
		"spiffe://0x4d/node/7":                       "names no node",
		"phantomdb://0x4d/node/7 phantomdb://0x4d/node/8":   "names both phantomdb://0x4d/node/7 and phantomdb://0x4d/node/8",
		"phantomdb://0x4d/node/7 phantomdb://0x4d/node/7":   "names both",
		"phantomdb://0x4e/node/7":                           "names phantomdb://0x4e/node/7, expected a node of cluster 0x4d",
		"phantomdb://77/node/7":                             "expected a node of cluster",
		"phantomdb://0x4D/node/7":                           "expected a node of cluster",
		"phantomdb://0x04d/node/7":                          "expected a node of cluster",
		"phantomdb://0x4d:1/node/7":                         "expected a node of cluster",
		"phantomdb://u@0x4d/node/7":                         "expected a node of cluster",
		"phantomdb:///node/7":                               "expected a node of cluster",
		"phantomdb:0x4d/node/7":                             "expected a node of cluster",
		"phantomdb://0x4d/node/0":                           "expected a node of cluster",
		"phantomdb://0x4d/node/07":                          "expected a node of cluster",
		"phantomdb://0x4d/node/+7":                          "expected a node of cluster",
		"phantomdb://0x4d/node/7/":                          "expected a node of cluster",
		"phantomdb://0x4d/node/7?a=b":                       "expected a node of cluster",
		"phantomdb://0x4d/node/7#a":                         "expected a node of cluster",
		"phantomdb://0x4d/node/%37":                         "expected a node of cluster",
		"phantomdb://0x4d/node/":                            "expected a node of cluster",
		"phantomdb://0x4d/7":                                "expected a node of cluster",
		"phantomdb://0x4d/node/18446744073709551616":        "expected a node of cluster",
		"phantomdb://0x4d/node/7 spiffe://a.b/phantomdb://": "",
	} {
		var c x509.Certificate
		named(strings.Fields(uris)...)(&c)
		node, err := NodeOfCertificate(77, &c)
		if want != "" {
			require.ErrorContains(t, err, want, uris)
			require.Zero(t, node, uris)
			continue
		}
		require.NoError(t, err, uris)
		require.Contains(t, uris, NodeURI(77, node).String())
	}
}

// badCertificates are what a node may show instead of its own, and what the
// other side says of it. None is good enough for node 1 of cluster 0.
func badCertificates(ours, theirs *authority) map[string]struct {
	cert  tls.Certificate
	found string
} {
	return map[string]struct {
		cert  tls.Certificate
		found string
	}{
		"another node":    {ours.sign(3, nil), "certificate is node 3's, expected node 1's"},
		"another cluster": {ours.sign(0, named("phantomdb://0x4e/node/1")), "expected a node of cluster 0x0"},
		"no name":         {ours.sign(0, named()), "names no node"},
		"two names":       {ours.sign(0, named("phantomdb://0x0/node/1", "phantomdb://0x0/node/3")), "names both"},
		"expired":         {ours.sign(1, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired"},
		"not valid yet":   {ours.sign(1, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "not yet valid"},
		"other authority": {theirs.sign(1, nil), "unknown authority"},
	}
}

// A node that dials with a certificate which is not its own is not heard, is
// told why, does not try all the time and disturbs nobody.
func TestTLSBindsTheDialler(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	for name, bad := range badCertificates(ours, theirs) {
		t.Run(name, func(t *testing.T) {
			var log journal
			s := newStreet()
			b, in := s.settle(t, 2, func(o *TCPOptions) { o.TLS, o.Logger = ours.config(2, ours), log.logger() })
			b.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
			good := s.open(t, 4, ours.secured(4))
			good.Send(2, Data, numbered(1))
			soon(t, "a good peer is heard before", func() bool { return in.len() == 1 })

			attempts := dialsInVain(t, 2, s, ours.shows(bad.cert), "")
			soon(t, "the reason is logged", func() bool { return strings.Contains(log.String(), bad.found) })
			require.Contains(t, log.String(), "level=WARN")
			require.Equal(t, int64(3), attempts, "of a message, a call and a stream")

			good.Send(2, Data, numbered(1))
			soon(t, "a good peer is heard after", func() bool { return in.len() == 2 })
			require.Zero(t, good.Stats().Reconnects, "on the same connection")
		})
	}
}

// dialsInVain has node 1 send, call and stream to a node that it cannot reach
// for a reason that holds found, again and again, and returns how often it
// asked for the address.
func dialsInVain(t *testing.T, to NodeID, s *street, config *tls.Config, found string) int64 {
	var asked atomic.Int64
	var log journal
	a, lost := s.settle(t, 1, func(o *TCPOptions) {
		o.TLS, o.Logger, o.DialBackoff, o.MaxDialBackoff = config, log.logger(), time.Hour, time.Hour
		o.Resolve = func(id NodeID) (string, error) {
			asked.Add(1)
			return s.resolve(id)
		}
	})
	_, err := a.Stream(t.Context(), to, "echo")
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, found)
	for range 20 {
		a.Send(to, Data, numbered(1))
		_, err := a.Call(t.Context(), to, "echo", nil)
		require.ErrorIs(t, err, ErrUnreachable)
		require.ErrorContains(t, err, found)
	}
	soon(t, "told", func() bool { return lost.unreached() == 1 })
	require.Contains(t, log.String(), found)
	require.NoError(t, a.Close())
	return asked.Load()
}

// A node that answers with a certificate which is not that of the node dialled
// hears nothing from the one that dials.
func TestTLSBindsTheDialled(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	for name, bad := range badCertificates(ours, theirs) {
		t.Run(name, func(t *testing.T) {
			s := newStreet()
			impostor, in := s.settle(t, 1, func(o *TCPOptions) { o.TLS = ours.shows(bad.cert) })
			impostor.Handle("echo", func(_ context.Context, _ NodeID, req []byte) ([]byte, error) { return req, nil })
			var log journal
			a, lost := s.settle(t, 2, func(o *TCPOptions) { o.TLS, o.Logger = ours.config(2, ours), log.logger() })
			_, others := s.settle(t, 4, ours.secured(4))
			a.Send(1, Data, numbered(1))
			a.Send(4, Data, numbered(1))
			soon(t, "told", func() bool { return lost.unreached() == 1 })
			require.Contains(t, log.String(), bad.found)
			_, err := a.Call(t.Context(), 1, "echo", nil)
			require.ErrorIs(t, err, ErrUnreachable)
			require.ErrorContains(t, err, bad.found)
			_, err = a.Stream(t.Context(), 1, "echo")
			require.ErrorIs(t, err, ErrUnreachable)
			soon(t, "others go on", func() bool { return others.len() == 1 })
			require.Zero(t, in.len())
		})
	}
}

// What the dialler learns is the reason too.
func TestTLSTellsTheDialler(t *testing.T) {
	ca := newAuthority(t, "ours")
	s := newStreet()
	s.settle(t, 2, ca.secured(2))
	dialsInVain(t, 2, s, ca.shows(ca.sign(3, nil)), "node 2 does not take this certificate for node 1's")
}

func TestTLSAndPlaintextDoNotMix(t *testing.T) {
	ca := newAuthority(t, "ours")
	for name, c := range map[string]struct {
		client, server *tls.Config
		dialler, log   string
	}{
		"plaintext to TLS": {nil, ca.config(2, ca), "", "tls: first record does not look like"},
		"TLS to plaintext": {ca.config(1, ca), nil, "", "begins with"},
	} {
		t.Run(name, func(t *testing.T) {
			var log journal
			s := newStreet()
			_, in := s.settle(t, 2, func(o *TCPOptions) { o.TLS, o.Logger = c.server, log.logger() })
			dialsInVain(t, 2, s, c.client, c.dialler)
			soon(t, "the reason is logged", func() bool { return strings.Contains(log.String(), c.log) })
			require.Zero(t, in.len())
		})
	}
}

// Neither side talks TLS 1.2.
func TestTLSVersion(t *testing.T) {
	ca := newAuthority(t, "ours")
	old := func(node NodeID) *tls.Config {
		c := ca.config(node, ca)
		c.MaxVersion = tls.VersionTLS12
		c.ClientCAs, c.ClientAuth = ca.pool(), tls.RequireAndVerifyClientCert
		return c
	}
	var log journal
	s := newStreet()
	b := s.open(t, 2, func(o *TCPOptions) { o.TLS, o.Logger = ca.config(2, ca), log.logger() })
	_, err := tls.Dial("tcp", b.Addr().String(), old(1))
	require.ErrorContains(t, err, "protocol version not supported")
	soon(t, "logged", func() bool { return strings.Contains(log.String(), "client offered only unsupported versions") })

	l, err := tls.Listen("tcp", "127.0.0.1:0", old(9))
	require.NoError(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.(*tls.Conn).Handshake()
			c.Close()
		}
		done <- err
	}()
	s.move(9, l.Addr().String())
	_, err = b.Call(t.Context(), 9, "x", nil)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "protocol version")
	require.Error(t, <-done)
}

// A configuration that a hook makes may ask for no certificate; the node asks
// all the same.
func TestTLSWithoutCertificateSpeaksForNobody(t *testing.T) {
	ca := newAuthority(t, "ours")
	for name, auth := range map[string]tls.ClientAuthType{"none asked": tls.NoClientCert, "none verified": tls.RequireAnyClientCert} {
		t.Run(name, func(t *testing.T) {
			var log journal
			s := newStreet()
			s.settle(t, 2, func(o *TCPOptions) {
				o.TLS, o.Logger = ca.config(2, ca), log.logger()
				weak := o.TLS.Clone()
				weak.ClientAuth = auth
				o.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return weak, nil }
			})
			dialsInVain(t, 2, s, ca.config(1, ca), "does not take this certificate")
			soon(t, "logged", func() bool { return strings.Contains(log.String(), "no verified certificate") })
		})
	}
}

// Another authority's way to name nodes, here in the common name.
func TestTLSIdentify(t *testing.T) {
	ca := newAuthority(t, "ours")
	cert := func(name string) tls.Certificate {
		return ca.sign(0, func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, name })
	}
	byName := func(c *x509.Certificate) (node NodeID, err error) {
		if _, err = fmt.Sscanf(c.Subject.CommonName, "phantom-%d", &node); err != nil {
			err = errors.New("the landlord does not know you")
		}
		return node, err
	}
	s := newStreet()
	open := func(id NodeID, name string) (*TCP, *inbox, *journal) {
		log := &journal{}
		n, in := s.settle(t, id, func(o *TCPOptions) {
			o.TLS, o.Identify, o.Logger = ca.shows(cert(name)), byName, log.logger()
		})
		return n, in, log
	}
	a, _, _ := open(1, "phantom-1")
	_, in, log := open(2, "phantom-2")
	open(5, "phantom-6")
	stranger, _, _ := open(3, "phantom")
	a.Send(2, Data, numbered(1))
	soon(t, "heard", func() bool { return in.len() == 1 })
	_, err := a.Call(t.Context(), 5, "x", nil)
	require.ErrorContains(t, err, "certificate is node 6's, expected node 5's")
	_, err = stranger.Call(t.Context(), 2, "x", nil)
	require.ErrorIs(t, err, ErrUnreachable)
	soon(t, "logged", func() bool { return strings.Contains(log.String(), "the landlord does not know you") })
}

// What every other node would refuse is refused before the node listens.
func TestTLSOptionsRefuseBadInput(t *testing.T) {
	ca := newAuthority(t, "ours")
	with := func(change func(*tls.Config)) TCPOptions {
		c := ca.config(1, ca)
		change(c)
		return TCPOptions{Node: 1, TLS: c, Listen: "nowhere at all"}
	}
	certs := func(c ...tls.Certificate) TCPOptions { return with(func(t *tls.Config) { t.Certificates = c }) }
	own := ca.sign(1, nil)
	for found, o := range map[string]TCPOptions{
		"TLS.Certificates[0] is node 2's":     certs(ca.sign(2, nil)),
		"TLS.Certificates[1]: transport: cer": certs(own, ca.sign(1, named())),
		"TLS.Certificates[0] is empty":        certs(tls.Certificate{}),
		"TLS.Certificates[0]: x509":           certs(tls.Certificate{Certificate: [][]byte{{1, 2}}}),
		"no RootCAs":                          with(func(c *tls.Config) { c.RootCAs = nil }),
		"no Certificates": with(func(c *tls.Config) {
			c.Certificates = nil
			c.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }
		}),
		"InsecureSkipVerify is set": with(func(c *tls.Config) { c.InsecureSkipVerify = true }),
		"MaxVersion is TLS 1.2":     with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
		"Identify is set without TLS": {Node: 1, Listen: "nowhere at all", Identify: func(*x509.Certificate) (NodeID, error) {
			return 1, nil
		}},
	} {
		_, err := ListenTCP(o)
		require.ErrorContains(t, err, found)
		var listen *net.OpError
		require.NotErrorAs(t, err, &listen)
	}
}
