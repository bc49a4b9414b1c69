package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// TCPOptions configures a TCP. A zero field selects its default.
type TCPOptions struct {
	// Node is this node's identity. Required, not zero.
	Node NodeID
	// Listen is the address to accept connections on. Default: a free port of
	// the loopback interface, which Addr tells.
	Listen string
	// Peers gives the addresses of other nodes. Resolve is asked for those
	// that Peers lacks, at every attempt to connect, and must not block for
	// long. A node without an address is unreachable.
	Peers   map[NodeID]string
	Resolve func(NodeID) (string, error)
	// Cluster tells clusters apart: nodes of different ones refuse each other.
	Cluster uint64
	// TLS, if set, secures all connections, with TLS 1.3 or later. It needs
	// RootCAs and Certificates, or both functions that give certificates;
	// ClientCAs default to RootCAs, a client certificate is always required,
	// and ServerName defaults to the host dialled. Verification cannot be
	// switched off: a node speaks for the node its certificate names, and for
	// no other.
	TLS *tls.Config
	// Identify returns the node that a verified certificate belongs to, for
	// authorities whose certificates name nodes in another way. It must be
	// quick and safe for concurrent use. Default: NodeOfCertificate with
	// Cluster.
	Identify func(*x509.Certificate) (NodeID, error)

	// MaxFrameBytes bounds one message, request or answer. It must be the same
	// on every node. Range [64 KiB, 1 GiB]. Default: 64 MiB.
	MaxFrameBytes int
	// OutboxBytes bounds what waits to be written on one connection; beyond
	// it messages are dropped. Default: 64 MiB.
	OutboxBytes int64
	// MaxConns bounds accepted connections, streams included. Default: 4,096.
	MaxConns int
	// MaxCalls and MaxCallBytes bound the calls that one connection may have
	// running here; beyond them calls fail with ErrBusy. So does one of this
	// node's own to a node that has yet to answer MaxCalls. Default: 4,096,
	// 256 MiB.
	MaxCalls     int
	MaxCallBytes int64
	// DialTimeout bounds connecting and both sides' handshake. Default: 3 s.
	DialTimeout time.Duration
	// DialBackoff is the pause after a failed attempt to connect, doubled at
	// each up to MaxDialBackoff; for messages half of it is drawn at random,
	// for calls it is the time for which they fail without an attempt.
	// Default: 20 ms, 1 s.
	DialBackoff, MaxDialBackoff time.Duration
	// WriteTimeout bounds the time a peer may take to make room for the next
	// MiB of a write, and where the system can tell, on Linux and macOS, to
	// acknowledge what was written; then the connection is given up. Streams
	// are exempt. Default: 10 s.
	WriteTimeout time.Duration
	// Logger receives what an operator should know. Default: silent.
	Logger *slog.Logger
	_      struct{}
}

func orDefault[T int | int64 | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

func (o TCPOptions) withDefaults() (TCPOptions, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.MaxFrameBytes, 64<<20)
	orDefault(&o.OutboxBytes, 64<<20)
	orDefault(&o.MaxConns, 4096)
	orDefault(&o.MaxCalls, 4096)
	orDefault(&o.MaxCallBytes, 256<<20)
	orDefault(&o.DialTimeout, 3*time.Second)
	orDefault(&o.DialBackoff, 20*time.Millisecond)
	orDefault(&o.MaxDialBackoff, time.Second)
	orDefault(&o.WriteTimeout, 10*time.Second)
	return o, o.validate()
}

func (o TCPOptions) validate() error {
	switch {
	case o.Node == 0:
		return errors.New("transport: TCPOptions.Node is 0, expected a node's identity")
	case o.MaxFrameBytes < 64<<10 || o.MaxFrameBytes > 1<<30:
		return fmt.Errorf("transport: TCPOptions.MaxFrameBytes is %d, expected %d to %d", o.MaxFrameBytes, 64<<10, 1<<30)
	case o.OutboxBytes < 0 || o.MaxConns < 0 || o.MaxCalls < 0 || o.MaxCallBytes < 0:
		return fmt.Errorf("transport: TCPOptions: OutboxBytes %d, MaxConns %d, MaxCalls %d and MaxCallBytes %d must be positive",
			o.OutboxBytes, o.MaxConns, o.MaxCalls, o.MaxCallBytes)
	case o.DialTimeout < 0 || o.WriteTimeout < 0 || o.DialBackoff < 0 || o.MaxDialBackoff < o.DialBackoff:
		return fmt.Errorf("transport: TCPOptions: DialTimeout %v, WriteTimeout %v, DialBackoff %v must be positive, MaxDialBackoff %v not below DialBackoff",
			o.DialTimeout, o.WriteTimeout, o.DialBackoff, o.MaxDialBackoff)
	case o.TLS == nil && o.Identify != nil:
		return errors.New("transport: TCPOptions.Identify is set without TLS, where no certificates are")
	case o.TLS == nil:
		return nil
	case o.TLS.RootCAs == nil || len(o.TLS.Certificates) == 0 && (o.TLS.GetCertificate == nil || o.TLS.GetClientCertificate == nil):
		return errors.New("transport: TCPOptions.TLS has no Certificates or no RootCAs, expected both")
	case o.TLS.InsecureSkipVerify:
		return errors.New("transport: TCPOptions.TLS.InsecureSkipVerify is set, expected certificates to be verified")
	case o.TLS.MaxVersion != 0 && o.TLS.MaxVersion < tls.VersionTLS13:
		return fmt.Errorf("transport: TCPOptions.TLS.MaxVersion is %s, expected 0 or at least TLS 1.3", tls.VersionName(o.TLS.MaxVersion))
	}
	return nil
}

// A TCP is a node on a socket. It implements Transport. Messages to a node
// travel on two connections, Control apart from the rest, that are made at
// first use and again after a loss; calls share a third, and each stream has
// its own. Order is kept within a node and Control, and a node and the rest.
// Unreachable is told once per episode of either connection.
//
// An entry that arrived keeps the memory of its frame, which is at most 128
// KiB unless one message alone is longer.
type TCP struct {
	endpoint
	o        TCPOptions
	log      *slog.Logger
	listener net.Listener
	client   *tls.Config // nil without TLS
	server   *tls.Config // nil without TLS
	life     context.Context
	end      context.CancelFunc
	running  sync.WaitGroup

	peers sync.Map    // NodeID -> *peer
	shut  atomic.Bool // closed, for those who need not be sure

	connMu   sync.Mutex
	closed   bool
	conns    map[net.Conn]struct{}
	accepted int // Invariant: accepted <= o.MaxConns.
	refused  int // Invariant: refused <= maxRefusals.
}

// A peer is the own side's connections to one node.
type peer struct {
	lanes [2]*outbox // Control, and the rest
	calls *caller
}

// ListenTCP opens a node and accepts connections. Set Receive, Stamp and the
// handlers next: what arrives before is dropped or refused.
func ListenTCP(o TCPOptions) (*TCP, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &TCP{
		endpoint: endpoint{id: o.Node},
		o:        o,
		log:      o.Logger.With("node", uint64(o.Node)),
		conns:    make(map[net.Conn]struct{}),
	}
	if err := t.secure(); err != nil {
		return nil, err
	}
	if t.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("transport: node %d: listen on %s: %w", o.Node, o.Listen, err)
	}
	t.life, t.end = context.WithCancel(context.Background())
	t.running.Go(t.accept)
	return t, nil
}

// Addr is the address that the node accepts connections on.
func (t *TCP) Addr() net.Addr { return t.listener.Addr() }

// Close implements Transport.
func (t *TCP) Close() error {
	t.connMu.Lock()
	first := !t.closed
	t.closed = true
	t.shut.Store(true)
	open := make([]net.Conn, 0, len(t.conns))
	for c := range t.conns {
		open = append(open, c)
	}
	t.connMu.Unlock()
	var err error
	if first {
		// Connections first: what handlers make of their context's end is not
		// an answer.
		err = t.listener.Close()
		for _, c := range open {
			c.Close()
		}
		t.end()
	}
	t.running.Wait()
	return err
}

// start runs f on a goroutine that Close waits for, unless the transport is
// closed.
func (t *TCP) start(f func()) bool {
	t.connMu.Lock()
	defer t.connMu.Unlock()
	if t.closed {
		return false
	}
	t.running.Go(f)
	return true
}

// enter makes Close wait until running.Done, unless the transport is closed.
func (t *TCP) enter() bool {
	t.connMu.Lock()
	defer t.connMu.Unlock()
	if t.closed {
		return false
	}
	t.running.Add(1)
	return true
}

// track notes an open connection for Close. If the transport is closed
// already it closes the connection and returns false.
func (t *TCP) track(c net.Conn) bool {
	t.connMu.Lock()
	defer t.connMu.Unlock()
	if t.closed {
		c.Close()
		return false
	}
	t.conns[c] = struct{}{}
	return true
}

// drop closes a connection and forgets it.
func (t *TCP) drop(c net.Conn) {
	c.Close()
	t.connMu.Lock()
	delete(t.conns, c)
	t.connMu.Unlock()
}

func (t *TCP) peer(to NodeID) *peer {
	if p, ok := t.peers.Load(to); ok {
		return p.(*peer)
	}
	p := &peer{calls: newCaller(t, to)}
	p.lanes[0] = newOutbox(t, to, forControl)
	p.lanes[1] = newOutbox(t, to, forData)
	actual, _ := t.peers.LoadOrStore(to, p)
	return actual.(*peer)
}

// Send implements Transport.
func (t *TCP) Send(to NodeID, c Class, m []Message) {
	if len(m) == 0 {
		return
	}
	if to == t.id {
		if t.enter() {
			t.receive(t.id, c, 0, m)
			t.running.Done()
		}
		return
	}
	if t.shut.Load() {
		t.out[c].dropped.Add(uint64(len(m)))
		return
	}
	lane := 1
	if c == Control {
		lane = 0
	}
	t.peer(to).lanes[lane].put(c, m)
}

// MessageLimit implements Transport.
func (t *TCP) MessageLimit() int64 {
	return min(int64(t.o.MaxFrameBytes), t.o.OutboxBytes-itemOverhead)
}
