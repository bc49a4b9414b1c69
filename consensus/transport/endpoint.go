package transport

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// An endpoint is what both kinds of Transport share: who takes messages, the
// services, the stamp's hooks and the counters.
type endpoint struct {
	id       NodeID
	receiver atomic.Pointer[Receiver]
	hooks    atomic.Pointer[hooks]

	out, in    [Classes]counters
	reconnects atomic.Uint64

	mu       sync.RWMutex
	handlers map[string]Handler
	streams  map[string]StreamHandler
}

type hooks struct {
	set     func() uint64
	observe func(uint64)
}

type counters struct{ messages, bytes, dropped atomic.Uint64 }

func (c *counters) count(messages, bytes int) {
	c.messages.Add(uint64(messages))
	c.bytes.Add(uint64(bytes))
}

func (c *counters) load() Traffic {
	return Traffic{Messages: c.messages.Load(), Bytes: c.bytes.Load(), Dropped: c.dropped.Load()}
}

// Node implements Transport.
func (e *endpoint) Node() NodeID { return e.id }

// Handle implements Transport.
func (e *endpoint) Handle(svc string, h Handler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mustBeNew(svc, e.handlers[svc] != nil)
	if e.handlers == nil {
		e.handlers = make(map[string]Handler)
	}
	e.handlers[svc] = h
}

// HandleStream implements Transport.
func (e *endpoint) HandleStream(svc string, h StreamHandler) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mustBeNew(svc, e.streams[svc] != nil)
	if e.streams == nil {
		e.streams = make(map[string]StreamHandler)
	}
	e.streams[svc] = h
}

// mustBeNew refuses a name that would silently replace a service, and one
// that would not fit a frame.
func (e *endpoint) mustBeNew(svc string, taken bool) {
	if taken || len(svc) == 0 || len(svc) > maxServiceBytes {
		panic(fmt.Sprintf("transport: node %d: service %q is registered already, empty or over %d bytes", e.id, svc, maxServiceBytes))
	}
}

func (e *endpoint) handler(svc string) Handler {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.handlers[svc]
}

func (e *endpoint) streamHandler(svc string) StreamHandler {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.streams[svc]
}

// Receive implements Transport.
func (e *endpoint) Receive(r Receiver) {
	if !e.receiver.CompareAndSwap(nil, &r) {
		panic(fmt.Sprintf("transport: node %d has a receiver already", e.id))
	}
}

// Stamp implements Transport.
func (e *endpoint) Stamp(set func() uint64, observe func(uint64)) {
	e.hooks.Store(&hooks{set, observe})
}

func (e *endpoint) stamp() uint64 {
	if h := e.hooks.Load(); h != nil {
		return h.set()
	}
	return 0
}

func (e *endpoint) observe(stamp uint64) {
	if h := e.hooks.Load(); h != nil {
		h.observe(stamp)
	}
}

// receive hands messages that arrived to the receiver. bytes is zero for what
// did not travel.
func (e *endpoint) receive(from NodeID, c Class, bytes int, m []Message) {
	if bytes > 0 {
		e.in[c].count(len(m), bytes)
	}
	if r := e.receiver.Load(); r != nil {
		(*r).Receive(from, m)
	} else {
		e.in[c].dropped.Add(uint64(len(m)))
	}
}

func (e *endpoint) unreachable(to NodeID) {
	if r := e.receiver.Load(); r != nil {
		(*r).Unreachable(to)
	}
}

// Stats implements Transport.
func (e *endpoint) Stats() Stats {
	s := Stats{Reconnects: e.reconnects.Load()}
	for c := range Classes {
		s.Out[c], s.In[c] = e.out[c].load(), e.in[c].load()
	}
	return s
}
