package transport

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// Who asks which node of which cluster listens at an address, for a node that knows
// no more of a cluster than that. Nothing of what it says is proven, other than,
// with TLS, that an authority which the configuration trusts knows who says it:
// connections that carry anything are greeted anew. An error wraps ErrUnreachable.
func Who(ctx context.Context, addr string, config *tls.Config) (cluster uint64, node NodeID, err error) {
	cluster, node, err = who(ctx, addr, config)
	if err != nil {
		return 0, 0, fmt.Errorf("%w: %s: %w", ErrUnreachable, addr, err)
	}
	return cluster, node, nil
}

func who(ctx context.Context, addr string, config *tls.Config) (uint64, NodeID, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if config != nil {
		config = config.Clone()
		config.MinVersion = tls.VersionTLS13
		if config.ServerName == "" {
			if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
				return 0, 0, err
			}
		}
		secure := tls.Client(c, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			return 0, 0, err
		}
		c = secure
	}
	if _, err := c.Write(hello{version: protocolVersion, purpose: forWho}.append(nil)); err != nil {
		return 0, 0, err
	}
	w, err := readWelcome(c)
	if err == nil && w.node == 0 {
		err = fmt.Errorf("%w: welcome from node 0", errFormat)
	}
	return w.cluster, w.node, err
}
