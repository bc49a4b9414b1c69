// Package raftlog keeps the Raft log and HardState of every group of a store
// in one segmented write-ahead log, so that appends of many groups share one
// write and one sync.
//
// A Disk is the physical log: a directory of segments and the flusher that
// writes them. A Log is the logical log of one owner, usually a node; several
// nodes of one process may share a Disk and then share its syncs and its fate.
// A Group is the log of one replica and half of its raft.Storage.
//
// # Promises
//
// A Completion hears of its write after everything that was buffered for the
// group up to and including the write is on stable storage. A write without a
// Completion asks for no sync and rides on the next, and so does a commit index
// alone, whose Completion hears when what it commits is durable. Writes survive a crash in
// the order in which they were made: what recovery finds is always a prefix of
// it, cut between two frames and never inside one Append (unless that Append
// is larger than a segment).
//
// The first error of a write or sync stops the Disk for good: every waiting
// and later Completion gets it. After a failed sync nobody knows what the
// kernel kept, so trying again would promise what cannot be known.
//
// # Format
//
// A log is a row of segments numbered without gaps, a segment a header and a
// row of frames, a frame a header and its records. Numbers of fixed width are
// little-endian:
//
//	segment  "phantlog" | version u32 | number u32 | store u64 | crc u32 | zeros up to 64 bytes
//	frame    magic u32 | length u32 | records u32 | end of previous segment u32 | durable segment u32 | durable offset u32 | 0 u32 | crc u32
//	record   length u32 | crc u32 | kind u8 | owner | group | fields
//	entry, rewrite   index | term | type | data
//	hardstate        term | vote | commit
//	truncate         index | term
//	state            flags | replica | base index | base term | term | vote | commit | meta
//	skip             anything
//	owner            meta
//
// Fields are unsigned varints; data and meta run to the end of the record. What
// an owner keeps for itself (Log.SetMeta) names group 0, and the newest counts.
// Frames begin at multiples of 32 bytes. Every checksum is a CRC-32C that
// begins with a mix of store, segment and offset, so what an earlier use left
// in a recycled file never looks valid.
//
// # Recovery
//
// A frame counts whole or not at all. The first frame that does not check ends
// the log, and what it means depends on the frames behind it: a frame states
// how far the log was durable when it was written. If any of them states a
// position beyond the damage, stable bytes were lost, and OpenDisk refuses
// with a *CorruptionError. Otherwise the damage is the torn end of writes that
// nobody was told of, even if later frames of the same flush are whole;
// recovery cuts there, fills the rest with zeros and syncs before it appends.
// Close ends the log with an empty frame that states everything before it.
//
// # Collection
//
// Truncation is a record. Segments go from the oldest on: what is still live
// in one, the state of a group, entries of a group that lags or the record of an
// owner, is written again at the end of the log, and the segment is recycled
// when that copy is durable. A rewritten entry does not cut what follows it, and its group's
// position moves only once the copy is durable, so replay finds the newest
// truth in the order of the log whether or not the old segment is still there.
//
// # Concurrency
//
// Disk and Log are safe for concurrent use. A Group's writes must come from
// one goroutine at a time; its reads may come from any. Without Inline a Disk
// owns two goroutines, the flusher and the one that prepares and collects
// segments; with Inline it owns none and Flush does all of it.
package raftlog
