package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// keepAlive finds out within half a minute that a silent peer is gone.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4}

// watch has the kernel find out that the other end is gone without a word: by
// probes where nothing is under way, and by WriteTimeout where something is. A
// stream may stand still for as long as its reader likes, which to the kernel
// looks the same; whoever opened it has a context.
func (t *TCP) watch(log *slog.Logger, c net.Conn, for_ purpose) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	err := tcp.SetKeepAliveConfig(keepAlive)
	if err == nil && for_ != forStream {
		err = limitUnacked(tcp, t.o.WriteTimeout)
	}
	if err != nil {
		log.Warn("transport: a peer that vanishes will be noticed late", "err", err)
	}
}

// dial connects to a node and shakes hands. Errors wrap ErrUnreachable.
func (t *TCP) dial(ctx context.Context, to NodeID, for_ purpose) (net.Conn, error) {
	c, err := t.connect(ctx, to, for_)
	if err != nil {
		return nil, fmt.Errorf("%w: node %d: %w", ErrUnreachable, to, err)
	}
	return c, nil
}

func (t *TCP) connect(ctx context.Context, to NodeID, for_ purpose) (net.Conn, error) {
	addr, err := t.resolve(to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.o.DialTimeout)
	defer cancel()
	defer context.AfterFunc(t.life, cancel)()
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	t.watch(t.log.With("to", uint64(to)), raw, for_)
	c, err := t.greet(ctx, raw, addr, hello{protocolVersion, for_, t.o.Cluster, t.id, to})
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	if !t.track(c) {
		return nil, ErrClosed
	}
	return c, nil
}

func (t *TCP) resolve(to NodeID) (string, error) {
	if addr, ok := t.o.Peers[to]; ok {
		return addr, nil
	}
	if t.o.Resolve == nil {
		return "", fmt.Errorf("no address among %d peers and no Resolve", len(t.o.Peers))
	}
	return t.o.Resolve(to)
}

// greet is the dialer's handshake. ctx has a deadline; its end breaks what
// hangs.
func (t *TCP) greet(ctx context.Context, raw net.Conn, addr string, h hello) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })()
	c := raw
	if t.client != nil {
		config := t.client
		if config.ServerName == "" {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			config = config.Clone()
			config.ServerName = host
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		// Before anything is said: an address that another node has taken over
		// learns no more than that.
		if err := t.checkPeer(secure.ConnectionState(), h.to); err != nil {
			return nil, err
		}
		c = secure
	}
	if _, err := c.Write(h.append(nil)); err != nil {
		return nil, err
	}
	w, err := readWelcome(c)
	if err == nil {
		err = w.admits(h)
	}
	if err != nil {
		return nil, err
	}
	return c, ctx.Err()
}
