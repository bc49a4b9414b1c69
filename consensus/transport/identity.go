package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// identityScheme is that of the URIs by which certificates name nodes.
const identityScheme = "phantomdb"

// NodeURI returns the subject alternative name, a URI, by which a certificate
// says that its holder is a node of a cluster: phantomdb://0x4d/node/7 is node
// 7 of cluster 77. The cluster is part of it because one authority may sign
// for many: node 7 of the one where things are tried must not be able to speak
// as node 7 of the one that counts.
func NodeURI(cluster uint64, node NodeID) *url.URL {
	return &url.URL{
		Scheme: identityScheme,
		Host:   "0x" + strconv.FormatUint(cluster, 16),
		Path:   "/node/" + strconv.FormatUint(uint64(node), 10),
	}
}

// NodeOfCertificate returns the node of a cluster that a certificate names. It
// must hold exactly one URI of the scheme phantomdb, spelled as NodeURI spells
// it; URIs of other schemes do not matter. It does not verify the certificate.
func NodeOfCertificate(cluster uint64, cert *x509.Certificate) (NodeID, error) {
	var name *url.URL
	for _, u := range cert.URIs {
		switch {
		case u.Scheme != identityScheme:
		case name != nil:
			// Which one a check looks at must not be the holder's choice.
			return 0, fmt.Errorf("transport: certificate of %q names both %s and %s, expected one node", cert.Subject, name, u)
		default:
			name = u
		}
	}
	if name == nil {
		return 0, fmt.Errorf("transport: certificate of %q names no node, expected a URI such as %s", cert.Subject, NodeURI(cluster, 7))
	}
	id, err := strconv.ParseUint(strings.TrimPrefix(name.Path, "/node/"), 10, 64)
	// Compared as a whole, so that a name has one spelling.
	if err != nil || id == 0 || name.String() != NodeURI(cluster, NodeID(id)).String() {
		return 0, fmt.Errorf("transport: certificate of %q names %s, expected a node of cluster %#x as in %s", cert.Subject, name, cluster, NodeURI(cluster, 7))
	}
	return NodeID(id), nil
}

// secure makes the two sides' TLS configurations of the one in the options.
func (t *TCP) secure() error {
	if t.o.TLS == nil {
		return nil
	}
	if t.o.Identify == nil {
		t.o.Identify = func(c *x509.Certificate) (NodeID, error) { return NodeOfCertificate(t.o.Cluster, c) }
	}
	t.client = t.o.TLS.Clone()
	// Both ends are ours, so nothing older needs to be understood.
	t.client.MinVersion = tls.VersionTLS13
	t.server = t.client.Clone()
	t.server.ClientAuth = tls.RequireAndVerifyClientCert
	if t.server.ClientCAs == nil {
		t.server.ClientCAs = t.server.RootCAs
	}
	return t.checkOwn()
}

// checkOwn refuses a certificate of this node that every other one would
// refuse. Those that functions of the configuration give are not known yet.
func (t *TCP) checkOwn() error {
	for i, c := range t.o.TLS.Certificates {
		leaf := c.Leaf
		if leaf == nil {
			if len(c.Certificate) == 0 {
				return fmt.Errorf("transport: node %d: TLS.Certificates[%d] is empty", t.id, i)
			}
			var err error
			if leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
				return fmt.Errorf("transport: node %d: TLS.Certificates[%d]: %w", t.id, i, err)
			}
		}
		node, err := t.o.Identify(leaf)
		if err != nil {
			return fmt.Errorf("transport: node %d: TLS.Certificates[%d]: %w", t.id, i, err)
		}
		if node != t.id {
			return fmt.Errorf("transport: node %d: TLS.Certificates[%d] is node %d's", t.id, i, node)
		}
	}
	return nil
}

// checkPeer returns an error unless the certificate at the other end is that
// of node. Only a verified one counts: a hook of the configuration may have
// asked for less than this package does.
func (t *TCP) checkPeer(s tls.ConnectionState, node NodeID) error {
	if len(s.VerifiedChains) == 0 {
		return errors.New("no verified certificate at the other end")
	}
	named, err := t.o.Identify(s.VerifiedChains[0][0])
	if err != nil {
		return err
	}
	if named != node {
		return fmt.Errorf("certificate is node %d's, expected node %d's", named, node)
	}
	return nil
}
