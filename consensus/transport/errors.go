package transport

import (
	"errors"
	"fmt"
)

// Errors of calls and streams; test with errors.Is. They are split by what
// the caller may do next.
var (
	// ErrClosed says that this transport is closed. Nothing was sent.
	ErrClosed = errors.New("transport: closed")
	// ErrUnreachable says that the node could not be reached. The request did
	// not run; it may be sent again or elsewhere.
	ErrUnreachable = errors.New("transport: node unreachable")
	// ErrNoService says that the node knows no service of that name.
	ErrNoService = errors.New("transport: no such service")
	// ErrBusy says that the node has too many calls running. The request did
	// not run; it may be sent again later.
	ErrBusy = errors.New("transport: node busy")
	// ErrBroken says that the wire broke under way. Whether a request ran is
	// unknown.
	ErrBroken = errors.New("transport: connection broken")
)

// A RemoteError is the error of a handler on another node, of which only the
// text travels.
type RemoteError struct {
	Node    NodeID
	Service string
	Message string
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("transport: node %d: service %q: %s", e.Node, e.Service, e.Message)
}
