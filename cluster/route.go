package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/transport"
)

// A Route says where a shard is, as far as a node knows.
type Route struct {
	Shard   meta.ShardID
	Span    meta.Span
	Members []meta.Member

	into meta.ShardID // if set, the shard is frozen, and may have gone into this one
}

// routes are what a node has learnt of shards from themselves, which may be later
// than what the meta group has told it.
type routes struct {
	mu      sync.RWMutex
	headers map[meta.ShardID]*shard.Header    // guarded by mu
	leaders map[meta.ShardID]consensus.NodeID // guarded by mu
}

// maxLearnt bounds what is kept.
const maxLearnt = 1 << 16

// learn takes in a header and reports whether it is news.
func (r *routes) learn(h *shard.Header) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.headers[h.Shard]; old != nil && old.Generation >= h.Generation {
		return false
	}
	if r.headers == nil || len(r.headers) >= maxLearnt {
		r.headers = map[meta.ShardID]*shard.Header{}
	}
	r.headers[h.Shard] = h
	return true
}

// later returns the header of a shard if it is later than what the state says.
func (r *routes) later(id meta.ShardID, s *meta.State) (*shard.Header, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	h, ok := r.headers[id]
	if sh, known := s.Shard(id); ok && known && sh.Generation >= h.Generation || s.Merged(id) {
		return nil, false
	}
	return h, ok
}

func (r *routes) leads(id meta.ShardID, n consensus.NodeID) {
	r.mu.RLock()
	same := r.leaders[id] == n
	r.mu.RUnlock()
	if same {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaders == nil || len(r.leaders) >= maxLearnt {
		r.leaders = map[meta.ShardID]consensus.NodeID{}
	}
	r.leaders[id] = n
}

func (r *routes) leader(id meta.ShardID) consensus.NodeID {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.leaders[id]
}

// Locate returns the shard that has a key, as far as this node knows: from the meta
// group, and, where that has not heard of it yet, from a shard that says that it has
// the key no more. It reports false if none is known to have it.
func (n *Node) Locate(key string) (Route, bool) {
	s := n.views.state.Load()
	sh, ok := s.Locate(key)
	if !ok {
		return Route{}, false
	}
	at := Route{Shard: sh.ID, Span: sh.Span, Members: sh.Members}
	// A split leaves a pointer to the right, and the new shard is where the old one
	// was.
	for range maxHops {
		h, ok := n.routes.later(at.Shard, s)
		switch {
		case !ok:
			return at, true
		case h.Frozen != 0:
			if left, ok := n.routes.later(h.Into, s); ok && left.Covers(h.Span) {
				return Route{Shard: h.Into, Span: left.Span, Members: at.Members}, true
			}
			return Route{at.Shard, h.Span, at.Members, h.Into}, true // until it has gone over
		case h.Span.Contains(key):
			return Route{Shard: at.Shard, Span: h.Span, Members: at.Members}, true
		case key < h.Span.Start || h.Right == 0:
			return at, true
		}
		next := Route{Shard: h.Right, Span: meta.Span{Start: h.Span.End, End: at.Span.End}, Members: at.Members}
		if sh, ok := s.Shard(h.Right); ok {
			next = Route{Shard: sh.ID, Span: sh.Span, Members: sh.Members}
		}
		at = next
	}
	return at, true
}

// maxHops bounds the way to the right, behind which the meta group is waited for.
const maxHops = 64

// Parts returns the shards that have a part of span, by their start, as far as this
// node knows. Spans that no shard has are left out. Each Route's Span is cut to span.
func (n *Node) Parts(span meta.Span) []Route {
	var list []Route
	for from := span.Start; ; {
		r, ok := n.Locate(from)
		if !ok {
			// Nobody has it: on with the next that there is.
			next := n.views.state.Load().In(meta.Span{Start: from, End: span.End})
			if len(next) == 0 || next[0].Span.Start <= from {
				return list
			}
			from = next[0].Span.Start
			continue
		}
		end := r.Span.End
		if span.End != "" && (end == "" || end > span.End) {
			end = span.End
		}
		r.Span = meta.Span{Start: from, End: end}
		list = append(list, r)
		if end == span.End || end <= from {
			return list
		}
		from = end
	}
}

// A Request is what somebody asks of the leader of a shard.
type Request struct {
	From consensus.NodeID
	// Replica is the one here, which leads as far as it knows, and Generation that of
	// its header when it had all of Span.
	Replica    *Replica
	Generation uint64
	Span       meta.Span
	Body       []byte // valid during the call
}

// A Handler answers requests to shards that this node leads. It may wait. What it
// returns for an error of Replica's methods, the caller's node goes by: see Call.
type Handler func(ctx context.Context, r *Request) ([]byte, error)

// answers has h answer the requests to a service.
func (n *Node) answers(service string, h Handler) {
	n.net.Handle(shardService+service, func(ctx context.Context, from consensus.NodeID, req []byte) ([]byte, error) {
		id, span, body, err := decodeRequest(req)
		if err != nil {
			return nil, err
		}
		return n.answer(ctx, h, from, id, span, body).encode(), nil
	})
}

const shardService = "shard."

// A reply is what came of a request at a node.
type reply struct {
	verdict byte
	body    []byte           // of the answer; the text of an error
	leader  consensus.NodeID // elsewhere
	header  *shard.Header    // outdated
	err     error            // the error itself, where it came about here
}

// What came of a request, beside those of a proposal.
const (
	outdated = perhaps + 1 + iota // the shard has another span, certainly not carried out
	failed                        // the handler's own error
)

func (r reply) encode() []byte {
	b := []byte{r.verdict}
	switch r.verdict {
	case elsewhere:
		return binary.AppendUvarint(b, uint64(r.leader))
	case outdated:
		return r.header.Append(b)
	}
	return append(b, r.body...)
}

func decodeReply(b []byte) (reply, error) {
	if len(b) == 0 || b[0] > failed {
		return reply{}, fmt.Errorf("cluster: reply %x is malformed", b[:min(1, len(b))])
	}
	r := reply{verdict: b[0], body: b[1:]}
	switch r.verdict {
	case elsewhere:
		leader, _ := binary.Uvarint(r.body)
		r.leader = consensus.NodeID(leader)
	case outdated:
		var err error
		r.header, err = shard.ParseHeader(r.body)
		return r, err
	case again, perhaps, failed:
		r.err = errors.New(string(r.body))
	}
	return r, nil
}

func encodeRequest(id meta.ShardID, span meta.Span, body []byte) []byte {
	b := binary.AppendUvarint(make([]byte, 0, 32+len(span.Start)+len(span.End)+len(body)), uint64(id))
	for _, s := range []string{span.Start, span.End} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return append(b, body...)
}

func decodeRequest(b []byte) (id meta.ShardID, span meta.Span, body []byte, err error) {
	v, k := binary.Uvarint(b)
	ok := k > 0
	b = b[max(k, 0):]
	for _, s := range []*string{&span.Start, &span.End} {
		n, k := binary.Uvarint(b)
		if ok = ok && k > 0 && n <= uint64(len(b)-k) && n <= meta.MaxKeyBytes; !ok {
			return 0, span, nil, fmt.Errorf("cluster: request of %d bytes is malformed", len(b))
		}
		*s, b = string(b[k:k+int(n)]), b[k+int(n):]
	}
	return meta.ShardID(v), span, b, nil
}

// answer runs a handler, if this node leads the shard and the shard has the span.
func (n *Node) answer(ctx context.Context, h Handler, from consensus.NodeID, id meta.ShardID, span meta.Span, body []byte) reply {
	r, err := n.Replica(id)
	if err != nil {
		return reply{verdict: elsewhere}
	}
	if leader := n.host.Leader(consensus.GroupID(id)).Node; leader != n.id.Node {
		return reply{verdict: elsewhere, leader: leader}
	}
	header := r.Header()
	if !header.Covers(span) {
		return reply{verdict: outdated, header: header}
	}
	r.counted = true
	r.worked()
	answer, err := h(ctx, &Request{From: from, Replica: r, Generation: header.Generation, Span: span, Body: body})
	var stale *shard.StaleError
	var other *consensus.NotLeaderError
	switch {
	case err == nil:
		return reply{verdict: heard, body: answer}
	case errors.Is(err, consensus.ErrUnknown): // whatever else it says
		return reply{verdict: perhaps, body: []byte(err.Error()), err: err}
	case errors.As(err, &stale):
		return reply{verdict: outdated, header: stale.Header}
	case errors.As(err, &other):
		return reply{verdict: elsewhere, leader: other.Node}
	case errors.Is(err, consensus.ErrRejected):
		return reply{verdict: again, body: []byte(err.Error()), err: err}
	}
	return reply{verdict: failed, body: []byte(err.Error()), err: err}
}

// Call asks the leader of the shard that has key, wherever it is, and returns what the
// handler of the service there answered. It tries again for as long as nothing can
// have happened: while the leader is elsewhere, the shard has another span, or the
// node is overloaded. It ends with an error that wraps consensus.ErrUnknown if an
// attempt may have worked, consensus.ErrRejected if ctx ended and none did, and
// otherwise with the handler's own, as text if it is another node's.
func (n *Node) Call(ctx context.Context, service, key string, body []byte) ([]byte, error) {
	return n.CallSpan(ctx, service, meta.Span{Start: key, End: key + "\x00"}, body)
}

// CallSpan is a Call of the one shard that has all of span. If no one has, it returns
// an error that wraps ErrSplit: Parts says how the span is to be cut.
func (n *Node) CallSpan(ctx context.Context, service string, span meta.Span, body []byte) ([]byte, error) {
	var last error
	for i, rest := 0, time.Millisecond; ; i++ {
		at, ok := n.Locate(span.Start)
		switch {
		case !ok:
			last = fmt.Errorf("no shard has %q", span.Start)
		case at.Span.End != "" && (span.End == "" || span.End > at.Span.End):
			return nil, fmt.Errorf("cluster: %s: %w: %v is in more than one", service, ErrSplit, span)
		default:
			if at.into != 0 && i%2 == 1 {
				// The cluster may not have heard of it, for as long as the meta group is down.
				at.Shard = at.into
			}
			to := n.target(at, i)
			r := n.callAt(ctx, to, service, at.Shard, span, body)
			switch last = r.err; r.verdict {
			case heard:
				n.routes.leads(at.Shard, to)
				return r.body, nil
			case failed:
				return nil, r.err
			case perhaps:
				return nil, fmt.Errorf("cluster: %s of shard %d at node %d: %w: %w", service, at.Shard, to, consensus.ErrUnknown, r.err)
			case outdated:
				last = &shard.StaleError{Header: r.header}
				if n.routes.learn(r.header) && i < 3 {
					continue
				}
			case elsewhere:
				last = fmt.Errorf("node %d does not lead shard %d", to, at.Shard)
				n.routes.leads(at.Shard, r.leader)
				if r.leader != 0 && i < 3 {
					continue
				}
			default:
				n.routes.leads(at.Shard, 0)
			}
		}
		pause(ctx, rest)
		if rest = min(2*rest, 20*time.Millisecond); ctx.Err() != nil || n.life.Err() != nil {
			return nil, fmt.Errorf("cluster: %s of %q: %w: %w", service, span.Start, consensus.ErrRejected, errors.Join(context.Cause(ctx), n.life.Err(), last))
		}
	}
}

// ErrSplit says that no one shard has all of a span.
var ErrSplit = errors.New("the span is divided")

// target returns the node to ask for a shard: whoever is believed to lead it, or, in
// turn, its members.
func (n *Node) target(at Route, i int) consensus.NodeID {
	leader := n.host.Leader(consensus.GroupID(at.Shard)).Node
	if leader == 0 {
		leader = n.routes.leader(at.Shard)
	}
	switch {
	case len(at.Members) == 0:
		return n.id.Node
	case leader == 0:
		return at.Members[i%len(at.Members)].Node
	case i%4 == 3: // what is believed may be old
		return at.Members[i/4%len(at.Members)].Node
	}
	return leader
}

// callAt asks one node.
func (n *Node) callAt(ctx context.Context, to consensus.NodeID, service string, id meta.ShardID, span meta.Span, body []byte) reply {
	if to == n.id.Node {
		h := n.o.Services[service]
		if h == nil {
			return reply{verdict: failed, err: fmt.Errorf("cluster: %w: %s", transport.ErrNoService, service)}
		}
		return n.answer(ctx, h, to, id, span, body)
	}
	b, err := n.net.Call(ctx, to, shardService+service, encodeRequest(id, span, body))
	if err == nil {
		var r reply
		if r, err = decodeReply(b); err == nil {
			return r
		}
	}
	if unsent(err) {
		return reply{verdict: again, err: err}
	}
	return reply{verdict: perhaps, err: err}
}
