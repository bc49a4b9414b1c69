package raftlog_test

import (
	"errors"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
	"github.com/phantomdb/phantomdb/harness"
)

// A writer appends batches to one group and truncates behind them.
type writer struct {
	g       *raftlog.Group
	next    uint64
	batch   int
	keep    uint64
	data    []byte
	entries []*pb.Entry
	done    written
}

func newWriter(tb testing.TB, l *raftlog.Log, g raftlog.GroupID, batch, size int) *writer {
	return &writer{
		g: create(tb, l, g, 1), next: 1, batch: batch, keep: uint64(max(64, 4<<20/size)),
		data: make([]byte, size), entries: make([]*pb.Entry, batch), done: make(written, 1),
	}
}

// append makes the entries of a batch in one piece, as a decoder does, and
// appends them.
func (w *writer) append(done raftlog.Completion) {
	slab := make([]struct {
		entry       pb.Entry
		index, term uint64
	}, w.batch)
	for i := range slab {
		s := &slab[i]
		s.index, s.term = w.next, 1
		s.entry.Index, s.entry.Term, s.entry.Data = &s.index, &s.term, w.data
		w.entries[i] = &s.entry
		w.next++
	}
	w.g.Append(nil, w.entries, done)
	if w.next%w.keep < uint64(w.batch) && w.next > w.keep {
		w.g.Truncate(w.next - w.keep)
	}
}

func counters(d *raftlog.Disk) func() harness.Counters {
	return func() harness.Counters {
		s := d.Stats()
		return harness.Counters{Fsyncs: s.Syncs + s.PrepareSyncs, DiskBytes: s.Bytes + s.PreparedBytes}
	}
}

// openGrown opens a log on a durable disk and writes to it until its segments
// are used again: how much a young one is busy with filling files hangs on the
// length of the run.
func openGrown(b *testing.B) *raftlog.Disk {
	b.Helper()
	const segment, owner = 16 << 20, 1 << 32
	d := open(b, vfs.Default, harness.DurableDir(b), raftlog.Options{MinSegmentBytes: segment, MaxSegmentBytes: segment})
	l := logOf(b, d, owner)
	w := newWriter(b, l, 1, 1, 1<<20)
	w.keep = 1
	for st := d.Stats(); st.SegmentsRetired < 2 || st.SegmentsRecycled < 2; st = d.Stats() {
		if w.next > 1<<10 {
			b.Fatalf("no segment was used again: %+v", st)
		}
		w.append(w.done)
		require.NoError(b, <-w.done)
	}
	w.g.Destroy(w.done)
	require.NoError(b, <-w.done)
	require.NoError(b, l.Close())
	return d
}

// BenchmarkAppend asks what durability costs an entry as batches grow. An
// operation is a batch.
//
//	go test -run='^$' -bench=Append/ -count=10 ./consensus/raftlog
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{128, 8192} {
		for _, batch := range harness.Points([]int{1, 256}, []int{1, 16, 256}) {
			b.Run(harness.Name("disk", harness.DiskLabel("sync"), "batch", batch, "size", size), func(b *testing.B) {
				d := openGrown(b)
				w := newWriter(b, logOf(b, d, 1), 1, batch, size)
				harness.Run(b, harness.Spec{Counters: counters(d)}, func(*harness.Client) error {
					w.append(w.done)
					return <-w.done
				})
				b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "entries/s")
				require.NoError(b, d.Close())
			})
		}
	}
}

// BenchmarkAppendGroups asks how many groups share a sync: each client appends
// to a group of its own.
//
//	go test -run='^$' -bench=AppendGroups -count=10 ./consensus/raftlog
func BenchmarkAppendGroups(b *testing.B) {
	for _, groups := range []int{1, 48} {
		b.Run(harness.Name("disk", harness.DiskLabel("sync"), "groups", groups, "size", 128), func(b *testing.B) {
			d := openGrown(b)
			l := logOf(b, d, 1)
			var writers []*writer
			for g := range groups {
				writers = append(writers, newWriter(b, l, raftlog.GroupID(g), 1, 128))
			}
			harness.Run(b, harness.Spec{Clients: groups, Counters: counters(d)}, func(c *harness.Client) error {
				w := writers[c.ID]
				w.append(w.done)
				return <-w.done
			})
			require.NoError(b, d.Close())
		})
	}
}

// entries are so many of so many bytes.
type entries struct{ batch, size int }

// BenchmarkEncode asks what an append costs the CPU without a disk, with the
// making of its entries. An operation is a batch.
//
//	go test -run='^$' -bench=Encode -count=10 ./consensus/raftlog
func BenchmarkEncode(b *testing.B) {
	for _, c := range harness.Points([]entries{{1, 128}}, []entries{{1, 128}, {256, 128}, {1, 8192}}) {
		b.Run(harness.Name("batch", c.batch, "size", c.size), func(b *testing.B) {
			d := open(b, vfs.NewMem(), "log", raftlog.Options{Inline: true, MaxSegmentBytes: 4 << 20})
			w := newWriter(b, logOf(b, d, 1), 1, c.batch, c.size)
			harness.Micro(b, func() error {
				w.append(nil)
				if d.Buffered() > 1<<20 {
					return d.Flush()
				}
				return nil
			})
			require.NoError(b, d.Close())
		})
	}
}

// BenchmarkOpen asks how fast a log is recovered. An operation is an open.
//
//	go test -run='^$' -bench=Open -count=10 ./consensus/raftlog
func BenchmarkOpen(b *testing.B) {
	total := int64(1 << 30)
	if harness.Quick() {
		total = 128 << 20
	}
	for _, size := range []int{128, 8192} {
		b.Run(harness.Name("size", size), func(b *testing.B) {
			dir := harness.Dir(b)
			d := open(b, vfs.Default, dir, raftlog.Options{})
			w := newWriter(b, logOf(b, d, 1), 1, 64, size)
			w.keep = 1 << 62
			for d.Stats().Bytes < total {
				w.append(w.done)
				require.NoError(b, <-w.done)
			}
			bytes := d.Stats().Bytes
			require.NoError(b, d.Close())
			d, w = nil, nil
			runtime.GC()
			b.SetBytes(bytes)
			harness.Run(b, harness.Spec{Warmup: 1}, func(*harness.Client) error {
				d, err := raftlog.OpenDisk(vfs.Default, dir, raftlog.Options{})
				return errors.Join(err, d.Close())
			})
		})
	}
}

// An idle group costs little memory: many thousand live in a process.
func TestIdleHeap(t *testing.T) {
	const groups = 20_000
	d := open(t, vfs.NewMem(), "log", raftlog.Options{Inline: true, CacheBytes: 1})
	l := logOf(t, d, 1)
	keep := make([]*raftlog.Group, groups)
	before := heap()
	for i := range keep {
		g, err := l.Create(raftlog.GroupID(i+1), 1, 1, 1, nil, nil)
		require.NoError(t, err)
		g.Append(hard(2, 1, 1), []*pb.Entry{entry(2, 2, "")}, nil)
		keep[i] = g
		if i%1000 == 0 {
			require.NoError(t, d.Flush())
		}
	}
	require.NoError(t, d.Flush())
	disk := d.Stats().DiskBytes // a file in memory is heap too
	per := (heap() - before - disk) / groups
	t.Logf("%d bytes of heap per group", per)
	require.Less(t, per, int64(600))
	runtime.KeepAlive(keep)
	require.NoError(t, d.Close())
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An append costs at most one allocation, counting what grows now and then.
func TestAppendAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := open(t, vfs.NewMem(), "log", raftlog.Options{Inline: true, MaxSegmentBytes: 1 << 20})
	g := create(t, logOf(t, d, 1), 1, 1)
	entries := make([]*pb.Entry, 5000)
	for i := range entries {
		entries[i] = entry(uint64(i+1), 1, string(make([]byte, 1000)))
	}
	i := 0
	allocs := testing.AllocsPerRun(4000, func() {
		g.Append(nil, entries[i:i+1], nil)
		if i++; i%100 == 0 {
			require.NoError(t, d.Flush())
		}
	})
	require.LessOrEqual(t, allocs, 1.0)
	require.NoError(t, d.Close())
}
