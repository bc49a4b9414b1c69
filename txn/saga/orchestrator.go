package saga

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/phantomdb/phantomdb/txn"
)

// A runner runs transactions as a txn.Client does.
type runner interface {
	Run(ctx context.Context, o txn.TxOptions, fn func(*txn.Tx) error) error
}

// An Orchestrator runs sagas. It is safe for concurrent use.
type Orchestrator struct {
	client runner
	o      Options
	graphs map[version]*graph
	lease  string // key of its lease
	life   uint64 // which of the lives under its name this is

	ctx     context.Context // of all that it does; ends with the last step
	cancel  context.CancelFunc
	stop    chan struct{} // closed when no step is to begin any more
	slots   chan struct{} // one taken for each saga under way
	workers sync.WaitGroup

	mu     sync.Mutex
	closed error // why it takes no sagas any more, nil if it does
	runs   map[ID]*run
}

// Open opens an orchestrator: it takes its lease, and goes on with the sagas that nobody
// runs. It must be closed.
func Open(ctx context.Context, client *txn.Client, o Options) (*Orchestrator, error) {
	orc, err := open(ctx, client, o)
	if err != nil {
		return nil, err
	}
	orc.workers.Go(orc.keep)
	if orc.o.Scan > 0 {
		orc.workers.Go(orc.look)
	}
	if orc.o.Retention > 0 {
		orc.workers.Go(orc.sweepUp)
	}
	return orc, nil
}

// open opens an orchestrator that does nothing by itself.
func open(ctx context.Context, client runner, o Options) (*Orchestrator, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	graphs, err := compileAll(o.Definitions)
	if err != nil {
		return nil, err
	}
	orc := &Orchestrator{
		client: client, o: o, graphs: graphs, lease: leaseKey(o.Homes[0], o.Name),
		stop: make(chan struct{}), slots: make(chan struct{}, o.Limit), runs: map[ID]*run{},
	}
	if err := orc.takeLease(ctx); err != nil {
		return nil, fmt.Errorf("saga: open %q: %w", o.Name, err)
	}
	orc.ctx, orc.cancel = context.WithCancel(context.Background())
	return orc, nil
}

// Close lets the steps that are under way come to their ends, gives up the lease, and
// returns. What is not finished goes on in another orchestrator. When ctx ends, so do
// the contexts of the steps: then calls can be left of which nobody knows what came.
func (o *Orchestrator) Close(ctx context.Context) error {
	o.shut(ErrClosed)
	ended := context.AfterFunc(ctx, o.cancel)
	defer ended()
	o.mu.Lock()
	runs := make([]*run, 0, len(o.runs))
	for _, r := range o.runs {
		runs = append(runs, r)
	}
	o.mu.Unlock()
	for _, r := range runs {
		<-r.left
	}
	err := ctx.Err()
	if o.ctx.Err() == nil {
		err = errors.Join(err, o.dropLease(ctx))
	}
	o.cancel()
	o.workers.Wait()
	return err
}

// shut has no step begin any more.
func (o *Orchestrator) shut(why error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed == nil {
		o.closed = why
		close(o.stop)
	}
}

// why returns why the orchestrator is shut.
func (o *Orchestrator) why() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// graph returns the definition of a saga.
func (o *Orchestrator) graph(name string, ver uint32, shape uint64) (*graph, error) {
	g := o.graphs[version{name, ver}]
	switch {
	case g == nil:
		return nil, &UnknownDefinitionError{Name: name, Version: ver}
	case g.shape != shape:
		return nil, &UnknownDefinitionError{Name: name, Version: ver, Changed: true}
	}
	return g, nil
}

// every calls fn again and again until the orchestrator is closed.
func (o *Orchestrator) every(d time.Duration, fn func(ctx context.Context)) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-o.stop:
			return
		case <-o.ctx.Done():
			return
		case <-t.C:
			fn(o.ctx)
		}
	}
}
