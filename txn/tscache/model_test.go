package tscache

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// The slow and obvious version: all reads that there were.
type modelRead struct {
	point      bool
	start, end string
	ts         hlc.Timestamp
	by         int
}

func (r modelRead) covers(key string) bool {
	if r.point {
		return key == r.start
	}
	return key >= r.start && (r.end == "" || key < r.end)
}

// Whatever is read in whatever order, no answer is below the truth. Where nothing has
// been forgotten it is not above what anybody has read at the key either, and for those
// who have not read last it is the truth.
func TestModel(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	keys := []string{"", "\x00", "a", "a\x00", "b", "ba", "c", "d", "e", "f", "\xff", "\xff\xff"}
	for round := range 60 {
		r := rand.New(rand.NewPCG(seed, uint64(round)))
		low := hlc.Timestamp(r.IntN(10))
		bounded := round%2 == 0
		o := Options{MaxSpans: 1000}
		if bounded {
			o.MaxSpans = 1 + r.IntN(6)
		}
		c := newCache(t, o, low)
		for records(c, keys) < len(keys) { // with another seed no keys are taken for each other
			c = newCache(t, o, low)
		}
		var reads []modelRead
		for step := range 60 {
			read := modelRead{
				point: r.IntN(2) == 0, start: keys[r.IntN(len(keys))], end: keys[r.IntN(len(keys))],
				ts: hlc.Timestamp(step/4 + r.IntN(15)), by: r.IntN(4),
			}
			switch {
			case r.IntN(30) == 0:
				low = max(low, hlc.Timestamp(r.IntN(step+1)))
				c.Raise(low)
			case read.point:
				c.Read(read.start, read.ts, txn(read.by))
				reads = append(reads, read)
			default:
				c.ReadSpan(read.start, read.end, read.ts, txn(read.by))
				reads = append(reads, read)
			}
			require.NoError(t, c.check())
			require.GreaterOrEqual(t, c.Low(), low)
			compare(t, c, reads, keys, low, !bounded)
		}
	}
}

// compare compares what a cache says of all keys with all reads.
func compare(t *testing.T, c *Cache, reads []modelRead, keys []string, low hlc.Timestamp, exact bool) {
	t.Helper()
	for _, key := range keys {
		for except := range 4 {
			truth, anybody := low, low
			for _, read := range reads {
				if !read.covers(key) {
					continue
				}
				anybody = max(anybody, read.ts)
				if except == 0 || read.by != except {
					truth = max(truth, read.ts)
				}
			}
			got := c.Max(key, txn(except))
			require.GreaterOrEqual(t, got, truth, "%q but for %d", key, except)
			if exact && truth == anybody {
				require.Equal(t, truth, got, "%q but for %d", key, except)
			}
			if exact {
				require.LessOrEqual(t, got, anybody, "%q but for %d", key, except)
			}
		}
	}
}

// records is among how many records keys are divided.
func records(c *Cache, keys []string) int {
	all := map[uint64]bool{}
	for _, key := range keys {
		all[maphash.String(c.points.seed, key)%(1<<(dirBits+pageBits+recordBits))] = true
	}
	return len(all)
}

// Keys that share a record are as one key: each answer is at least the truth.
func TestSharedRecords(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	c := newCache(t, Options{}, 0)
	var keys []string
	for i := range 5000 {
		keys = append(keys, fmt.Sprint(i))
	}
	require.Less(t, records(c, keys), len(keys), "with any seed some keys share one")
	truth := map[string]*[4]hlc.Timestamp{}
	for _, key := range keys {
		truth[key] = &[4]hlc.Timestamp{}
		for range 1 + r.IntN(3) {
			ts, by := hlc.Timestamp(r.IntN(100)), 1+r.IntN(3)
			c.Read(key, ts, txn(by))
			truth[key][by] = max(truth[key][by], ts)
		}
	}
	for key, of := range truth {
		require.GreaterOrEqual(t, c.Max(key, txn(1)), max(of[2], of[3]))
		require.GreaterOrEqual(t, c.Max(key, txn(2)), max(of[1], of[3]))
		require.GreaterOrEqual(t, c.Max(key, txn(3)), max(of[1], of[2]))
	}
}

// What one goroutine has read is there for others, while the low-water goes up, pages
// are dropped, and there are too many spans.
func TestConcurrentReads(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	c := newCache(t, Options{MaxSpans: 4}, 0)
	var clock atomic.Uint64
	var work sync.WaitGroup
	for g := range 4 {
		work.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(g)))
			for range 5000 {
				key, ts := string(rune('a'+r.IntN(20))), hlc.Timestamp(clock.Add(1))
				switch r.IntN(10) {
				case 0:
					c.Raise(ts - min(ts, 10))
					continue
				case 1, 2, 3:
					c.ReadSpan(key, key+"\x00", ts, txn(g+1))
				default:
					c.Read(key, ts, txn(g+1))
				}
				if got := c.Max(key, txn(9)); got < ts {
					t.Errorf("%q: %d, expected at least %d", key, got, ts)
				}
			}
		})
	}
	work.Wait()
	require.NoError(t, c.check())
}
