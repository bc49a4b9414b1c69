package mvcc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
)

// Options configures an Engine. A zero field selects its default.
type Options struct {
	// FS and Dir hold all that the engine keeps. Required.
	FS  vfs.FS
	Dir string
	// MemTableBytes bounds what is written before it goes to the file system; four
	// times that may wait for it. Default: 16 MiB.
	MemTableBytes int64
	// CacheBytes bounds what is kept of files in memory. Default: 8 MiB.
	CacheBytes int64
	// Logger hears of what goes wrong in the background. Default: silent.
	Logger *slog.Logger
	_      struct{}
}

func (o Options) withDefaults() (Options, error) {
	if o.FS == nil || o.Dir == "" {
		return o, errors.New("mvcc: options: FS and Dir are required")
	}
	if o.MemTableBytes == 0 {
		o.MemTableBytes = 16 << 20
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 8 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MemTableBytes < 256<<10 || o.MemTableBytes > 1<<30 {
		return o, fmt.Errorf("mvcc: options: MemTableBytes is %d, expected %d to %d", o.MemTableBytes, 256<<10, 1<<30)
	}
	if o.CacheBytes < 0 {
		return o, fmt.Errorf("mvcc: options: CacheBytes is %d, expected 0 or more", o.CacheBytes)
	}
	return o, nil
}

// maxMemTables is how many of them may wait for the file system before writes do.
const maxMemTables = 4

// An Engine keeps the rows of all shards of a node. It is safe for concurrent use.
type Engine struct {
	o       Options
	db      *pebble.DB
	options *pebble.Options
	pool    sync.Pool // of *Reader
	work    sync.WaitGroup
	kick    chan struct{} // has a token after something was flushed
	end     chan struct{}
	stop    func() // closes end, once

	inside  atomic.Int64  // how many are between enter and leave
	closing atomic.Bool   // set once, before anybody waits for empty
	empty   chan struct{} // has a token after the last one of inside left

	fs    *stillFS
	ended atomic.Pointer[error] // why nothing becomes durable any more

	mu     sync.Mutex
	stores map[meta.ShardID]*Store // guarded by mu; the latest of each shard
	views  map[*frozen]bool        // guarded by mu; those that are open
	stages uint64                  // guarded by mu; numbers staged files
	flying *flight                 // guarded by mu; the flush that will begin next, nil: none
	flight sync.Mutex              // held while a flush is under way
}

var _ shard.Stores = (*Engine)(nil)

// A flight is a flush that many wait for.
type flight struct {
	done chan struct{}
	err  error
}

// Open opens an engine, and removes what an earlier life of it had staged.
func Open(o Options) (*Engine, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &Engine{
		o: o, kick: make(chan struct{}, 1), end: make(chan struct{}), empty: make(chan struct{}, 1),
		stores: map[meta.ShardID]*Store{}, views: map[*frozen]bool{},
	}
	e.stop = sync.OnceFunc(func() { close(e.end) })
	if err := o.FS.RemoveAll(e.stageDir()); err != nil {
		return nil, fmt.Errorf("mvcc: open %s: %w", o.Dir, err)
	}
	e.fs = newStillFS(o.FS, e.finish)
	e.options = e.pebble()
	e.options.EnsureDefaults()
	if err := e.openPebble(); err != nil {
		return nil, fmt.Errorf("mvcc: open %s: %w", o.Dir, err)
	}
	e.work.Go(e.follow)
	return e, nil
}

// openPebble opens Pebble, which may have found that it cannot go on.
func (e *Engine) openPebble() (err error) {
	e.db, err = pebble.Open(e.o.Dir, e.options)
	if err == nil && e.lives() != nil {
		err = e.db.Close()
	}
	if ended := e.ended.Load(); ended != nil {
		err = errors.Join(*ended, err)
	}
	return err
}

// pebble are the options of Pebble.
func (e *Engine) pebble() *pebble.Options {
	p := &pebble.Options{
		FS: e.fs, Comparer: comparer, DisableWAL: true,
		FormatMajorVersion: pebble.FormatColumnarBlocks,
		CacheSize:          e.o.CacheBytes, MemTableSize: uint64(e.o.MemTableBytes),
		MemTableStopWritesThreshold: maxMemTables,
		L0CompactionThreshold:       4, L0StopWritesThreshold: 1000,
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		Logger:                     logger{e.o.Logger},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				if !errors.Is(err, pebble.ErrCancelledCompaction) {
					e.fs.stop(err)
				}
			},
			DataCorruption: func(i pebble.DataCorruptionInfo) { e.fs.stop(i.Details) },
			FlushEnd: func(pebble.FlushInfo) {
				select {
				case e.kick <- struct{}{}:
				default:
				}
			},
		},
	}
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return p
}

// logger hands on what Pebble has to say.
type logger struct{ l *slog.Logger }

func (l logger) Infof(string, ...any)           {}
func (l logger) Errorf(format string, a ...any) { l.l.Error("mvcc: " + fmt.Sprintf(format, a...)) }

// Fatalf is called where Pebble is not what it should be, and must not return. See
// stillFS, and Engine.finish, for what is not worth that.
func (l logger) Fatalf(format string, a ...any) { panic("mvcc: " + fmt.Sprintf(format, a...)) }

// finish notes that nothing that is written becomes durable any more. What was applied
// is there for readers, and the stores refuse what is to come.
func (e *Engine) finish(err error) {
	if e.ended.CompareAndSwap(nil, &err) {
		e.o.Logger.Error("mvcc: nothing can be written any more", "dir", e.o.Dir, "err", err)
	}
}

// lives returns an error if nothing that is written becomes durable any more.
func (e *Engine) lives() error {
	if ended := e.ended.Load(); ended != nil {
		return fmt.Errorf("mvcc: %s is at its end: %w", e.o.Dir, *ended)
	}
	return nil
}

// ErrClosed says that an engine or a store is not open.
var ErrClosed = errors.New("mvcc: not open")

// Store implements shard.Stores.
func (e *Engine) Store(id meta.ShardID) (shard.Store, error) { return e.Shard(id), nil }

// Shard returns a store of a shard, which is to be opened. There is to be no more than
// one at a time for a shard.
func (e *Engine) Shard(id meta.ShardID) *Store {
	s := newStore(e, id)
	e.mu.Lock()
	e.stores[id] = s
	e.mu.Unlock()
	return s
}

// Close closes the engine, after all that reads. What was not flushed is lost. A second
// Close does nothing.
func (e *Engine) Close() error {
	e.stop()
	if !e.closing.CompareAndSwap(false, true) {
		return nil
	}
	for e.inside.Load() > 0 {
		<-e.empty
	}
	e.work.Wait()
	var errs []error
	for f := range e.views { // nobody can use them any more
		errs = append(errs, f.end())
	}
	if err := errors.Join(append(errs, e.db.Close())...); err != nil {
		return fmt.Errorf("mvcc: close %s: %w", e.o.Dir, err)
	}
	return nil
}

// enter keeps the engine open until leave is called. Who is inside may enter again: that
// is refused, rather than made to wait, once Close waits for him.
func (e *Engine) enter() error {
	e.inside.Add(1)
	if e.closing.Load() {
		e.leave()
		return ErrClosed
	}
	return nil
}

func (e *Engine) leave() {
	if e.inside.Add(-1) > 0 || !e.closing.Load() {
		return
	}
	select {
	case e.empty <- struct{}{}:
	default:
	}
}

// follow keeps up what stores know of how durable they are.
func (e *Engine) follow() {
	for {
		select {
		case <-e.kick:
		case <-e.end:
			return
		}
		if e.enter() != nil {
			return
		}
		if err := e.refresh(); err != nil {
			e.o.Logger.Error("mvcc: what is durable is not known", "dir", e.o.Dir, "err", err)
		}
		e.leave()
	}
}

// refresh reads how far each store is durable. The engine stays open meanwhile.
func (e *Engine) refresh() error {
	e.mu.Lock()
	list := make([]*Store, 0, len(e.stores))
	for _, s := range e.stores {
		if s.durable.Load() < s.applied.Load() {
			list = append(list, s)
		}
	}
	e.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	it, err := e.db.NewIter(&pebble.IterOptions{OnlyReadGuaranteedDurable: true})
	if err != nil {
		return err
	}
	for _, s := range list {
		p, ok, err := s.readPosition(it)
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if err := e.lives(); err != nil { // and what Pebble calls durable is not
			return errors.Join(err, it.Close())
		}
		if ok {
			s.raise(p.index)
		}
	}
	return it.Close()
}

// flush makes durable all that was written when it is called. Those who wait for one
// share the next.
func (e *Engine) flush(ctx context.Context) error {
	e.mu.Lock()
	f := e.flying
	if f == nil {
		f = &flight{done: make(chan struct{})}
		e.flying = f
		e.work.Go(func() { e.fly(f) })
	}
	e.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-e.end:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (e *Engine) fly(f *flight) {
	defer close(f.done)
	e.flight.Lock()
	defer e.flight.Unlock()
	e.mu.Lock()
	e.flying = nil
	e.mu.Unlock()
	if f.err = e.enter(); f.err != nil {
		return
	}
	defer e.leave()
	if f.err = e.lives(); f.err != nil {
		return
	}
	done, err := e.db.AsyncFlush()
	if err != nil {
		f.err = err
		return
	}
	select {
	case <-done:
		if f.err = e.refresh(); f.err == nil {
			f.err = e.lives()
		}
	case <-e.end: // it may never be done
		f.err = ErrClosed
	}
}
