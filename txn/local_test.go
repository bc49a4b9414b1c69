package txn_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster"
	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

func TestMain(m *testing.M) { harness.Main(m) }

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A world is a cluster whose nodes do transactions.
type world struct {
	*cluster.Local
	t     testing.TB
	parts []*txn.Participant // of node i at i-1
	ids   []meta.ShardID
	seq   uint64 // of transactions that nobody coordinates
}

// A worldOptions is what tests change of a world.
type worldOptions struct {
	nodes, shards int
	local         cluster.LocalOptions
	participant   func(node int, o *txn.Options)
	joined        func(o *cluster.Options) // after the participant has put its services in
}

// boot boots a cluster of shards that begin at keys of two digits: with 10 shards, at
// "", "10", "20" and so on.
func boot(t testing.TB, o worldOptions) *world {
	t.Helper()
	w := &world{t: t, parts: make([]*txn.Participant, cluster.MaxLocal)}
	inner := o.local.Node
	o.local.Node = func(i int, c *cluster.Options) {
		if inner != nil {
			inner(i, c)
		}
		var po txn.Options
		po.Store.MemTableBytes = 1 << 20
		if o.participant != nil {
			o.participant(i, &po)
		}
		if po.Clock == nil {
			clock, err := hlc.NewClock(steady, 0)
			require.NoError(t, err)
			po.Clock = clock
		}
		p, err := txn.NewParticipant(po)
		require.NoError(t, err)
		p.Join(c)
		if o.joined != nil {
			o.joined(c)
		}
		w.parts[i-1] = p
	}
	l, err := cluster.NewLocal(within(t, time.Minute), o.nodes, o.local)
	require.NoError(t, err)
	w.Local = l
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		for _, p := range w.parts {
			if p != nil {
				p.Close()
			}
		}
	})
	for i := range o.nodes {
		w.parts[i].Serve(l.Node(i + 1))
	}
	w.create(o.shards)
	return w
}

var began = time.Now()

// steady is a wall clock that nobody sets: what happens to the machine's while tests run
// is not what they ask about, and a node whose clock is set serves nothing for a while.
func steady() time.Time { return began.Add(time.Since(began)) }

// create makes the shards, and waits until all have their replicas.
func (w *world) create(n int) {
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
		if err != nil {
			w.dump()
		}
		require.NoError(w.t, err)
	}
}

// client returns a client on a node.
func (w *world) client(i int, o txn.ClientOptions) *txn.Client {
	w.t.Helper()
	c, err := txn.NewClient(w.Node(i), w.parts[i-1], o)
	require.NoError(w.t, err)
	return c
}

// dump logs what there is to know of a world in which nothing happens.
func (w *world) dump() {
	for i := range w.Dirs() {
		n := w.Node(i + 1)
		if n == nil {
			w.t.Logf("node %d is down", i+1)
			continue
		}
		w.t.Logf("node %d: %v\n%s", n.ID(), n.Err(), w.parts[i].Dump())
		for _, g := range n.Host().Groups() {
			if st, err := n.Host().Status(g); err == nil {
				w.t.Logf("   %+v", st)
			}
		}
	}
	s, _ := w.Node(1).View()
	for _, sh := range s.Shards() {
		w.t.Logf("%+v", sh)
	}
	for _, m := range s.Moves() {
		w.t.Logf("%+v", m)
	}
}

// laid is how many intents there are in the shards that somebody leads and has served, and how
// many shards those are.
func (w *world) laid() (count, led int) {
	for i := range w.Dirs() {
		if w.Node(i+1) != nil {
			n, l := w.parts[i].Intents()
			count, led = count+n, led+l
		}
	}
	return count, led
}

// intents is how many there are that leaders know of.
func (w *world) intents() int {
	n, _ := w.laid()
	return n
}
