// Package mvcc keeps the rows of shards, each in all versions that a reader may still
// ask for: the state machine that a shard's group replicates.
//
// An [Engine] is one Pebble, for all replicas of a node; a [Store] is one replica's
// part of it. Pebble has no log of its own: the Raft log is there already, and Pebble
// loses no more than the last of what was written, in order.
//
// # Layout
//
// Every key of Pebble is made of the shard (8 bytes), a table (1 byte), a key and a
// zero byte, and then a suffix that ends with its own length:
//
//	rows      | key of the Host or of the store
//	intents   | key | transaction      what it will write, if it commits
//	records   | anchor | transaction   how it stands or ended
//	bars      | key | transaction      that it writes nothing here
//	versions  | key | ~timestamp       value and writer; the latest first
//
// So one seek finds the version that a timestamp sees, with the help of a Bloom filter
// over what is before the suffix. Intents and records that are open are in memory too:
// they are few, and asked for by everybody.
//
// A version names its writer. That is how anybody learns that a transaction was
// committed, for as long as its version at the anchor is there, and how a write that
// comes late is known to have been made.
//
// # Commands
//
// Whoever leads a shard evaluates what is asked of it and proposes what is to be written;
// see [Header] and the functions that append to a command. Apply looks at no row of
// before, other than for counters, but at what all replicas have in memory:
// a command that was evaluated under another lease, at a closed timestamp, by a node
// that was fenced since, or for a transaction that is too old is refused as a whole,
// and the commands beside it are not.
//
// # Counters
//
// A version of eight bytes is a counter (big-endian, signed). An addition is evaluated
// when it is applied, so that many can be under way: those of transactions of several
// shards are intents that stand beside one another. One that could lead out of its
// bounds, whichever of the others commit, is refused (escrow; O'Neil, 1986). Below a
// version that does not add to the one before it nothing is added.
//
// # Time
//
// Closed is the timestamp at and below which nothing is written any more, other than by
// the intents that are there. Threshold is the one below which nobody reads: of the
// versions at or below it each replica keeps the latest, whenever it comes to it. A
// transaction that began at or below it writes no more, because nobody would know
// any more whether it had.
//
// # Concurrency
//
// A Store follows the contract of shard.Store. Reads may come at any time.
package mvcc
