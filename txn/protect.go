package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/codec"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// What a shard's leader is asked for those who read for long.
const serviceProtect = "txn.protect"

// A protectRequest has a shard keep what is read at a timestamp until a moment, under a
// name, or no longer if that is 0.
type protectRequest struct {
	name      uint64
	at, until hlc.Timestamp
}

func (g *protectRequest) encode() []byte {
	return appendTS(appendTS(appendTS(nil, hlc.Timestamp(g.name)), g.at), g.until)
}

func parseProtect(b []byte) (g protectRequest, err error) {
	r := read(b)
	g = protectRequest{name: r.Uint64(), at: r.ts(), until: r.ts()}
	return g, r.end(serviceProtect)
}

// serveProtect answers whether the timestamp has been given up.
func (p *Participant) serveProtect(_ context.Context, s *seat, q *cluster.Request) ([]byte, error) {
	g, err := parseProtect(q.Body)
	if err != nil {
		return nil, err
	}
	h := s.header()
	b := mvcc.AppendHeader(nil, &h)
	if g.until == 0 {
		b = mvcc.AppendUnprotect(b, g.name)
	} else {
		b = mvcc.AppendProtect(b, g.name, g.at, g.until)
	}
	a, err := s.propose(b)
	switch {
	case err != nil:
		return nil, err
	case a.Verdict == mvcc.Expired:
		return codec.AppendBool(nil, true), nil
	case a.Verdict != mvcc.Done:
		return nil, fmt.Errorf("txn: protection of shard %d at %v was %v", s.r.Shard(), g.at, a.Verdict)
	}
	return codec.AppendBool(nil, false), nil
}

// Protect keeps what is read at a timestamp in [start, end), whatever Retention says,
// for a time or until release is called. An empty end is behind all keys. To keep it for
// longer, protect it again before the time is over, and then release the former one:
// each has a name of its own, so that one never ends the other. Shards that come of a
// split keep it as well. One that is merged with a neighbour goes by what that has given
// up: reads are refused then, and never wrong. Protect returns an error that wraps
// ErrSnapshotTooOld if a shard has given the timestamp up.
func (c *Client) Protect(ctx context.Context, start, end string, at hlc.Timestamp, d time.Duration) (release func(context.Context) error, err error) {
	now := c.p.clock.Now()
	switch {
	case end != "" && end <= start:
		return nil, fmt.Errorf("txn: protect [%q, %q): expected the lower one first", start, end)
	case at == 0 || at > now.Add(c.p.clock.Bound()):
		return nil, fmt.Errorf("txn: protect at %v: %w: it is %v", at, ErrFuture, now)
	case d <= 0:
		return nil, fmt.Errorf("txn: protect for %v, expected a time", d)
	}
	g := protectRequest{name: rand.Uint64(), at: at, until: now.Add(d)}
	held, err := c.protect(ctx, meta.Span{Start: start, End: end}, &g)
	release = func(ctx context.Context) error {
		for _, span := range held {
			if _, err := c.protect(ctx, span, &protectRequest{name: g.name}); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		_ = release(ctx) // or it ends by itself
		return nil, err
	}
	return release, nil
}

// protect asks all shards of a span, and returns the spans of those that may have heard
// of it, which are more: all that they are split into has it too.
func (c *Client) protect(ctx context.Context, span meta.Span, g *protectRequest) (held []meta.Span, err error) {
	body := g.encode()
	for todo := []meta.Span{span}; len(todo) > 0; {
		var parts []cluster.Route
		for _, sp := range todo {
			parts = append(parts, c.n.Parts(sp)...)
		}
		todo = nil
		errs := make([]error, len(parts))
		each(len(parts), func(i int) { errs[i] = c.protectPart(ctx, parts[i].Span, g.at, body) })
		for i, e := range errs {
			if whole, ok := c.n.Locate(parts[i].Span.Start); ok {
				held = append(held, whole.Span)
			}
			switch {
			case errors.Is(e, cluster.ErrSplit), errors.Is(e, consensus.ErrUnknown) && ctx.Err() == nil:
				todo = append(todo, parts[i].Span) // to do it twice is to do it once
			case e != nil:
				err = errors.Join(err, e)
			}
		}
		if err != nil {
			return held, err
		}
	}
	return held, nil
}

func (c *Client) protectPart(ctx context.Context, span meta.Span, at hlc.Timestamp, body []byte) error {
	b, err := c.n.CallSpan(ctx, serviceProtect, span, body)
	if err != nil {
		return err
	}
	r := read(b)
	tooOld := r.Bool()
	if err := r.end(serviceProtect); err != nil {
		return err
	}
	if tooOld {
		return fmt.Errorf("txn: protect %v at %v: %w", span, at, ErrSnapshotTooOld)
	}
	return nil
}
