// Package isolation decides from the outside which isolation level a history of
// transactions can have had: it looks for the anomalies that Adya (1999) defines the
// levels by, which are cycles of transactions that depend on each other, and reports
// the cycle.
//
// # Histories
//
// A [Txn] is what a client did and was answered. Its operations are on lists, that are
// appended to and read whole, or on registers, that are written and read. No value is
// written to a key twice, so that whoever reads one knows who wrote it.
//
// A list tells most: one read gives the order of all that was appended before. The
// order of a register's values is what [History.Order] was told, from the versions that
// the store kept, say; where it was told nothing, it is known of a transaction that
// reads a value and writes another one that these two follow each other.
//
// # Dependencies
//
//	ww  one wrote the value right before the other's
//	wr  one wrote what the other read
//	rw  one read the value right before the other's
//	rt  one had ended before the other began
//
// # Anomalies
//
//	garbage-read, duplicate-elements, incompatible-order   no level allows them
//	internal       a transaction does not see its own writes, or before it writes them
//	G0             a cycle of ww
//	G1a            a read of what was aborted
//	G1b            a read of what its writer overwrote itself
//	G1c            a cycle of ww and wr
//	lost-update    two read one value of a key, and both wrote the key
//	G-single       a cycle with one rw, or two reads of a key that differ
//	G-nonadjacent  a cycle with several rw, no two of which follow each other
//	G2-item        any other cycle with rw: write skew
//
// Each cycle comes with the addition -realtime where it needs an rt. A cycle that has
// none but rt and pass through what is not known proves nothing and cannot be. What
// each [Level] forbids is in levels.go. A cycle is named after the strongest level that
// it already breaks, and for each pair of name and group of transactions one is
// reported, the shortest with some of its edges: it is enough to be wrong once.
//
// # Soundness
//
// Whatever is reported is real, if the history is. The reverse does not hold: what
// nobody read, and what no order is known of, hides. Predicates are not looked at.
//
// # Cost
//
// Time and memory grow with the number of operations, and with the lengths of lists
// that were read. Bounds on the search of cycles limit how many are reported, not
// whether any is.
//
// # Concurrency
//
// A History is safe for concurrent use while it is recorded.
package isolation
