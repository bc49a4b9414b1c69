// Package tscache remembers at which timestamps the keys of a shard were read, so that
// nobody writes into the past of a reader. It follows the timestamp cache of
// CockroachDB (Taft and others, 2020, section 3.2).
//
// # Promises
//
// What [Cache.Max] answers is never below the highest timestamp at which anybody but
// the transaction that asks has read the key, as far as the Read or ReadSpan returned
// before Max was called. It may be higher: memory is bounded, and what is forgotten
// goes into a low-water that holds for all keys and all transactions. A write that is
// moved up more than it had to be costs time and nothing else.
//
// # Who has read
//
// A transaction's own reads must not get into the way of its writes. So each record is
// of two timestamps: the highest, with the name of who read at it, and the highest of
// all others. That is enough to answer for every transaction exactly: whoever is not
// the one named gets the first, and the one named the second. When another one reads at a higher
// timestamp, the first becomes the second, which is right because all other reads are
// below. Names are kept whole: with hashes of them, two transactions whose hashes are the
// same would each take the other's reads for its own, and both could commit.
//
// # Layout
//
//	low-water   one timestamp
//	points      65536 records, by a hash of the key; keys that share one are as one
//	spans       disjoint intervals with a record each, at most Options.MaxSpans
//
// Records of points come in pages of 4 that are allocated when they are needed: 1 KiB
// for an idle shard, 3.5 MiB for one all of whose records are in use. Where there are too
// many intervals, the quarter of them that was read longest ago goes into the low-water.
//
// # Invariants
//
//  1. In a record the second timestamp is not above the first.
//  2. Intervals are not empty, do not overlap, and are above the low-water, and after
//     each call there are at most Options.MaxSpans of them.
//  3. The low-water never goes down, and has been raised before what it stands for is
//     dropped.
//
// # Departures
//
//   - CockroachDB keeps points in the same skip list as spans, and drops whole pages of
//     it by age. Hashed points cost a tenth of that and never move the low-water. The price is
//     that a key may be taken for another one, once in 65536 times.
//   - There is no least time for which reads are remembered.
//
// # Concurrency
//
// A Cache is safe for concurrent use. Reads and questions about single keys meet only
// where they fall into the same page.
package tscache
