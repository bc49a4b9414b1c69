package txn

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/latch"
	"github.com/phantomdb/phantomdb/txn/lock"
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
	return Prepare(ctx, n, txn, nil, mvcc.Write{Key: key, Kind: mvcc.Put, Value: []byte("left")})
}

// Prepare has a shard lay intents of a transaction, at when it began if they can be, and
// its record if something is promised.
func Prepare(ctx context.Context, n *cluster.Node, txn id.Txn, promised []string, writes ...mvcc.Write) error {
	w := &writeRequest{txn: txn, mode: modePrepare, at: txn.Start, writes: writes}
	if len(promised) > 0 {
		w.mode, w.promised, w.rigid = modeStage, promised, true
	}
	b, err := n.CallSpan(ctx, serviceWrite, cover(writes), w.encode())
	if err == nil {
		_, err = parsePrepared(b)
	}
	return err
}

// LockBy has a shard give a transaction the lock of who writes a key.
func LockBy(ctx context.Context, n *cluster.Node, txn id.Txn, key string) error {
	b, err := n.Call(ctx, serviceLock, key, (&lockRequest{look: look{txn: txn.Key, at: txn.Start}, key: key, mode: lock.Exclusive}).encode())
	if err != nil {
		return err
	}
	return read(b).verdict(serviceLock)
}

// CommitOnce asks a shard to carry out what a transaction writes in it alone.
func CommitOnce(ctx context.Context, n *cluster.Node, txn id.Txn, writes ...mvcc.Write) (hlc.Timestamp, error) {
	w := &writeRequest{txn: txn, at: txn.Start, read: txn.Start, writes: writes}
	b, err := n.CallSpan(ctx, serviceWrite, cover(writes), w.encode())
	if err != nil {
		return 0, err
	}
	r := read(b)
	if err := r.verdict(serviceWrite); err != nil {
		return 0, err
	}
	return r.ts(), nil
}

// DecideFenced has a transaction committed in two phases, whose node is fenced when the
// shard has found that it may be. It reports whether it was.
func (p *Participant) DecideFenced(ctx context.Context, r *cluster.Replica, txn id.Txn) (committed bool, err error) {
	s, err := p.seat(ctx, r, r.Header().Generation)
	if err != nil {
		return false, err
	}
	keys, fence := []string{txn.Anchor}, error(nil)
	err = s.judge(ctx, txn, keys, func(l commit.Local) commit.Effect {
		if !l.Fenced {
			fence = s.fence(map[life]bool{{txn.Node, txn.Epoch}: true})
		}
		e, reply := l.Decide(commit.Decide{Txn: txn, Keys: keys, Commit: true, TS: hlc.Max, Promises: keys})
		committed = reply.Outcome.Status == commit.Committed
		return e
	})
	return committed, errors.Join(fence, err)
}

// Usurp has the next seat of a shard be taken, of which this one does not hear.
func (p *Participant) Usurp(ctx context.Context, r *cluster.Replica) error {
	s, err := p.seat(ctx, r, r.Header().Generation)
	if err != nil {
		return err
	}
	_, err = s.propose(mvcc.AppendLead(mvcc.AppendHeader(nil, &mvcc.Header{}), s.lease+1))
	return err
}

// Fates asks the shard of a transaction's anchor how it ended, as who ends what a dead
// node has left. It reports whether it was committed, or may yet be.
func Fates(ctx context.Context, n *cluster.Node, txn id.Txn) (open bool, err error) {
	b, err := n.CallSpan(ctx, serviceFates, point(txn.Anchor), appendTxns(nil, []id.Txn{txn}))
	if err != nil {
		return false, err
	}
	list, err := parseFates(b, 1)
	return err != nil || list[0].Status != commit.Aborted, err
}

// Stands has the participant say of a transaction that it may be committed yet, or that
// it knows nothing of it.
func (p *Participant) Stands(txn id.Txn, open bool) {
	if open {
		p.live.set(txn.Key, standing{state: standsOpen})
	} else {
		p.live.drop(txn.Key)
	}
}

// Known has a seat know that a transaction is committed whose intents are not resolved,
// as its coordinator says before any log does, until forget is called.
func (p *Participant) Known(ctx context.Context, r *cluster.Replica, txn id.Txn, ts hlc.Timestamp) (forget func(), err error) {
	s, err := p.seat(ctx, r, r.Header().Generation)
	if err != nil {
		return nil, err
	}
	q := &push{txn: txn, known: make(chan struct{}), ts: ts, over: make(chan struct{})}
	close(q.known)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pushing[txn.Key] != nil {
		return nil, errors.New("it is pushed already")
	}
	s.pushing[txn.Key] = q
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.pushing, txn.Key)
		close(q.over)
	}, nil
}

// Hold takes the latch of who changes a key, until release is called. waiting is how many
// requests stand behind that or another one.
func (p *Participant) Hold(ctx context.Context, r *cluster.Replica, key string) (release func(), waiting func() int, err error) {
	s, err := p.seat(ctx, r, r.Header().Generation)
	if err != nil {
		return nil, nil, err
	}
	guard, err := s.latches.Acquire(ctx, []latch.Want{latch.Point(key, latch.Write)})
	return guard.Release, s.latches.Waiting, err
}

// Occupy takes all places of transactions that are being committed or resolved.
func (p *Participant) Occupy() (release func()) {
	for range commitsAtOnce {
		p.commits <- struct{}{}
	}
	return func() {
		for range commitsAtOnce {
			<-p.commits
		}
	}
}

// Records is how many records there are in the shards that the participant leads.
func (p *Participant) Records() (count int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seats {
		if _, holds := s.r.Holds(); holds {
			s.store.Records(func(*mvcc.Record) bool { count++; return true })
		}
	}
	return count
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
