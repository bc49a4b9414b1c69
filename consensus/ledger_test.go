package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// A ledger books how commands ended that each add 1 to a counter nobody else
// uses: what the machine holds in the end tells whether each was applied, and
// how often.
type ledger struct {
	mu   sync.Mutex
	ends map[consensus.GroupID]map[string]ending
}

func newLedger() *ledger { return &ledger{ends: map[consensus.GroupID]map[string]ending{}} }

func (l *ledger) book(g consensus.GroupID, key string, end ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ends[g] == nil {
		l.ends[g] = map[string]ending{}
	}
	l.ends[g][key] = end
}

// counts returns how many commands ended in each way.
func (l *ledger) counts() (n [3]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ends := range l.ends {
		for _, end := range ends {
			n[end]++
		}
	}
	return n
}

// check compares what clients were told with what a machine holds.
func (l *ledger) check(tb testing.TB, g consensus.GroupID, m *kv.Machine) {
	tb.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, end := range l.ends[g] {
		v, found := m.Get([]byte(key))
		n, _ := kv.Counter(v)
		switch {
		case end == applied && n != 1:
			tb.Errorf("group %d: %s was acknowledged, and is there %d times", g, key, n)
		case end == certainlyNot && found:
			tb.Errorf("group %d: %s was rejected, and is there %d times", g, key, n)
		case n > 1:
			tb.Errorf("group %d: %s was applied %d times", g, key, n)
		}
	}
	m.Scan(nil, nil, func(key, _ []byte) bool {
		if _, ok := l.ends[g][string(key)]; !ok {
			tb.Errorf("group %d: nobody proposed %s", g, key)
		}
		return true
	})
}

// checkAll waits until the replicas of every group are equal and checks them.
func (l *ledger) checkAll(a *arena) {
	a.tb.Helper()
	for g := consensus.GroupID(1); int(g) <= a.setup.groups; g++ {
		st := a.converged(g)
		sm, err := a.at(st.Voters[0].Node).Machine(g)
		if err != nil {
			a.tb.Fatal(err)
		}
		l.check(a.tb, g, sm.(*kv.Machine))
	}
}

// A ledgerClient proposes commands for a ledger, each in its own key.
type ledgerClient struct {
	*chaosClient
	ledger *ledger
	life   string // distinguishes clients of one id
	// patience is how long a client waits at most, and hasty how often, in
	// percent, it hardly waits at all.
	patience time.Duration
	hasty    int
}

func newLedgerClient(a *arena, l *ledger, seed uint64, id int, life string) *ledgerClient {
	return &ledgerClient{
		chaosClient: &chaosClient{
			tb: a.tb, a: a, id: id, rng: rand.New(rand.NewPCG(seed, 500+uint64(id))),
			sessions: map[consensus.GroupID]*clientSession{}, guess: map[consensus.GroupID]consensus.NodeID{},
		},
		ledger: l, life: life, patience: 300 * time.Millisecond,
	}
}

// run proposes until ctx ends, with plain commands: each is tried once where a
// leader may be, and its end is booked as it was told.
func (c *ledgerClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.ops++
		g := consensus.GroupID(1 + c.rng.IntN(c.a.setup.groups))
		key := fmt.Sprintf("%s.%d.%d", c.life, c.id, c.ops)
		wait := c.patience
		if c.rng.IntN(100) < c.hasty {
			wait = time.Duration(c.rng.IntN(2000)) * time.Microsecond
		}
		c.ledger.book(g, key, c.once(ctx, g, key, wait))
		if c.guess[g] == 0 {
			time.Sleep(time.Duration(c.rng.IntN(3)) * time.Millisecond)
		}
	}
}

func (c *ledgerClient) once(ctx context.Context, g consensus.GroupID, key string, wait time.Duration) ending {
	if c.guess[g] == 0 {
		c.guess[g] = consensus.NodeID(1 + c.rng.IntN(len(c.a.nodes)))
	}
	h := c.a.at(c.guess[g])
	if h == nil {
		c.guess[g] = 0
		return certainlyNot
	}
	try, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	res, err := h.Propose(try, g, consensus.Command{Data: kv.EncodeAdd(nil, []byte(key), 1)})
	if err == nil {
		c.answer(key, res)
		return applied
	}
	c.guess[g] = 0
	var nl *consensus.NotLeaderError
	if errors.As(err, &nl) {
		c.guess[g] = nl.Node
	}
	return c.endOf(key, err)
}

// answer checks the answer to an addition that was the first of its key.
func (c *ledgerClient) answer(key string, res consensus.Result) {
	if o, err := kv.ParseOutcome(res.Data); err != nil || !o.Done || o.Counter != 1 {
		c.tb.Errorf("%s: answered %+v, %v", key, o, err)
	}
}

// endOf wants an error to be exactly one of the two ends.
func (c *ledgerClient) endOf(key string, err error) ending {
	rejected, unknown := errors.Is(err, consensus.ErrRejected), errors.Is(err, consensus.ErrUnknown)
	if rejected == unknown {
		c.tb.Errorf("%s ended as %v: rejected %v, unknown %v", key, err, rejected, unknown)
	}
	if rejected {
		return certainlyNot
	}
	return cannotTell
}

// settle proposes in a session and retries the same sequence until it is
// applied, across any number of crashes, or ctx ends.
func (c *ledgerClient) settle(ctx context.Context, work context.Context) {
	for work.Err() == nil && ctx.Err() == nil {
		c.ops++
		g := consensus.GroupID(1 + c.rng.IntN(c.a.setup.groups))
		if c.guess[g] == 0 {
			c.guess[g] = consensus.NodeID(1 + c.rng.IntN(len(c.a.nodes)))
		}
		s := c.session(ctx, g)
		if s == nil {
			c.guess[g] = 0
			continue
		}
		s.sequence++
		key := fmt.Sprintf("%s.%d.%d", c.life, c.id, c.ops)
		c.ledger.book(g, key, c.insist(ctx, g, key, s))
	}
}

func (c *ledgerClient) insist(ctx context.Context, g consensus.GroupID, key string, s *clientSession) ending {
	command := consensus.Command{Session: s.id, Sequence: s.sequence, Data: kv.EncodeAdd(nil, []byte(key), 1)}
	for {
		res, err := c.attempt(ctx, g, command)
		if err == nil {
			c.answer(key, res) // a retry gets the answer of the first
			return applied
		}
		if errors.Is(err, consensus.ErrNoSession) || errors.Is(err, consensus.ErrSequenceExpired) {
			c.tb.Errorf("%s: %v", key, err)
			return cannotTell
		}
		if ctx.Err() != nil {
			return cannotTell
		}
		time.Sleep(time.Millisecond)
	}
}

// A ledger that is wrong must be noticed.
func TestLedgerNotices(t *testing.T) {
	m, err := kv.New(kv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Open(); err != nil {
		t.Fatal(err)
	}
	commands := [][]byte{
		kv.EncodeAdd(nil, []byte("once"), 1), kv.EncodeAdd(nil, []byte("twice"), 1), kv.EncodeAdd(nil, []byte("twice"), 1),
	}
	if err := m.Apply(&consensus.Batch{Index: 1, Term: 1, Commands: commands}, make([]consensus.Result, 3)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key  string
		end  ending
		want string
	}{
		{"once", applied, ""}, {"once", cannotTell, ""}, {"never", cannotTell, ""}, {"never", certainlyNot, ""},
		{"once", certainlyNot, "rejected"}, {"never", applied, "acknowledged"},
		{"twice", applied, "acknowledged"}, {"twice", cannotTell, "applied 2 times"}, {"other", applied, "nobody proposed once"},
	} {
		l, heard := newLedger(), &listener{TB: t}
		l.book(1, "once", cannotTell)
		l.book(1, "twice", cannotTell)
		if c.key == "other" {
			delete(l.ends[1], "once")
		}
		l.book(1, c.key, c.end)
		if c.key != "twice" {
			delete(l.ends[1], "twice")
			l.book(1, "twice", cannotTell)
		}
		l.check(heard, 1, m)
		if said := heard.said.String(); c.want != "" && !strings.Contains(said, c.want) {
			t.Errorf("%s %d: the ledger said %q", c.key, c.end, said)
		} else if c.want == "" && strings.Contains(said, c.key) {
			t.Errorf("%s %d: the ledger said %q", c.key, c.end, said)
		}
	}
}

// A listener hears errors without failing.
type listener struct {
	testing.TB
	said strings.Builder
}

func (l *listener) Errorf(format string, v ...any) { fmt.Fprintf(&l.said, format+"\n", v...) }
