package transport

import (
	"context"
	"io"

	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// NodeID names a node. Zero names none.
type NodeID uint64

// A Class separates traffic that must not wait for each other. Each class is
// counted apart.
type Class uint8

const (
	// Control is for what is small and urgent: votes, heartbeats, read rounds,
	// frames between nodes.
	Control Class = iota
	// Data is for appends and their answers.
	Data
	// Bulk is for streams, such as snapshots. Messages sent as Bulk travel
	// with Data and are counted as Bulk.
	Bulk
	// Calls counts the requests and answers of Call. Send treats it as Data.
	Calls
	// Classes is the number of classes.
	Classes
)

func (c Class) String() string {
	switch c {
	case Control:
		return "control"
	case Data:
		return "data"
	case Bulk:
		return "bulk"
	case Calls:
		return "calls"
	}
	return "unknown"
}

// A Message is one group's message, or one node's if Group is zero.
//
// Once sent, what a Message points to is immutable for ever, on both sides:
// in memory the receiver sees the sender's own values.
type Message struct {
	Group    raftlog.GroupID
	From, To raftlog.ReplicaID
	// Kind 0 is a Raft message. Other kinds belong to the caller and carry
	// Payload.
	Kind    uint8
	Raft    *pb.Message
	Payload []byte
}

// A Receiver takes what arrives. Its methods must not block; they run on
// whichever goroutine delivers, several at a time, and in memory that may be
// the sender's own, inside its Send.
type Receiver interface {
	// Receive takes messages from one node. The slice is valid during the
	// call only; what its messages point to stays valid and immutable.
	Receive(from NodeID, m []Message)
	// Unreachable says that messages to a node were lost: its connection
	// broke, it could not be dialled, or its outbox was full. It is called
	// once per episode, not per message.
	Unreachable(to NodeID)
}

// A Handler answers a call. It must return soon after ctx is done. ctx ends
// with the caller's deadline or cancellation and with either transport. req
// is the handler's own to keep but must not be modified, and so is the answer
// after it returned. An error reaches the caller as a *RemoteError.
type Handler func(ctx context.Context, from NodeID, req []byte) ([]byte, error)

// A StreamHandler serves one stream, which is closed when it returns. It must
// return soon after ctx is done. The stream implements [Duplex].
type StreamHandler func(ctx context.Context, from NodeID, s io.ReadWriteCloser)

// A Duplex is what every stream of this package implements. Reads and writes
// may run concurrently with each other and with the closing methods, but
// neither with itself.
type Duplex interface {
	// Read returns io.EOF only after everything that the other side wrote
	// before it closed; a broken stream gives an error wrapping ErrBroken.
	io.ReadWriteCloser
	// CloseWrite ends the own direction: the other side reads io.EOF after
	// what was written. Reading goes on.
	CloseWrite() error
	// Abort breaks the stream: the other side's Read and Write return an
	// error wrapping ErrBroken. To give up half-way use Abort: after Close
	// the other side cannot tell an end from a part.
	Abort() error
}

// Transport is one node's end of the wire.
type Transport interface {
	// Node is the node whose end this is.
	Node() NodeID
	// Send hands messages to another node, or to this one. It never blocks
	// and may drop; drops are counted. The slice is the caller's again on
	// return; what the messages point to is immutable from now on.
	Send(to NodeID, c Class, m []Message)
	// MessageLimit is the most bytes that one message may take on the wire, a
	// frame around it included; larger ones are dropped. 0: any.
	MessageLimit() int64
	// Call runs a service on another node, or on this one, and waits for its
	// answer. req must not be modified afterwards. Errors: ErrClosed and
	// ErrUnreachable, ErrNoService and ErrBusy (the request certainly did not
	// run), *RemoteError (it ran and refused), ErrBroken and the error of ctx
	// (it may have run).
	Call(ctx context.Context, to NodeID, svc string, req []byte) ([]byte, error)
	// Stream opens a stream to a service of another node, or of this one. ctx
	// bounds the opening and, while it lives, the stream: when ctx is done
	// the stream breaks. The stream implements Duplex and must be closed.
	Stream(ctx context.Context, to NodeID, svc string) (io.ReadWriteCloser, error)

	// Handle and HandleStream register services, calls and streams under names
	// of their own. Registering a name twice panics.
	Handle(svc string, h Handler)
	HandleStream(svc string, h StreamHandler)
	// Receive sets who takes messages; those that arrive earlier are dropped.
	// It may be called once.
	Receive(r Receiver)
	// Stamp sets two hooks: set gives the number that travels with every
	// frame, request and answer; observe is told the number of each one that
	// arrives, before its content is delivered. Both must be quick, must not
	// block and must be safe for concurrent use. Call it once, before traffic.
	Stamp(set func() uint64, observe func(uint64))

	// Stats returns the counters since the transport was opened.
	Stats() Stats
	// Close breaks connections, streams and calls, and waits for handlers. A
	// handler must not call it. Close may be called twice.
	Close() error
}

// Stats counts traffic of one transport. What a node sends to itself does not
// touch the wire and is not counted.
type Stats struct {
	Out, In    [Classes]Traffic
	Reconnects uint64 // connections made again after one was lost
}

// Traffic counts one class in one direction.
type Traffic struct {
	// Messages counts one-way messages; of Calls requests and answers, of Bulk
	// the chunks of streams as well.
	Messages uint64
	// Bytes on the wire, frames and headers included, TCP/IP's and TLS's own
	// not.
	Bytes uint64
	// Dropped counts messages given up: outgoing those that found no room or
	// no connection, and those that a simulated link lost, which count as
	// Messages too; incoming those without a Receiver, and those whose
	// simulated link was cut under way. What a broken connection had taken is
	// lost without being counted.
	Dropped uint64
}

// Total adds up all classes.
func (s Stats) Total() (out, in Traffic) {
	for c := range Classes {
		out.add(s.Out[c])
		in.add(s.In[c])
	}
	return out, in
}

func (t *Traffic) add(u Traffic) {
	t.Messages += u.Messages
	t.Bytes += u.Bytes
	t.Dropped += u.Dropped
}
