package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// forks are the replicas of new shards that are being made of what others have split
// off.
type forks struct {
	mu      sync.Mutex
	pending map[meta.ShardID]int // guarded by mu
}

func (f *forks) add(id meta.ShardID, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pending == nil {
		f.pending = map[meta.ShardID]int{}
	}
	if f.pending[id] += n; f.pending[id] == 0 {
		delete(f.pending, id)
	}
}

func (f *forks) has(id meta.ShardID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pending[id] > 0
}

// neighbour finds the machine of a shard's replica here, before the Host runs too.
func (n *Node) neighbour(id meta.ShardID) (*shard.Machine, error) {
	if m, ok := n.machines.Load(id); ok {
		return m.(*shard.Machine), nil
	}
	return nil, fmt.Errorf("cluster: node %d has no replica of shard %d", n.id.Node, id)
}

// fork makes the replica here of a shard that was split off parent. It is called on a
// worker, and before the Host runs if an earlier life of the node did not see the end of
// it.
func (n *Node) fork(parent, child meta.ShardID, f *consensus.Fork, release func()) {
	n.forks.add(child, 1)
	n.work.Go(func() {
		select {
		case <-n.opened:
		case <-n.life.Done():
			return
		}
		n.makeFork(child, f)
		_ = f.View.Close()
		n.forks.add(child, -1)
		if n.life.Err() != nil {
			return
		}
		if n.host.Leader(consensus.GroupID(parent)).Node == n.id.Node {
			n.reports.add(consensus.GroupID(parent))
			n.beFirst(consensus.GroupID(child))
		}
		// Not when the node ends: then the next life sees to it.
		if n.awaitCommit(child, f.Index) {
			release()
		}
	})
}

// makeFork tries until the replica is there, or was.
func (n *Node) makeFork(child meta.ShardID, f *consensus.Fork) {
	g := consensus.GroupID(child)
	members, err := consensus.MembershipIn(f.View)
	if err != nil {
		n.logger.Error("cluster: replica not made", "shard", uint64(child), "err", err)
		return
	}
	m, ok := on(slices.Concat(members.Voters, members.Learners), n.id.Node)
	if !ok {
		return // it has left since
	}
	for n.life.Err() == nil {
		if _, err := n.host.Status(g); err == nil {
			return
		}
		err := n.host.Create(g, m.Replica, consensus.Initial{Fork: f})
		var exists *raftlog.ExistsError
		if err == nil || errors.As(err, &exists) { // it was there, and has moved on
			return
		}
		n.logger.Warn("cluster: replica not made", "shard", uint64(child), "err", err)
		pause(n.life, retryPause)
	}
}

// awaitCommit waits until the replica here of a new shard has applied something, so
// that a majority has what it began with, or is not there. It returns false if the
// node ended first.
func (n *Node) awaitCommit(child meta.ShardID, index uint64) bool {
	for rest := time.Millisecond; n.life.Err() == nil; rest = min(2*rest, retryPause) {
		st, err := n.host.Status(consensus.GroupID(child))
		if err == nil && st.Applied > index || errors.Is(err, consensus.ErrNoReplica) {
			return true
		}
		pause(n.life, rest)
	}
	return false
}

// forked says whether the replica here of a shard that came out of another one is to
// be made without what that one's replica here would split off for it. If that one
// has yet to apply the split, it is not: a replica that began with nothing would stand
// in the place of one that has the data.
func (n *Node) forked(sh *meta.Shard) bool {
	if sh.Parent == 0 {
		return true
	}
	if n.forks.has(sh.ID) {
		return false
	}
	parent, err := n.Replica(sh.Parent)
	return err != nil || parent.Header().Generation >= sh.Born
}

// merged ends the replica here of a shard that the cluster knows no more: what it
// held is its neighbour's. It reports whether nothing is left to do.
func (n *Node) merged(g consensus.GroupID) bool {
	if n.needed(g) {
		return false
	}
	if err := n.host.Destroy(g); err != nil && !errors.Is(err, consensus.ErrNoReplica) {
		n.logger.Warn("cluster: replica of a merged shard stays", "shard", uint64(g), "err", err)
		return false
	}
	return true
}

// needed says whether the replica here of a frozen shard must stay, because the replica
// of the shard that takes it in has yet to do so, or might have to again after a crash.
// Which shard that is only the frozen one knows for certain: it may have been split
// since, or gone on elsewhere.
func (n *Node) needed(g consensus.GroupID) bool {
	r, err := n.Replica(meta.ShardID(g))
	if err != nil {
		return false
	}
	h := r.Header()
	if h.Frozen == 0 {
		return false
	}
	into, err := n.Replica(h.Into)
	if err != nil {
		return false // it is not here, or has gone the same way
	}
	switch by := into.Header(); {
	case by.Over < h.By:
		return true
	case by.Carried < h.By:
		return false // it was given up, and this replica has left its shard before it could hear of it
	}
	// Other replicas wait for this goroutine too.
	ctx, cancel := context.WithTimeout(n.life, retryPause)
	defer cancel()
	if err := into.m.Keep(ctx); err != nil {
		n.logger.Debug("cluster: replica of a merged shard stays", "shard", uint64(g), "err", err)
		return true
	}
	return false
}
