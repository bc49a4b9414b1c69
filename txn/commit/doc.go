// Package commit has a transaction commit at several shards, at all of them or at none.
//
// A transaction has buffered its writes where it runs, at its coordinator. Each shard
// that it writes is a participant. What a participant keeps about a transaction is
// replicated in the shard's log and outlives its leader:
//
//   - intents: a key, the transaction, and the earliest timestamp for the write;
//   - tombstones: the transaction never lays an intent at this key;
//   - versions, what intents become, which tell whose they were;
//   - in the shard of one of its keys, the anchor, a [Record]: Staging, Committed or
//     Aborted. The anchor decides. What its log says first is what happened.
//
// [Local] holds what a participant does, as functions from what its leader knows to
// what changes; [Coordinator] and [Recovery] are machines. A driver owns the network,
// the time, the log, and the values that are written.
//
// # Two protocols
//
// In two phases, the coordinator prepares everywhere, then has the anchor commit, then
// acknowledges, then has intents resolved:
//
//	prepare ---> all prepared ---> decide ---> committed: acknowledge ---> resolve, forget
//
// In one round, the participant of the anchor lays a Staging record in the same step as
// its intents, which lists all keys that the transaction promises to write. From the
// moment at which they all have an intent it is committed, and whoever looks can see
// it: at the latest timestamp of the intents if the record is Floating, which is that
// all reads are protected by the intents; at that of the record otherwise, if none of
// the intents is later. So the decision only writes down what is true already:
//
//	prepare, stage ---> all prepared: acknowledge ---> decide ---> resolve, forget
//
// If an intent was pushed above the timestamp up to which reads are known to be good,
// the coordinator refreshes them, and then decides explicitly before it acknowledges.
//
// # Recovery
//
// Anybody who meets an intent and must not wait asks the anchor. If there is no record
// it writes one, Aborted, unless it only wants to look; if there is one of a decision,
// that is carried out. If it is Staging, it asks for all promised intents, and leaves a
// tombstone where there is none. One that is missing for good means aborted; all of
// them, by the rule above, committed or aborted. The anchor is asked to decide so, and
// says what is true.
//
// # Too late, too often
//
// Every request may come late or twice, and does no harm. A Prepare is answered Done
// where a version or the record tells that the transaction has committed, and refused
// where a tombstone or the record tells that it has not; so whoever aborts leaves a
// tombstone at each key at which there is no version. The anchor needs none: its record
// stays.
//
// Records of what was aborted and tombstones are kept for a window. Below its edge, and
// after a fence against the coordinator's life, a transaction begins nothing: it gets
// no intent that it does not have, and no record if it has none. One below the edge
// without a record is Expired: nobody can tell whether it committed. An intent that it
// left is dropped all the same. It cannot be of one that committed, since the record of
// such a one stays until all its intents are resolved, at any age.
//
// # What the driver owes
//
//   - It evaluates a request while nothing else changes what Local tells, and answers
//     when the effect is replicated. Fence and edge count as they are where the effect
//     is applied. Both only rise; a merge of shards takes the higher.
//   - It collects versions below the edge only, so that each of a transaction's tells
//     of it for as long as it has not expired.
//   - Aborted records and tombstones go when the edge has passed the start of their
//     transaction. Records that are Staging or Committed do not.
//   - Key.Conflict stays: a version, not a lock, and as long as the edge is not past the
//     start. What a table of locks refuses is Local.Refuse.
//   - A shard that does not have all keys of a request does not look at it, and the
//     coordinator is told with Resplit.
//   - The window is longer than a transaction may take with all its tries, which keep
//     its start: one that began below the edge is refused.
//   - A record that has not been resolved is found by somebody: by whom its intents are
//     in the way, or who looks through the records of nodes that have died.
//
// # Invariants
//
//  1. No two of anchor, coordinator, recoveries and versions disagree on an outcome.
//  2. A record goes from none to Staging, Committed or Aborted, from Staging to either
//     of these, from Committed to none when no intents are left, and from Aborted to
//     none below the edge.
//  3. An intent becomes a version after the record was Committed, once, at its
//     timestamp, which is none before the intent's.
//  4. A key has at most one of an intent, a tombstone and a version of a transaction.
//  5. Nothing is begun below the edge or behind a fence.
//  6. When a coordinator has finished and its messages have all arrived, no intent and
//     no record that needs anybody is left.
//  7. As long as recoveries may run, every transaction can come to its end.
//  8. A transaction is Expired for nobody inside the window.
//
// The tests visit all states of small worlds for this, and some of larger ones, with
// messages that are lost, doubled and late, and break the protocol in many places to
// see that they would find it.
//
// # Departures
//
// From two-phase commit (Gray, 1978; Lampson and Sturgis, 1979):
//
//   - Aborts are presumed, and the participant of the anchor keeps the decision in place
//     of a log of the coordinator, so that anybody can find it. The price is that the
//     decision is a round of consensus, and not a local write.
//   - Participants do not hear who takes part. Recovery therefore aborts what has no
//     record, though all may be prepared.
//
// From CockroachDB's parallel commits (2019):
//
//   - What is missing is prevented by a replicated tombstone instead of a mark in the
//     memory of the leader that reads push. It holds across leaders and for exactly
//     that transaction. The price is a round of consensus in a recovery, and rows that
//     stay for a window.
//   - A coordinator does not stage a second time at a later timestamp: it refreshes and
//     decides. A second staging would need records and intents with epochs, and save a
//     message in a case that has become rare with Floating.
//   - Coordinators send no heartbeats. Their nodes do, and fences take the place of
//     records that are pending.
//   - Recovery aborts when the first intent is found to be missing, and does not wait
//     for the others.
//
// From asynchronous commit in TiDB (2021), whose transactions commit at the highest of
// minimal timestamps that their keys were given:
//
//   - Only what is Floating does so. There, readers move the minimum of a whole store
//     and nothing is read that must stay; here what was read must be as good at the
//     later time, and nobody but the coordinator can see to that.
//   - Intents do not name all other keys, only the record does: less to write, and one
//     more question in a recovery.
//
// # Concurrency
//
// A Coordinator or Recovery is for one goroutine at a time. Requests, replies and
// effects share slices with each other and with the plan: they are not to be changed.
package commit
