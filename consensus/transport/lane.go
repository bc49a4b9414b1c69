package transport

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// A lane is one direction of a stream in memory: pieces in flight and arrived,
// for one reader and one writer.
type lane struct {
	from, to NodeID
	// Between a node and itself nothing travels and these are nil.
	flow    *flow
	out, in *counters

	more chan struct{} // something was written or the writer finished
	room chan struct{} // something was read or the reader left

	mu       sync.Mutex
	pieces   []piece
	unread   int // Invariant: unread <= streamWindow.
	finished bool
	left     bool
}

type piece struct {
	at   time.Duration
	size int // what was written, of which data is unread
	data []byte
}

func newLane(from, to NodeID) *lane {
	return &lane{from: from, to: to, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// over puts the lane on a simulated link. It is called before the lane is
// used.
func (l *lane) over(f *flow, out, in *counters) { l.flow, l.out, l.in = f, out, in }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *lane) write(p *pipe, b []byte) (int, error) {
	written := 0
	for written < len(b) {
		chunk := b[written:min(len(b), written+chunkBytes)]
		if err := l.waitRoom(p, len(chunk)); err != nil {
			return written, err
		}
		at, err := l.book(p, len(chunk))
		if err != nil {
			return written, err
		}
		l.mu.Lock()
		l.pieces = append(l.pieces, piece{at, len(chunk), bytes.Clone(chunk)})
		l.unread += len(chunk)
		l.mu.Unlock()
		signal(l.more)
		written += len(chunk)
	}
	return written, nil
}

func (l *lane) waitRoom(p *pipe, n int) error {
	for {
		if err := p.failure(); err != nil {
			return err
		}
		l.mu.Lock()
		finished, left, room := l.finished, l.left, l.unread+n <= streamWindow
		l.mu.Unlock()
		switch {
		case finished:
			return fmt.Errorf("transport: stream of node %d: %w", l.from, io.ErrClosedPipe)
		case left:
			return fmt.Errorf("%w: node %d closed the stream", ErrBroken, l.to)
		case room:
			return nil
		}
		select {
		case <-l.room:
		case <-p.broken:
		}
	}
}

// book takes a piece's share of the link and returns when it arrives. It
// waits while the link is booked out, so that messages need not.
func (l *lane) book(p *pipe, n int) (time.Duration, error) {
	if l.flow == nil {
		return 0, nil
	}
	f := l.flow
	l.out.count(1, n+chunkHeader)
	for {
		f.mu.Lock()
		ahead := f.busyUntil - f.net.elapsed() - bulkBacklog
		if ahead <= 0 {
			at := f.arrival(f.now.Load(), Bulk, n+chunkHeader, true)
			f.mu.Unlock()
			return at, nil
		}
		f.mu.Unlock()
		t := time.NewTimer(ahead)
		select {
		case <-t.C:
		case <-p.broken:
			t.Stop()
			return 0, p.failure()
		}
	}
}

func (l *lane) read(p *pipe, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		if err := p.failure(); err != nil {
			return 0, err
		}
		n, wait, err := l.take(b)
		if n > 0 || err != nil {
			return n, err
		}
		if wait == 0 {
			select {
			case <-l.more:
			case <-p.broken:
			}
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-l.more:
		case <-p.broken:
		}
		t.Stop()
	}
}

// take copies what has arrived to b. With nothing there it returns the time
// to the next piece, or zero if none is under way.
func (l *lane) take(b []byte) (int, time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left {
		return 0, 0, fmt.Errorf("transport: stream of node %d: %w", l.to, io.ErrClosedPipe)
	}
	if len(l.pieces) == 0 {
		if l.finished {
			return 0, 0, io.EOF
		}
		return 0, 0, nil
	}
	head := &l.pieces[0]
	if l.flow != nil {
		if wait := head.at - l.flow.net.elapsed(); wait > 0 {
			return 0, wait, nil
		}
	}
	n := copy(b, head.data)
	head.data = head.data[n:]
	l.unread -= n
	if len(head.data) == 0 {
		if l.flow != nil {
			l.in.count(1, head.size+chunkHeader)
		}
		l.pieces[0] = piece{}
		l.pieces = l.pieces[1:]
	}
	signal(l.room)
	return n, 0, nil
}

// finish ends the lane after what was written; leave gives up reading. Both
// wake either side, for a Close may overtake the own Read or Write.
func (l *lane) finish() {
	l.mu.Lock()
	l.finished = true
	l.mu.Unlock()
	signal(l.more)
	signal(l.room)
}

func (l *lane) leave() {
	l.mu.Lock()
	l.left = true
	l.pieces, l.unread = nil, 0
	l.mu.Unlock()
	signal(l.more)
	signal(l.room)
}
