package mvcc

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// A logged batch, and what was answered to it.
type logged struct {
	b       consensus.Batch
	headers []Header
	ops     [][]op
	answers []Answer
}

// A walker makes up what is done to a store, and knows what must come of it.
type walker struct {
	*rig
	rng  *rand.Rand
	m    *model
	log  []logged // of indices from 1
	now  hlc.Timestamp
	seq  uint64
	txns []id.Key // of all that wrote or laid something
	seen map[Verdict]int
	obs  *mirror
}

// TestRandom does to a store what comes to mind, has it swept, lose its power and be
// replaced by a snapshot, and compares all that it says with the model.
func TestRandom(t *testing.T) {
	const walks, steps = 8, 250
	first := harness.Seed()
	t.Logf("seeds %d to %d; PHANTOM_SEED=%d repeats them", first, first+walks-1, first)
	seen := map[Verdict]int{}
	for i := range uint64(walks) {
		t.Run(fmt.Sprint("seed=", first+i), func(t *testing.T) {
			w := &walker{rig: newRig(t), rng: rand.New(rand.NewPCG(first+i, 3)), m: newModel(), now: 100, seen: seen}
			w.observe()
			for range steps {
				w.step()
			}
			w.check(w.m)
			w.obs.check(w)
		})
	}
	for v := Done; v <= Protected; v++ {
		require.True(t, v == Malformed || seen[v] > 0, "no command was %v: %v", v, seen)
	}
}

func (w *walker) one(n int) bool { return w.rng.IntN(n) == 0 }

func (w *walker) step() {
	commands := make([]int, 1+w.rng.IntN(4))
	l := logged{b: consensus.Batch{Index: w.index + 1, Term: w.m.lease + 1}}
	for range commands {
		h, ops := w.command()
		l.headers, l.ops = append(l.headers, h), append(l.ops, ops)
		l.b.Commands = append(l.b.Commands, encodeOps(h, ops))
		a := w.m.run(h, ops)
		l.answers = append(l.answers, a)
		w.seen[a.Verdict]++
	}
	if w.one(4) {
		l.b.Rows = []consensus.Row{{Key: []byte("host"), Value: fmt.Append(nil, l.b.Index)}}
	}
	w.log = append(w.log, l)
	w.play(&w.log[len(w.log)-1])
	switch w.rng.IntN(24) {
	case 0:
		require.NoError(w.t, w.s.Flush(w.t.Context(), w.index))
	case 1:
		_, err := w.e.db.AsyncFlush()
		require.NoError(w.t, err)
	case 2, 3, 4:
		_, _, err := w.s.Sweep(1 + w.rng.IntN(20))
		require.NoError(w.t, err)
	case 5:
		w.loseButWhatIsDurable()
	case 6:
		w.replace()
	case 7, 8:
		w.check(w.m)
		w.obs.check(w)
	}
}

// play applies a batch, to which the answers must be those of the model.
func (w *walker) play(l *logged) {
	results := make([]consensus.Result, len(l.b.Commands))
	require.NoError(w.t, w.s.Apply(&l.b, results))
	w.index = l.b.Index
	for i := range results {
		got, err := ParseAnswer(results[i].Data)
		require.NoError(w.t, err)
		require.Equal(w.t, l.answers[i], got, "index %d: %+v %+v", l.b.Index, l.headers[i], l.ops[i])
	}
}

func encodeOps(h Header, ops []op) []byte {
	b := AppendHeader(nil, &h)
	for i := range ops {
		switch o := &ops[i]; o.kind {
		case opWrite:
			b = AppendWrite(b, &o.write)
		case opLay:
			b = AppendLay(b, string(o.anchor), &o.write)
		case opResolve:
			b = AppendResolve(b, o.txn.Key, o.write.Key, o.ts)
		case opBar:
			b = AppendBar(b, o.txn.Key, o.write.Key)
		case opRecord:
			b = AppendRecord(b, o.record)
		case opForget:
			b = AppendForget(b, o.txn)
		case opLead:
			b = AppendLead(b, o.n)
		case opFence:
			b = AppendFence(b, o.n, o.m)
		case opThreshold:
			b = AppendThreshold(b, o.ts)
		case opProtect:
			b = AppendProtect(b, o.n, o.ts, hlc.Timestamp(o.m))
		case opUnprotect:
			b = AppendUnprotect(b, o.n)
		}
	}
	return b
}

// below is a timestamp some way below now.
func (w *walker) below(most int) hlc.Timestamp { return w.now - hlc.Timestamp(w.rng.IntN(most)) }

// text is a key at which text is written, counter one at which numbers are.
func (w *walker) text() string { return string("abcdefgh"[w.rng.IntN(8)]) }
func (w *walker) counter() string {
	return []string{"n", "n\x00", "o"}[w.rng.IntN(3)]
}

func (w *walker) header() Header {
	w.now += hlc.Timestamp(w.rng.IntN(4))
	w.seq++
	h := Header{Lease: w.m.lease, TS: w.below(8), Float: w.one(3)}
	if w.one(20) {
		h.Lease += uint64(w.rng.IntN(3)) - 1
	}
	if w.one(3) {
		h.Closed = w.below(40)
	}
	if w.one(10) {
		h.Reads = w.now + hlc.Timestamp(w.rng.IntN(10))
	}
	node := uint64(1 + w.rng.IntN(3))
	h.Writer = id.Key{Node: node, Epoch: w.m.fences[node] + 1, Seq: w.seq, Start: h.TS - hlc.Timestamp(w.rng.IntN(30))}
	if w.one(20) {
		h.Writer.Epoch -= uint64(w.rng.IntN(2))
	}
	return h
}

// command makes up a command that whoever evaluates them might have proposed. Where
// others have intents it writes nothing but additions, and puts no number below others.
func (w *walker) command() (Header, []op) {
	h := w.header()
	var ops []op
	switch n := w.rng.IntN(100); {
	case n < 30:
		ops = w.writes(opWrite)
	case n < 42:
		ops = w.writes(opLay)
	case n < 52:
		ops = []op{{kind: opWrite, write: w.addition()}}
	case n < 62:
		ops = []op{{kind: opLay, anchor: []byte("a"), write: w.addition()}}
	case n < 65:
		key := w.counter()
		if len(w.m.intents[key]) == 0 && len(w.m.versions(key)) > 0 {
			h.TS = max(h.TS, w.m.versions(key)[0].TS+1)
			ops = []op{{kind: opWrite, write: Write{Key: key, Kind: Delete}}}
			if w.one(2) {
				ops[0].write = Write{Key: key, Kind: Put, Value: AppendCounter(nil, int64(w.rng.IntN(50)))}
			}
		}
	case n < 85:
		return Header{}, w.resolves()
	case n < 90:
		return Header{Lease: h.Lease, Closed: h.Closed}, w.ends()
	default:
		return Header{Lease: h.Lease, Closed: h.Closed}, w.states()
	}
	w.txns = append(w.txns, h.Writer)
	return h, ops
}

func (w *walker) writes(kind byte) (ops []op) {
	for i, key := range []string{w.text(), w.text()} {
		if i > 0 && (w.one(2) || ops[0].write.Key == key) {
			continue
		}
		o := op{kind: kind, write: Write{Key: key, Kind: Delete}}
		if !w.one(4) {
			o.write.Kind, o.write.Value = Put, fmt.Appendf(nil, "some text %d", w.seq) // longer than a counter
			if w.one(20) {                                                             // so that files are written
				o.write.Value = []byte(strings.Repeat(string(o.write.Value), 5000))
			}
		}
		if kind == opLay {
			o.anchor = []byte(key)
		}
		ops = append(ops, o)
	}
	return ops
}

// addition adds to a counter, or in vain to text.
func (w *walker) addition() Write {
	key := w.counter()
	if v, _ := w.m.at("a", hlc.Max, 0); w.one(10) && v.There() {
		key = "a"
	}
	return add(key, int64(w.rng.IntN(41)-20), -60, 60)
}

func (w *walker) resolves() (ops []op) {
	for _, key := range slices.Sorted(maps.Keys(w.m.intents)) {
		for _, i := range w.m.intents[key] {
			if len(ops) == 3 || !w.one(3) {
				continue
			}
			o := op{kind: opResolve, txn: id.Txn{Key: i.Txn.Key}, write: Write{Key: key}}
			if !w.one(3) {
				o.ts = i.TS + hlc.Timestamp(w.rng.IntN(6))
			}
			ops = append(ops, o)
		}
	}
	return append(ops, op{kind: opResolve, txn: id.Txn{Key: txn(1)}, write: Write{Key: "none"}, ts: 5})
}

// ends is what the shard of an anchor says of a transaction, and the others.
func (w *walker) ends() []op {
	key := id.Key{Node: 1, Epoch: 1, Seq: uint64(w.rng.IntN(6)), Start: w.below(40)}
	if len(w.m.records) > 0 && w.one(2) {
		all := slices.SortedFunc(maps.Keys(w.m.records), func(a, b id.Txn) int { return a.Key.Compare(b.Key) })
		at := all[w.rng.IntN(len(all))]
		if w.one(2) && w.m.records[at].Status != Aborted {
			return []op{{kind: opForget, txn: at}}
		}
		key = at.Key
	}
	rec := &Record{Txn: id.Txn{Key: key, Anchor: "a"}, Status: Committed, TS: w.now, Promised: []string{"a", "b"}}
	if w.one(2) {
		rec.Status, rec.Promised = Aborted, nil
	}
	if w.one(3) {
		return []op{{kind: opBar, txn: id.Txn{Key: key}, write: Write{Key: w.text()}}}
	}
	return []op{{kind: opRecord, record: rec}, {kind: opBar, txn: id.Txn{Key: key}, write: Write{Key: "b"}}}
}

func (w *walker) states() []op {
	switch w.rng.IntN(8) {
	case 0:
		return []op{{kind: opLead, n: max(1, w.m.lease+uint64(w.rng.IntN(4))) - 1}}
	case 1:
		node := uint64(1 + w.rng.IntN(3))
		return []op{{kind: opFence, n: node, m: max(2, w.m.fences[node]+uint64(w.rng.IntN(5))) - 2}}
	case 2:
		return []op{{kind: opProtect, n: uint64(w.rng.IntN(3)), ts: w.below(60), m: uint64(w.now + 50)}}
	case 3, 4:
		return []op{{kind: opUnprotect, n: uint64(w.rng.IntN(3))}}
	}
	return []op{{kind: opThreshold, ts: min(w.below(60), w.m.oldest())}} // as who leads sees to
}

// loseButWhatIsDurable has the power fail. What is left is what there was at some index,
// which is no less than was said to be durable, and the log from there leads to where it
// was.
func (w *walker) loseButWhatIsDurable() {
	durable, applied := w.s.Durable(), w.index
	require.LessOrEqual(w.t, durable, applied)
	lost := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(101), RNG: w.rng})
	require.NoError(w.t, w.e.Close())
	w.fs = lost
	w.open()
	require.GreaterOrEqual(w.t, w.index, durable)
	require.LessOrEqual(w.t, w.index, applied)
	require.Equal(w.t, w.index, w.s.Durable(), "all that a crash left")
	then := newModel()
	for i := range w.log[:w.index] {
		for j := range w.log[i].ops {
			then.run(w.log[i].headers[j], w.log[i].ops[j])
		}
	}
	w.check(then)
	w.observe()
	for w.index < applied {
		w.play(&w.log[w.index])
	}
	w.check(w.m)
}

// replace goes on with another store, which takes in a snapshot of this one.
func (w *walker) replace() {
	other := newRig(w.t)
	w.obs.stop()
	b := snapshot(w.t, w.s)
	w.rig = other
	w.observe()
	install(w.t, other.s, b)
	other.index = other.s.Applied()
	w.check(w.m)
}
