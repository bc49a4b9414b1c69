package transport

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Whoever listens says which node of which cluster it is, over TLS to those alone
// whose certificate its authority signed, of whatever node.
func TestWho(t *testing.T) {
	var log journal
	s := newStreet()
	plain := s.open(t, 7, func(o *TCPOptions) { o.Cluster, o.Logger = 77, log.logger() })
	cluster, node, err := Who(t.Context(), plain.Addr().String(), nil)
	require.NoError(t, err)
	require.Equal(t, uint64(77), cluster)
	require.Equal(t, NodeID(7), node)
	require.NoError(t, plain.Close())
	require.NotContains(t, log.String(), "level=WARN")
	_, _, err = Who(t.Context(), plain.Addr().String(), nil)
	require.ErrorIs(t, err, ErrUnreachable)

	ca, other := newAuthority(t, "ours"), newAuthority(t, "theirs")
	safe := s.open(t, 2, ca.secured(2))
	_, node, err = Who(t.Context(), safe.Addr().String(), ca.config(9, ca))
	require.NoError(t, err)
	require.Equal(t, NodeID(2), node)
	_, _, err = Who(t.Context(), safe.Addr().String(), other.config(9, other))
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorContains(t, err, "certificate")
}

// Who listens and says nothing, or nonsense, is given up with the context, or at once.
func TestWhoGivesUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	_, _, err = Who(ctx, l.Addr().String(), nil) // nobody accepts
	require.ErrorIs(t, err, ErrUnreachable)

	nobody := friend(t, func(c net.Conn, _ hello, _ <-chan struct{}) { c.Write(appendWelcome(nil, welcome, 1, 0)) })
	_, _, err = Who(t.Context(), nobody, nil)
	require.ErrorContains(t, err, "welcome from node 0")
	noise := friend(t, func(c net.Conn, _ hello, _ <-chan struct{}) { c.Write(make([]byte, 100)) })
	_, _, err = Who(t.Context(), noise, nil)
	require.ErrorContains(t, err, "expected \"PhDB\"")
}
