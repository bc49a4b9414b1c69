package raftlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

func noDelay(int, bool) time.Duration { return 0 }

// Create refuses what exists and what was destroyed, and says what stands in
// the way, also after the log was opened again.
func TestCreate(t *testing.T) {
	fs := vfs.NewMem()
	d := open(t, fs, "log", small)
	l := logOf(t, d, 1)
	g := create(t, l, 4, 7)
	_, err := l.Create(4, 9, 0, 0, nil, nil)
	var e *raftlog.ExistsError
	require.ErrorAs(t, err, &e)
	require.Equal(t, raftlog.ExistsError{Group: 4, Replica: 9, Existing: 7}, *e)
	fill(t, d, g, 3)
	done := make(written, 1)
	g.Destroy(done)
	require.NoError(t, d.Flush())
	require.NoError(t, <-done)
	for range 2 {
		_, err = l.Group(4)
		require.ErrorIs(t, err, raftlog.ErrNoGroup)
		_, err = l.Create(4, 7, 0, 0, nil, nil)
		require.ErrorAs(t, err, &e)
		require.Equal(t, raftlog.ExistsError{Group: 4, Replica: 7, Existing: 7, Destroyed: true}, *e)
		require.Equal(t, []raftlog.Info{{Group: 4, Replica: 7, Destroyed: true}}, l.Groups())
		require.NoError(t, d.Close())
		d = open(t, fs, "log", small)
		l = logOf(t, d, 1)
	}
	_, err = l.Create(4, 8, 0, 0, make([]byte, 3000), nil)
	require.ErrorContains(t, err, "meta of 3000 bytes, expected at most 2048")
	g = create(t, l, 4, 8)
	require.Equal(t, "replica 8 meta meta hard 0/0/0 base 0/0:", contents(t, g))
	require.NoError(t, d.Close())
}

// Broken invariants panic with their values.
func TestPanics(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", small)
	g := create(t, logOf(t, d, 1), 3, 1)
	g.Append(nil, []*pb.Entry{entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "c")}, nil)
	g.Truncate(1)
	for want, f := range map[string]func(){
		"raftlog: group 3: append at index 5 to a log from 2 to 3":      func() { g.Append(nil, []*pb.Entry{entry(5, 1, "")}, nil) },
		"raftlog: group 3: append at index 1 to a log from 2 to 3":      func() { g.Append(nil, []*pb.Entry{entry(1, 1, "")}, nil) },
		"raftlog: group 3: entry 1 of an append at index 4 has index 6": func() { g.Append(nil, []*pb.Entry{entry(4, 1, ""), entry(6, 1, "")}, nil) },
		"raftlog: group 3: truncate up to index 4 of a log from 2 to 3": func() { g.Truncate(4) },
	} {
		require.PanicsWithValue(t, want, f)
	}
	require.NoError(t, d.Close())
}

// order is a Completion that remembers when it was called.
type order struct {
	list *[]int
	n    int
	errs *[]error
}

func (o order) Written(err error) {
	*o.list = append(*o.list, o.n)
	*o.errs = append(*o.errs, err)
}

// Completions come in the order of the writes, and only for writes that are
// durable; a write that nobody waits for costs no sync.
func TestCompletions(t *testing.T) {
	fs := vfs.NewCrashableMem()
	d := open(t, fs, "log", small)
	l := logOf(t, d, 1)
	g, h := create(t, l, 1, 1), create(t, l, 2, 1)
	require.NoError(t, d.Flush())
	require.Zero(t, d.Stats().Syncs)
	var list []int
	var errs []error
	for i := range 50 {
		target := []*raftlog.Group{g, h}[i%2]
		target.Append(nil, []*pb.Entry{entry(uint64(i/2+1), 1, "x")}, order{&list, i, &errs})
	}
	require.Empty(t, list)
	require.NoError(t, d.Flush())
	require.Len(t, list, 50)
	for i, n := range list {
		require.Equal(t, i, n)
		require.NoError(t, errs[i])
	}
	require.Equal(t, int64(1), d.Stats().Syncs)
	lost := open(t, fs.CrashClone(vfs.CrashCloneCfg{}), "log", small)
	require.Equal(t, contents(t, g), contents(t, groupOf(t, logOf(t, lost, 1), 1)))
	require.NoError(t, lost.Close())
	require.NoError(t, d.Close())
	done := make(written, 1)
	g.Append(nil, []*pb.Entry{entry(26, 1, "x")}, done)
	require.ErrorIs(t, <-done, raftlog.ErrClosed)
	_, err := d.Log(2)
	require.ErrorIs(t, err, raftlog.ErrClosed)
	_, err = l.Create(9, 1, 0, 0, nil, nil)
	require.ErrorIs(t, err, raftlog.ErrClosed)
	require.NoError(t, d.Close())
}

// The first error of a write or a sync ends it for good.
func TestFatal(t *testing.T) {
	for _, inline := range []bool{true, false} {
		for _, what := range []string{"write", "sync"} {
			t.Run(fmt.Sprintf("inline=%v/%s", inline, what), func(t *testing.T) {
				fs := &hookFS{FS: vfs.NewMem()}
				d := open(t, fs, "log", raftlog.Options{Inline: inline, MinSegmentBytes: 64 << 10, MaxSegmentBytes: 64 << 10})
				l := logOf(t, d, 1)
				g := create(t, l, 1, 1)
				fill(t, d, g, 1)
				boom := errors.New("boom")
				fs.fail(what, boom)
				done := make(written, 3)
				g.Append(nil, []*pb.Entry{entry(2, 1, "x")}, done)
				_ = d.Flush()
				require.ErrorIs(t, <-done, boom)
				fs.fail(what, nil)
				g.Append(nil, []*pb.Entry{entry(3, 1, "y")}, done)
				require.ErrorIs(t, d.Flush(), boom)
				require.ErrorIs(t, <-done, boom)
				require.ErrorIs(t, d.Err(), boom)
				if inline { // otherwise the preparer may be the first to meet it
					require.ErrorContains(t, d.Err(), what+" ")
				}
				_, err := d.Log(2)
				require.ErrorIs(t, err, boom)
				require.ErrorIs(t, l.Close(), boom)
				require.ErrorIs(t, d.Close(), boom)

				d = open(t, fs.FS, "log", small)
				last, err := groupOf(t, logOf(t, d, 1), 1).LastIndex()
				require.NoError(t, err)
				require.LessOrEqual(t, last, uint64(2))
				require.GreaterOrEqual(t, last, uint64(1))
				require.NoError(t, d.Close())
			})
		}
	}
}

// Owners of one disk come and go alone.
func TestShared(t *testing.T) {
	d := open(t, vfs.NewMem(), "log", raftlog.Options{MinSegmentBytes: 4 << 10, MaxSegmentBytes: 64 << 10})
	stay := logOf(t, d, 1)
	_, err := d.Log(1)
	require.ErrorIs(t, err, raftlog.ErrOwned)
	g := create(t, stay, 1, 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := uint64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			done := make(written, 1)
			g.Append(nil, []*pb.Entry{entry(i, 1, strings.Repeat("s", 200))}, done)
			if <-done != nil {
				return
			}
			if i%50 == 0 {
				g.Truncate(i - 20)
			}
		}
	})
	rng := rand.New(rand.NewPCG(1, 1))
	acked := uint64(0)
	for round := range 60 {
		l := logOf(t, d, 2)
		if round == 0 {
			create(t, l, 1, 1)
		}
		h := groupOf(t, l, 1)
		last, err := h.LastIndex()
		require.NoError(t, err)
		require.GreaterOrEqual(t, last, acked)
		done := make(written, 100)
		for range rng.IntN(20) {
			last++
			h.Append(hard(last, 1, 0), []*pb.Entry{entry(last, last, strings.Repeat("c", rng.IntN(300)))}, done)
			if rng.IntN(2) == 0 {
				require.NoError(t, <-done)
				acked++
			}
		}
		if round%3 == 2 {
			require.NoError(t, l.Close())
		} else {
			l.Crash()
			silent := len(done)
			require.LessOrEqual(t, silent, 20)
		}
		acked += uint64(len(done))
	}
	close(stop)
	wg.Wait()
	require.NoError(t, d.Err())
	require.NoError(t, d.Close())
}

// A crash of an owner in the middle of a collection loses nothing of it,
// although what collection wrote for it goes with its buffer.
func TestCrashWhileCollecting(t *testing.T) {
	reached := false
	for at := 1; at < 40; at++ {
		mem := vfs.NewCrashableMem()
		fs := &hookFS{FS: mem}
		o := small
		o.CacheBytes = 1
		d := open(t, fs, "log", o)
		busy, idle := create(t, logOf(t, d, 1), 1, 1), logOf(t, d, 2)
		h := create(t, idle, 1, 1)
		fill(t, d, h, 3)
		want := contents(t, h)
		n := 0
		fs.reading = func() {
			if n++; n == at {
				idle.Crash()
			}
		}
		for range 120 {
			fill(t, d, busy, 1)
			last, err := busy.LastIndex()
			require.NoError(t, err)
			busy.Truncate(last)
		}
		reached = reached || n >= at && d.Stats().SegmentsRetired > 0
		fs.reading = nil
		idle.Crash()
		h = groupOf(t, logOf(t, d, 2), 1)
		require.Equal(t, want, contents(t, h), "crash at read %d", at)
		require.NoError(t, d.Close())
		d = open(t, mem, "log", o)
		require.Equal(t, want, contents(t, groupOf(t, logOf(t, d, 2), 1)), "crash at read %d", at)
		require.NoError(t, d.Close())
	}
	require.True(t, reached)
}

// A log under load stays as small as what is live asks for, though some groups
// lag and hold the oldest segments, and its files are used again.
func TestCollection(t *testing.T) {
	for _, inline := range []bool{true, false} {
		t.Run(fmt.Sprintf("inline=%v", inline), func(t *testing.T) {
			const segment = 64 << 10
			fs := vfs.NewMem()
			o := raftlog.Options{Inline: inline, MinSegmentBytes: segment, MaxSegmentBytes: segment, CacheBytes: 32 << 10}
			d := open(t, fs, "log", o)
			l := logOf(t, d, 1)
			var lag []string
			for i := range 20 {
				g := create(t, l, raftlog.GroupID(100+i), 1)
				fill(t, d, g, 5)
				g.Append(hard(7, uint64(i), 2), nil, nil)
				g.Truncate(2)
				lag = append(lag, contents(t, g))
			}
			dead := create(t, l, 200, 5)
			dead.Destroy(nil)
			g := create(t, l, 1, 1)
			peak := int64(0)
			data := strings.Repeat("w", 1000)
			for i := uint64(1); i <= 6000; i++ {
				done := make(written, 1)
				g.Append(nil, []*pb.Entry{entry(i, 1, data)}, done)
				if inline {
					require.NoError(t, d.Flush())
				}
				require.NoError(t, <-done)
				if i > 30 {
					g.Truncate(i - 30)
				}
				if !inline && i%100 == 0 { // the collector has its own pace
					require.Eventually(t, func() bool { return d.Stats().DiskBytes <= 8*segment }, 30*time.Second, 100*time.Microsecond)
				}
				peak = max(peak, d.Stats().DiskBytes)
			}
			s := d.Stats()
			require.Greater(t, s.SegmentsRetired, int64(80))
			require.Greater(t, s.SegmentsRecycled, int64(20))
			require.Positive(t, s.RewrittenBytes)
			require.Less(t, s.RewrittenBytes, int64(1<<20))
			require.LessOrEqual(t, peak, int64(12*segment), "6 MB were written, 60 KB are live")
			require.LessOrEqual(t, s.CacheBytes, int64(32<<10))
			for i, want := range lag {
				require.Equal(t, want, contents(t, groupOf(t, l, raftlog.GroupID(100+i))))
			}
			require.NoError(t, d.Close())
			d = open(t, fs, "log", o)
			l = logOf(t, d, 1)
			for i, want := range lag {
				require.Equal(t, want, contents(t, groupOf(t, l, raftlog.GroupID(100+i))))
			}
			_, err := l.Create(200, 5, 0, 0, nil, nil)
			require.Error(t, err, "the tombstone was written again too")
			names, err := fs.List("log")
			require.NoError(t, err)
			require.LessOrEqual(t, len(names), 16)
			require.NoError(t, d.Close())
		})
	}
}

// Entries that the cache had to give up are read back, in one piece where they
// lie together.
func TestCache(t *testing.T) {
	o := raftlog.Options{Inline: true, MaxSegmentBytes: 256 << 10, CacheBytes: 8 << 10}
	fs := vfs.NewMem()
	hook := &hookFS{FS: fs}
	d := open(t, hook, "log", o)
	g := create(t, logOf(t, d, 1), 1, 1)
	data := func(i uint64) string { return fmt.Sprintf("%d-%s", i, strings.Repeat("z", 300)) }
	const n = 1000
	for i := uint64(1); i <= n; i++ {
		g.Append(nil, []*pb.Entry{entry(i, i, data(i))}, nil)
		if i%10 == 0 {
			require.NoError(t, d.Flush())
			require.LessOrEqual(t, d.Stats().CacheBytes, o.CacheBytes)
		}
	}
	reads := 0
	hook.reading = func() { reads++ }
	list, err := g.Entries(1, n+1, 1<<30)
	require.NoError(t, err)
	require.Len(t, list, n)
	for i, e := range list {
		require.Equal(t, uint64(i+1), e.GetIndex())
		require.Equal(t, uint64(i+1), e.GetTerm())
		require.Equal(t, data(uint64(i+1)), string(e.GetData()))
	}
	require.LessOrEqual(t, reads, 8, "neighbours come in one read")
	require.Positive(t, d.Stats().ReadBytes)
	hook.reading = nil

	// A damaged entry is not handed to anybody.
	b := readFile(t, fs, segment1)
	at := bytes.Index(b, []byte(data(3)))
	require.Positive(t, at)
	f, err := fs.OpenReadWrite(segment1, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{'!'}, int64(at+5))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = g.Entries(3, 4, 1)
	var c *raftlog.CorruptionError
	require.ErrorAs(t, err, &c)
	require.Equal(t, uint32(1), c.Segment)
	require.ErrorAs(t, d.Err(), &c)
	require.Error(t, d.Close())
}

// Entries larger than a segment, and appends larger than one, are taken.
func TestLarge(t *testing.T) {
	for _, o := range []raftlog.Options{{MinSegmentBytes: 4 << 10, MaxSegmentBytes: 64 << 10}, small} {
		fs := vfs.NewMem()
		d := open(t, fs, "log", o)
		g := create(t, logOf(t, d, 1), 1, 1)
		var list []*pb.Entry
		for i, size := range []int{10, 100 << 10, 3, 60 << 10, 60 << 10, 0, 16 << 20, 5} {
			list = append(list, entry(uint64(i+1), 2, strings.Repeat(string(rune('a'+i)), size)))
		}
		done := make(written, 2)
		g.Append(hard(2, 1, 8), list, done)
		g.Append(nil, []*pb.Entry{entry(9, 2, "next")}, done)
		require.NoError(t, d.Flush())
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		want := contents(t, g)
		require.NoError(t, d.Close())
		d = open(t, fs, "log", o)
		require.Equal(t, want, contents(t, groupOf(t, logOf(t, d, 1), 1)))
		require.NoError(t, d.Close())
	}
}

// An append that takes several frames may be cut between them; then it has not
// committed what is missing, and has the term of what is there.
func TestSplitAppend(t *testing.T) {
	seen := map[uint64]bool{}
	for countdown := 1; countdown < 60; countdown++ {
		mem := vfs.NewCrashableMem()
		hook := &hookFS{FS: mem}
		d := open(t, hook, "log", small)
		g := create(t, logOf(t, d, 1), 1, 1)
		fill(t, d, g, 1)
		var clone *vfs.MemFS
		n := 0
		hook.before = func() {
			if n++; n == countdown {
				clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
			}
		}
		var list []*pb.Entry
		for i := range uint64(12) {
			list = append(list, entry(i+2, 9, strings.Repeat("p", 1000)))
		}
		done := make(written, 1)
		g.Append(hard(9, 2, 13), list, done)
		require.NoError(t, d.Flush())
		require.NoError(t, <-done)
		hook.before = nil
		require.NoError(t, d.Close())
		if clone == nil {
			break
		}
		d = open(t, clone, "log", small)
		g = groupOf(t, logOf(t, d, 1), 1)
		last, err := g.LastIndex()
		require.NoError(t, err)
		seen[last] = true
		hs := g.HardState()
		require.LessOrEqual(t, hs.GetCommit(), last)
		if last > 1 {
			require.Equal(t, uint64(9), hs.GetTerm())
		}
		require.NoError(t, d.Close())
	}
	require.Greater(t, len(seen), 3, "%v", seen)
}

// Many workers append to groups of their own while others read.
func TestConcurrent(t *testing.T) {
	fs := vfs.NewMem()
	o := raftlog.Options{MinSegmentBytes: 16 << 10, MaxSegmentBytes: 128 << 10, CacheBytes: 16 << 10}
	d := open(t, fs, "log", o)
	var wg sync.WaitGroup
	var total atomic.Int64
	want := make([]string, 8)
	for w := range uint64(8) {
		l := logOf(t, d, w%2*10+w/2) // two workers never share an owner's group
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(w, 3))
			g := create(t, l, 5, 1)
			done := make(written, 400) // Written must not block
			for i := uint64(1); i <= 400; i++ {
				g.Append(hard(i, w, i-1), []*pb.Entry{entry(i, i, strings.Repeat("k", rng.IntN(900)))}, done)
				total.Add(1)
				if rng.IntN(3) == 0 {
					for range len(done) {
						if err := <-done; err != nil {
							t.Error(err)
						}
					}
				}
				first, _ := g.FirstIndex()
				if i-first > 60 {
					g.Truncate(first + rng.Uint64N(40))
				}
				if rng.IntN(10) == 0 {
					first, _ = g.FirstIndex()
					list, err := g.Entries(first, i+1, 1<<30)
					if err != nil || len(list) != int(i+1-first) {
						t.Errorf("entries %d to %d: %d, %v", first, i, len(list), err)
					}
				}
			}
			want[w] = contents(t, g)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = d.Stats(), d.Buffered()
				_ = d.Flush()
			}
		}
	})
	wg.Wait()
	close(stop)
	reader.Wait()
	require.NoError(t, d.Close())
	d = open(t, fs, "log", o)
	for w := range uint64(8) {
		require.Equal(t, want[w], contents(t, groupOf(t, logOf(t, d, w%2*10+w/2), 5)))
	}
	require.NoError(t, d.Close())
}

// A slow disk takes its time in a bubble too, and its writers go on meanwhile:
// what gathers during a sync goes with the next.
func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sync = 10 * time.Millisecond
		d := open(t, vfs.NewMem(), "log", raftlog.Options{MaxSegmentBytes: 64 << 10, Delay: func(bytes int, synced bool) time.Duration {
			if !synced {
				return 0
			}
			return sync
		}})
		l := logOf(t, d, 1)
		start := time.Now()
		done := make(written, 1000)
		var groups []*raftlog.Group
		for i := range 8 {
			groups = append(groups, create(t, l, raftlog.GroupID(i), 1))
		}
		for i := uint64(1); i <= 100; i++ {
			for _, g := range groups {
				g.Append(nil, []*pb.Entry{entry(i, 1, "slow")}, done)
			}
			time.Sleep(sync / 10)
		}
		for range 800 {
			require.NoError(t, <-done)
		}
		s := d.Stats()
		require.GreaterOrEqual(t, time.Since(start), 100*sync/10)
		require.LessOrEqual(t, s.Syncs, int64(13))
		require.GreaterOrEqual(t, s.Syncs, int64(10))
		require.Equal(t, sync, (s.SyncTime / time.Duration(s.Syncs)).Round(sync))
		require.NoError(t, d.Close())
	})
}
