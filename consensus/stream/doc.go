// Package stream carries what machines write to snapshots and checkpoints, in chunks
// with checksums.
//
//	magic, 8 bytes
//	chunk: payload length, bit 31 set on the last | crc32c | payload, at most 64 KiB
//
// A chunk's checksum covers the whole stream up to its end except the checksums
// themselves, so that a chunk cannot be lost, repeated or moved. A reader hands out
// nothing that no checksum covers, and needs one chunk of memory.
//
// # Concurrency
//
// A Writer and a Reader are for one goroutine.
package stream
