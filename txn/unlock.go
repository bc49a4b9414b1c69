package txn

import (
	"context"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/id"
)

// An unlockRequest gives up the locks that a transaction has at keys and that were not
// prepared.
type unlockRequest struct {
	txn  id.Key
	keys []string
}

func (u *unlockRequest) encode() []byte { return appendKeys(u.txn.Append(nil), u.keys) }

// unlock gives up all locks. Nobody waits for that: those who stand behind them are let
// go when it arrives, or wound the transaction.
func (t *Tx) unlock(context.Context) {
	if !t.finishing {
		t.c.p.live.drop(t.id.Key)
	}
	if len(t.locked) == 0 {
		return
	}
	byShard := map[uint64][]string{}
	for _, key := range t.locked {
		at, _ := t.c.n.Locate(key)
		byShard[uint64(at.Shard)] = append(byShard[uint64(at.Shard)], key)
	}
	t.locked = nil
	for _, keys := range byShard {
		body := (&unlockRequest{txn: t.id.Key, keys: keys}).encode()
		t.c.p.work.Go(func() {
			_, _ = t.c.n.Call(t.c.p.life, serviceUnlock, keys[0], body)
		})
	}
}

func (p *Participant) serveUnlock(_ context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	r := read(q.Body)
	u := unlockRequest{txn: r.txnKey(), keys: r.keys()}
	if err := r.end(serviceUnlock); err != nil {
		return nil, err
	}
	for _, key := range u.keys {
		if !s.prepared(u.txn, key) {
			s.locks.Release(u.txn, key)
		}
	}
	s.locks.Forget(u.txn)
	return []byte{said}, nil
}

// prepared says whether a transaction's lock at a key stands for an intent.
func (s *seat) prepared(txn id.Key, key string) bool {
	for _, h := range s.locks.Holders(key) {
		if h.Owner == txn {
			return h.Prepared
		}
	}
	return false
}
