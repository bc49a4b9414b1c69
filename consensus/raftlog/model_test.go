package raftlog_test

import (
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	pb "go.etcd.io/raft/v3/raftpb"

	"github.com/phantomdb/phantomdb/consensus/raftlog"
)

// modelGroup is what a group ought to hold, kept the slow and obvious way.
// Values are replaced, never changed, so that a copy of the map is a snapshot.
type modelGroup struct {
	replica        uint64
	meta           string
	destroyed      bool
	hard           [3]uint64 // term, vote, commit
	base, baseTerm uint64
	entries        []modelEntry
	binding        int // the newest write that is worth a sync
}

type modelEntry struct {
	term uint64
	data string
}

func (g modelGroup) last() uint64 { return g.base + uint64(len(g.entries)) }

func (g modelGroup) String() string {
	s := fmt.Sprintf("replica %d meta %s hard %d/%d/%d base %d/%d:", g.replica, brief(g.meta), g.hard[0], g.hard[1], g.hard[2], g.base, g.baseTerm)
	for i, e := range g.entries {
		s += fmt.Sprintf(" %d/%d=0:%s", g.base+1+uint64(i), e.term, brief(e.data))
	}
	return s
}

// brief shortens long data, of which the beginning differs.
func brief(s string) string {
	if len(s) <= 12 {
		return s
	}
	return fmt.Sprintf("%s+%d/%08x", s[:6], len(s), crc32.ChecksumIEEE([]byte(s)))
}

type modelKey struct{ owner, group uint64 }

// ownRecord stands in a key for what an owner keeps for itself.
const ownRecord = math.MaxUint64

// A modelOp is one write, as it changes the model.
type modelOp struct {
	seq   int
	key   modelKey
	apply func(modelGroup) modelGroup
}

// digest prints groups, all of them or one owner's.
func digest(m map[modelKey]modelGroup) string {
	var lines []string
	for k, g := range m {
		if k.group == ownRecord {
			lines = append(lines, fmt.Sprintf("%d keeps %s", k.owner, brief(g.meta)))
		} else if g.destroyed {
			lines = append(lines, fmt.Sprintf("%d/%d tombstone %d", k.owner, k.group, g.replica))
		} else {
			lines = append(lines, fmt.Sprintf("%d/%d %v", k.owner, k.group, g))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A rig drives one Disk and the model beside it.
type rig struct {
	t    *testing.T
	seed uint64
	rng  *rand.Rand
	opts raftlog.Options
	fs   *vfs.MemFS
	hook *hookFS
	disk *raftlog.Disk
	logs map[uint64]*raftlog.Log
	n    int // counts writes, for distinct data

	retired, rewritten, readBack int64 // of all Disks so far

	// ops are the writes that may be lost, in order; base is the model before
	// them and now the model after them. Those up to acked were acknowledged,
	// those up to flushed were flushed.
	base, now           map[modelKey]modelGroup
	ops                 []modelOp
	seq, acked, flushed int
}

const rigOwners, rigGroups = 2, 4

func newRig(t *testing.T, seed uint64) *rig {
	rng := rand.New(rand.NewPCG(seed, 1))
	r := &rig{
		t: t, seed: seed, rng: rng, fs: vfs.NewCrashableMem(),
		opts: raftlog.Options{Inline: true, MinSegmentBytes: 4 << 10, MaxSegmentBytes: 4 << 10 << rng.IntN(3), CacheBytes: 1 + rng.Int64N(4<<10)},
		base: map[modelKey]modelGroup{}, now: map[modelKey]modelGroup{},
	}
	r.open()
	return r
}

func (r *rig) ok(err error, what string) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("seed %d: %s: %v", r.seed, what, err)
	}
}

func (r *rig) open() {
	r.t.Helper()
	r.hook = &hookFS{FS: r.fs}
	var err error
	r.disk, err = raftlog.OpenDisk(r.hook, "log", r.opts)
	r.ok(err, "open")
	r.logs = map[uint64]*raftlog.Log{}
	for o := range uint64(rigOwners) {
		r.logs[o], err = r.disk.Log(o)
		r.ok(err, "open owner")
	}
}

// actual reads everything that the Disk holds.
func (r *rig) actual() string {
	m := map[modelKey]string{}
	for o, l := range r.logs {
		if b := l.Meta(); b != nil {
			m[modelKey{o, ownRecord}] = fmt.Sprintf("%d keeps %s", o, brief(string(b)))
		}
		for _, info := range l.Groups() {
			k := modelKey{o, uint64(info.Group)}
			if info.Destroyed {
				m[k] = fmt.Sprintf("%d/%d tombstone %d", o, info.Group, info.Replica)
				continue
			}
			g, err := l.Group(info.Group)
			r.ok(err, "group")
			m[k] = fmt.Sprintf("%d/%d %v", o, info.Group, contents(r.t, g))
		}
	}
	return strings.Join(slices.Sorted(maps.Values(m)), "\n")
}

func (r *rig) check(what string) {
	r.t.Helper()
	if want, got := digest(r.now), r.actual(); want != got {
		r.t.Fatalf("seed %d: %s:\nwant %s\ngot  %s", r.seed, what, want, got)
	}
	entries := 0
	for _, g := range r.now {
		entries += len(g.entries)
	}
	if got := r.disk.Stats().LiveEntries; got != int64(entries) {
		r.t.Fatalf("seed %d: %s: %d live entries, want %d", r.seed, what, got, entries)
	}
}

// ack is a Completion that remembers which writes it covers.
type ack struct {
	r   *rig
	seq int
}

func (a ack) Written(err error) {
	if err == nil {
		a.r.acked = max(a.r.acked, a.seq)
	}
}

// write records an op in the model and decides whether it waits.
func (r *rig) write(k modelKey, apply func(modelGroup) modelGroup) raftlog.Completion {
	return r.writeBehind(k, r.seq+1, apply)
}

// writeBehind is write for an op whose Completion waits for an earlier one.
func (r *rig) writeBehind(k modelKey, binding int, apply func(modelGroup) modelGroup) raftlog.Completion {
	r.seq++
	change := func(m modelGroup) modelGroup {
		m = apply(m)
		m.binding = binding
		return m
	}
	r.ops = append(r.ops, modelOp{r.seq, k, change})
	r.now[k] = change(r.now[k])
	if r.rng.IntN(3) == 0 {
		return nil
	}
	return ack{r, binding}
}

func (r *rig) data() string {
	r.n++
	size := r.rng.IntN(60)
	switch r.rng.IntN(40) {
	case 0:
		size = 6000 // does not fit the smallest segment
	case 1, 2, 3:
		size = 700
	}
	return fmt.Sprintf("%d%s", r.n, strings.Repeat("x", size))
}

// step makes one random write.
func (r *rig) step() {
	k := modelKey{r.rng.Uint64N(rigOwners), r.rng.Uint64N(rigGroups)}
	if r.rng.IntN(60) == 0 {
		r.setMeta(k.owner)
		return
	}
	m, exists := r.now[k]
	l, id := r.logs[k.owner], raftlog.GroupID(k.group)
	if !exists || m.destroyed {
		r.create(l, k, m)
		return
	}
	if k.group == 0 && r.rng.IntN(20) > 0 {
		return // a group that lags behind
	}
	g, err := l.Group(id)
	r.ok(err, "group")
	switch n := r.rng.IntN(100); {
	case n < 70:
		r.append(g, k, m)
	case n < 90:
		if len(m.entries) == 0 {
			return
		}
		cut := 1 + r.rng.IntN(len(m.entries))
		r.writeBehind(k, m.binding, func(m modelGroup) modelGroup {
			m.baseTerm, m.base = m.entries[cut-1].term, m.base+uint64(cut)
			m.entries = slices.Clone(m.entries[cut:])
			return m
		})
		g.Truncate(m.base + uint64(cut))
	case n < 97:
		index, term := m.last()+r.rng.Uint64N(5), m.hard[0]+1
		hs := [3]uint64{term, 1, index}
		done := r.write(k, func(m modelGroup) modelGroup {
			m.hard, m.base, m.baseTerm, m.entries = hs, index, term, nil
			return m
		})
		g.Reset(hard(hs[0], hs[1], hs[2]), index, term, done)
	default:
		g.Destroy(r.write(k, func(m modelGroup) modelGroup { return modelGroup{replica: m.replica, destroyed: true} }))
	}
}

// setMeta is rare, so that collection meets the record more than once.
func (r *rig) setMeta(owner uint64) {
	meta := r.data()
	meta = meta[:min(len(meta), 1000)]
	done := r.write(modelKey{owner, ownRecord}, func(modelGroup) modelGroup { return modelGroup{meta: meta} })
	r.ok(r.logs[owner].SetMeta([]byte(meta), done), "set meta")
}

func (r *rig) create(l *raftlog.Log, k modelKey, m modelGroup) {
	id := m.replica + 1 + r.rng.Uint64N(2)
	index := r.rng.Uint64N(2) * 5
	meta := r.data()
	meta = meta[:min(len(meta), 1000)]
	done := r.write(k, func(modelGroup) modelGroup {
		return modelGroup{replica: id, meta: meta, base: index, baseTerm: index, hard: [3]uint64{index, 0, index}}
	})
	_, err := l.Create(raftlog.GroupID(k.group), raftlog.ReplicaID(id), index, index, []byte(meta), done)
	r.ok(err, "create")
}

func (r *rig) append(g *raftlog.Group, k modelKey, m modelGroup) {
	var entries []*pb.Entry
	var list []modelEntry
	first := m.last() + 1 - r.rng.Uint64N(min(uint64(len(m.entries)), 3)+1)
	size := 0
	for i := range r.rng.Uint64N(5) {
		e := modelEntry{m.hard[0] + 1, r.data()}
		if size += len(e.data) + 80; size > 3000 && i > 0 {
			break // one write, one frame
		}
		list = append(list, e)
		entries = append(entries, entry(first+i, e.term, e.data))
	}
	hs := m.hard
	var h *pb.HardState
	if r.rng.IntN(2) == 0 {
		hs = [3]uint64{m.hard[0] + 1, r.rng.Uint64N(4), min(first, m.last())}
		if r.rng.IntN(2) == 0 {
			hs[0], hs[1] = m.hard[0], m.hard[1]
		}
		h = hard(hs[0], hs[1], hs[2])
	}
	binding := m.binding
	if len(list) > 0 || hs[0] != m.hard[0] || hs[1] != m.hard[1] {
		binding = r.seq + 1
	}
	done := r.writeBehind(k, binding, func(m modelGroup) modelGroup {
		m.hard = hs
		if len(list) > 0 {
			m.entries = append(slices.Clone(m.entries[:first-m.base-1]), list...)
		}
		return m
	})
	g.Append(h, entries, done)
}

// flush flushes; what was acknowledged cannot be lost and leaves the list.
func (r *rig) flush() error {
	err := r.disk.Flush()
	r.flushed = r.seq
	return err
}

// settle forgets the writes up to seq, which can no longer be lost.
func (r *rig) settle(seq int) {
	for len(r.ops) > 0 && r.ops[0].seq <= seq {
		op := r.ops[0]
		r.base[op.key] = op.apply(r.base[op.key])
		r.ops = r.ops[1:]
	}
}

// The log does what a slow and obvious log does, over clean ends, and ends of
// one owner while the other goes on.
func TestModel(t *testing.T) {
	for seed := range uint64(20) {
		r := newRig(t, seed)
		for range 40 {
			for range r.rng.IntN(30) {
				r.step()
				if r.rng.IntN(4) == 0 {
					r.ok(r.flush(), "flush")
				}
			}
			r.check("after writes")
			switch r.rng.IntN(3) {
			case 0:
				r.ok(r.disk.Close(), "close")
				r.open()
			case 1:
				o := r.rng.Uint64N(rigOwners)
				r.ok(r.logs[o].Close(), "close owner")
				l, err := r.disk.Log(o)
				r.ok(err, "open owner")
				r.logs[o] = l
			case 2:
				r.crashOwner(r.rng.Uint64N(rigOwners))
			}
			r.check("after an end")
			r.ok(r.flush(), "flush")
			r.settle(r.seq)
		}
		require.NoError(t, r.disk.Close())
	}
}

// crashOwner crashes an owner, which loses what it has not flushed, and no one
// else does.
func (r *rig) crashOwner(o uint64) {
	r.logs[o].Crash()
	r.ops = slices.DeleteFunc(r.ops, func(op modelOp) bool { return op.seq > r.flushed && op.key.owner == o })
	r.now = maps.Clone(r.base)
	for _, op := range r.ops {
		m := op.apply(r.now[op.key])
		r.now[op.key] = m
	}
	l, err := r.disk.Log(o)
	r.ok(err, "open owner")
	r.logs[o] = l
	r.flushed = r.seq // opening an owner flushes
}
