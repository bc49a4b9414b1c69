package cluster

import (
	"context"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/placement"
	"github.com/phantomdb/phantomdb/consensus"
)

// A transfer is a leader on its way. It is in no log: whoever leads the meta group
// next plans anew.
type transfer struct {
	move  placement.Move
	until time.Time // when it is forgotten, arrived or not
}

// weigh has the planner see loads and leaders, and leaders that are on their way as if
// they had arrived: once in a window, and not before a window has passed in which all
// of them were known. What loads are just after a move says little, and a plan that
// went by it would cause the next.
func (s *steward) weigh(state *meta.State, p *placement.State) {
	now := time.Now()
	loads, window := &s.n.sentinel.loads, s.n.o.LoadWindow
	if !loads.known(state) {
		s.known = time.Time{}
		return
	}
	if s.known.IsZero() {
		s.known = now
	}
	if now.Sub(s.known) < window || now.Sub(s.weighed) < window {
		return
	}
	s.weighed = now
	loads.weigh(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range p.Shards {
		t, ok := s.lead[meta.ShardID(sh.ID)]
		switch {
		case !ok:
		case sh.Leader != t.move.From || time.Now().After(t.until):
			delete(s.lead, meta.ShardID(sh.ID))
		default:
			if _, moving := state.Move(meta.ShardID(sh.ID)); !moving {
				p.Pending = append(p.Pending, t.move)
			}
		}
	}
}

// transfer has a shard's leader hand over.
func (s *steward) transfer(m placement.Move) {
	id := meta.ShardID(m.Shard)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.lead[id]; ok || id == meta.MetaShard {
		return
	}
	// Long enough for the new leader to be heard of.
	s.lead[id] = transfer{m, time.Now().Add(errandFor + 2*lookLoads)}
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.n.life, errandFor)
		defer cancel()
		// Of the node that leads it as far as was heard: another one would know better.
		f, err := s.n.askAt(ctx, consensus.NodeID(m.From), errand{Shard: id, Transfer: consensus.NodeID(m.To)})
		if err != nil || f.Err != "" {
			s.n.logger.Debug("cluster: leader does not move", "move", m.String(), "err", err, "says", f.Err)
		}
	})
}
