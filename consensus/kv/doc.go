// Package kv is a small ordered key-value machine for package consensus.
//
// It serves small replicated states, tests and benchmarks, and shows the whole
// contract of consensus.StateMachine in little code: the state lives in memory in a
// copy-on-write B-tree, and a checkpoint file makes it durable.
//
// # Commands
//
// A command is a byte of kind and its fields; Encode functions append one to a
// slice, ParseOutcome reads what the machine answered. All replicas must agree
// on every command, so one that does not parse is answered with ErrCommand and
// changes nothing; it is not an error of the machine.
//
//	put    | key length | key | value
//	delete | key length | key
//	add    | key length | key | delta, 8 bytes
//	swap   | key length | key | old present | old length | old | value
//	nop    | anything
//
// Lengths are unsigned varints, fixed integers little-endian. A counter is a
// value of eight bytes. A machine with Options.Commands runs those instead, and
// keeps their state in its pairs.
//
// # Durability
//
// Flush and Install write the whole state to one file of the machine's
// directory: to a temporary name, synced, renamed to checkpoint-<index in hex>,
// the directory synced. Older checkpoints go only after that. Nothing is
// written before the first Flush or Stage, so that an idle machine costs
// neither a file nor a directory. Open takes the newest checkpoint that is
// whole. Without a checkpoint the machine is empty; if there are some and all
// are damaged, Open refuses and names the newest.
//
// # Format
//
// Checkpoints and snapshots are the same stream, see package stream. Its payloads
// together are
//
//	index | term | rows | pairs             8 bytes each, the latter two are counts
//	key length | key | value length | value rows, then pairs, both ascending by key
//
// # Concurrency
//
// Reads (Get, Scan, Len, SizeBytes, Position, Digest) are safe at any time and
// see whole batches only. The methods of consensus.StateMachine follow its
// contract; beyond it, Flush, Install, Destroy and Close wait for one another.
// No mutex is held while the machine waits for the file system.
package kv
