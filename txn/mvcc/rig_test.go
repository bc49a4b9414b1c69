package mvcc

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A rig is a store of a shard on an engine of its own, and where its log is.
type rig struct {
	t      testing.TB
	fs     *vfs.MemFS
	e      *Engine
	s      *Store
	index  uint64
	closed hlc.Timestamp
	lease  uint64
}

func newRig(t testing.TB) *rig {
	r := &rig{t: t, fs: vfs.NewCrashableMem()}
	r.open()
	t.Cleanup(func() { require.NoError(t, r.e.Close()) })
	return r
}

// open opens the engine and the store, and goes on where that is.
func (r *rig) open() {
	var err error
	r.e, err = Open(Options{FS: r.fs, Dir: "data"})
	require.NoError(r.t, err)
	r.s = r.shard(7)
	r.index = r.s.Applied()
}

func (r *rig) shard(id meta.ShardID) *Store {
	s := r.e.Shard(id)
	_, err := s.Open()
	require.NoError(r.t, err)
	return s
}

// crash loses what is not durable.
func (r *rig) crash() {
	lost := r.fs.CrashClone(vfs.CrashCloneCfg{})
	require.NoError(r.t, r.e.Close())
	r.fs = lost
	r.open()
}

// apply applies commands as one batch.
func (r *rig) apply(commands ...[]byte) []Answer {
	r.t.Helper()
	r.index++
	results := make([]consensus.Result, len(commands))
	require.NoError(r.t, r.s.Apply(&consensus.Batch{Index: r.index, Term: 1, Commands: commands}, results))
	list := make([]Answer, len(commands))
	for i := range results {
		var err error
		list[i], err = ParseAnswer(results[i].Data)
		require.NoError(r.t, err)
	}
	return list
}

// header is that of a command under the present lease.
func (r *rig) header(writer uint64, ts hlc.Timestamp) Header {
	return Header{Lease: r.lease, Closed: r.closed, Writer: txn(writer), TS: ts}
}

func txn(n uint64) id.Key { return id.Key{Node: 1, Epoch: 1, Seq: n, Start: hlc.Timestamp(n)} }

// put is a command that writes a value, "" for none.
func (r *rig) put(writer uint64, ts hlc.Timestamp, key, value string) []byte {
	h := r.header(writer, ts)
	w := &Write{Key: key, Kind: Put, Value: []byte(value)}
	if value == "" {
		w.Kind = Delete
	}
	return AppendWrite(AppendHeader(nil, &h), w)
}

func (r *rig) get(key string, at hlc.Timestamp) string {
	r.t.Helper()
	rd, err := r.s.Reader()
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, rd.Close()) }()
	v, _, err := rd.Get(key, at, 0)
	require.NoError(r.t, err)
	if !v.There() {
		return ""
	}
	return string(v.Value)
}

// A part is one thing that a command does.
type part func([]byte) []byte

func write(w Write) part { return func(b []byte) []byte { return AppendWrite(b, &w) } }

// lay has its key for an anchor.
func lay(w Write) part { return func(b []byte) []byte { return AppendLay(b, w.Key, &w) } }

func resolve(who uint64, key string, ts hlc.Timestamp) part {
	return func(b []byte) []byte { return AppendResolve(b, txn(who), key, ts) }
}

func bar(who uint64, key string) part {
	return func(b []byte) []byte { return AppendBar(b, txn(who), key) }
}

func record(rec Record) part { return func(b []byte) []byte { return AppendRecord(b, &rec) } }

func forget(who uint64, anchor string) part {
	return func(b []byte) []byte { return AppendForget(b, id.Txn{Key: txn(who), Anchor: anchor}) }
}

func lead(term uint64) part { return func(b []byte) []byte { return AppendLead(b, term) } }

func fence(node, epoch uint64) part {
	return func(b []byte) []byte { return AppendFence(b, node, epoch) }
}

func threshold(ts hlc.Timestamp) part {
	return func(b []byte) []byte { return AppendThreshold(b, ts) }
}

func protect(name uint64, ts hlc.Timestamp) part {
	return func(b []byte) []byte { return AppendProtect(b, name, ts, ts+100) }
}

func unprotect(name uint64) part { return func(b []byte) []byte { return AppendUnprotect(b, name) } }

// command makes a command of parts.
func command(h Header, parts ...part) []byte {
	b := AppendHeader(nil, &h)
	for _, p := range parts {
		b = p(b)
	}
	return b
}

// do applies a command by itself.
func (r *rig) do(h Header, parts ...part) Answer {
	r.t.Helper()
	return r.apply(command(h, parts...))[0]
}

// must applies a command that is done.
func (r *rig) must(h Header, parts ...part) {
	r.t.Helper()
	require.Equal(r.t, Done, r.do(h, parts...).Verdict)
}

func add(key string, delta, low, high int64) Write {
	return Write{Key: key, Kind: Add, Delta: delta, Min: low, Max: high}
}

func putOf(key, value string) Write { return Write{Key: key, Kind: Put, Value: []byte(value)} }

// count reads a counter.
func (r *rig) count(key string, at hlc.Timestamp) int64 {
	r.t.Helper()
	rd, err := r.s.Reader()
	require.NoError(r.t, err)
	defer func() { require.NoError(r.t, rd.Close()) }()
	v, _, err := rd.Get(key, at, 0)
	require.NoError(r.t, err)
	n, ok := Counter(&v)
	require.True(r.t, ok)
	return n
}

// snapshot is one of a store.
func snapshot(t testing.TB, s *Store) []byte {
	t.Helper()
	v, err := s.View()
	require.NoError(t, err)
	var b bytes.Buffer
	n, err := v.WriteTo(&b)
	require.NoError(t, err)
	require.EqualValues(t, b.Len(), n)
	require.NoError(t, v.Close())
	return b.Bytes()
}

// install has a store take in a snapshot.
func install(t testing.TB, s *Store, b []byte) {
	t.Helper()
	staged, err := s.Stage(bytes.NewReader(b))
	require.NoError(t, err)
	require.NoError(t, staged.Install(t.Context()))
}

// contents is all that the store has: what Pebble has but for the position, and what is
// in memory.
func (r *rig) contents() string {
	r.t.Helper()
	r.s.mu.RLock()
	defer r.s.mu.RUnlock()
	var b strings.Builder
	lower, upper := appendKey(nil, r.s.shard, tableRows, ""), appendKey(nil, r.s.shard, tableEnd, "")
	it, err := r.e.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	require.NoError(r.t, err)
	for it.First(); it.Valid(); it.Next() {
		if string(it.Key()) != string(r.s.positionKey()) {
			fmt.Fprintf(&b, "%x=%x\n", it.Key(), it.Value())
		}
	}
	require.NoError(r.t, it.Close())
	st := r.s.State()
	fmt.Fprintln(&b, st.Lease, st.Closed, st.Threshold, st.fences, st.protected, r.s.aborted, r.s.bars)
	r.s.intents.Scan(func(_ string, list []*Intent) bool {
		for _, i := range list {
			fmt.Fprintf(&b, "%+v\n", *i)
		}
		return true
	})
	for _, key := range slices.SortedFunc(maps.Keys(r.s.records), id.Key.Compare) {
		fmt.Fprintf(&b, "%+v\n", *r.s.records[key])
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.s.keys), id.Key.Compare) {
		fmt.Fprintln(&b, key, slices.Sorted(maps.Keys(r.s.keys[key])))
	}
	return b.String()
}
