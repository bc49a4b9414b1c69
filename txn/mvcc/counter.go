package mvcc

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

func encode64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// A counter is the latest version of a key that is added to.
type counter struct {
	ts hlc.Timestamp
	n  int64
}

// maxCounters bounds how many a store remembers.
const maxCounters = 1 << 12

// versions returns those of a key from the latest down to the first that is below a
// timestamp, what is staged included.
func (a *applier) versions(key string, down hlc.Timestamp) (list []Version, err error) {
	it, err := a.s.e.db.NewIter(nil)
	if err != nil {
		return nil, err
	}
	for ok := it.SeekPrefixGE(appendVersion(nil, a.s.shard, key, hlc.Max)); ok && err == nil; ok = it.Next() {
		var v Version
		if v, err = versionAt(it); err == nil {
			v.Value = slices.Clone(v.Value)
			list = append(list, v)
		}
		if v.TS < down {
			break
		}
	}
	if err = errors.Join(err, it.Close()); err != nil {
		return nil, err
	}
	for i := range a.staged {
		if v := &a.staged[i].v; a.staged[i].key == key {
			at, found := slices.BinarySearchFunc(list, v.TS, func(o Version, ts hlc.Timestamp) int { return cmp.Compare(ts, o.TS) })
			if found {
				list[at] = *v
			} else {
				list = slices.Insert(list, at, *v)
			}
		}
	}
	// What is staged may be that first one, or all below it.
	if i := slices.IndexFunc(list, func(v Version) bool { return v.TS < down }); i >= 0 {
		list = list[:i+1]
	}
	return list, nil
}

// judgeAdds says whether what is added to counters keeps them in their bounds. What is
// added to is written once by a command: each part is judged by what was before it.
func (a *applier) judgeAdds(h *Header) (Answer, error) {
	if a.repeats() {
		return Answer{Verdict: Malformed}, nil
	}
	raised := h.TS
	for i := range a.ops {
		w := &a.ops[i].write
		if a.ops[i].kind != opWrite && a.ops[i].kind != opLay || w.Kind != Add {
			continue
		}
		c, ok, err := a.counter(w.Key)
		if err != nil {
			return Answer{}, err
		}
		if !ok {
			return Answer{Verdict: NoCounter}, nil
		}
		floor := c.ts
		if a.ops[i].kind == opLay && c.ts >= h.TS {
			if floor, err = a.put(w.Key, h.TS); err != nil {
				return Answer{}, err
			}
		}
		if floor >= raised {
			raised = floor.Next()
		}
		if !a.fits(h.Writer, w, c.n) {
			return Answer{Verdict: OutOfRange}, nil
		}
	}
	switch {
	case raised == h.TS:
		return Answer{}, nil
	case !h.Float:
		return Answer{TooLow, raised.Prev()}, nil
	}
	h.TS = raised
	return Answer{TS: raised}, nil
}

// put returns the timestamp of the latest version of a counter at or above another one
// that does not add to those before it, zero if there is none. What is added below that
// would have no effect behind it.
func (a *applier) put(key string, from hlc.Timestamp) (hlc.Timestamp, error) {
	list, err := a.versions(key, from)
	for i := range list {
		if v := &list[i]; v.TS >= from && !v.Added {
			return v.TS, err
		}
	}
	return 0, err
}

// repeats reports whether a command writes a key twice.
func (a *applier) repeats() bool {
	if len(a.ops) == 1 {
		return false
	}
	keys := make(map[string]bool, len(a.ops))
	for i := range a.ops {
		o := &a.ops[i]
		if o.kind != opWrite && o.kind != opLay {
			continue
		}
		if keys[o.write.Key] {
			return true
		}
		keys[o.write.Key] = true
	}
	return false
}

// counter returns the latest version of a counter, and false if it is no number.
func (a *applier) counter(key string) (c counter, ok bool, err error) {
	if c, ok = a.s.counters[key]; ok {
		return c, true, nil
	}
	list, err := a.versions(key, hlc.Max)
	if err != nil || len(list) == 0 {
		return c, err == nil, err
	}
	n, ok := Counter(&list[0])
	if ok {
		a.remember(key, counter{list[0].TS, n})
	}
	return counter{list[0].TS, n}, ok, nil
}

// remember keeps the latest version of a counter.
func (a *applier) remember(key string, c counter) {
	if len(a.s.counters) >= maxCounters {
		clear(a.s.counters)
	}
	a.s.counters[key] = c
}

// fits says whether a counter of value n stays in the bounds of w whichever of the
// intents that are there are committed.
func (a *applier) fits(writer id.Key, w *Write, n int64) bool {
	low, high := n, n
	list, _ := a.s.intents.Get(w.Key)
	for _, i := range list {
		if i.Write.Kind != Add || i.Txn.Key == writer {
			continue
		}
		if i.Write.Delta < 0 {
			low = plus(low, i.Write.Delta)
		} else {
			high = plus(high, i.Write.Delta)
		}
	}
	low, high = plus(low, min(0, w.Delta)), plus(high, max(0, w.Delta))
	if w.Delta < 0 {
		return low >= w.Min && low > math.MinInt64
	}
	return high <= w.Max && high < math.MaxInt64
}

// plus adds, and stays at the ends of what there is.
func plus(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	}
	return a + b
}

// add stages a version that adds to the latest one before it. Those after it were
// added to by transactions whose intents stood beside its own, and grow by as much:
// nobody has read them, for this one's intent was there.
func (a *applier) add(key string, ts hlc.Timestamp, writer id.Key, delta int64) error {
	c, ok, err := a.counter(key)
	switch {
	case err != nil:
		return err
	case !ok:
		return fmt.Errorf("%q is added to and holds no number", key)
	case c.ts < ts:
		a.version(key, &Version{TS: ts, Writer: writer, Added: true, Value: AppendCounter(nil, c.n+delta)})
		a.remember(key, counter{ts, c.n + delta})
		return nil
	}
	list, err := a.versions(key, ts)
	if err != nil {
		return err
	}
	if i := len(list) - 1; list[i].TS < ts { // what it adds to
		n, ok := Counter(&list[i])
		if !ok {
			return fmt.Errorf("%q is added to at %v and holds no number then", key, ts)
		}
		list[i] = Version{TS: ts, Writer: writer, Added: true, Value: AppendCounter(nil, n)}
		if i > 0 && list[i-1].TS == ts {
			list = list[:i]
			list[i-1].Others = append(slices.Clone(list[i-1].Others), writer)
		}
	} else if list[i].TS == ts {
		list[i].Others = append(slices.Clone(list[i].Others), writer)
	} else {
		list = append(list, Version{TS: ts, Writer: writer, Added: true, Value: AppendCounter(nil, 0)})
	}
	for i := range list {
		n, ok := Counter(&list[i])
		if !ok || list[i].Deleted {
			return fmt.Errorf("%q is added to at %v and holds no number at %v", key, ts, list[i].TS)
		}
		list[i].Value = AppendCounter(nil, n+delta)
	}
	for i := range slices.Backward(list) {
		a.version(key, &list[i])
	}
	return nil
}
