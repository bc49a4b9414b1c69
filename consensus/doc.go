// Package consensus runs one node's replicas of many Raft groups.
//
// A Host owns the replicas of a node. It orchestrates etcd's Raft, whose
// RawNode is a pure machine, and provides everything around it: the log
// (raftlog), the wire (transport), the workers (Pool), snapshots, leases,
// reconfiguration, back-pressure. What is replicated is a StateMachine of the
// caller's.
//
// # The way of a proposal
//
// Propose appends a command to the batch that waits for the group, on the
// caller's goroutine, and wakes the group's worker. The worker turns the whole
// batch into one entry as soon as the leader's previous batch is locally
// stable, or at once when it is full, so that the disk's own latency sizes the
// batches and no timer does.
// Appends to followers leave in the same pass as the write to the own log
// (Raft thesis, section 10.2.1). When a quorum has answered, the entry is
// applied and the batch's clients are woken by closing one channel.
//
// # Invariants
//
//  1. No acknowledgement or vote leaves a node before what it vouches for is
//     durable in the node's log.
//  2. A machine applies every entry once and in order: its applied index is
//     stored with each of its batches.
//  3. The log holds every entry above min(Durable(), snapshots under way).
//  4. A proposal is rejected only if it never reached Raft, an entry of another
//     term was applied at its index, or one of a later term before it.
//  5. While a leader's lease lasts, a quorum of its configuration (of both
//     halves, while joint) neither votes nor campaigns. See peerTable and fort.
//  6. A context given to Raft's ReadIndex is never used again.
//  7. A replica id is never used again, and no message creates a replica.
//
// # Departures from the thesis
//
//   - Many commands share one entry: raft 3.7 copies every entry, so entries
//     are dear and bytes are not.
//   - Leases hang on promises between nodes, one frame per pair of nodes and
//     interval for any number of groups, instead of each group's heartbeats.
//     Idle groups therefore stop ticking. The price: a replica asks to be bound
//     once per term before its leader has a lease.
//   - A node whose log or worker stands still stops sending what keeps others
//     loyal to it, see Options.StallTimeout. The price: a failover where the
//     disk would have gone on a moment later.
//   - After a leader has told another replica to campaign, it has no lease for
//     the rest of its term, even if the transfer fails.
//
// # Concurrency
//
// Host and Pool are safe for concurrent use. All of Raft happens on the
// workers of the pool, each group on one of them. Options.Events is called by
// those of the groups and by the ticker, by several at the same time.
package consensus
