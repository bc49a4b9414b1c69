package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/txn/commit"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A Level is how far transactions are kept apart.
type Level byte

// The levels, from the cheapest. The zero Level is Serializable.
const (
	// Serializable: what commits is what some order of the transactions, one after the
	// other, would have made.
	Serializable Level = iota
	// Snapshot: a transaction reads what was committed when it began, and commits only
	// if nobody else has written what it writes. Two may each write what the other has
	// read (write skew).
	Snapshot
	// Strict: Serializable, and in an order that agrees with real time: who begins
	// after another one has returned comes after it.
	Strict
)

func (l Level) String() string {
	if l > Strict {
		return fmt.Sprintf("level %d", byte(l))
	}
	return [...]string{"serializable", "snapshot", "strict"}[l]
}

// A Protocol is how a transaction of several shards commits.
type Protocol = commit.Protocol

// The protocols.
const (
	// OneRound lays all intents and the record at once, and is committed when all are
	// there: one round of consensus.
	OneRound = commit.OneRound
	// TwoPhase makes the record when all intents are there: two rounds.
	TwoPhase = commit.TwoPhase
)

// ClientOptions configures a Client. A zero field selects its default.
type ClientOptions struct {
	// Level and Protocol are those of transactions that do not say otherwise.
	Level    Level
	Protocol Protocol
	// Source gives out timestamps. Default: the node's clock.
	Source hlc.Source
	// MaxBytes bounds what one transaction writes, keys and values. Default: 16 MiB.
	MaxBytes int
	// MaxReads bounds the keys and spans that one transaction reads. Default: 65,536.
	MaxReads int
	// MaxTries is how often Run tries a transaction. Default: 64.
	MaxTries int
	// Patience bounds how long Commit tries to find out what came of an attempt that
	// nobody answered, before it makes others recover the transaction. Default: 100 ms.
	Patience time.Duration
	_        struct{}
}

func (o ClientOptions) withDefaults() (ClientOptions, error) {
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 20
	}
	if o.MaxReads == 0 {
		o.MaxReads = maxSpans
	}
	if o.MaxTries == 0 {
		o.MaxTries = 64
	}
	if o.Patience == 0 {
		o.Patience = 100 * time.Millisecond
	}
	switch {
	case o.Level > Strict:
		return o, fmt.Errorf("txn: client options: %w: %v", ErrLevel, o.Level)
	case o.Protocol > TwoPhase:
		return o, fmt.Errorf("txn: client options: no such protocol: %v", o.Protocol)
	case o.MaxBytes < 0 || o.MaxReads < 0 || o.MaxReads > maxSpans || o.MaxTries < 0 || o.Patience < 0:
		return o, fmt.Errorf("txn: client options: MaxBytes %d, MaxReads %d, MaxTries %d, Patience %v, expected positive ones and at most %d reads",
			o.MaxBytes, o.MaxReads, o.MaxTries, o.Patience, maxSpans)
	}
	return o, nil
}

// A Client runs transactions, and coordinates them on the node that it is on. It is
// safe for concurrent use.
type Client struct {
	p *Participant
	n *cluster.Node
	o ClientOptions

	// seen is the highest timestamp at which a transaction of this client committed, or
	// to which it had to go on to read: later ones see no less.
	seen atomic.Uint64
}

// NewClient returns a client on a node that serves p.
func NewClient(n *cluster.Node, p *Participant, o ClientOptions) (*Client, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Source == nil {
		o.Source = p.clock
	}
	return &Client{p: p, n: n, o: o}, nil
}

// TxOptions configures one transaction. The zero TxOptions is the client's defaults.
type TxOptions struct {
	// Level, if Set says that it and Protocol count.
	Level    Level
	Protocol Protocol
	Set      bool
	// ReadOnly refuses writes.
	ReadOnly bool
	// At reads at a timestamp, which must not be in the future, instead of now. It
	// implies ReadOnly.
	At hlc.Timestamp
	// Followers has reads be answered by the replicas that this node has itself, leader
	// or not, as far as they have closed the timestamp, and by the leaders otherwise.
	// Without At it is one a little more than ClosedLag back, which replicas have closed
	// as a rule: what was committed since is not seen, also if it was by this client. It
	// implies ReadOnly.
	Followers bool
}

// Begin begins a transaction. Nobody hears of it before it reads or commits. It must
// be ended by Commit or Rollback.
func (c *Client) Begin(ctx context.Context, o TxOptions) (*Tx, error) { return c.begin(ctx, o, 0) }

// begin begins a transaction of an age, 0 for a new one.
func (c *Client) begin(ctx context.Context, o TxOptions, age hlc.Timestamp) (*Tx, error) {
	t := &Tx{c: c, level: c.o.Level, protocol: c.o.Protocol, readOnly: o.ReadOnly || o.At != 0 || o.Followers, near: o.Followers, writes: map[string]int{}, points: map[string]bool{}}
	if o.Set {
		t.level, t.protocol = o.Level, o.Protocol
	}
	if t.level > Strict {
		return nil, fmt.Errorf("txn: begin: %w: %v", ErrLevel, t.level)
	}
	if t.protocol > TwoPhase {
		return nil, fmt.Errorf("txn: begin: no such protocol: %v", t.protocol)
	}
	now, err := c.now(ctx)
	if err != nil {
		return nil, err
	}
	t.at = now
	if o.Followers && o.At == 0 {
		o.At = c.p.behind()
	}
	if o.At != 0 {
		if o.At > now.Add(c.p.clock.Bound()) {
			return nil, fmt.Errorf("txn: begin at %v: %w: it is %v", o.At, ErrFuture, now)
		}
		t.at, t.fixed = o.At, true
	}
	if t.level == Strict && !t.fixed {
		if _, own := c.o.Source.(*hlc.Clock); own {
			t.horizon = t.at.Add(c.p.clock.Bound())
		}
	}
	t.id = id.Txn{Key: id.Key{Node: uint64(c.n.ID()), Epoch: c.n.Epoch(), Seq: c.p.live.next(), Start: now}}
	if age != 0 {
		t.id.Start = age
	}
	return t, nil
}

// now returns a timestamp above all that this client has committed at. It has none if
// the node's clock is wrong.
func (c *Client) now(ctx context.Context) (hlc.Timestamp, error) {
	if err := c.p.right(ctx); err != nil {
		return 0, err // before the clock tells what it is not to have told
	}
	ts, err := c.o.Source.Timestamp(ctx)
	if err != nil {
		return 0, fmt.Errorf("txn: timestamp: %w", err)
	}
	if err := c.p.skewed(); err != nil {
		return 0, err // it was set in between
	}
	if _, own := c.o.Source.(*hlc.Clock); !own { // which is looked after by others
		wall, most := hlc.At(c.p.clock.Wall()), 2*c.p.clock.Bound()
		if ahead := ts.Sub(wall); ahead > most {
			return 0, fmt.Errorf("txn: timestamp %v: %w: it is %v ahead of %v, expected at most %v", ts, ErrFuture, ahead, wall, most)
		}
	}
	return max(ts, hlc.Timestamp(c.seen.Load()).Next()), nil
}

// saw has later transactions of this client see what was committed at ts.
func (c *Client) saw(ts hlc.Timestamp) {
	for {
		old := c.seen.Load()
		if old >= uint64(ts) || c.seen.CompareAndSwap(old, uint64(ts)) {
			return
		}
	}
}

// Run runs fn in a transaction and commits it. If the transaction is aborted for a
// reason that may be gone next time, it is tried again from the beginning, with its
// age: fn is called anew, and must not keep anything of before. An error of fn rolls
// the transaction back and is returned.
func (c *Client) Run(ctx context.Context, o TxOptions, fn func(*Tx) error) error {
	var age hlc.Timestamp
	for try := 1; ; try++ {
		t, err := c.begin(ctx, o, age)
		if err != nil {
			return err
		}
		err = fn(t)
		if err == nil {
			err = t.Commit(ctx)
		} else {
			t.Rollback(ctx)
		}
		var aborted *AbortedError
		if !errors.As(err, &aborted) || !aborted.Retry() || try >= c.o.MaxTries || ctx.Err() != nil {
			return err
		}
		age = t.id.Start
		if aborted.Reason == Expired {
			age = 0
		}
		rest(ctx, try)
	}
}

// rest waits a little before a transaction is tried again, longer each time.
func rest(ctx context.Context, try int) {
	d := time.Duration(1<<min(try, 8)) * 50 * time.Microsecond
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
