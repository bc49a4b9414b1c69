// Package txn runs transactions over the shards of a cluster.
//
// A [Client] coordinates transactions on the node that it is on. What a [Tx] writes
// stays with it until Commit; what it reads it reads at one timestamp. A [Participant]
// is what a node does for the transactions of all clients: it keeps the rows of its
// shards (package mvcc), and evaluates what is asked of those that it leads.
//
// # Isolation
//
// All levels read from a snapshot. [Snapshot] refuses to write what another transaction
// has written since. [Serializable] has what was read be the same at the timestamp of
// the commit: a shard remembers at which timestamps its keys were read, and nobody
// writes below that. [Strict] adds that whoever begins later reads it: a commit returns
// when all clocks are past its timestamp, by the bound of package hlc, and a read that
// meets a version up to the bound above its timestamp goes on there.
//
// # The way of a write
//
// A shard's leader takes its place in a seat: it has a lease number that no other seat
// has, and proposes it. Behind that in the log nothing is carried out that was
// evaluated in another. What was read in former seats is not known, so the seat holds
// that everything was read just now, plus the bound of clocks.
//
// In a seat a write takes locks, waiting in line, and latches; finds out the lowest
// timestamp that it may have; and is proposed. The latches stay until it is applied, so
// that nobody evaluates what is about to change.
//
//   - Writes of one shard are committed by that: one proposal, versions at once.
//   - Those of several shards are laid as intents, by all shards at the same time, and
//     by one of them, that of the anchor, with a record that says what was promised. The
//     transaction is committed when all of it is there, at the highest timestamp of its
//     intents, and its client hears so: one round of consensus. Then the record is made
//     to say so, and after that intents become versions (parallel commits of
//     CockroachDB, Taft and others, 2020; the timestamp as in TiDB's async commit).
//   - A transaction that has read what it does not write can commit one round later
//     than it was read at most: if a shard needs a later timestamp, what was read is
//     looked at again, and the record then decides.
//   - With [TwoPhase] the record is made when all intents are there: two rounds.
//
// # Who meets an intent
//
// It asks the transaction's coordinator first, which costs one message, and knows a
// commit before any record does. If that does not answer, or does not know, or somebody
// older has waited for some milliseconds, the transaction is recovered: what it has
// promised and is not there is barred from coming, on each shard by its log, and the
// record decides. A transaction without a record is aborted by making one that says so.
// So no failure of a coordinator blocks anybody for longer than it takes to ask.
//
// What a dead node leaves is ended many at a time: each shard fences the node's epoch in
// its own log, asks the shards of the anchors how the transactions ended, and ends their
// intents by one command.
//
// # Who waits for a lock
//
// The policy of package lock decides, by age. With [lock.Detect] everybody waits, and a
// ring of transactions over several shards is found by probes: whoever has waited for a
// millisecond has the coordinators asked, one after the other, whom their transactions
// wait for (Chandy, Misra and Haas, 1983). The youngest of the ring ends.
//
// # Counters
//
// Those who add to a counter do not wait for each other. An addition of several shards
// reserves what it may take, up or down, until its transaction has ended. Whom the bounds
// refuse whatever becomes of that is told so ([OutOfRange]); whom they refuse because of
// it has met a conflict, and may try again. Who reads a counter waits for all that may be
// added below his timestamp.
//
// # Clocks
//
// What the levels say holds while all clocks are within the bound of package hlc of each
// other. So a node asks all others for the time once a second. One whose clock is more
// than four fifths of the bound from most of them serves nothing: it takes no seat, gives
// what it leads to others, and its clients get [ErrSkewed]. So does one whose clock was
// set by more than the last fifth, which is noticed by whatever goes by it next, until
// the others have been asked. It serves again when it knows that most are near. With two
// nodes nobody can tell which one is wrong, and both serve unless one was set.
//
// # Outcomes
//
// Each version names its writer. So a shard knows that a transaction was committed, and
// when, for as long as it keeps the version at the anchor, and a commit that is asked
// for twice is carried out once. [Client.Outcome] answers for good: what it does not
// find it aborts. Below the threshold of what is kept it says that it does not know.
//
// # Reads elsewhere
//
// Each command says which timestamp is closed: nothing behind it in the log is written
// at or below that. So what a replica reads there is what all do, for good, but for
// intents that are in the way, and it may be asked without its leader (follower reads;
// see [TxOptions]). A shard that nobody writes is closed when somebody has asked in
// vain. Versions that others have replaced go after a while; who reads for longer has
// all shards of a span keep what is read at a timestamp, see [Client.Protect].
//
// # Departures
//
//   - Put and Delete take no lock when they are called, but at the commit, in the order
//     of keys; GetForUpdate takes one at once. A lock for each write when it is called
//     is a round trip for each, and keeps nobody from a conflict that the commit does
//     not find.
//   - There is no row for outcomes beside the version: it would be a second write on
//     each replica.
//
// # Concurrency
//
// A Client and a Participant are safe for concurrent use. A Tx is for one goroutine.
package txn
