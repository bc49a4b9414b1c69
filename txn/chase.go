package txn

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/lock"
)

// Under lock.Detect nothing keeps transactions of several shards from waiting for each
// other in a ring. Who has waited for a moment sends a probe along (see lock.Probe). A
// transaction's coordinator knows at which shards it waits, and their leaders for whom.
const (
	serviceWaits = "txn.waits" // of a coordinator: whom does a transaction wait for
	serviceEdges = "txn.edges" // of a shard: the same, there
)

// chaseAfter is how long somebody waits before it sends the first probe. The next ones
// follow at twice the distance each: a cycle that closes behind a probe is found by
// whoever closed it.
const (
	chaseAfter = time.Millisecond
	chaseMost  = 100 * time.Millisecond
)

// chase looks for a deadlock for as long as a request of a transaction may wait, and
// returns what ends that.
func (s *seat) chase(ctx context.Context, txn id.Key) (stop func()) {
	if s.p.o.Policy != lock.Detect {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	first := time.AfterFunc(chaseAfter, func() {
		for wait := 2 * chaseAfter; ctx.Err() == nil && s.life.Err() == nil; wait = min(2*wait, chaseMost) {
			if len(s.locks.WaitsFor(txn)) > 0 {
				s.p.probe(ctx, txn)
			}
			pause(ctx, wait)
		}
	})
	return func() {
		first.Stop()
		cancel()
	}
}

// probe follows who waits for whom from a transaction on, and ends the victim of a cycle
// that it is in.
func (p *Participant) probe(ctx context.Context, txn id.Key) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	been := map[id.Key]bool{}
	for todo := []lock.Probe{lock.NewProbe(txn)}; len(todo) > 0 && ctx.Err() == nil; {
		at := todo[0]
		todo = todo[1:]
		if been[at.At()] {
			continue
		}
		been[at.At()] = true
		whom, err := p.waits(ctx, at.At(), nil)
		if err != nil {
			continue // whoever it is, it is not known to wait
		}
		next, cycle := at.Step(whom)
		if cycle != nil {
			_, _ = p.waits(ctx, lock.Victim(cycle), cycle) // or with the next probe
			return
		}
		todo = append(todo, next...)
	}
}

// waits asks a transaction's coordinator whom it waits for. With a cycle it is to end as
// the victim of that.
func (p *Participant) waits(ctx context.Context, txn id.Key, cycle []id.Key) ([]id.Key, error) {
	b, err := p.node.Load().Ask(ctx, consensus.NodeID(txn.Node), serviceWaits, encodeEdges(txn, cycle))
	if err != nil {
		return nil, err
	}
	r := read(b)
	list := r.txnKeys()
	return list, r.end(serviceWaits)
}

func encodeEdges(txn id.Key, cycle []id.Key) []byte { return appendTxnKeys(txn.Append(nil), cycle) }

func appendTxnKeys(b []byte, list []id.Key) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, k := range list {
		b = k.Append(b)
	}
	return b
}

func (r *reader) txnKeys() (list []id.Key) {
	for n := r.Count(maxKeys); n > 0 && !r.Bad; n-- {
		list = append(list, r.txnKey())
	}
	return list
}

// serveWaits asks all shards at which a transaction of this node may wait.
func (p *Participant) serveWaits(ctx context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	r := read(req)
	txn, _ := r.txnKey(), r.txnKeys()
	if err := r.end(serviceWaits); err != nil {
		return nil, err
	}
	keys := p.live.asking(txn)
	lists, errs := make([][]id.Key, len(keys)), make([]error, len(keys))
	each(len(keys), func(i int) {
		var b []byte
		if b, errs[i] = p.node.Load().Call(ctx, serviceEdges, keys[i], req); errs[i] == nil {
			r := read(b)
			if errs[i] = r.verdict(serviceEdges); errs[i] == nil {
				lists[i] = r.txnKeys()
			}
		}
	})
	var all []id.Key
	for _, list := range lists {
		all = append(all, list...)
	}
	return appendTxnKeys(nil, all), nil
}

// serveEdges says whom a transaction waits for here, and ends the victim of a cycle.
func (p *Participant) serveEdges(_ context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	r := read(q.Body)
	txn, cycle := r.txnKey(), r.txnKeys()
	if err := r.end(serviceEdges); err != nil {
		return nil, err
	}
	list := s.locks.WaitsFor(txn)
	if len(cycle) > 0 && len(list) > 0 {
		s.locks.Abort(txn, &lock.DeadlockError{Victim: txn, Cycle: cycle})
	}
	return appendTxnKeys([]byte{said}, list), nil
}
