package saga_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/mvcc"
	"github.com/phantomdb/phantomdb/txn/saga"
)

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A world is a cluster whose nodes do transactions, with a client on each.
type world struct {
	*cluster.Local
	t       testing.TB
	clients []*txn.Client
	ids     []meta.ShardID
}

// bound is how far clocks can be apart in tests: what is done by hand takes that long.
const bound = 30 * time.Millisecond

// boot boots a cluster with a shard for each node, which begin at "", "10" and so on
// with ten nodes.
func boot(t testing.TB, nodes int, local cluster.LocalOptions) *world {
	t.Helper()
	w := &world{t: t}
	parts := make([]*txn.Participant, nodes)
	local.Node = func(i int, c *cluster.Options) {
		var o txn.Options
		o.Store.MemTableBytes = 4 << 20
		var err error
		o.Clock, err = hlc.NewClock(nil, bound)
		require.NoError(t, err)
		p, err := txn.NewParticipant(o)
		require.NoError(t, err)
		p.Join(c)
		parts[i-1] = p
	}
	l, err := cluster.NewLocal(within(t, time.Minute), nodes, local)
	require.NoError(t, err)
	w.Local = l
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		for _, p := range parts {
			p.Close()
		}
	})
	for i, p := range parts {
		p.Serve(l.Node(i + 1))
		c, err := txn.NewClient(l.Node(i+1), p, txn.ClientOptions{})
		require.NoError(t, err)
		w.clients = append(w.clients, c)
	}
	w.shards(nodes)
	return w
}

// shards makes so many shards and waits until all have their replicas.
func (w *world) shards(n int) {
	for i := range n {
		var s cluster.ShardSpec
		if i > 0 {
			s.Span.Start = fmt.Sprintf("%02d", 100*i/n)
		}
		if i < n-1 {
			s.Span.End = fmt.Sprintf("%02d", 100*(i+1)/n)
		}
		id, err := w.Node(1).CreateShard(within(w.t, time.Minute), s)
		require.NoError(w.t, err)
		w.ids = append(w.ids, id)
	}
	for _, node := range w.Nodes() {
		_, err := node.Await(within(w.t, time.Minute), func(s *meta.State) bool {
			for _, sh := range s.Shards() {
				if len(sh.Members) != sh.Want || sh.Version == 0 || sh.ID != meta.MetaShard && sh.Generation == 0 {
					return false
				}
			}
			return len(s.Shards()) == n+1
		})
		require.NoError(w.t, err)
	}
}

// open opens an orchestrator on a node.
func (w *world) open(node int, o saga.Options) *saga.Orchestrator {
	w.t.Helper()
	if o.Homes == nil {
		o.Homes = []string{home}
	}
	orc, err := saga.Open(within(w.t, time.Minute), w.clients[node-1], o)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = orc.Close(context.Background()) })
	return orc
}

// counter reads a counter.
func (w *world) counter(key string) (n int64) {
	w.t.Helper()
	ctx := within(w.t, 30*time.Second)
	require.NoError(w.t, w.clients[0].Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
		b, there, err := tx.Get(ctx, key)
		if err != nil {
			return err
		}
		var ok bool
		n, ok = mvcc.Counter(&mvcc.Version{TS: 1, Deleted: !there, Value: b})
		require.True(w.t, ok)
		return nil
	}))
	return n
}

// rows are the keys from a first one that are as wanted.
func (w *world) rows(from string, want func(key string) bool) (keys []string) {
	w.t.Helper()
	ctx := within(w.t, 30*time.Second)
	require.NoError(w.t, w.clients[0].Run(ctx, txn.TxOptions{Set: true, Level: txn.Strict}, func(tx *txn.Tx) error {
		keys = nil
		rows, err := tx.Scan(ctx, from, "", 0)
		for _, row := range rows {
			if want(row.Key) {
				keys = append(keys, row.Key)
			}
		}
		return err
	}))
	return keys
}

// home is where sagas of tests lie.
const home = "10/"

// id names a saga of a test.
func id(name string) saga.ID { return saga.ID{Home: home, Name: name} }

// define is a definition of a test, version 1.
func define(name string, steps ...saga.Step) *saga.Definition {
	return &saga.Definition{Name: name, Version: 1, Steps: steps}
}

// finish waits until a saga is finished.
func finish(t testing.TB, s *saga.Saga) *saga.Result {
	t.Helper()
	res, err := s.Wait(within(t, 30*time.Second))
	require.NoError(t, err)
	return res
}

// start starts a saga of version 1.
func start(t testing.TB, o *saga.Orchestrator, name, definition string, input string) *saga.Saga {
	t.Helper()
	s, err := o.Start(within(t, 30*time.Second), id(name), definition, 1, []byte(input))
	require.NoError(t, err)
	return s
}

// stepOf waits until a step is as it should be, and tells of it.
func stepOf(t testing.TB, o *saga.Orchestrator, name, step string, want saga.StepState) (in saga.StepInfo) {
	t.Helper()
	require.Eventually(t, func() bool {
		all, err := o.Inspect(within(t, 30*time.Second), id(name))
		require.NoError(t, err)
		for _, in = range all.Steps {
			if in.Name == step {
				return in.State == want
			}
		}
		return false
	}, 20*time.Second, time.Millisecond)
	return in
}

// soon is a Retry of tests.
var soon = saga.Retry{Initial: time.Millisecond, Max: 5 * time.Millisecond}

// adds is a step that adds 1 to a counter, and is taken back by adding 100 to it.
func adds(name, key string, after ...string) saga.Step {
	add := func(delta int64) saga.Action {
		return saga.Data(func(_ context.Context, c *saga.Context) ([]byte, error) {
			return []byte(c.Step), c.Tx.Add(key+"/"+c.Saga.Name, delta)
		})
	}
	return saga.Step{Name: name, After: after, Do: add(1), Undo: add(100), Retry: soon, UndoRetry: soon}
}

// failing is a step that fails for good.
func failing(name string, after ...string) saga.Step {
	return saga.Step{Name: name, After: after, NoUndo: true, Do: saga.Data(func(context.Context, *saga.Context) ([]byte, error) {
		return nil, saga.Permanent(fmt.Errorf("it fails"))
	})}
}

// A diary is what was done, in order. What is done again at once counts once.
type diary struct {
	mu   sync.Mutex
	list []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if line := fmt.Sprintf(format, args...); len(d.list) == 0 || d.list[len(d.list)-1] != line {
		d.list = append(d.list, line)
	}
}

func (d *diary) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

// at returns when something was done first, -1 if it was not.
func (d *diary) at(line string) int { return slices.Index(d.lines(), line) }
