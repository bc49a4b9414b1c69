package shard_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/cluster/shard"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

// An entry of a log.
type entry struct {
	commands [][]byte
	alone    bool
}

// A node of these tests holds replicas of shards, each with its log, which all nodes
// share. It has no Host: entries are applied when a test says so.
type node struct {
	t        *testing.T
	fs       *vfs.MemFS
	machines map[meta.ShardID]*shard.Machine
	applied  map[meta.ShardID]uint64
	forks    map[meta.ShardID]fork
	watch    func() // if set, called while a store changes its span
}

// A watched store shows what readers may see while it changes.
type watched struct {
	*kv.Machine
	n *node
}

func (s watched) Drop(start, end string, rows []consensus.Row) error {
	s.n.watch()
	return s.Machine.Drop(start, end, rows)
}

func (s watched) Stage(r io.Reader) (consensus.Staged, error) {
	st, err := s.Machine.Stage(r)
	return watchedStage{st, s.n}, err
}

type watchedStage struct {
	consensus.Staged
	n *node
}

func (s watchedStage) Install(ctx context.Context) error {
	s.n.watch()
	return s.Staged.Install(ctx)
}

type fork struct {
	*consensus.Fork
	release func()
}

func newNode(t *testing.T) *node {
	n := &node{t: t, fs: vfs.NewCrashableMem()}
	n.reset()
	return n
}

func (n *node) reset() {
	n.machines, n.applied, n.forks = map[meta.ShardID]*shard.Machine{}, map[meta.ShardID]uint64{}, map[meta.ShardID]fork{}
}

// rows are what a Host keeps beside the data of a shard with one voter.
func rows(joint bool) []consensus.Row {
	b := []byte{2, 1, 1, 0, 0, 0, 0, 1, 0, 7, 1, 1, 1} // index 7
	if joint {
		b = []byte{2, 1, 1, 0, 1, 1, 0, 0, 1, 0, 7, 1, 1, 1}
	}
	return []consensus.Row{{Key: []byte("conf"), Value: b}}
}

func (n *node) open(id meta.ShardID) consensus.State {
	store, err := kv.New(kv.Options{FS: n.fs, Dir: fmt.Sprint("shards/", id)})
	require.NoError(n.t, err)
	var inner shard.Store = store
	if n.watch != nil {
		inner = watched{store, n}
	}
	m := shard.New(shard.Options{
		Shard: id, Store: inner,
		Fork: func(child meta.ShardID, f *consensus.Fork, release func()) { n.forks[child] = fork{f, release} },
		Neighbour: func(id meta.ShardID) (*shard.Machine, error) {
			if m := n.machines[id]; m != nil {
				return m, nil
			}
			return nil, errors.New("no such neighbour")
		},
	})
	s, err := m.Open()
	require.NoError(n.t, err)
	n.machines[id], n.applied[id] = m, s.Index
	return s
}

// begin makes a shard of a span, at index 8.
func (n *node) begin(id meta.ShardID, span meta.Span) {
	n.open(id)
	require.NoError(n.t, n.machines[id].Apply(&consensus.Batch{Index: 7, Term: 1, Rows: rows(false)}, nil))
	n.applied[id] = 7
	h, err := n.control(id, &shard.Control{Kind: shard.Begin, Span: span})
	require.NoError(n.t, err)
	require.Equal(n.t, &shard.Header{Shard: id, Span: span, Generation: 1}, h)
}

// apply applies one entry and returns the answers.
func (n *node) apply(id meta.ShardID, e entry) []consensus.Result {
	n.t.Helper()
	results, err := n.try(id, e)
	require.NoError(n.t, err)
	return results
}

func (n *node) try(id meta.ShardID, e entry) ([]consensus.Result, error) {
	n.applied[id]++
	results := make([]consensus.Result, len(e.commands))
	return results, n.machines[id].Apply(&consensus.Batch{Index: n.applied[id], Term: 1, Commands: e.commands, Alone: e.alone}, results)
}

func (n *node) control(id meta.ShardID, c *shard.Control) (*shard.Header, error) {
	n.t.Helper()
	return shard.Controlled(n.apply(id, entry{[][]byte{c.Encode()}, true})[0].Data)
}

func put(generation uint64, key string) []byte {
	return kv.EncodePut(shard.AppendCommand(nil, generation), []byte(key), []byte("of "+key))
}

func (n *node) put(id meta.ShardID, generation uint64, keys ...string) {
	n.t.Helper()
	for _, key := range keys {
		_, err := shard.Answer(n.apply(id, entry{commands: [][]byte{put(generation, key)}})[0].Data)
		require.NoError(n.t, err)
	}
}

// keys are those that a shard's store holds, also beyond its span.
func (n *node) keys(id meta.ShardID) (list []string) {
	n.machines[id].Store().(*kv.Machine).Scan(nil, nil, func(key, _ []byte) bool {
		list = append(list, string(key))
		return true
	})
	return list
}

// make makes the replica of a shard that was split off, as a Host does.
func (n *node) make(id meta.ShardID) {
	n.t.Helper()
	f, ok := n.forks[id]
	require.True(n.t, ok, "shard %d was not split off", id)
	n.open(id)
	var b bytes.Buffer
	require.NoError(n.t, f.Write(&b, consensus.State{Index: f.Index, Term: f.Term, Rows: f.View.State().Rows}))
	s, err := n.machines[id].Stage(&b)
	require.NoError(n.t, err)
	require.Equal(n.t, rows(false), s.State().Rows, "the Host sees its own rows alone")
	require.NoError(n.t, s.Install(n.t.Context()))
	n.applied[id] = f.Index
}

// crash loses what is not durable, and opens what is left of some shards.
func (n *node) crash(ids ...meta.ShardID) {
	n.fs = n.fs.CrashClone(vfs.CrashCloneCfg{})
	n.reset()
	for _, id := range ids {
		n.open(id)
	}
}

func (n *node) flush(id meta.ShardID) error {
	ctx, cancel := context.WithTimeout(n.t.Context(), 20*time.Millisecond) // where it waits it would for ever
	defer cancel()
	return n.machines[id].Flush(ctx, n.applied[id])
}

func header(t *testing.T, err error) *shard.Header {
	t.Helper()
	var stale *shard.StaleError
	require.ErrorAs(t, err, &stale)
	return stale.Header
}
