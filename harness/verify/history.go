package verify

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"
)

// DefaultMaxOps is how many operations a History holds unless told otherwise:
// about 200 MB.
const DefaultMaxOps = 1 << 20

// ErrFull says that a History could not hold every operation. What it holds
// proves nothing: a missing write looks like a read of nothing ever written.
var ErrFull = errors.New("verify: history is full")

// A History records the operations of many clients on registers, one for each
// key. A register is absent or holds a text; Add reads it as a decimal number.
type History struct {
	began time.Time // the clock of the history counts from here
	max   int

	mu      sync.Mutex
	calls   []*Call // in the order they were made; guarded by mu
	dropped int     // calls beyond max; guarded by mu
}

// NewHistory returns an empty history for at most maxOps operations; zero
// selects DefaultMaxOps.
func NewHistory(maxOps int) *History {
	if maxOps <= 0 {
		maxOps = DefaultMaxOps
	}
	return &History{began: time.Now(), max: maxOps}
}

type action byte

const (
	get action = iota
	put
	remove
	add
)

// An ending says how a call came out.
type ending byte

const (
	unknown ending = iota // no answer, or none yet
	answered
	failed
)

// A Call is one operation from its invocation on. One method ends it; a call
// that nothing ends has an unknown outcome, which a late answer may replace.
type Call struct {
	history *History
	client  int
	key     string
	called  time.Duration

	action action
	value  string // put
	delta  int64  // add

	// Guarded by history.mu from here.
	ending   ending
	returned time.Duration
	answer   answer
}

// An answer is what a client was told. Which fields mean something depends on
// the action.
type answer struct {
	found      bool   // get: a value was there; put, delete: one had been there
	checkFound bool   // put, delete: the client was told found
	value      string // get
	sum        int64  // add
	done       bool   // add: the register was absent or a number
}

// Get records that client asks for key.
func (h *History) Get(client int, key string) *Call {
	return h.call(&Call{client: client, key: key, action: get})
}

// Put records that client sets key to value.
func (h *History) Put(client int, key, value string) *Call {
	return h.call(&Call{client: client, key: key, action: put, value: value})
}

// Delete records that client removes key.
func (h *History) Delete(client int, key string) *Call {
	return h.call(&Call{client: client, key: key, action: remove})
}

// Add records that client adds delta to the number at key. An absent one counts
// as 0; the sum wraps around at 64 bits.
func (h *History) Add(client int, key string, delta int64) *Call {
	return h.call(&Call{client: client, key: key, action: add, delta: delta})
}

func (h *History) call(c *Call) *Call {
	c.history = h
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.calls) >= h.max {
		h.dropped++
		return c
	}
	h.calls = append(h.calls, c)
	// The clock is read last, behind the wait for the lock: the request has
	// not left yet, and a shorter interval leaves fewer orders to search.
	c.called = time.Since(h.began)
	return c
}

// Value ends a Get: the register held value, or nothing if found is false.
func (c *Call) Value(value string, found bool) {
	c.end(answered, answer{value: value, found: found}, get)
}

// OK ends a Put or Delete that was answered without saying what was there.
func (c *Call) OK() { c.end(answered, answer{}, put, remove) }

// Existed ends a Put or Delete whose answer says whether the key had a value.
func (c *Call) Existed(found bool) {
	c.end(answered, answer{found: found, checkFound: true}, put, remove)
}

// Sum ends an Add: the sum, or done false if the register held no number.
func (c *Call) Sum(sum int64, done bool) {
	c.end(answered, answer{sum: sum, done: done}, add)
}

// Failed ends a call that certainly had no effect and never will have.
func (c *Call) Failed() { c.end(failed, answer{}, get, put, remove, add) }

// Unknown ends a call that may have an effect, now, later or never.
func (c *Call) Unknown() { c.end(unknown, answer{}, get, put, remove, add) }

// end books the outcome. The second end of a call, or one that does not fit
// its action, is a mistake of the test and panics.
func (c *Call) end(e ending, a answer, allowed ...action) {
	returned := time.Since(c.history.began)
	if !slices.Contains(allowed, c.action) {
		panic(fmt.Sprintf("verify: the answer does not fit %v", c))
	}
	c.history.mu.Lock()
	defer c.history.mu.Unlock()
	if c.ending != unknown {
		panic(fmt.Sprintf("verify: ended twice: %v", c))
	}
	c.ending, c.answer, c.returned = e, a, returned
}

// Len returns the number of operations recorded.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.calls)
}

// byKey returns what has to be explained, for each key in the order of calls.
// Failed calls and reads of unknown outcome are left out. The calls are copies:
// clients may still be ending theirs.
func (h *History) byKey() (map[string][]Call, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dropped > 0 {
		return nil, fmt.Errorf("%w: %d operations kept, %d lost", ErrFull, len(h.calls), h.dropped)
	}
	keys := map[string][]Call{}
	for _, c := range h.calls {
		if c.ending == failed || c.ending == unknown && c.action == get {
			continue
		}
		keys[c.key] = append(keys[c.key], *c)
	}
	return keys, nil
}

// String returns the call as one line: "client 3: add x 1 -> 7 [1ms, 2ms]".
func (c *Call) String() string {
	until := "..."
	if c.ending == answered {
		until = c.returned.String()
	}
	return fmt.Sprintf("client %d: %s -> %s [%v, %s]", c.client, c.request(), c.outcome(), c.called, until)
}

func (c *Call) request() string {
	switch c.action {
	case get:
		return "get " + c.key
	case put:
		return fmt.Sprintf("put %s %q", c.key, c.value)
	case remove:
		return "delete " + c.key
	}
	return fmt.Sprintf("add %s %d", c.key, c.delta)
}

func (c *Call) outcome() string {
	switch {
	case c.ending == failed:
		return "failed"
	case c.ending == unknown:
		return "unknown"
	case c.action == get && c.answer.found:
		return strconv.Quote(c.answer.value)
	case c.action == get:
		return "absent"
	case c.action == add && c.answer.done:
		return strconv.FormatInt(c.answer.sum, 10)
	case c.action == add:
		return "no number"
	case c.answer.checkFound && c.answer.found:
		return "ok, had existed"
	case c.answer.checkFound:
		return "ok, had not existed"
	}
	return "ok"
}
