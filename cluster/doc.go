// Package cluster makes one of many nodes: who belongs, where everything is, and
// that it stays so.
//
// A [Node] runs a consensus Host. One of its groups, on a few nodes, is the meta
// group, whose machine ([meta.State]) says which nodes there are and which replicas
// they are to have. Every node follows it, and makes what it finds itself named for.
// So with the meta group down everything goes on but change.
//
// # A life of a node
//
// A node that joins draws a number by which it can be told from others, keeps it, and
// asks any member for an id. From then on its directory is that node's, of that
// cluster, for good. Each start takes an epoch of its own, the next above the highest
// that its log has seen, and makes it known together with the node's address: an
// epoch that is not above the last is refused, and the node stops. It is not the meta
// group that chooses it, for the nodes of the meta group must start before there is
// one; what matters is that it was never used, and both see to that.
//
// # What a node knows
//
// [Node.View] is a state of the meta group that may be behind; its age says how far
// at most. Members of the meta group look at their own replica, the others ask one
// for what changed, and wait for the answer while nothing does.
//
// # Commands
//
// All that changes the cluster is a command of package meta, sent to whoever leads
// the meta group. Doing one twice is doing it once, so that a command whose outcome
// is unknown is tried again, until the caller's patience ends.
//
// # Shards
//
// A shard is a Raft group whose machine, a [shard.Machine], holds a store of a floor
// above. [Node.Call] brings a request to the leader of the shard that has a key, where a
// [Handler] answers it by way of a [Replica]. It is tried again while nothing can have
// happened, and an outcome that nobody knows is told as such. [Node.Split] and
// [Node.Merge] change spans; whoever asks meanwhile finds the way by what the shards
// themselves say.
//
// # What the cluster does by itself
//
// The node that leads the meta group finds nodes that are silent, and has a steward:
// replicas on nodes that died or drain are made elsewhere, new nodes get their share,
// leaders spread and busy shards part. All of it is safe for anybody to do at any time,
// so it does not matter who believes to lead.
package cluster
