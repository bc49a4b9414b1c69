package transport

import (
	"context"
	"fmt"
	"sync"
)

// A pipe is a stream in memory: a lane each way.
type pipe struct {
	a, b        NodeID // here is a's end, there b's
	here, there *end
	broken      chan struct{} // closed by breakOff
	forget      func()        // takes the stream off its network; may be nil

	mu     sync.Mutex
	err    error // why it broke
	then   func()
	unbind func() bool // stops watching the opener's context
	open   int         // ends not closed
}

func newPipe(a, b NodeID) *pipe {
	p := &pipe{a: a, b: b, broken: make(chan struct{}), open: 2}
	out, back := newLane(a, b), newLane(b, a)
	p.here = &end{pipe: p, in: back, out: out}
	p.there = &end{pipe: p, in: out, out: back}
	return p
}

func (p *pipe) crosses(d direction) bool {
	return p.a == d.from && p.b == d.to || p.a == d.to && p.b == d.from
}

// onBreak has f called when the stream breaks, or at once if it did.
func (p *pipe) onBreak(f func()) {
	p.mu.Lock()
	broken := p.err != nil
	p.then = f
	p.mu.Unlock()
	if broken {
		f()
	}
}

// watch breaks the stream with the opener's context.
func (p *pipe) watch(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		p.breakOff(fmt.Errorf("%w: %w", ErrBroken, ctx.Err()))
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == 0 || p.err != nil {
		stop()
		return
	}
	p.unbind = stop
}

// breakOff makes every read and write fail, now and later. It calls nothing
// that locks the network.
func (p *pipe) breakOff(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return
	}
	p.err = err
	close(p.broken)
	if p.then != nil {
		p.then()
	}
	if p.unbind != nil {
		p.unbind()
	}
}

func (p *pipe) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// closed notes that one end is closed; the last one takes the stream off the
// network.
func (p *pipe) closed() {
	p.mu.Lock()
	p.open--
	last := p.open == 0
	if last && p.unbind != nil {
		p.unbind()
	}
	p.mu.Unlock()
	if last && p.forget != nil {
		p.forget()
	}
}

// An end is what one side of a stream holds.
type end struct {
	pipe    *pipe
	in, out *lane
	once    sync.Once
}

// Read implements Duplex.
func (e *end) Read(b []byte) (int, error) { return e.in.read(e.pipe, b) }

// Write implements Duplex.
func (e *end) Write(b []byte) (int, error) { return e.out.write(e.pipe, b) }

// CloseWrite implements Duplex.
func (e *end) CloseWrite() error {
	e.out.finish()
	return nil
}

// Close implements Duplex.
func (e *end) Close() error {
	e.once.Do(func() {
		e.out.finish()
		e.in.leave()
		e.pipe.closed()
	})
	return nil
}

// Abort implements Duplex.
func (e *end) Abort() error {
	e.pipe.breakOff(fmt.Errorf("%w: aborted", ErrBroken))
	return e.Close()
}
