package mvcc

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/cluster/meta"
	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

const (
	benchBatch = 64  // commands of an Apply
	benchValue = 128 // bytes of a value, which nothing compresses
	benchScan  = 100 // rows of a scan
	// benchVersions bounds the versions that a case begins with.
	benchVersions = 1 << 20
)

// BenchmarkMVCC asks what a store costs by itself, without Raft and with a file system
// in memory, as its rows have more versions. All of these lie in files, compacted: 15 to
// 150 MB of them (quick: 0.15 to 15) behind a cache of 8 MiB.
//
// An operation of get is the latest version of a row taken at random, of put one command
// that writes such a row, 64 in a batch, of scan the latest versions of 100 rows, of gc a
// sweep of all rows with so many versions each that nobody reads, beside the one that
// stays: entries/s are versions removed.
//
//	go test -run='^$' -bench=MVCC -count=10 ./txn/mvcc
func BenchmarkMVCC(b *testing.B) {
	for _, c := range []struct {
		op  string
		run func(*testing.B, *benchStore)
	}{{"get", benchGet}, {"put", benchPut}, {"scan", benchScans}, {"gc", nil}} {
		for _, versions := range []int{1, 10, 100} {
			rows := 100_000
			if harness.Quick() {
				rows = 1_000
			}
			rows = min(rows, benchVersions/versions)
			b.Run(harness.Name("op", c.op, "versions", versions, "rows", rows), func(b *testing.B) {
				harness.Begin(b)
				if c.run == nil {
					benchSweep(b, rows, versions)
					return
				}
				s := openBench(b, rows)
				s.load(versions)
				c.run(b, s)
				require.NoError(b, s.e.Close())
			})
		}
	}
}

// A benchStore is a store in a benchmark. Each of its commands has a timestamp of its
// own, one above the last.
type benchStore struct {
	b       *testing.B
	e       *Engine
	s       *Store
	keys    []string
	version int // of each row, after load
	ts      hlc.Timestamp
	rng     *rand.Rand
	value   []byte
	batch   consensus.Batch
	results [benchBatch]consensus.Result
	bytes   []byte // of the batch's commands
}

func openBench(b *testing.B, rows int) *benchStore {
	e, err := Open(Options{FS: vfs.NewMem(), Dir: "data"})
	require.NoError(b, err)
	s := &benchStore{b: b, e: e, s: e.Shard(meta.ShardID(7)), rng: rand.New(rand.NewPCG(harness.Seed(), 1)), value: make([]byte, benchValue)}
	_, err = s.s.Open()
	require.NoError(b, err)
	for i := range rows {
		s.keys = append(s.keys, fmt.Sprintf("row/%08d", i))
	}
	s.batch.Term = 1
	require.NoError(b, s.add(AppendLead(AppendHeader(s.bytes, &Header{}), 1)))
	return s
}

// put adds a command that writes a row. The value tells of which row it is.
func (s *benchStore) put(row int) error {
	s.ts++
	h := Header{Lease: 1, Closed: s.ts - 1, TS: s.ts, Writer: id.Key{Node: 1, Epoch: 1, Seq: uint64(s.ts), Start: s.ts}}
	binary.BigEndian.PutUint64(s.value, uint64(row))
	for i := 8; i < len(s.value); i += 8 {
		binary.LittleEndian.PutUint64(s.value[i:], s.rng.Uint64())
	}
	return s.add(AppendWrite(AppendHeader(s.bytes, &h), &Write{Key: s.keys[row], Kind: Put, Value: s.value}))
}

// add adds the command by which b is longer than s.bytes, and applies the batch once it
// is full.
func (s *benchStore) add(b []byte) error {
	from := len(s.bytes)
	s.batch.Commands, s.bytes = append(s.batch.Commands, b[from:]), b
	if len(s.batch.Commands) < benchBatch {
		return nil
	}
	return s.flush()
}

// flush applies what was added, all of which must be done.
func (s *benchStore) flush() error {
	s.batch.Index++
	results := s.results[:len(s.batch.Commands)]
	err := s.s.Apply(&s.batch, results)
	for i := range results {
		if err == nil && (len(results[i].Data) != 1 || Verdict(results[i].Data[0]) != Done) {
			err = fmt.Errorf("command %d of batch %d: answer %x", i, s.batch.Index, results[i].Data)
		}
	}
	s.batch.Commands, s.bytes = s.batch.Commands[:0], s.bytes[:0]
	return err
}

// load writes so many versions of each row, all rows in turn, and has them compacted.
func (s *benchStore) load(versions int) {
	for range versions {
		for row := range s.keys {
			require.NoError(s.b, s.put(row))
		}
	}
	s.version = versions
	require.NoError(s.b, s.flush())
	s.compact()
}

func (s *benchStore) compact() {
	require.NoError(s.b, s.s.Flush(s.b.Context(), s.batch.Index))
	require.NoError(s.b, s.e.db.Compact(s.b.Context(), appendKey(nil, 7, tableRows, ""), appendKey(nil, 7, tableEnd, ""), false))
}

// written is at which timestamp load wrote a row for the last time.
func (s *benchStore) written(row int) hlc.Timestamp {
	return hlc.Timestamp((s.version-1)*len(s.keys) + row + 1)
}

// check says what is wrong with the latest version of a row.
func (s *benchStore) check(row int, v *Version) error {
	if v.TS != s.written(row) || len(v.Value) != benchValue || binary.BigEndian.Uint64(v.Value) != uint64(row) {
		return fmt.Errorf("row %d: version at %v of %d bytes, expected %v and %d", row, v.TS, len(v.Value), s.written(row), benchValue)
	}
	return nil
}

func benchGet(b *testing.B, s *benchStore) {
	harness.Micro(b, func() error {
		r, err := s.s.Reader()
		if err != nil {
			return err
		}
		row := s.rng.IntN(len(s.keys))
		v, _, err := r.Get(s.keys[row], hlc.Max, 0)
		if err == nil {
			err = s.check(row, &v)
		}
		if err != nil {
			return err
		}
		return r.Close()
	})
}

func benchPut(b *testing.B, s *benchStore) {
	loaded, puts, sum := s.ts, 0, 0
	harness.Micro(b, func() error {
		row := s.rng.IntN(len(s.keys))
		puts, sum = puts+1, sum+row
		return s.put(row)
	})
	require.NoError(b, s.flush())
	r, err := s.s.Reader()
	require.NoError(b, err)
	require.NoError(b, r.Versions("", "", loaded, hlc.Max, func(_ string, v *Version) bool {
		puts, sum = puts-1, sum-int(binary.BigEndian.Uint64(v.Value))
		return true
	}))
	require.NoError(b, r.Close())
	require.Zero(b, puts, "versions that are missing")
	require.Zero(b, sum, "rows that are missing")
}

func benchScans(b *testing.B, s *benchStore) {
	harness.Run(b, harness.Spec{}, func(*harness.Client) error {
		r, err := s.s.Reader()
		if err != nil {
			return err
		}
		row := s.rng.IntN(len(s.keys) - benchScan + 1)
		seen, wrong := 0, error(nil)
		_, err = r.Scan(s.keys[row], "", hlc.Max, 0, func(key string, v *Version) bool {
			if wrong = s.check(row+seen, v); wrong == nil && key != s.keys[row+seen] {
				wrong = fmt.Errorf("key %q, expected %q", key, s.keys[row+seen])
			}
			seen++
			return wrong == nil && seen < benchScan
		})
		switch {
		case err != nil:
			return err
		case wrong != nil:
			return wrong
		case seen != benchScan:
			return fmt.Errorf("scan from row %d: %d rows", row, seen)
		}
		return r.Close()
	})
}

// benchSweep measures sweeps, each of a store of its own, in the steps in which nodes
// make them.
func benchSweep(b *testing.B, rows, versions int) {
	const step = 1000
	harness.Events(b, harness.Spec{}, func(int) (harness.Event, error) {
		s := openBench(b, rows)
		s.load(versions + 1)
		if err := s.add(AppendHeader(s.bytes, &Header{Closed: s.ts})); err != nil {
			return harness.Event{}, err
		}
		if err := s.add(AppendThreshold(AppendHeader(s.bytes, &Header{}), s.ts)); err != nil {
			return harness.Event{}, err
		}
		if err := s.flush(); err != nil {
			return harness.Event{}, err
		}
		start, removed := time.Now(), 0
		for ended := false; !ended; {
			var n int
			var err error
			if n, ended, err = s.s.Sweep(step); err != nil {
				return harness.Event{}, err
			}
			removed += n
		}
		took := time.Since(start)
		if left := s.count(); removed != rows*versions || left != rows {
			return harness.Event{}, fmt.Errorf("%d versions removed and %d left, expected %d and %d", removed, left, rows*versions, rows)
		}
		return harness.Event{Took: took, Entries: int64(removed)}, s.e.Close()
	})
}

// count is how many versions are there.
func (s *benchStore) count() (n int) {
	it, err := s.e.db.NewIter(&pebble.IterOptions{LowerBound: appendKey(nil, 7, tableVersions, ""), UpperBound: appendKey(nil, 7, tableEnd, "")})
	require.NoError(s.b, err)
	for ok := it.First(); ok; ok = it.Next() {
		n++
	}
	require.NoError(s.b, it.Close())
	return n
}
