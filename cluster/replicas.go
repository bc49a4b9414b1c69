package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
)

// retryPause is how long a node rests before it tries again what the cluster wants
// of it and what failed, and reportEvery how often it looks at all that it leads.
const (
	retryPause  = 100 * time.Millisecond
	reportEvery = time.Second
)

// keepReplicas makes the replicas that this node is to have.
func (n *Node) keepReplicas() {
	k := keeper{n: n, due: map[meta.ShardID]bool{}}
	for n.life.Err() == nil {
		changed := n.views.next()
		k.turn(n.views.state.Load())
		rest := time.Hour
		if len(k.due) > 0 {
			rest = retryPause
		}
		wait(n.life, changed, rest)
	}
}

// A keeper brings the replicas of a node in line with one state after another.
type keeper struct {
	n    *Node
	kept *meta.State           // the latest that it went by
	due  map[meta.ShardID]bool // shards that are not yet as they are to be
}

// turn goes on to s: to the shards that have changed, or are due.
func (k *keeper) turn(s *meta.State) {
	k.touch(s)
	for id := range k.due {
		if k.n.life.Err() == nil && k.n.keep(s, id) {
			delete(k.due, id)
		}
	}
}

// touch makes due what is not the same in s as in the last state. What did not change
// is the very same there.
func (k *keeper) touch(s *meta.State) {
	last := k.kept
	if k.kept = s; last == nil {
		last = new(meta.State)
		for _, g := range k.n.host.Groups() {
			k.due[meta.ShardID(g)] = true
		}
	}
	if last.Placed == s.Placed {
		return
	}
	for _, sh := range s.Shards() {
		if old, ok := last.Shard(sh.ID); !ok || old != sh {
			k.due[sh.ID] = true
		}
	}
	for _, sh := range last.Shards() {
		if _, ok := s.Shard(sh.ID); !ok {
			k.due[sh.ID] = true
		}
	}
	for _, m := range s.Moves() {
		if old, ok := last.Move(m.Shard); !ok || old != m {
			k.due[m.Shard] = true
		}
	}
	for _, m := range last.Moves() {
		if _, ok := s.Move(m.Shard); !ok {
			k.due[m.Shard] = true
		}
	}
}

// keep makes the replica here of a shard that s wants, or ends one that it does not
// want, and reports whether that is done.
func (n *Node) keep(s *meta.State, id meta.ShardID) bool {
	g := consensus.GroupID(id)
	sh, ok := s.Shard(id)
	if !ok {
		return !s.Merged(id) || n.merged(g) // or s is from before the shard
	}
	done := true
	m, member := sh.On(n.id.Node)
	switch {
	case !member || id == meta.MetaShard && sh.Version == 0:
	case sh.Version == 0:
		done = n.makeReplica(g, m.Replica, consensus.Initial{Voters: voters(sh)})
	case !n.forked(sh):
		_, err := n.host.Status(g)
		done = err == nil
	default:
		// The others began without this node, which heard of it late. With whom is
		// forgotten, but they send it all they have.
		done = n.makeReplica(g, m.Replica, consensus.Initial{})
	}
	if m, ok := s.Move(id); ok && m.To == n.id.Node {
		done = n.makeReplica(g, m.Replica, consensus.Initial{}) && done
	}
	return n.keepReplica(s, sh) && done
}

// makeReplica makes a replica, and reports whether it is there.
func (n *Node) makeReplica(g consensus.GroupID, id consensus.ReplicaID, init consensus.Initial) bool {
	if st, err := n.host.Status(g); err == nil {
		return st.Replica == id // or an earlier one is still there
	}
	if err := n.host.Create(g, id, init); err != nil {
		n.logger.Warn("cluster: replica not made", "shard", uint64(g), "replica", uint64(id), "err", err)
		return false
	}
	if len(init.Voters) > 0 && init.Voters[0].Replica == id {
		n.work.Go(func() { n.beFirst(g) })
	}
	return true
}

// keepReplica sees to it that the replica of a shard here is the one that s knows
// of, and reports whether it is. One that was made for a move which was given up
// before its shard heard of it goes at once. Others ask the shard: the meta group's
// word is not enough, and whom they know may all have left while this node was away.
func (n *Node) keepReplica(s *meta.State, sh *meta.Shard) bool {
	g := consensus.GroupID(sh.ID)
	st, err := n.host.Status(g)
	if err != nil {
		return true
	}
	if m, ok := sh.On(n.id.Node); ok && m.Replica == st.Replica {
		return true
	}
	if m, ok := s.Move(sh.ID); ok && m.To == n.id.Node && m.Replica == st.Replica {
		return true
	}
	if st.Replica > sh.Replicas {
		return true // s is from before its id was given out
	}
	if n.needed(g) {
		return false
	}
	if st.ConfigIndex == 0 || st.Err != nil { // or it has stopped, and cannot ask
		err = n.host.Destroy(g)
	} else {
		err = n.host.AskRemoved(g, voters(sh))
	}
	if err != nil {
		n.logger.Warn("cluster: replica that nobody knows stays", "group", uint64(g), "replica", uint64(st.Replica), "err", err)
	}
	return false
}

// voters are those members of a shard that vote.
func voters(sh *meta.Shard) []consensus.Member {
	var list []consensus.Member
	for _, m := range sh.Members {
		if !m.Learner {
			list = append(list, m.Member)
		}
	}
	return list
}

// beFirst has this node lead a new shard, so that nobody waits for an election
// timeout. The others may not have their replicas yet, hence again and again.
func (n *Node) beFirst(g consensus.GroupID) {
	for rest := time.Millisecond; rest < retryPause && n.life.Err() == nil && n.host.Leader(g).Node == 0; rest *= 2 {
		if err := n.host.Campaign(g); err != nil {
			return
		}
		pause(n.life, rest)
	}
}

// reports are the shards whose members are to be told the meta group.
type reports struct {
	mu   sync.Mutex
	due  map[consensus.GroupID]bool // guarded by mu
	wake chan struct{}
}

func (r *reports) init() { r.due, r.wake = map[consensus.GroupID]bool{}, make(chan struct{}, 1) }

func (r *reports) add(g consensus.GroupID) {
	r.mu.Lock()
	r.due[g] = true
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reports) take() []consensus.GroupID {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []consensus.GroupID
	for g := range r.due {
		list = append(list, g)
	}
	clear(r.due)
	return list
}

// event hears from the Host. It runs on a worker and must not wait.
func (n *Node) event(e consensus.Event) {
	if e.Kind == consensus.EventReady {
		n.reports.add(e.Group)
	}
}

// sendReports tells the meta group the members of the shards that this node leads:
// when it comes to lead one, and when they change.
func (n *Node) sendReports() {
	for n.life.Err() == nil {
		wait(n.life, n.reports.wake, reportEvery)
		var work sync.WaitGroup
		for _, g := range n.reports.take() {
			work.Go(func() {
				if err := n.report(g); err != nil && n.life.Err() == nil {
					n.logger.Debug("cluster: report", "group", uint64(g), "err", err)
					time.AfterFunc(retryPause, func() { n.reports.add(g) })
				}
			})
		}
		work.Wait()
	}
}

// report tells the meta group the members of a group, if this node leads it and they
// are news.
func (n *Node) report(g consensus.GroupID) error {
	h, err := n.begun(g)
	if err != nil {
		return err
	}
	st, err := n.host.Status(g)
	if err != nil || st.Role != "leader" {
		return nil //nolint:nilerr // it is gone, or another's to report
	}
	if st.Joint {
		return errJoint
	}
	sh, ok := n.views.state.Load().Shard(meta.ShardID(g))
	if ok && sh.Version >= st.ConfigIndex && (h == nil || sh.Generation >= h.Generation) {
		return nil
	}
	_, err = n.Propose(n.life, reportOf(finding{Status: &st, Header: h}))
	var refused *meta.RefusedError
	if errors.As(err, &refused) && !errors.Is(err, meta.ErrNoShard) { // which is but not known yet
		n.logger.Error("cluster: the meta group does not know this shard as it is", "group", uint64(g), "err", err)
		return nil
	}
	return err
}

var errJoint = errors.New("joint configuration")

// begun returns the header of a shard that this node leads. A shard that is new is
// told its span first. The meta group has none.
func (n *Node) begun(g consensus.GroupID) (*shard.Header, error) {
	if g == metaGroup {
		return nil, nil
	}
	r, err := n.Replica(meta.ShardID(g))
	if err != nil {
		return nil, err
	}
	h := r.Header()
	if h.Generation > 0 || !r.Leads() {
		return h, nil
	}
	sh, ok := n.views.state.Load().Shard(meta.ShardID(g))
	if !ok || sh.Generation > 0 {
		return nil, fmt.Errorf("cluster: shard %d has no span, and the cluster says %v", g, sh)
	}
	ctx, cancel := context.WithTimeout(n.life, errandFor)
	defer cancel()
	return n.control(ctx, g, &shard.Control{Kind: shard.Begin, Span: sh.Span})
}

func reportOf(f finding) *meta.Report {
	st := f.Status
	r := &meta.Report{Shard: meta.ShardID(st.Group), Version: st.ConfigIndex}
	if h := f.Header; h != nil { // the meta group has none
		r.Generation, r.Span = h.Generation, h.Span
	}
	for _, m := range st.Voters {
		r.Members = append(r.Members, meta.Member{Member: m})
	}
	for _, m := range st.Learners {
		r.Members = append(r.Members, meta.Member{Member: m, Learner: true})
	}
	return r
}
