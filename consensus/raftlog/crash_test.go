package raftlog_test

import (
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

// hookFS calls before in front of everything that changes the file system, and
// remembers what was written and not synced.
type hookFS struct {
	vfs.FS
	before   func()
	reading  func()
	unlocked bool // locks are not taken, as after the end of a process
	mu       sync.Mutex
	syncErr  error                 // guarded by mu; what syncs return from now on
	writeErr error                 // guarded by mu
	loose    map[string][][2]int64 // by name, ranges written since the last sync
	bytes    int64                 // guarded by mu; written
	syncs    int64                 // guarded by mu; of files and directories
}

// counted returns how much was written and how many syncs there were.
func (h *hookFS) counted() (bytes, syncs int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bytes, h.syncs
}

// OpenDir counts syncs and calls nothing.
func (h *hookFS) OpenDir(name string) (vfs.File, error) {
	f, err := h.FS.OpenDir(name)
	return &hookDir{File: f, fs: h}, err
}

type hookDir struct {
	vfs.File
	fs *hookFS
}

func (d *hookDir) Sync() error {
	d.fs.mu.Lock()
	d.fs.syncs++
	d.fs.mu.Unlock()
	return d.File.Sync()
}

// fail makes every write or sync end in err.
func (h *hookFS) fail(what string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if what == "sync" {
		h.syncErr = err
	} else {
		h.writeErr = err
	}
}

func (h *hookFS) errs() (write, sync error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.writeErr, h.syncErr
}

func (h *hookFS) call() {
	if h.before != nil {
		h.before()
	}
}

func (h *hookFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	h.call()
	f, err := h.FS.Create(name, c)
	return h.wrap(f, name), err
}

func (h *hookFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := h.FS.OpenReadWrite(name, c, opts...)
	return h.wrap(f, name), err
}

func (h *hookFS) Rename(from, to string) error {
	h.call()
	return h.FS.Rename(from, to)
}

func (h *hookFS) Remove(name string) error {
	h.call()
	return h.FS.Remove(name)
}

func (h *hookFS) wrap(f vfs.File, name string) vfs.File {
	if f == nil {
		return nil
	}
	return &hookFile{File: f, fs: h, name: name}
}

type hookFile struct {
	vfs.File
	fs   *hookFS
	name string
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.call()
	if err, _ := f.fs.errs(); err != nil {
		return 0, err
	}
	f.fs.mu.Lock()
	if f.fs.loose == nil {
		f.fs.loose = map[string][][2]int64{}
	}
	f.fs.bytes += int64(len(p))
	f.fs.loose[f.name] = append(f.fs.loose[f.name], [2]int64{off, off + int64(len(p))})
	f.fs.mu.Unlock()
	n, err := f.File.WriteAt(p, off)
	f.fs.call()
	return n, err
}

func (f *hookFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.reading != nil {
		f.fs.reading()
	}
	return f.File.ReadAt(p, off)
}

func (h *hookFS) Lock(name string) (io.Closer, error) {
	if h.unlocked {
		return io.NopCloser(nil), nil
	}
	return h.FS.Lock(name)
}

func (f *hookFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *hookFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *hookFile) sync(sync func() error) error {
	f.fs.call()
	if _, err := f.fs.errs(); err != nil {
		return err
	}
	err := sync()
	f.fs.mu.Lock()
	f.fs.syncs++
	delete(f.fs.loose, f.name)
	f.fs.mu.Unlock()
	f.fs.call()
	return err
}

// readFile and writeFile go around the log.
func readFile(t testing.TB, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	b, err := io.ReadAll(f)
	require.NoError(t, err)
	return b
}

func writeFile(t testing.TB, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, errors.Join(f.Sync(), f.Close()))
	d, err := fs.OpenDir(fs.PathDir(name))
	require.NoError(t, err)
	require.NoError(t, errors.Join(d.Sync(), d.Close()))
}

// cycle makes writes and crashes in the middle of one of the file operations,
// or between two flushes.
func (r *rig) cycle() {
	clone, loose := (*vfs.MemFS)(nil), map[string][][2]int64(nil)
	acked := 0
	countdown := r.rng.IntN(40)
	r.hook.before = func() {
		if countdown--; countdown == 0 {
			clone, loose, acked = r.clone(), maps.Clone(r.hook.loose), r.acked
		}
	}
	for range 12 + r.rng.IntN(12) {
		r.step()
		if r.rng.IntN(3) == 0 {
			r.ok(r.flush(), "flush")
		}
		if clone != nil {
			break
		}
		if r.rng.IntN(60) == 0 {
			r.crashOwner(r.rng.Uint64N(rigOwners))
		}
	}
	if clone == nil {
		clone, loose, acked = r.clone(), r.hook.loose, r.acked
	}
	r.hook.before = nil
	s := r.disk.Stats()
	r.retired += s.SegmentsRetired
	r.rewritten += s.RewrittenBytes
	r.readBack += s.ReadBytes
	r.damage(clone, loose)
	r.fs, r.hook = clone, nil
	if r.rng.IntN(4) == 0 {
		r.crashWhileOpening()
	}
	r.open()
	r.settle(acked)
	r.match()
}

// crashWhileOpening loses power again during recovery.
func (r *rig) crashWhileOpening() {
	h := &hookFS{FS: r.fs}
	clone, countdown := (*vfs.MemFS)(nil), r.rng.IntN(8)
	h.before = func() {
		if countdown--; countdown == 0 {
			clone = r.clone()
		}
	}
	r.hook = h
	d := open(r.t, h, "log", r.opts)
	if h.before = nil; clone != nil {
		r.fs = clone
	} else {
		r.ok(d.Close(), "close")
	}
}

func (r *rig) clone() *vfs.MemFS {
	return r.fs.CrashClone(vfs.CrashCloneCfg{
		UnsyncedDataPercent: []int{0, 30, 70, 100}[r.rng.IntN(4)],
		RNG:                 rand.New(rand.NewPCG(r.rng.Uint64(), 2)),
	})
}

// damage flips bits and zeroes what was written and not synced: a disk may
// tear inside a block too.
func (r *rig) damage(fs *vfs.MemFS, loose map[string][][2]int64) {
	for _, name := range slices.Sorted(maps.Keys(loose)) { // or a seed repeats nothing
		ranges := loose[name]
		if !strings.HasSuffix(name, ".seg") || r.rng.IntN(2) == 0 {
			continue
		}
		if _, err := fs.Stat(name); err != nil {
			continue // the name itself was lost
		}
		b := readFile(r.t, fs, name)
		for _, rg := range ranges {
			rg[1] = min(rg[1], int64(len(b)))
			if rg[0] >= rg[1] {
				continue
			}
			at := rg[0] + r.rng.Int64N(rg[1]-rg[0])
			switch r.rng.IntN(3) {
			case 0:
				b[at] ^= 1 << r.rng.IntN(8)
			case 1:
				clear(b[at:rg[1]])
			case 2:
				if rg[1] == int64(len(b)) {
					b = b[:at]
				}
			}
		}
		writeFile(r.t, fs, name, b)
	}
}

// match finds the prefix of ops that recovery has kept. All that was
// acknowledged is before it.
func (r *rig) match() {
	got := r.actual()
	m := maps.Clone(r.base)
	for n := 0; ; n++ {
		if digest(m) == got {
			r.ops, r.now = nil, m
			r.base = maps.Clone(m)
			r.acked, r.flushed = r.seq, r.seq
			return
		}
		if n == len(r.ops) {
			break
		}
		op := r.ops[n]
		m[op.key] = op.apply(m[op.key])
	}
	r.t.Fatalf("seed %d: recovery kept no prefix of %d writes after the acknowledged ones:\nacknowledged %s\nall %s\ngot %s",
		r.seed, len(r.ops), digest(r.base), digest(r.now), got)
}

// Nothing acknowledged is lost and nothing comes back from the dead, wherever
// the power goes and whatever becomes of blocks that were not synced.
func TestCrash(t *testing.T) {
	chains, cycles := uint64(100), 110
	if testing.Short() || raceEnabled {
		chains = 8
	}
	first := harness.Seed()
	t.Logf("seeds %d to %d; PHANTOM_SEED=%d repeats them", first, first+chains-1, first)
	var retired, rewritten, readBack int64
	for seed := first; seed < first+chains; seed++ {
		r := newRig(t, seed)
		for range cycles {
			r.cycle()
		}
		r.check("at the end")
		require.NoError(t, r.disk.Close())
		retired, rewritten, readBack = retired+r.retired, rewritten+r.rewritten, readBack+r.readBack
	}
	t.Logf("%d crashes, %d segments retired, %d bytes rewritten, %d read back", int(chains)*cycles, retired, rewritten, readBack)
	require.Positive(t, retired, "the test is to reach collection")
	require.Positive(t, rewritten, "the test is to reach rewriting")
}
