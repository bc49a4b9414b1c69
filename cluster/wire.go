package cluster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A Wire gives a node its end of the wire.
type Wire interface {
	// Who asks which node of which cluster answers at an address.
	Who(ctx context.Context, addr string) (cluster uint64, node consensus.NodeID, err error)
	// Open opens the end of a node, which finds others by resolve, and returns the
	// address at which others find it.
	Open(cluster uint64, node consensus.NodeID, resolve func(consensus.NodeID) (string, error)) (transport.Transport, string, error)
}

// TCP is a wire of sockets. Options are those of every end that it opens: Node,
// Cluster, Peers and Resolve are set by the node.
type TCP struct {
	Options transport.TCPOptions
	// Advertise is the address at which others find the node. Default: the one that
	// it listens on.
	Advertise string
}

// Who implements Wire.
func (w *TCP) Who(ctx context.Context, addr string) (uint64, consensus.NodeID, error) {
	return transport.Who(ctx, addr, w.Options.TLS)
}

// Open implements Wire.
func (w *TCP) Open(cluster uint64, node consensus.NodeID, resolve func(consensus.NodeID) (string, error)) (transport.Transport, string, error) {
	o := w.Options
	o.Cluster, o.Node, o.Peers, o.Resolve = cluster, node, nil, resolve
	t, err := transport.ListenTCP(o)
	if err != nil {
		return nil, "", err
	}
	if w.Advertise != "" {
		return t, w.Advertise, nil
	}
	return t, t.Addr().String(), nil
}

// Sim is the wire of nodes in one process, which share it. The address of node 7 is
// sim:7.
type Sim struct {
	Network *transport.Network

	mu       sync.Mutex
	clusters map[consensus.NodeID]uint64
}

const simPrefix = "sim:"

// Who implements Wire.
func (w *Sim) Who(_ context.Context, addr string) (uint64, consensus.NodeID, error) {
	digits, ok := strings.CutPrefix(addr, simPrefix)
	id, err := strconv.ParseUint(digits, 10, 64)
	w.mu.Lock()
	defer w.mu.Unlock()
	cluster, up := w.clusters[consensus.NodeID(id)]
	if !ok || err != nil || !up {
		return 0, 0, fmt.Errorf("%w: %q is no node's address", transport.ErrUnreachable, addr)
	}
	return cluster, consensus.NodeID(id), nil
}

// Open implements Wire.
func (w *Sim) Open(cluster uint64, node consensus.NodeID, _ func(consensus.NodeID) (string, error)) (transport.Transport, string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.clusters == nil {
		w.clusters = map[consensus.NodeID]uint64{}
	}
	if _, up := w.clusters[node]; up {
		return nil, "", fmt.Errorf("cluster: node %d is up already", node)
	}
	w.clusters[node] = cluster
	return &simEnd{Transport: w.Network.Node(node), w: w}, simPrefix + strconv.FormatUint(uint64(node), 10), nil
}

// A simEnd leaves the address book when it is closed.
type simEnd struct {
	transport.Transport
	w *Sim
}

func (e *simEnd) Close() error {
	e.w.mu.Lock()
	delete(e.w.clusters, e.Node())
	e.w.mu.Unlock()
	return e.Transport.Close()
}
