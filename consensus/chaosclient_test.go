package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
	"github.com/phantomdb/phantomdb/harness/verify"
)

// A chaosClient does one operation after another on the groups of an arena and
// books what it was told in a history.
type chaosClient struct {
	tb      testing.TB
	a       *arena
	id      int
	rng     *rand.Rand
	history *verify.History
	work    *workload

	ops      int
	sessions map[consensus.GroupID]*clientSession
	guess    map[consensus.GroupID]consensus.NodeID // who led last
	told     chaosCounts
	seen     map[string][]string // by key, where each read was served; for a report
}

// A workload is what all clients share.
type workload struct {
	// issued counts operations: keys are given up after a while, so that no
	// register's history grows beyond what the checker can search.
	issued atomic.Int64
}

type chaosCounts struct{ applied, rejected, unknown, settled, reads, failedReads int }

type clientSession struct{ id, sequence uint64 }

// opsPerGeneration is how many operations share a set of keys.
const opsPerGeneration = 1200

// run works until ctx ends.
func (c *chaosClient) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.step(ctx)
		time.Sleep(time.Duration(c.rng.Int64N(int64(2 * time.Millisecond))))
	}
}

func (c *chaosClient) step(ctx context.Context) {
	c.ops++
	generation := c.work.issued.Add(1) / opsPerGeneration
	g := consensus.GroupID(1 + c.rng.IntN(c.a.setup.groups))
	class := []string{"register", "counter", "swap"}[c.rng.IntN(3)]
	key := fmt.Sprintf("%s/%d/%d/%d", class, g, generation, c.rng.IntN(3))
	switch {
	case c.rng.IntN(5) < 2:
		c.read(ctx, g, key)
	case class == "register":
		c.putOrDelete(ctx, g, key)
	case class == "counter":
		c.add(ctx, g, key)
	default:
		c.swap(ctx, g, key)
	}
}

// The three ends of a command, as a client sees them.
type ending int

const (
	applied ending = iota
	certainlyNot
	cannotTell
)

// propose sends one command until its end is known, within reason.
func (c *chaosClient) propose(ctx context.Context, g consensus.GroupID, data []byte) (kv.Outcome, ending) {
	command := consensus.Command{Data: data}
	if c.rng.IntN(3) > 0 {
		if s := c.session(ctx, g); s != nil {
			s.sequence++
			command.Session, command.Sequence = s.id, s.sequence
		}
	}
	end := certainlyNot
	for attempt := range 12 {
		res, err := c.attempt(ctx, g, command)
		switch {
		case err == nil:
			o, perr := kv.ParseOutcome(res.Data)
			if perr != nil {
				c.tb.Errorf("client %d: %v", c.id, perr)
			}
			if end == cannotTell {
				c.told.settled++
			}
			c.told.applied++
			return o, applied
		case errors.Is(err, consensus.ErrUnknown):
			end = cannotTell
			if command.Session == 0 || ctx.Err() != nil {
				c.told.unknown++
				return kv.Outcome{}, end
			}
		case !errors.Is(err, consensus.ErrRejected):
			// One command is under way in a session, so it cannot fall behind
			// the window, and nobody ends sessions.
			c.tb.Errorf("client %d: session %d sequence %d: %v", c.id, command.Session, command.Sequence, err)
			return kv.Outcome{}, cannotTell
		}
		if ctx.Err() != nil || end == certainlyNot && attempt > 5 {
			break
		}
		time.Sleep(time.Duration(attempt) * 5 * time.Millisecond)
	}
	if end == cannotTell {
		c.told.unknown++
	} else {
		c.told.rejected++
	}
	return kv.Outcome{}, end
}

// attempt proposes once, at the node that should lead.
func (c *chaosClient) attempt(ctx context.Context, g consensus.GroupID, command consensus.Command) (consensus.Result, error) {
	h := c.a.at(c.guess[g])
	for h == nil {
		c.guess[g] = consensus.NodeID(1 + c.rng.IntN(len(c.a.nodes)))
		if h = c.a.at(c.guess[g]); h == nil && ctx.Err() != nil {
			return consensus.Result{}, consensus.ErrRejected // it never left the client
		}
	}
	wait := time.Duration(50+c.rng.IntN(400)) * time.Millisecond
	if c.rng.IntN(20) == 0 {
		wait = time.Duration(c.rng.IntN(3)) * time.Millisecond
	}
	try, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	res, err := h.Propose(try, g, command)
	if err != nil {
		delete(c.guess, g)
		var nl *consensus.NotLeaderError
		if errors.As(err, &nl) && nl.Node != 0 {
			c.guess[g] = nl.Node
		}
	}
	return res, err
}

// at returns a node's host, nil if it is down or unknown.
func (a *arena) at(id consensus.NodeID) *consensus.Host {
	if id == 0 {
		return nil
	}
	return a.nodes[id-1].Host()
}

// session returns the client's session in g, or nil if none can be had now.
func (c *chaosClient) session(ctx context.Context, g consensus.GroupID) *clientSession {
	if s := c.sessions[g]; s != nil {
		return s
	}
	h := c.a.at(c.guess[g])
	if h == nil {
		return nil
	}
	try, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	id, err := h.OpenSession(try, g)
	if err != nil {
		return nil // if it was opened all the same, nobody will use it
	}
	c.sessions[g] = &clientSession{id: id}
	return c.sessions[g]
}

// finish books the end of a call that was not applied, and tells whether it was.
func finish(call *verify.Call, end ending) bool {
	switch end {
	case certainlyNot:
		call.Failed()
	case cannotTell:
		call.Unknown()
	}
	return end == applied
}

func (c *chaosClient) putOrDelete(ctx context.Context, g consensus.GroupID, key string) {
	if c.rng.IntN(5) == 0 {
		call := c.history.Delete(c.id, key)
		if o, end := c.propose(ctx, g, kv.EncodeDelete(nil, []byte(key))); finish(call, end) {
			call.Existed(o.Found)
		}
		return
	}
	value := fmt.Sprintf("%d.%d", c.id, c.ops)
	call := c.history.Put(c.id, key, value)
	if o, end := c.propose(ctx, g, kv.EncodePut(nil, []byte(key), []byte(value))); finish(call, end) {
		call.Existed(o.Found)
	}
}

func (c *chaosClient) add(ctx context.Context, g consensus.GroupID, key string) {
	delta := int64(1 + c.rng.IntN(1000))
	call := c.history.Add(c.id, key, delta)
	if o, end := c.propose(ctx, g, kv.EncodeAdd(nil, []byte(key), delta)); finish(call, end) {
		call.Sum(o.Counter, o.Done)
	}
}

// swap replaces the value that the client believes in by the next one. Values
// are "n by client.op", so a swap that was done is an addition of 1 to the
// register, and one that was not is a read.
func (c *chaosClient) swap(ctx context.Context, g consensus.GroupID, key string) {
	var old []byte
	next := int64(1)
	if sm := c.anyMachine(g); sm != nil {
		if v, ok := sm.Get([]byte(key)); ok { // perhaps stale: then the swap fails
			old = v
			n, _ := strconv.ParseInt(swapNumber(v), 10, 64)
			next = n + 1
		}
	}
	value := fmt.Sprintf("%d by %d.%d", next, c.id, c.ops)
	done, read := c.history.Add(c.id, key, 1), c.history.Get(c.id, key)
	o, end := c.propose(ctx, g, kv.EncodeCompareAndSwap(nil, []byte(key), old, []byte(value)))
	switch {
	case end != applied:
		finish(done, end)
		read.Failed()
	case o.Done:
		done.Sum(next, true)
		read.Failed()
	default:
		done.Failed()
		read.Value(swapNumber(o.Value), o.Found)
	}
}

func swapNumber(value []byte) string {
	n, _, _ := strings.Cut(string(value), " ")
	return n
}

// anyMachine returns the machine of some replica of g.
func (c *chaosClient) anyMachine(g consensus.GroupID) *kv.Machine {
	if h := c.a.at(consensus.NodeID(1 + c.rng.IntN(len(c.a.nodes)))); h != nil {
		if sm, err := h.Machine(g); err == nil {
			return sm.(*kv.Machine)
		}
	}
	return nil
}

// read reads on some node by ReadIndex, or under the lease.
func (c *chaosClient) read(ctx context.Context, g consensus.GroupID, key string) {
	call := c.history.Get(c.id, key)
	for range len(c.a.nodes) {
		node := consensus.NodeID(1 + c.rng.IntN(len(c.a.nodes)))
		byLease := c.rng.IntN(2) == 0
		if byLease {
			node = c.claimant(g, node)
		}
		if value, found, ok := c.readAt(ctx, node, g, key, byLease); ok {
			c.told.reads++
			call.Value(value, found)
			return
		}
	}
	c.told.failedReads++
	call.Failed()
}

// claimant returns the first node from a start that claims the lease, also one
// that others have deposed: what it claims is what is to be tested.
func (c *chaosClient) claimant(g consensus.GroupID, start consensus.NodeID) consensus.NodeID {
	for range c.a.nodes {
		if h := c.a.at(start); h != nil {
			if _, ok := h.Lease(g); ok {
				return start
			}
		}
		start = start%consensus.NodeID(len(c.a.nodes)) + 1
	}
	return start
}

// readAt reads on one node. The machine is taken first: if the replica goes
// away meanwhile, its machine is empty, which its position tells.
func (c *chaosClient) readAt(ctx context.Context, node consensus.NodeID, g consensus.GroupID, key string, byLease bool) (string, bool, bool) {
	h := c.a.at(node)
	if h == nil {
		return "", false, false
	}
	sm, err := h.Machine(g)
	if err != nil {
		return "", false, false
	}
	by := "ReadIndex"
	if byLease {
		lease, ok := h.Lease(g)
		if !ok {
			return "", false, false
		}
		by = fmt.Sprintf("lease %+v", lease)
	} else {
		try, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		err := h.ReadIndex(try, g)
		cancel()
		if err != nil {
			if !errors.Is(err, consensus.ErrRejected) {
				c.tb.Errorf("client %d: read: %v", c.id, err)
			}
			return "", false, false
		}
	}
	value, found, ok := readMachine(sm.(*kv.Machine), key)
	if ok {
		c.seen[key] = append(c.seen[key], fmt.Sprintf("client %d: %q (%v) on node %d by %s", c.id, value, found, node, by))
	}
	return value, found, ok
}

// readMachine reads a key as the history knows it. It is not ok if the machine
// is closed.
func readMachine(m *kv.Machine, key string) (value string, found, ok bool) {
	v, found := m.Get([]byte(key))
	if index, _ := m.Position(); index == 0 {
		return "", false, false
	}
	switch {
	case !found:
		return "", false, true
	case strings.HasPrefix(key, "counter"):
		n, _ := kv.Counter(v)
		return strconv.FormatInt(n, 10), true, true
	case strings.HasPrefix(key, "swap"):
		return swapNumber(v), true, true
	}
	return string(v), true, true
}
