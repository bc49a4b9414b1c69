package txn

import (
	"context"
	"fmt"
	"strings"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// Dump tells what there is to know of a participant whose clients wait.
func (p *Participant) Dump() string {
	var b strings.Builder
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, s := range p.seats {
		l, holds := s.r.Holds()
		ready := false
		select {
		case <-s.ready:
			ready = true
		default:
		}
		fmt.Fprintf(&b, "shard %d seat term=%d generation=%d ready=%t left=%v; holds=%t term=%d leads=%t %v; %d wait for latches\n",
			id, s.term, s.generation, ready, s.left(), holds, l.Term, s.r.Leads(), s.r.Header(), s.latches.Waiting())
		for _, w := range s.locks.Waits() {
			fmt.Fprintf(&b, "   %v waits at %q: %v\n", w.Owner, w.Key, s.locks.Holders(w.Key))
		}
		if !holds {
			continue
		}
		s.store.IntentsIn("", "", func(i *mvcc.Intent) bool {
			fmt.Fprintf(&b, "   intent of %v at %q, %v\n", i.Txn, i.Write.Key, i.TS)
			return true
		})
		s.store.Records(func(r *mvcc.Record) bool {
			fmt.Fprintf(&b, "   record of %v, %v\n", r.Txn, r.Status)
			return true
		})
		s.mu.Lock()
		for txn := range s.pushing {
			fmt.Fprintf(&b, "   pushes %v\n", txn)
		}
		s.mu.Unlock()
	}
	return b.String()
}

// Leave has a shard that is led here hold an intent of a transaction that nobody
// coordinates. Without locked, nothing in memory stands for it.
func (p *Participant) Leave(ctx context.Context, r *cluster.Replica, txn id.Txn, key string, at hlc.Timestamp, locked bool) error {
	s, err := p.seat(ctx, r, r.Header().Generation)
	if err != nil {
		return err
	}
	w := &writeRequest{txn: txn, mode: modePrepare, at: at, writes: []mvcc.Write{{Key: key, Kind: mvcc.Put, Value: []byte("left")}}}
	if _, err := s.prepare(ctx, w); err != nil {
		return err
	}
	if !locked {
		s.locks.Release(txn.Key, key)
	}
	return nil
}

// LeaveBy is Leave in whatever shard has the key, by way of a node.
func LeaveBy(ctx context.Context, n *cluster.Node, txn id.Txn, key string) error {
	w := &writeRequest{txn: txn, mode: modePrepare, at: txn.Start, writes: []mvcc.Write{{Key: key, Kind: mvcc.Put, Value: []byte("left")}}}
	b, err := n.CallSpan(ctx, serviceWrite, cover(w.writes), w.encode())
	if err == nil {
		_, err = parsePrepared(b)
	}
	return err
}

// Intents is how many intents there are in the shards that the participant leads, and
// how many shards those are: between two leaders nobody has any.
func (p *Participant) Intents() (count, led int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seats {
		if _, holds := s.r.Holds(); !holds {
			continue
		}
		led++
		s.store.IntentsIn("", "", func(*mvcc.Intent) bool { count++; return true })
	}
	return count, led
}

// Waiting is how many requests wait for locks in the shards that the participant leads.
func (p *Participant) Waiting() (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seats {
		count += len(s.locks.Waits())
	}
	return count
}

// Nearby is how many reads of a transaction were answered by replicas of its node.
func (t *Tx) Nearby() int { return t.nearby }

// Here reads nothing of a span from the node's own replica, and has something happen
// while it does. It reports whether that was an answer.
func (t *Tx) Here(span meta.Span, meanwhile func()) (bool, error) {
	f, err := t.here(span, func(*mvcc.Store) error {
		meanwhile()
		return nil
	})
	return f == foundHere, err
}

// Inherit is what a seat that is taken does about reads of before.
func (p *Participant) Inherit(r *cluster.Replica) error {
	p.mu.Lock()
	s := p.newSeat(r, 1, r.Header(), nil)
	p.mu.Unlock()
	defer s.leave(errMoved)
	return s.inheritReads(nil)
}

// EndSeats ends all seats, as what happens to their shards does.
func (p *Participant) EndSeats() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seats {
		s.leave(errMoved)
	}
}
