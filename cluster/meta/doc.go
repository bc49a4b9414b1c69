// Package meta is the replicated memory of a cluster: which nodes there are, which
// shards, where their replicas are to be. It is a pure machine. Commands go in, in
// the order of a Raft log, and every replica of the meta group comes to the same
// State; who proposes them, and who acts on what they say, is package cluster's.
//
// Only transitions are commands: a node joins, starts, is declared dead, a shard is
// made, a move begins and ends. Heartbeats and loads never are.
//
// # Nodes
//
//	          Start                Declare                Declare
//	joining -------->  live  <---------------> suspect ------------> dead
//	                    ^                                             |
//	                    +------------------ Start, a higher epoch ----+
//
// A node joins once and is given an id; each of its starts has an epoch, which it
// takes from its own log and states here before anything hears of it. An epoch that
// is not above the last is refused: somebody runs a copy of the node's directory,
// or an old one. Dead is final for an epoch. Draining is beside the condition, and a
// node that is removed leaves nothing but the gap in the ids.
//
// # Shards
//
// The shard's own log is the truth about its span and members, and [Report] brings
// here what its leader says. What is decided here is what shall be: a shard that is
// created exists from then on at the nodes that it names, and a [Move], one at a
// time for each shard, lasts from [Begin] to [End] whoever carries it out.
//
// A split gives out the new shard's id when it begins, and the shard is there when the
// report of the old one says that its log has done it. A merge ends the right one of
// two neighbours with the report of the left one; until then it is marked, and only
// its members move, towards those of the left one.
//
// The meta group is a shard without a span, [MetaShard].
//
// # Storage
//
// Each record is a pair of a consensus/kv machine, which makes it durable and part
// of snapshots; the State is their decoded form. Records begin with their version,
// and one of a later version is refused with the whole machine. The changes of the
// latest commands are kept for those who follow, see [Machine.Since].
//
// # Invariants
//
//  1. An id of a node, shard, replica or move is never given out twice.
//  2. Epochs of a node, and versions and generations of a shard, only grow.
//  3. No two nodes have one address.
//  4. The spans of shards do not overlap.
//  5. Members of a shard are on distinct nodes that were not removed.
//  6. A shard has at most one move, and is merged into a shard with a move that says so.
//
// # Concurrency
//
// A State is immutable. A Machine follows the contract of consensus.StateMachine;
// State and Since are safe at any time.
package meta
