package meta

import (
	"slices"

	"github.com/phantomdb/phantomdb/consensus"
)

// A turn is a command at work on a state.
type turn struct {
	*State
	// changed hears of each record that has another value, or none.
	changed func(kind byte, id uint64, value []byte)
}

func (t *turn) putNode(n *Node) {
	t.setNode(n)
	t.changed(recordNode, uint64(n.ID), n.append(nil))
}

func (t *turn) putShard(sh *Shard) {
	t.setShard(sh)
	t.changed(recordShard, uint64(sh.ID), sh.append(nil))
}

func (t *turn) putCluster() { t.changed(recordCluster, 0, t.appendCluster(nil)) }

// check says what is wrong with what a node says of itself.
func (p *Profile) check(format uint64) Answer {
	if len(p.Locality) > MaxLocality {
		return refuse(ErrInvalid, "locality of %d names, at most %d", len(p.Locality), MaxLocality)
	}
	if format < p.Formats.Min || format > p.Formats.Max {
		hint := "upgrade the node's program first"
		if format < p.Formats.Min {
			hint = "upgrade the cluster first, or run a program of its time"
		}
		return refuse(ErrFormat, "the cluster has format %d, the node lives with %d to %d: %s", format, p.Formats.Min, p.Formats.Max, hint)
	}
	return Answer{}
}

func (c *Init) run(t *turn) Answer {
	switch {
	case c.Cluster == 0 || c.Format == 0:
		return refuse(ErrInvalid, "cluster %#x of format %d, expected numbers above 0", c.Cluster, c.Format)
	case t.Cluster == c.Cluster:
		if n, ok := t.nodes.Get(1); ok && n.Request == c.Request {
			return done(1)
		}
		fallthrough
	case t.Cluster != 0:
		return refuse(ErrCluster, "this is cluster %#x already", t.Cluster)
	}
	if a := c.check(c.Format); a.code != 0 {
		return a
	}
	t.Cluster, t.Format, t.last = c.Cluster, c.Format, counters{node: 1, shard: uint64(MetaShard)}
	t.putCluster()
	t.putNode(&Node{ID: 1, Request: c.Request, Profile: c.Profile})
	first := Member{Member: consensus.Member{Replica: 1, Node: 1}}
	t.putShard(&Shard{ID: MetaShard, Members: []Member{first}, Want: 1, Replicas: 1})
	return done(1)
}

func (c *Join) run(t *turn) Answer {
	if a := t.checkCluster(c.Cluster); a.code != 0 {
		return a
	}
	if c.Request == 0 {
		return refuse(ErrInvalid, "a request to join without a number of its own")
	}
	if id, ok := t.joined.Get(c.Request); ok {
		if c.Node != 0 && c.Node != id {
			return refuse(ErrNodeID, "request %#x joined as node %d, not %d", c.Request, id, c.Node)
		}
		return done(uint64(id))
	}
	id := t.last.node + 1
	if c.Node != 0 {
		if uint64(c.Node) < id {
			return refuse(ErrNodeID, "a new node cannot be %d: ids to %d were given out, and are never again", c.Node, t.last.node)
		}
		id = uint64(c.Node)
	}
	if t.nodes.Len() >= MaxNodes {
		return refuse(ErrFull, "%d nodes, at most %d", t.nodes.Len(), MaxNodes)
	}
	if a := c.check(t.Format); a.code != 0 {
		return a
	}
	t.last.node = id
	t.putCluster()
	t.putNode(&Node{ID: consensus.NodeID(id), Request: c.Request, Profile: c.Profile})
	return done(id)
}

func (t *turn) checkCluster(cluster uint64) Answer {
	if t.Cluster == 0 {
		return refuse(ErrCluster, "no cluster was made here yet")
	}
	if cluster != 0 && cluster != t.Cluster {
		return refuse(ErrCluster, "this is cluster %#x, not %#x", t.Cluster, cluster)
	}
	return Answer{}
}

// find returns a copy of a node to change.
func (t *turn) find(id consensus.NodeID) (Node, Answer) {
	if n, ok := t.nodes.Get(id); ok {
		return *n, Answer{}
	}
	if t.Removed(id) {
		return Node{}, refuse(ErrRemoved, "no node has the id %d any more, nor will: start with an empty directory to join as a new one", id)
	}
	return Node{}, refuse(ErrNoNode, "node %d", id)
}

func (c *Start) run(t *turn) Answer {
	if a := t.checkCluster(c.Cluster); a.code != 0 {
		return a
	}
	n, a := t.find(c.Node)
	if a.code == 0 {
		a = c.check(t.Format)
	}
	if a.code != 0 {
		return a
	}
	if c.Epoch == n.Epoch && n.Epoch != 0 && c.Nonce == n.Nonce && c.Address == n.Address && n.Condition != Dead {
		return done(uint64(n.ID)) // once more
	}
	if c.Epoch <= n.Epoch {
		return refuse(ErrEpoch, "node %d starts under epoch %d, and ran under %d already: a copy of its directory, or an old one, must not run",
			n.ID, c.Epoch, n.Epoch)
	}
	if c.Address == "" {
		return refuse(ErrInvalid, "node %d has no address", n.ID)
	}
	if other, ok := t.addresses.Get(c.Address); ok && other != n.ID {
		return refuse(ErrAddress, "%s is node %d's: remove it first, or let this node have another", c.Address, other)
	}
	n.Epoch, n.Nonce, n.Address, n.Condition, n.Profile = c.Epoch, c.Nonce, c.Address, Live, c.Profile
	t.putNode(&n)
	return done(uint64(n.ID))
}

func (c *Declare) run(t *turn) Answer {
	n, a := t.find(c.Node)
	switch {
	case a.code != 0:
		return a
	case c.Condition == Joining:
		return refuse(ErrInvalid, "node %d cannot be declared %v", n.ID, c.Condition)
	case n.Condition == Joining:
		return refuse(ErrEpoch, "node %d has never started", n.ID)
	case c.Epoch != n.Epoch:
		return refuse(ErrEpoch, "node %d is %v under epoch %d, not %d", n.ID, n.Condition, n.Epoch, c.Epoch)
	case n.Condition == c.Condition:
		return done(uint64(n.ID))
	case n.Condition == Dead:
		return refuse(ErrEpoch, "node %d is dead under epoch %d, and must start under another", n.ID, n.Epoch)
	case c.Turn != n.Told:
		return refuse(ErrChanged, "node %d: its condition was declared %d times, and the command is from when it had been %d times", n.ID, n.Told, c.Turn)
	}
	n.Condition = c.Condition
	n.Told++
	t.putNode(&n)
	return done(uint64(n.ID))
}

func (c *Drain) run(t *turn) Answer {
	n, a := t.find(c.Node)
	if a.code != 0 {
		return a
	}
	if n.Draining != c.Off {
		return done(uint64(n.ID))
	}
	if c.Turn != n.Turns {
		return refuse(ErrChanged, "node %d: draining changed %d times, and the command is from when it had %d times", n.ID, n.Turns, c.Turn)
	}
	if !c.Off {
		left := t.takers() - int(number(n.takes()))
		if sh := t.widest(); sh != nil && sh.Want > left {
			return refuse(ErrTooFew, "without node %d there are %d live nodes that stay, and shard %d is to have %d replicas: add a node first, or let it have fewer",
				n.ID, left, sh.ID, sh.Want)
		}
		if left == 0 {
			return refuse(ErrTooFew, "node %d is the last live one that stays: add a node first", n.ID)
		}
	}
	n.Draining = !c.Off
	n.Turns++
	t.putNode(&n)
	return done(uint64(n.ID))
}

// widest returns the shard that is to have most replicas. The meta group has as many as
// there are nodes for.
func (t *turn) widest() (widest *Shard) {
	t.shards.Scan(func(id ShardID, sh *Shard) bool {
		if id == MetaShard {
			return true
		}
		if widest == nil || sh.Want > widest.Want {
			widest = sh
		}
		return true
	})
	return widest
}

func (c *Remove) run(t *turn) Answer {
	if t.Removed(c.Node) {
		return done(uint64(c.Node))
	}
	n, a := t.find(c.Node)
	switch {
	case a.code != 0:
		return a
	case !n.Draining && n.Condition != Joining:
		return refuse(ErrHolds, "node %d does not drain: decommission it first", n.ID)
	}
	if sh, held := t.held(n.ID); held > 0 {
		return refuse(ErrHolds, "node %d has to do with %d shards yet, shard %d one of them", n.ID, held, sh)
	}
	_ = t.unset(recordNode, uint64(n.ID)) // fails for other kinds only
	t.changed(recordNode, uint64(n.ID), nil)
	return done(uint64(n.ID))
}

// held counts the shards that have a replica on a node, or a move from or to it.
func (t *turn) held(n consensus.NodeID) (one ShardID, count int) {
	t.shards.Scan(func(id ShardID, sh *Shard) bool {
		m, moving := t.moves.Get(id)
		if _, on := sh.On(n); on || moving && (m.From == n || m.To == n) {
			one, count = id, count+1
		}
		return true
	})
	return one, count
}

// distinct says whether no id is there twice, nor zero.
func distinct[T comparable](list []T) bool {
	var none T
	for i, v := range list {
		if v == none || slices.Contains(list[:i], v) {
			return false
		}
	}
	return true
}
