package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/id"
)

// recoveriesAtOnce bounds the recoveries that a node has under way. Others wait.
const recoveriesAtOnce = 256

// tellFor bounds one attempt to have a shard do what can be asked for again: whoever leads
// it may hang, and another one lead it meanwhile.
const tellFor = time.Second

// recoveries are those that a node has under way.
type recoveries struct {
	slots chan struct{}
	mu    sync.Mutex
	live  map[id.Key]*recovery // guarded by mu
}

func (r *recoveries) init() {
	r.slots, r.live = make(chan struct{}, recoveriesAtOnce), map[id.Key]*recovery{}
}

// A recovery finds out how a transaction ended, and ends it if it has not.
type recovery struct {
	known   chan struct{} // closed when outcome is known, or err
	over    chan struct{} // closed when nothing is left to do
	outcome commit.Outcome
	err     error
}

// recover recovers a transaction, which has intents at keys of the hint, or finds that
// somebody on this node does already.
func (p *Participant) recover(txn id.Txn, h commit.Hint) *recovery {
	p.recoveries.mu.Lock()
	defer p.recoveries.mu.Unlock()
	if r := p.recoveries.live[txn.Key]; r != nil {
		return r
	}
	r := &recovery{known: make(chan struct{}), over: make(chan struct{})}
	p.recoveries.live[txn.Key] = r
	p.work.Go(func() {
		defer func() {
			p.recoveries.mu.Lock()
			delete(p.recoveries.live, txn.Key)
			p.recoveries.mu.Unlock()
			close(r.over)
		}()
		select {
		case p.recoveries.slots <- struct{}{}:
			defer func() { <-p.recoveries.slots }()
			r.run(p, commit.NewRecovery(txn, h))
		case <-p.life.Done():
			r.fail()
		}
	})
	return r
}

// fail ends a recovery that does not know how the transaction ended.
func (r *recovery) fail() {
	r.err = fmt.Errorf("txn: recovery: %w: %w", consensus.ErrUnknown, errClosed)
	close(r.known)
}

func (r *recovery) run(p *Participant, m *commit.Recovery) {
	in, said := commit.Input{Kind: commit.Begin}, false
	for wait := time.Millisecond; ; {
		var todo commit.Request
		for _, o := range m.Step(in) {
			switch o.Kind {
			case commit.Send:
				todo = o.Request
			case commit.Ack:
				r.outcome, said = o.Outcome, true
				close(r.known)
			case commit.Finished:
				return
			}
		}
		if todo == nil { // more replies to what was sent
			in = commit.Input{Kind: commit.Retry}
			continue
		}
		reply, err := p.tell(p.life, todo)
		if p.life.Err() != nil {
			if !said {
				r.fail()
			}
			return
		}
		if err != nil {
			p.o.Logger.Debug("txn: recovery", "asking", todo, "err", err)
			pause(p.life, wait)
			wait = min(2*wait, 50*time.Millisecond)
		}
		if in = (commit.Input{Kind: commit.Got, Reply: reply}); reply == nil {
			in = commit.Input{Kind: commit.Unknown}
		}
	}
}

// tell asks the shards that a request is for, all at once. If an error is returned
// beside a reply, that is of some of the keys.
func (p *Participant) tell(ctx context.Context, m commit.Request) (commit.Reply, error) {
	txn, keys, anchored := about(m)
	n := p.node.Load()
	ask := func(span meta.Span, m commit.Request) (commit.Reply, error) {
		ctx, cancel := context.WithTimeout(ctx, tellFor)
		defer cancel()
		b, err := n.CallSpan(ctx, serviceEnd, span, encodeEnd(m))
		if err != nil {
			return nil, err
		}
		return parseEnded(m, b)
	}
	if anchored {
		return ask(coverKeys(append(slices.Clip(keys), txn.Anchor)), m)
	}
	parts := p.divide(keys)
	replies, errs := make([]commit.Reply, len(parts)), make([]error, len(parts))
	each(len(parts), func(i int) { replies[i], errs[i] = ask(coverKeys(parts[i]), withKeys(m, parts[i])) })
	return join(replies), errors.Join(errs...)
}

// divide divides keys among the shards that have them, as far as the node knows.
func (p *Participant) divide(keys []string) (parts [][]string) {
	n, place := p.node.Load(), map[meta.ShardID]int{}
	for _, key := range keys {
		home, _ := n.Locate(key)
		i, ok := place[home.Shard]
		if !ok {
			i = len(parts)
			place[home.Shard], parts = i, append(parts, nil)
		}
		parts[i] = append(parts[i], key)
	}
	return parts
}

// withKeys is a request about other keys.
func withKeys(m commit.Request, keys []string) commit.Request {
	switch m := m.(type) {
	case commit.Prevent:
		m.Keys = keys
		return m
	case commit.Resolve:
		m.Keys = keys
		return m
	}
	panic(fmt.Sprintf("txn: %T is not about keys", m))
}

// join is one reply for those that have come.
func join(list []commit.Reply) (all commit.Reply) {
	for _, r := range list {
		switch r := r.(type) {
		case commit.PreventReply:
			was, _ := all.(commit.PreventReply)
			all = commit.PreventReply{Keys: append(was.Keys, r.Keys...)}
		case commit.ResolveReply:
			was, _ := all.(commit.ResolveReply)
			all = commit.ResolveReply{Keys: append(slices.Clip(was.Keys), r.Keys...)}
		}
	}
	return all
}

// coverKeys is the span of all keys.
func coverKeys(keys []string) meta.Span {
	return meta.Span{Start: slices.Min(keys), End: slices.Max(keys) + "\x00"}
}
