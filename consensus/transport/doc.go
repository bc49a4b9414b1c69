// Package transport is the wire between nodes: one-way messages, calls and
// streams, over simulated links or TCP.
//
// The three ways to talk differ in what they promise:
//
//	Send    one way, never blocks, may be lost; order is kept per (node, class)
//	        while a connection lives
//	Call    request and answer; an error says whether the request can have run
//	Stream  bytes both ways with back-pressure; an end is told from a break
//
// A [Network] holds simulated nodes ([Sim]) whose links have delay, jitter,
// loss, duplication, reordering, bandwidth and partitions, drawn from a seed.
// [ListenTCP] opens a node on a socket. Both satisfy [Transport] and encode
// messages alike, so that bytes counted in memory are bytes of the wire.
//
// # Concurrency
//
// A Transport is safe for concurrent use. Nothing runs before the first
// Network or TCP is made, and nothing after its Close.
package transport
