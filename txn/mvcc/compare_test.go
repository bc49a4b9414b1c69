package mvcc

import (
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// check compares all that the store says with a model.
func (w *walker) check(m *model) {
	t, st := w.t, w.s.State()
	t.Helper()
	require.Equal(t, []any{m.lease, m.closed, m.threshold, m.reads}, []any{st.Lease, st.Closed, st.Threshold, st.Reads})
	require.True(t, maps.Equal(m.fences, st.fences), "%v and %v", m.fences, st.fences)
	require.True(t, maps.Equal(m.protected, st.protected), "%v and %v", m.protected, st.protected)
	w.checkIntents(m)
	w.checkEnds(m)
	rd, err := w.s.Reader()
	require.NoError(t, err)
	for range 4 {
		w.checkReads(m, rd)
	}
	require.NoError(t, rd.Close())
}

func (w *walker) checkIntents(m *model) {
	t, want, txns := w.t, []*Intent(nil), map[id.Key][]*Intent{}
	for _, key := range slices.Sorted(maps.Keys(m.intents)) {
		want = append(want, m.intents[key]...)
		for _, i := range m.intents[key] {
			txns[i.Txn.Key] = append(txns[i.Txn.Key], i)
		}
	}
	same := func(a, b *Intent) bool { return string(a.encode()) == string(b.encode()) }
	var got []*Intent
	w.s.IntentsIn("", "", func(i *Intent) bool {
		got = append(got, i)
		return true
	})
	byTxn := func(list []*Intent) []*Intent {
		slices.SortFunc(list, func(a, b *Intent) int {
			return cmpAll(strings.Compare(a.Write.Key, b.Write.Key), a.Txn.Key.Compare(b.Txn.Key))
		})
		return list
	}
	require.True(t, slices.EqualFunc(byTxn(want), byTxn(got), same), "intents %v and %v", want, got)
	for key, list := range txns {
		require.True(t, slices.EqualFunc(byTxn(list), byTxn(w.s.IntentsOf(key)), same), "of %v", key)
	}
	keys, n := w.s.CountIntents()
	require.Equal(t, []int{len(m.intents), len(txns)}, []int{keys, n})
}

func cmpAll(list ...int) int {
	for _, c := range list {
		if c != 0 {
			return c
		}
	}
	return 0
}

func (w *walker) checkEnds(m *model) {
	t := w.t
	for _, l := range w.log {
		for _, ops := range l.ops {
			for i := range ops {
				switch o := &ops[i]; o.kind {
				case opRecord:
					got, err := w.s.Record(o.record.Txn)
					require.NoError(t, err)
					want := m.records[o.record.Txn]
					if want == nil || want.Status != Aborted || o.record.Txn.Key.Start > m.threshold || got != nil {
						require.Equal(t, want, got)
					}
				case opBar:
					got, err := w.s.Barred(o.txn.Key, o.write.Key)
					require.NoError(t, err)
					want := m.bars[id.Txn{Key: o.txn.Key, Anchor: o.write.Key}]
					if o.txn.Key.Start > m.threshold || got {
						require.Equal(t, want, got, "%v at %q", o.txn.Key, o.write.Key)
					}
				}
			}
		}
	}
}

// same compares a version with the one that is expected. One that deletes may be gone.
func (w *walker) same(want, got *Version, about ...any) {
	w.t.Helper()
	if !want.There() {
		require.False(w.t, got.There(), "%v: %+v", about, got)
		return
	}
	a, b := *want, *got
	require.Equal(w.t, string(a.Value), string(b.Value), "%v", about)
	a.Value, b.Value = nil, nil
	require.Equal(w.t, a, b, "%v", about)
}

// checkReads reads at and above the threshold, where what was swept makes no difference.
func (w *walker) checkReads(m *model, rd *Reader) {
	t := w.t
	at := m.threshold + hlc.Timestamp(w.rng.IntN(80))
	upTo := at + hlc.Timestamp(w.rng.IntN(20))
	start, end := w.text(), ""
	if w.one(2) {
		end = start + "zzz"[:w.rng.IntN(3)] + "\x00"
	}
	if w.one(3) {
		start = ""
	}
	in := func(key string) bool { return key >= start && (end == "" || key < end) }
	var except id.Key
	if len(w.txns) > 0 {
		except = w.txns[len(w.txns)-1-w.rng.IntN(min(len(w.txns), 10))]
	}
	var list, want []string
	highest, changed := hlc.Timestamp(0), false
	for _, key := range append(m.keys(), "none") {
		v, above := m.at(key, at, upTo)
		got, gotAbove, err := rd.Get(key, at, upTo)
		require.NoError(t, err)
		w.same(&v, &got, key, "at", at)
		require.Equal(t, above, gotAbove)
		w.checkLatest(m, rd, key, except)
		if !in(key) {
			continue
		}
		if highest = max(highest, above); v.There() {
			list = append(list, told(key, &v))
		}
		for _, v := range m.versions(key) {
			if v.TS > at && v.TS <= upTo {
				want = append(want, told(key, &v))
				changed = changed || v.Writer != except || len(v.Others) > 0
			}
		}
	}
	var scanned, walked []string
	above, err := rd.Scan(start, end, at, upTo, func(key string, v *Version) bool {
		scanned = append(scanned, told(key, v))
		return true
	})
	require.NoError(t, err)
	require.Equal(t, list, scanned, "[%q, %q) at %d", start, end, at)
	require.Equal(t, highest, above)
	require.NoError(t, rd.Versions(start, end, at, upTo, func(key string, v *Version) bool {
		walked = append(walked, told(key, v))
		return true
	}))
	require.Equal(t, want, walked, "[%q, %q) from %d to %d", start, end, at, upTo)
	ts, err := rd.Changed(start, end, at, upTo, except)
	require.NoError(t, err)
	require.Equal(t, changed, ts > at && ts <= upTo, "[%q, %q) from %d to %d but by %v", start, end, at, upTo, except)
}

func (w *walker) checkLatest(m *model, rd *Reader, key string, txn id.Key) {
	latest, _ := m.at(key, hlc.Max, 0)
	got, wrote, err := rd.Latest(key, txn)
	require.NoError(w.t, err)
	w.same(&latest, &got, key)
	for _, v := range m.versions(key) {
		if v.By(txn) && txn.Start > m.threshold {
			require.Equal(w.t, v.TS, wrote, "%v wrote %q", txn, key)
			return
		}
	}
	require.True(w.t, wrote == 0 || txn.Start <= m.threshold, "%v did not write %q", txn, key)
}

// A mirror knows what a store holds from what it hears.
type mirror struct {
	w        *walker
	index    uint64
	versions map[string]map[hlc.Timestamp]string
	stop     func()
}

func (w *walker) observe() {
	o := &mirror{w: w}
	o.stop = w.s.Observe(o, func(index uint64) { o.Reset(index) })
	w.obs = o
}

func (o *mirror) Applied(index uint64, changes []Change) {
	o.index = index
	for i := range changes {
		o.note(changes[i].Key, &changes[i].Version)
	}
}

func (o *mirror) note(key string, v *Version) {
	if o.versions[key] == nil {
		o.versions[key] = map[hlc.Timestamp]string{}
	}
	o.versions[key][v.TS] = told(key, v)
}

func (o *mirror) Reset(index uint64) {
	o.index, o.versions = index, map[string]map[hlc.Timestamp]string{}
	rd, err := o.w.s.Reader()
	require.NoError(o.w.t, err)
	require.NoError(o.w.t, rd.Versions("", "", 0, hlc.Max, func(key string, v *Version) bool {
		o.note(key, v)
		return true
	}))
	require.NoError(o.w.t, rd.Close())
}

// check compares it with the model, above what may have been swept.
func (o *mirror) check(w *walker) {
	require.Equal(w.t, w.index, o.index)
	for _, key := range w.m.keys() {
		want := map[hlc.Timestamp]string{}
		for _, v := range w.m.versions(key) {
			want[v.TS] = told(key, &v)
		}
		got := maps.Clone(o.versions[key])
		for _, list := range []map[hlc.Timestamp]string{want, got} {
			maps.DeleteFunc(list, func(ts hlc.Timestamp, _ string) bool { return ts <= w.m.threshold })
		}
		require.True(w.t, maps.Equal(want, got), "%q: %v and %v", key, want, got)
	}
}
