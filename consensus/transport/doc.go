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
// [ListenTCP] opens a node on a socket. Both satisfy [Transport].
//
// Over a perfect simulated link Send calls the receiver on the sender's
// goroutine, with the sender's own messages: nothing is copied, and nothing is
// encoded either; the bytes counted are those that a TCP frame of the same
// messages would have. With NetworkOptions.Marshal messages are encoded all
// the same, to prove that nothing is shared.
//
// # Format
//
// A TCP connection carries one purpose (control, data, calls, one stream). It
// begins with a hello and a welcome, which name magic, version, cluster and
// nodes, and goes on with frames:
//
//	length u32 | crc32c u32 | version u8 | class u8 | kind u8 | stamp u64 | body
//
// The stamp is opaque; it also travels with requests, answers and the opening
// of streams. Raft messages are encoded by hand: a bit per field that is
// present and a number for each, entries with "same term" and "next index" as
// flags. What arrives equals what was sent in the sense of proto.Equal.
//
// # Peers that misbehave
//
// Whatever is wrong with what a peer sends ends the one connection it came on,
// with a warning that names the address, what was found and what was expected.
// Lengths and counts are believed within limits only; connections, calls under
// way, outboxes and frames are bounded; a peer that does not read loses its
// connection after a while and its messages at once.
//
// With TLS a node is who its certificate says: both sides look for the URI of
// [NodeURI] in the other's, the dialling side for the node it dialled, the
// accepting side for the one that the hello claims. Whoever does not match is
// dropped and, dialled, left alone for the usual pause. Without TLS a node is
// whoever it says it is.
//
// # Concurrency
//
// A Transport is safe for concurrent use, and so is a Network. Nothing runs
// before the first Network or TCP is made and nothing after its Close. Time is
// that of package time, so a Network can live in a synctest bubble.
package transport
