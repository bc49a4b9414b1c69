// Package placement decides where replicas and leaders belong: loads go in,
// moves come out, and nothing happens. Who carries moves out reports those under
// way with the next State, and they count as done.
//
// [Plan] looks for three things, in this order, and what comes first is never
// undone by what comes later:
//
//   - Repair: replicas on nodes that are dead or drain, or that a shard's
//     constraints forbid, go elsewhere; what a shard lacks is added, what it has
//     too many is removed.
//   - Spread: the replicas of a shard lie in as many failure domains as can be.
//   - Balance: no node has much more or much less than its share of replicas,
//     leaders, operations, CPU and bytes. It begins when one of them is beyond
//     its tolerance and ends well within, so that moves do not cause moves.
//
// Balancing is a greedy descent: of all moves that relieve the node that is
// furthest off, the one that lowers the sum over nodes and loads of the squared
// distance from the share, in tolerances. Moving a leader is cheap and is tried
// first; moving a replica copies it. Multi-dimensional greedy allocators of this
// kind are CockroachDB's and PD's; hashing only breaks ties, since consistent
// hashing alone leaves a third above the mean at 50 nodes.
//
// [Place] chooses the nodes of a new shard by the power of two choices
// (Mitzenmacher, 1996). [LowerBound] says how many moves no plan can do without,
// which is how a plan is judged.
//
// All functions are pure: the same arguments, and the same source of random
// numbers, give the same answer. They may be called at the same time.
package placement
