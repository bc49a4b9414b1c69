package txn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/mvcc"
)

// A Participant is what a node does for the transactions of all clients: it keeps the
// rows of its shards, and evaluates what is asked of those that it leads. It is safe
// for concurrent use.
type Participant struct {
	o     Options
	clock *hlc.Clock
	node  atomic.Pointer[cluster.Node]
	live  coordinators
	skew  skew

	recoveries recoveries
	commits    chan struct{} // one for each transaction that is being committed or resolved

	life context.Context // ends with Close
	end  context.CancelFunc
	work sync.WaitGroup

	mu    sync.Mutex
	seats map[meta.ShardID]*seat // guarded by mu; the latest of each shard that was led here
}

// NewParticipant returns a participant of a node that is yet to be started: see Join.
func NewParticipant(o Options) (*Participant, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Participant{o: o, clock: o.Clock, seats: map[meta.ShardID]*seat{}}
	p.live.init()
	p.skew.init(p.clock)
	p.recoveries.init()
	p.commits = make(chan struct{}, commitsAtOnce)
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// Join has the node that options will start keep the participant's rows, and answer for
// it.
func (p *Participant) Join(o *cluster.Options) {
	o.Stores = func(fs vfs.FS, dir string) (shard.Stores, error) { return mvcc.Open(p.o.place(fs, dir)) }
	if o.Services == nil {
		o.Services = map[string]cluster.Handler{}
	}
	if o.NodeServices == nil {
		o.NodeServices = map[string]cluster.NodeHandler{}
	}
	for name, h := range map[string]func(context.Context, *seat, *cluster.Request) ([]byte, error){
		serviceGet: p.serveGet, serviceScan: p.serveScan, serviceLock: p.serveLock, serviceCheck: p.serveCheck,
		serviceWrite: p.serveWrite, serviceUnlock: p.serveUnlock, serviceEnd: p.serveEnd, serviceFates: p.serveFates, serviceEdges: p.serveEdges,
		serviceGetClosing: p.closing(p.serveGet), serviceScanClosing: p.closing(p.serveScan), serviceProtect: p.serveProtect,
	} {
		o.Services[name] = p.led(h)
	}
	o.NodeServices[serviceStatus] = p.serveStatus
	o.NodeServices[serviceWaits] = p.serveWaits
	o.NodeServices[serviceClock] = p.serveClock
}

// Serve begins what the participant does by itself on a node that was started with it.
// It ends with the node, which waits for what the participant has under way.
func (p *Participant) Serve(n *cluster.Node) {
	p.node.Store(n)
	p.work.Go(p.tend)
	p.work.Go(p.watch)
	p.work.Go(func() {
		select {
		case <-n.Done():
			p.end()
		case <-p.life.Done():
		}
	})
}

// Clock is the node's.
func (p *Participant) Clock() *hlc.Clock { return p.clock }

// Close ends what the participant does, and returns when nothing is under way.
func (p *Participant) Close() {
	p.end()
	p.mu.Lock()
	for _, s := range p.seats {
		s.leave(errClosed)
	}
	p.mu.Unlock()
	p.work.Wait()
}

var errClosed = fmt.Errorf("txn: participant: %w", consensus.ErrClosed)

// led is the handler of a service that only whoever leads a shard can answer.
func (p *Participant) led(h func(context.Context, *seat, *cluster.Request) ([]byte, error)) cluster.Handler {
	return func(ctx context.Context, r *cluster.Request) ([]byte, error) {
		s, err := p.seat(ctx, r.Replica, r.Generation)
		if err != nil {
			return nil, err
		}
		b, err := h(ctx, s, r)
		if err != nil && !errors.Is(err, consensus.ErrUnknown) && s.left() != nil {
			return nil, s.left() // what it was evaluated by is of yesterday
		}
		if err != nil && ctx.Err() != nil && !errors.Is(err, consensus.ErrUnknown) {
			// What is proposed is waited for whatever happens to ctx.
			err = fmt.Errorf("%w: %w", consensus.ErrRejected, err)
		}
		return b, err
	}
}
