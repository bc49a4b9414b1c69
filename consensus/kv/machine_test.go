package kv_test

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/consensus/kv"
)

func TestOptions(t *testing.T) {
	_, err := kv.New(kv.Options{FS: vfs.NewMem()})
	require.ErrorContains(t, err, "Dir is empty")
}

// TestIdleMachineLeavesNoTrace: thousands of machines live in one process, and
// most of them do nothing.
func TestIdleMachineLeavesNoTrace(t *testing.T) {
	fs := vfs.NewMem()
	m := open(t, kv.Options{FS: fs, Dir: "kv"})
	apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
	v, err := m.View()
	require.NoError(t, err)
	require.NoError(t, v.Close())
	require.NoError(t, m.Flush(context.Background(), 0))
	require.NoError(t, m.Close())
	require.NoError(t, m.Destroy())
	names, err := fs.List("")
	require.NoError(t, err)
	require.Empty(t, names)

	const n = 10_000
	machines := make([]*kv.Machine, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range machines {
		machines[i] = open(t, kv.Options{FS: fs, Dir: "kv"})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	require.Less(t, (int64(after.HeapAlloc)-int64(before.HeapAlloc))/n, int64(300), "bytes of heap per machine")
	runtime.KeepAlive(machines)
}

func TestApplyRefuses(t *testing.T) {
	m := open(t, kv.Options{})
	batch := func(index uint64) *consensus.Batch {
		return &consensus.Batch{Index: index, Term: 1, Commands: [][]byte{kv.EncodePut(nil, []byte("a"), nil)}}
	}
	one := make([]consensus.Result, 1)
	require.NoError(t, m.Apply(batch(5), one))
	_, sum := m.Digest()
	require.ErrorContains(t, m.Apply(batch(5), one), "index 5: 5 is applied already")
	require.ErrorContains(t, m.Apply(batch(4), one), "index 4: 5 is applied already")
	require.ErrorContains(t, m.Apply(batch(6), nil), "0 results for 1 commands")
	large := batch(6)
	large.Rows = []consensus.Row{{Key: make([]byte, kv.MaxKeyBytes+1)}}
	require.ErrorContains(t, m.Apply(large, one), "key of 65537")
	_, now := m.Digest()
	require.Equal(t, sum, now, "a refused batch changed the machine")

	large.Rows = nil
	large.ResultRows = func([]consensus.Result) []consensus.Row {
		return []consensus.Row{{Key: make([]byte, kv.MaxKeyBytes+1)}}
	}
	require.ErrorContains(t, m.Apply(large, one), "key of 65537")
	require.ErrorIs(t, m.Apply(batch(7), one), kv.ErrClosed, "half a batch was applied")
}

func TestResultRows(t *testing.T) {
	m := open(t, kv.Options{})
	b := &consensus.Batch{
		Index: 1, Term: 1,
		Commands: [][]byte{kv.EncodeAdd(nil, []byte("n"), 7)},
		Rows:     []consensus.Row{{Key: []byte("a"), Value: []byte("1")}, {Key: []byte("b"), Value: []byte("1")}},
		ResultRows: func(results []consensus.Result) []consensus.Row {
			return []consensus.Row{{Key: []byte("b")}, {Key: []byte("c"), Value: results[0].Data}}
		},
	}
	require.NoError(t, m.Apply(b, make([]consensus.Result, 1)))
	v, err := m.View()
	require.NoError(t, err)
	require.Equal(t, []consensus.Row{
		{Key: []byte("a"), Value: []byte("1")},
		{Key: []byte("c"), Value: []byte{1, 7, 0, 0, 0, 0, 0, 0, 0}},
	}, v.State().Rows)
}

func TestMalformedCommandsChangeNothing(t *testing.T) {
	m := open(t, kv.Options{})
	_, before := m.Digest()
	commands := [][]byte{
		nil,
		{0},
		{99, 1, 'k'},
		{1},                    // no key length
		{1, 5, 'k'},            // key cut short
		{1, 0x80},              // length cut short
		{2, 1, 'k', 'x'},       // delete with a value
		{3, 1, 'k', 1, 2, 3},   // delta cut short
		{4, 1, 'k'},            // swap without old
		{4, 1, 'k', 2, 0},      // old neither present nor absent
		{4, 1, 'k', 0, 1, 'x'}, // old absent and there
		kv.EncodePut(nil, make([]byte, kv.MaxKeyBytes+1), nil),
		kv.EncodePut(nil, []byte("k"), make([]byte, kv.MaxValueBytes+1)),
	}
	results := make([]consensus.Result, len(commands))
	require.NoError(t, m.Apply(&consensus.Batch{Index: 1, Term: 1, Commands: commands}, results))
	for i, result := range results {
		_, err := kv.ParseOutcome(result.Data)
		require.ErrorIs(t, err, kv.ErrCommand, "command %d", i)
	}
	require.Zero(t, m.Len())
	_, after := m.Digest()
	require.NotEqual(t, before, after, "the batch counts all the same")
	for _, answer := range [][]byte{nil, {5}, {1, 1}, {3, 1, 2}, {0, 1}} {
		_, err := kv.ParseOutcome(answer)
		require.Error(t, err, "answer %v", answer)
	}
}

func TestClosed(t *testing.T) {
	m, err := kv.New(kv.Options{})
	require.NoError(t, err)
	ctx := context.Background()
	requireClosed := func() {
		require.ErrorIs(t, m.Apply(&consensus.Batch{Index: 9}, nil), kv.ErrClosed)
		_, err = m.View()
		require.ErrorIs(t, err, kv.ErrClosed)
		require.ErrorIs(t, m.Flush(ctx, 9), kv.ErrClosed)
		_, err = m.Stage(bytes.NewReader(nil))
		require.ErrorIs(t, err, kv.ErrClosed)
	}
	requireClosed()
	_, err = m.Open()
	require.NoError(t, err)
	_, err = m.Open()
	require.ErrorContains(t, err, "open already")
	staged, err := m.Stage(bytes.NewReader(streamOf(t, filled(t, 1))))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	require.ErrorIs(t, staged.Install(ctx), kv.ErrClosed)
	requireClosed()
}

// TestFrozen writes views, scans and checkpoints while commands go on. Every
// batch sets all keys to one value, so a mixture of batches shows.
func TestFrozen(t *testing.T) {
	const keys, batches = 300, 300
	m := open(t, kv.Options{})
	var writer, readers sync.WaitGroup
	stop := make(chan struct{})
	writer.Go(func() {
		for i := range batches {
			commands := make([][]byte, keys)
			for k := range commands {
				commands[k] = kv.EncodePut(nil, fmt.Appendf(nil, "%03d", k), fmt.Append(nil, i))
			}
			apply(t, m, commands...)
			if i%3 == 0 {
				v, err := m.View()
				if err != nil {
					t.Error(err)
					return
				}
				readers.Go(func() {
					requireOneBatch(t, v, keys, i)
				})
			}
		}
		close(stop)
	})
	until := func(f func()) {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	until(func() {
		first := ""
		m.Scan(nil, nil, func(_, value []byte) bool {
			if first == "" {
				first = string(value)
			}
			if first != string(value) {
				t.Errorf("a scan saw %s and %s", first, value)
			}
			return first == string(value)
		})
	})
	until(func() {
		m.Get([]byte("007"))
		if n := m.Len(); n != 0 && n != keys {
			t.Errorf("%d pairs, expected 0 or %d", n, keys)
		}
	})
	until(func() {
		index, _ := m.Position()
		if err := m.Flush(context.Background(), index); err != nil {
			t.Error(err)
		}
	})
	writer.Wait()
	readers.Wait()
}

// requireOneBatch checks that the view is the state after batch i.
func requireOneBatch(t *testing.T, v consensus.View, keys, i int) {
	var buf bytes.Buffer
	if _, err := v.WriteTo(&buf); err != nil {
		t.Error(err)
		return
	}
	m, err := kv.New(kv.Options{})
	if err != nil {
		t.Error(err)
		return
	}
	if _, err = m.Open(); err == nil {
		var staged consensus.Staged
		if staged, err = m.Stage(&buf); err == nil {
			err = staged.Install(context.Background())
		}
	}
	if err != nil {
		t.Error(err)
		return
	}
	n := 0
	m.Scan(nil, nil, func(_, value []byte) bool {
		n++
		if string(value) != fmt.Sprint(i) {
			t.Errorf("view of batch %d holds %s", i, value)
			return false
		}
		return true
	})
	if n != keys && !t.Failed() {
		t.Errorf("view of batch %d holds %d pairs, expected %d", i, n, keys)
	}
	_ = v.Close()
}

// slowDisk takes a second for every sync.
type slowDisk struct{ vfs.FS }

func (s slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := s.FS.Create(name, c)
	return slowFile{f}, err
}

func (s slowDisk) OpenDir(name string) (vfs.File, error) {
	f, err := s.FS.OpenDir(name)
	return slowFile{f}, err
}

type slowFile struct{ vfs.File }

func (s slowFile) Sync() error {
	time.Sleep(time.Second)
	return s.File.Sync()
}

// TestSlowDisk runs in virtual time, which stands still for ever if the disk is
// waited for under a mutex that somebody else waits for.
func TestSlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		data := streamOf(t, filled(t, 1))
		m := open(t, kv.Options{FS: slowDisk{vfs.NewMem()}, Dir: "kv"})
		apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("b")))
		start := time.Now()
		var flush sync.WaitGroup
		for range 2 {
			flush.Go(func() {
				if err := m.Flush(ctx, 1); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		apply(t, m, kv.EncodePut(nil, []byte("a"), []byte("c")))
		_, ok := m.Get([]byte("a"))
		require.True(t, ok)
		_, err := m.View()
		require.NoError(t, err)
		require.Zero(t, m.Durable())
		require.Zero(t, time.Since(start), "the machine waited for the disk")

		// Somebody who waits for the disk can be called off.
		short, cancel := context.WithTimeout(ctx, time.Millisecond)
		defer cancel()
		require.ErrorIs(t, m.Flush(short, 2), context.DeadlineExceeded)
		require.Equal(t, time.Millisecond, time.Since(start))

		flush.Wait()
		require.EqualValues(t, 1, m.Durable())
		staged, err := m.Stage(bytes.NewReader(data))
		require.NoError(t, err)
		go func() {
			if err := staged.Install(ctx); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		require.NoError(t, m.Close(), "Close waits for Install")
		require.EqualValues(t, 41, m.Durable())
	})
}
