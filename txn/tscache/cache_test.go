package tscache

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

func newCache(t testing.TB, o Options, low hlc.Timestamp) *Cache {
	c, err := New(o, low)
	require.NoError(t, err)
	return c
}

// txn is one of some transactions; the zeroth is nobody.
func txn(i int) id.Key {
	if i == 0 {
		return id.Key{}
	}
	return id.Key{Node: 1, Epoch: 1, Seq: uint64(i), Start: hlc.Timestamp(i)}
}

// check compares what is kept with the invariants of the package comment.
func (c *Cache) check() error {
	s := &c.spans
	s.mu.RLock()
	defer s.mu.RUnlock()
	var errs []error
	last := interval{start: "none"}
	s.tree.Scan(func(start string, iv interval) bool {
		switch {
		case start != iv.start || iv.end != "" && iv.end <= iv.start:
			errs = append(errs, fmt.Errorf("interval %v at %q", iv, start))
		case last.start != "none" && before(start, last.end):
			errs = append(errs, fmt.Errorf("%v overlaps %v", last, iv))
		case iv.others > iv.ts || iv.ts <= c.Low():
			errs = append(errs, fmt.Errorf("record of %v", iv))
		}
		last = iv
		return true
	})
	if s.tree.Len() > s.max {
		errs = append(errs, fmt.Errorf("%d intervals, expected at most %d", s.tree.Len(), s.max))
	}
	if len(s.touched) > 0 || s.last != (interval{}) {
		errs = append(errs, errors.New("a read has left something over"))
	}
	return errors.Join(errs...)
}

// A transaction's own reads do not count for it, whatever others have read below.
func TestWhoHasRead(t *testing.T) {
	for name, read := range map[string]func(c *Cache, ts hlc.Timestamp, by id.Key){
		"point": func(c *Cache, ts hlc.Timestamp, by id.Key) { c.Read("k", ts, by) },
		"span":  func(c *Cache, ts hlc.Timestamp, by id.Key) { c.ReadSpan("a", "z", ts, by) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, Options{}, 10)
			expect := func(except int, want hlc.Timestamp) {
				t.Helper()
				require.Equal(t, want, c.Max("k", txn(except)))
			}
			expect(1, 10)
			read(c, 20, txn(1))
			expect(1, 10)
			expect(2, 20)
			expect(0, 20)
			read(c, 15, txn(2)) // below the highest
			expect(1, 15)
			expect(2, 20)
			read(c, 30, txn(1))
			expect(1, 15)
			read(c, 40, txn(2)) // above it
			expect(2, 30)
			expect(1, 40)
			read(c, 40, txn(3)) // at it
			expect(2, 40)
			expect(3, 40)
			read(c, 50, txn(0)) // nobody is nobody's own
			expect(0, 50)
			expect(1, 50)
			read(c, 50, txn(1))
			expect(1, 50)
			read(c, 60, txn(1))
			expect(1, 50)
			read(c, 5, txn(2)) // below the low-water
			expect(1, 50)
		})
	}
}

// Transactions that differ in anything are different.
func TestOwnersAreNotConfused(t *testing.T) {
	base := id.Key{Node: 1, Epoch: 2, Seq: 3, Start: 4}
	for _, o := range []id.Key{
		{Node: 9, Epoch: 2, Seq: 3, Start: 4}, {Node: 1, Epoch: 9, Seq: 3, Start: 4},
		{Node: 1, Epoch: 2, Seq: 9, Start: 4}, {Node: 1, Epoch: 2, Seq: 3, Start: 9},
	} {
		c := newCache(t, Options{}, 0)
		c.Read("k", 10, base)
		c.ReadSpan("a", "b", 10, base)
		require.EqualValues(t, 10, c.Max("k", o))
		require.EqualValues(t, 10, c.Max("a", o))
		require.Zero(t, c.Max("k", base))
	}
}

func TestSpans(t *testing.T) {
	c := newCache(t, Options{}, 0)
	c.ReadSpan("b", "d", 10, txn(1))
	c.ReadSpan("", "", 5, txn(2))
	c.ReadSpan("d", "d", 99, txn(2))
	c.ReadSpan("d", "c", 99, txn(2))
	require.NoError(t, c.check())
	for key, want := range map[string]hlc.Timestamp{"": 5, "a\xff": 5, "b": 10, "c": 10, "d": 5, "\xff\xff": 5} {
		require.Equal(t, want, c.Max(key, id.Key{}), "%q", key)
	}
	require.EqualValues(t, 5, c.Max("c", txn(1)))
	require.EqualValues(t, 0, c.Max("a", txn(2)))
	c.ReadSpan("", "", 20, txn(1))
	require.Equal(t, 1, c.spans.tree.Len(), "what a later scan covers becomes one")
	require.EqualValues(t, 5, c.Max("c", txn(1)))
	c.ReadSpan("k", "l", 20, txn(2))
	require.EqualValues(t, 20, c.Max("k", txn(2)), "both at once")
	require.EqualValues(t, 20, c.Max("k", txn(1)))
	require.EqualValues(t, 5, c.Max("j", txn(1)))

	c = newCache(t, Options{}, 0)
	c.ReadSpan("b", "c", 20, txn(2))
	c.ReadSpan("d", "e", 15, txn(2))
	c.ReadSpan("f", "g", 16, txn(3))
	c.ReadSpan("", "", 20, txn(1))
	require.Equal(t, 3, c.spans.tree.Len())
	require.EqualValues(t, 20, c.Max("b", txn(1)))
	require.EqualValues(t, 0, c.Max("a", txn(1)), "a read at the same time counts where it was")
	require.EqualValues(t, 16, c.Max("e", txn(1)), "earlier ones count everywhere")

	c = newCache(t, Options{}, 0)
	c.ReadSpan("b", "c", 20, txn(1))
	c.ReadSpan("c", "d", 20, txn(1))
	require.Equal(t, 2, c.spans.tree.Len())
	c.ReadSpan("b", "d", 10, txn(2))
	require.Equal(t, 1, c.spans.tree.Len(), "neighbours that are alike become one")
}

// Where there are too many spans, those that are longest ago become the low-water.
func TestTooManySpans(t *testing.T) {
	c := newCache(t, Options{MaxSpans: 8}, 1)
	for i := range 9 {
		c.ReadSpan(string(rune('a'+i)), string(rune('a'+i))+"\x00", hlc.Timestamp(100+i), txn(1))
		require.NoError(t, c.check())
	}
	require.EqualValues(t, 102, c.Low())
	require.Equal(t, 6, c.spans.tree.Len())
	require.EqualValues(t, 102, c.Max("zzz", txn(1)))
	require.EqualValues(t, 108, c.Max("i", txn(2)))

	// One read can add many intervals: one for each gap.
	c = newCache(t, Options{MaxSpans: 8}, 1)
	for i := range 8 {
		c.ReadSpan(string(rune('a'+i)), string(rune('a'+i))+"\x00", hlc.Timestamp(200+i), txn(1))
	}
	c.ReadSpan("", "", 100, txn(2))
	require.NoError(t, c.check())
	require.EqualValues(t, 100, c.Low())
	require.EqualValues(t, 207, c.Max("h", txn(2)))

	// A quarter of them is not always enough.
	c = newCache(t, Options{MaxSpans: 16}, 1)
	for i := range 15 {
		ts := hlc.Timestamp(200)
		if i >= 8 {
			ts = 10
		}
		c.ReadSpan(string(rune('a'+i)), string(rune('a'+i))+"\x00", ts+hlc.Timestamp(i), txn(1))
	}
	c.ReadSpan("", "i", 100, txn(2))
	require.NoError(t, c.check())
}

func TestRaise(t *testing.T) {
	c := newCache(t, Options{}, 0)
	c.Read("old", 10, txn(1))
	c.Read("new", 30, txn(1))
	c.ReadSpan("s", "t", 10, txn(1))
	c.ReadSpan("t", "u", 30, txn(1))
	c.Raise(20)
	c.Raise(15)
	require.EqualValues(t, 20, c.Low())
	for key, want := range map[string]hlc.Timestamp{"old": 20, "new": 30, "s": 20, "t": 30, "none": 20} {
		require.Equal(t, want, c.Max(key, txn(2)), key)
		require.EqualValues(t, 20, c.Max(key, txn(1)), key)
	}
	require.Equal(t, 1, c.pages())
	require.Equal(t, 1, c.spans.tree.Len())
	c.Read("old", 40, txn(1))
	require.EqualValues(t, 40, c.Max("old", txn(2)), "a page that was dropped comes back")
}

// A read never goes into a page that was dropped, and a page that has taken the place of
// one that was dropped stays.
func TestDroppedPages(t *testing.T) {
	var place atomic.Pointer[page]
	old := present(&place)
	require.True(t, old.read(0, record{ts: 5}))
	old.drop(4, &place)
	require.Same(t, old, place.Load())
	old.drop(5, &place)
	require.Nil(t, place.Load())
	require.False(t, old.read(0, record{ts: 9}))
	next := present(&place)
	old.drop(5, &place)
	require.Same(t, next, place.Load())

	for range 500 {
		place.Store(nil)
		var got [4]*page
		var work sync.WaitGroup
		for i := range got {
			work.Go(func() { got[i] = present(&place) })
		}
		work.Wait()
		for _, pg := range got {
			require.Same(t, got[0], pg)
		}
	}
}

// pages counts those that are allocated.
func (c *Cache) pages() (n int) {
	for i := range c.points.dirs {
		if dir := c.points.dirs[i].Load(); dir != nil {
			for j := range dir {
				if dir[j].Load() != nil {
					n++
				}
			}
		}
	}
	return n
}

// A cache of an idle shard is small, and so are the pages of one with few keys.
func TestMemory(t *testing.T) {
	c := newCache(t, Options{}, 1)
	require.Less(t, unsafe.Sizeof(*c), uintptr(1400))
	c.Read("k", 1, txn(1))
	require.Zero(t, c.pages(), "at the low-water there is nothing to note")
	for i := range 100 {
		c.Read(fmt.Sprint(i), 2, txn(1))
	}
	require.LessOrEqual(t, c.pages(), 100)
	require.LessOrEqual(t, unsafe.Sizeof(page{}), uintptr(208))
	for i := range 200_000 {
		c.Read(fmt.Sprint(i), 2, txn(1))
	}
	require.LessOrEqual(t, c.pages(), 1<<14)
	require.Greater(t, c.pages(), 1<<14*9/10, "all of the hash is used")
}

func TestRefusesBadOptions(t *testing.T) {
	_, err := New(Options{MaxSpans: -1}, 0)
	require.EqualError(t, err, "tscache: MaxSpans is -1, expected at least 1")
}
