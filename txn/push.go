package txn

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// coordinators are the transactions that clients of this node are committing, for
// those who meet their intents.
type coordinators struct {
	mu   sync.Mutex
	seq  uint64               // guarded by mu
	live map[id.Key]*standing // guarded by mu
	asks map[id.Key][]string  // guarded by mu; keys at whose shards a transaction may wait
}

// A standing is how a transaction stands, as its coordinator knows.
type standing struct {
	state byte
	ts    hlc.Timestamp
}

// How a transaction stands.
const (
	standsNowhere   = iota // nobody here knows of it
	standsOpen             // it may be committed yet
	standsCommitted        // at ts, whatever the record says by now
	standsAborted
)

func (c *coordinators) init() { c.live, c.asks = map[id.Key]*standing{}, map[id.Key][]string{} }

// ask notes that a transaction may wait at the shard of a key, and returns what ends
// that.
func (c *coordinators) ask(txn id.Key, key string) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks[txn] = append(c.asks[txn], key)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		list := c.asks[txn]
		if i := slices.Index(list, key); len(list) > 1 && i >= 0 {
			c.asks[txn] = slices.Delete(slices.Clone(list), i, i+1)
			return
		}
		delete(c.asks, txn)
	}
}

// asking returns keys of all shards at which a transaction may wait.
func (c *coordinators) asking(txn id.Key) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asks[txn])
}

func (c *coordinators) next() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	return c.seq
}

func (c *coordinators) set(txn id.Key, s standing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live[txn] = &s
}

func (c *coordinators) drop(txn id.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, txn)
}

func (c *coordinators) get(txn id.Key) standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.live[txn]; s != nil {
		return *s
	}
	return standing{}
}

// serveStatus says how a transaction of this node stands.
func (p *Participant) serveStatus(_ context.Context, _ consensus.NodeID, req []byte) ([]byte, error) {
	r := read(req)
	txn := r.txnKey()
	if err := r.end(serviceStatus); err != nil {
		return nil, err
	}
	s := p.live.get(txn)
	return binary.BigEndian.AppendUint64([]byte{s.state}, uint64(s.ts)), nil
}

// ask asks a transaction's coordinator how it stands.
func (p *Participant) ask(ctx context.Context, txn id.Key) (standing, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	b, err := p.node.Load().Ask(ctx, consensus.NodeID(txn.Node), serviceStatus, txn.Append(nil))
	if err != nil {
		return standing{}, err
	}
	r := read(b)
	s := standing{state: r.Byte(), ts: r.ts()}
	return s, r.end(serviceStatus)
}

// How long a coordinator has to answer, and how long somebody who meets its intent
// waits for it to go on, before the transaction is recovered.
const (
	askFor      = 100 * time.Millisecond
	graceOlder  = 5 * time.Millisecond // where who waits is older
	grace       = time.Second
	graceSilent = 200 * time.Millisecond // where the coordinator does not answer
)

// A push finds out how a transaction ends that others wait for.
type push struct {
	txn   id.Txn
	known chan struct{} // closed when ts is known
	ts    hlc.Timestamp // behind known
	over  chan struct{} // closed when it has no intent here any more
	older bool          // guarded by the seat's mu; somebody older waits
}

// known returns the timestamp at which a transaction is committed whose intents are not
// versions yet, if that is known here.
func (s *seat) known(txn id.Key) (hlc.Timestamp, bool) {
	s.mu.Lock()
	p := s.pushing[txn]
	s.mu.Unlock()
	if p == nil {
		return 0, false
	}
	select {
	case <-p.known:
		return p.ts, true
	default:
		return 0, false
	}
}

// push has a transaction pushed whose intent, or lock that was prepared, is in
// somebody's way.
func (s *seat) push(holder id.Key, key string, by id.Key) {
	for _, i := range s.store.Intents(key) {
		if i.Txn.Key == holder {
			s.pushTxn(i.Txn, by)
			return
		}
	}
	// It is not applied yet, and whoever prepares it will let go of it if it never is.
	// Who waits comes again.
	s.p.work.Go(func() {
		pause(s.life, graceOlder)
		if s.life.Err() == nil && len(s.locks.Holders(key)) > 0 {
			for _, i := range s.store.Intents(key) {
				if i.Txn.Key == holder {
					s.pushTxn(i.Txn, by)
				}
			}
		}
	})
}

func (s *seat) pushTxn(txn id.Txn, by id.Key) *push {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pushing[txn.Key]
	if p == nil {
		p = &push{txn: txn, known: make(chan struct{}), over: make(chan struct{})}
		s.pushing[txn.Key] = p
		s.p.work.Go(func() { s.runPush(p) })
	}
	p.older = p.older || !by.Zero() && by.Compare(txn.Key) < 0
	return p
}

// await waits until an intent has gone, or it is known what it is.
func (s *seat) await(ctx context.Context, in *mvcc.Intent, by id.Key) error {
	p := s.pushTxn(in.Txn, by)
	known := p.known
	select {
	case <-known:
		known = nil // it is, and is not enough
	default:
	}
	select {
	case <-known:
	case <-p.over:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.life.Done():
		return errMoved
	}
	return nil
}

// runPush goes on until the transaction has no intent here.
func (s *seat) runPush(p *push) {
	defer func() {
		s.mu.Lock()
		delete(s.pushing, p.txn.Key)
		s.mu.Unlock()
		close(p.over)
	}()
	known := false
	silent, began := time.Time{}, time.Now()
	for wait := 200 * time.Microsecond; s.life.Err() == nil && len(s.store.IntentsOf(p.txn.Key)) > 0; wait = min(2*wait, 20*time.Millisecond) {
		if !known {
			st, err := s.p.ask(s.life, p.txn.Key)
			switch {
			case err != nil && silent.IsZero():
				silent = time.Now()
			case err == nil && st.state == standsCommitted:
				p.ts, known = st.ts, true
				close(p.known)
				continue
			}
			if s.patience(p, st, err, silent, began) {
				s.recover(p.txn)
			}
		} else if time.Since(began) > grace {
			s.recover(p.txn) // its coordinator does not come to it
		}
		pause(s.life, wait)
	}
}

// patience says whether a transaction has been waited for long enough.
func (s *seat) patience(p *push, st standing, err error, silent, began time.Time) (over bool) {
	s.mu.Lock()
	older := p.older
	s.mu.Unlock()
	switch {
	case err != nil:
		return time.Since(silent) > graceSilent
	case st.state == standsOpen && older:
		return time.Since(began) > graceOlder
	case st.state == standsOpen:
		return time.Since(began) > grace
	}
	return true // it has ended, and left its intents
}

// recover ends a transaction that others have waited for for long enough, and returns
// when its intents here have ended.
func (s *seat) recover(txn id.Txn) {
	h := commit.Hint{Abort: commit.Abandoned}
	for _, i := range s.store.IntentsOf(txn.Key) {
		h.Keys = append(h.Keys, i.Write.Key)
	}
	select {
	case <-s.p.recover(txn, h).over:
	case <-s.life.Done():
	}
}
