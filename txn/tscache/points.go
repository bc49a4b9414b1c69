package tscache

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// The bits of a hash that choose a directory, a page and a record. Pages are small,
// because keys hash all over the place: with large ones, few keys would need all of
// them.
const (
	dirBits    = 7
	pageBits   = 7
	recordBits = 2
)

// points are records by the hash of a key.
type points struct {
	seed maphash.Seed // of its own, so that nobody can choose keys that share a record
	dirs [1 << dirBits]atomic.Pointer[directory]
}

type directory [1 << pageBits]atomic.Pointer[page]

type page struct {
	mu      sync.Mutex
	dropped bool                    // guarded by mu; it is no longer in its directory
	records [1 << recordBits]record // guarded by mu
}

func (p *points) init() { p.seed = maphash.MakeSeed() }

func (p *points) read(key string, ts hlc.Timestamp, by id.Key) {
	hash := maphash.String(p.seed, key)
	for {
		pg := present(&present(&p.dirs[dirOf(hash)])[pageOf(hash)])
		if pg.read(recordOf(hash), record{ts: ts, by: by}) {
			return
		}
	}
}

// read notes a read, unless the page has been dropped.
func (pg *page) read(i uint64, r record) bool {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	if pg.dropped {
		return false
	}
	pg.records[i].add(r)
	return true
}

// max is the highest timestamp of the record of a key, but for one transaction.
func (p *points) max(key string, except id.Key) hlc.Timestamp {
	hash := maphash.String(p.seed, key)
	dir := p.dirs[dirOf(hash)].Load()
	if dir == nil {
		return 0
	}
	pg := dir[pageOf(hash)].Load()
	if pg == nil {
		return 0
	}
	pg.mu.Lock()
	defer pg.mu.Unlock()
	return pg.records[recordOf(hash)].except(except)
}

// drop gives back the pages all of whose reads are at low or below.
func (p *points) drop(low hlc.Timestamp) {
	for i := range p.dirs {
		dir := p.dirs[i].Load()
		if dir == nil {
			continue
		}
		for j := range dir {
			if pg := dir[j].Load(); pg != nil {
				pg.drop(low, &dir[j])
			}
		}
	}
}

// drop takes a page out of its directory if all its reads are at low or below. Whoever
// has found it before finds it dropped, and looks again.
func (pg *page) drop(low hlc.Timestamp, place *atomic.Pointer[page]) {
	pg.mu.Lock()
	defer pg.mu.Unlock()
	for _, r := range pg.records {
		if r.ts > low {
			return
		}
	}
	if !pg.dropped { // and its place another one's by now
		pg.dropped = true
		place.Store(nil)
	}
}

func dirOf(hash uint64) uint64    { return hash % (1 << dirBits) }
func pageOf(hash uint64) uint64   { return hash >> dirBits % (1 << pageBits) }
func recordOf(hash uint64) uint64 { return hash >> (dirBits + pageBits) % (1 << recordBits) }

// present returns what a pointer points to, which it makes if there is nothing.
func present[T any](p *atomic.Pointer[T]) *T {
	for {
		if v := p.Load(); v != nil {
			return v
		}
		p.CompareAndSwap(nil, new(T))
	}
}
