package isolation_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/verify/isolation"
)

// history reads one transaction a line: its time, [begin,end], how it ended, if it did
// not commit (abort, unknown), and its operations:
//
//	x+3     append 3 to the list x      x=3     write 3 to the register x
//	x:1,2   read the list x             x?3     read the register x, 0 for none
func history(t testing.TB, text string) *isolation.History {
	h := &isolation.History{}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		tx := isolation.Txn{Client: i, Outcome: isolation.Committed, Begin: 0, End: time.Hour}
		for _, word := range strings.Fields(line) {
			switch {
			case word == "abort":
				tx.Outcome = isolation.Aborted
				continue
			case word == "unknown":
				tx.Outcome = isolation.Unknown
				continue
			case word[0] == '[':
				_, err := fmt.Sscanf(word, "[%d,%d]", &tx.Begin, &tx.End)
				require.NoError(t, err)
				continue
			}
			at := strings.IndexAny(word, "+:=?")
			o := isolation.Op{Key: word[:at], Kind: map[byte]isolation.OpKind{
				'+': isolation.Append, ':': isolation.ReadList, '=': isolation.Write, '?': isolation.Read,
			}[word[at]]}
			if word[at] == ':' {
				for _, v := range strings.FieldsFunc(word[at+1:], func(r rune) bool { return r == ',' }) {
					n, err := strconv.ParseUint(v, 10, 64)
					require.NoError(t, err)
					o.List = append(o.List, n)
				}
			} else {
				n, err := strconv.ParseUint(word[at+1:], 10, 64)
				require.NoError(t, err)
				o.Value = n
			}
			tx.Ops = append(tx.Ops, o)
		}
		h.Add(tx)
	}
	return h
}

func names(list []isolation.Anomaly) (text []string) {
	for _, a := range list {
		text = append(text, string(a.Name))
	}
	return text
}

// Each anomaly is found, by its name, and forbidden from its level on.
func TestAnomalies(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		want  isolation.Name
		cycle string // how it reads
	}{
		"write cycle": {`
			x+1 y+1
			x+2 y+2
			x:1,2 y:2,1`, isolation.G0, "G0: T0 -ww(x)-> T1 -ww(y)-> T0"},
		"aborted read": {`
			x+1 abort
			x:1`, isolation.G1a, "G1a: T1 reads 1 of x, which T0 wrote, that aborted"},
		"intermediate read": {`
			x+1 x+2
			x:1
			x:1,2`, isolation.G1b, ""},
		"circular flow": {`
			x+1 y:2
			y+2 x:1`, isolation.G1c, ""},
		"lost update": {`
			x:  x+1
			x:  x+2
			x:1,2`, isolation.LostUpdate, "lost-update: T1 -rw(x)-> T0 -ww(x)-> T1"},
		"read skew": {`
			x+1 y+1
			x: y:1
			x:1`, isolation.GSingle, "G-single: T1 -rw(x)-> T0 -wr(y)-> T1"},
		"non-repeatable read": {`
			x+1
			x: x:1`, isolation.GSingle, ""},
		"write skew": {`
			x: y: x+1
			x: y: y+1
			x:1 y:1`, isolation.G2Item, "G2-item: T0 -rw(y)-> T1 -rw(x)-> T0"},
		"long fork": {`
			x+1
			y+1
			x:1 y:
			x: y:1`, isolation.GNonadjacent, ""},
		"stale read": {`
			[0,1] x+1
			[2,3] x:
			[4,5] x:1`, isolation.GSingle.Realtime(), "G-single-realtime: T1 -rw(x)-> T0 -rt-> T1"},
		"write behind a later one": {`
			[0,1] x+1
			[2,3] x+2
			[4,5] x:2,1`, isolation.G0.Realtime(), ""},
		"read from the future": {`
			[0,1] x:1
			[2,3] x+1`, isolation.G1c.Realtime(), ""},
		"causal reverse": {`
			[0,1] x+1
			[2,3] y+1
			[0,5] x: y:1
			[6,7] x:1`, isolation.GSingle.Realtime(), ""},
		"write skew over time": {`
			[0,5] x: y+1
			[0,1] x+1
			[2,3] y:
			[6,7] x:1 y:1`, isolation.G2Item.Realtime(), ""},
		"garbage": {`
			x:7`, isolation.GarbageRead, ""},
		"duplicate": {`
			x+1
			x:1,1`, isolation.DuplicateElements, ""},
		"two orders": {`
			x+1
			x+2
			x:1
			x:2,1`, isolation.IncompatibleOrder, ""},
		"does not see itself": {`
			x+1 x:`, isolation.Internal, ""},
		"register does not see itself": {`
			x=1 x?0`, isolation.Internal, ""},
		"register, aborted": {`
			x=1 abort
			x?1`, isolation.G1a, ""},
		"register, intermediate": {`
			x=1 x=2
			x?1`, isolation.G1b, ""},
		"register, circular": {`
			x=1 y?2
			y=2 x?1`, isolation.G1c, ""},
		"register, lost update": {`
			x=1
			x?1 x=2
			x?1 x=3`, isolation.LostUpdate, ""},
		"register, write skew": {`
			x?0 y?0 x=1
			x?0 y?0 y=1`, isolation.G2Item, ""},
		"unread, twice": {`
			x: y:1
			x+1 x+2 y+1`, isolation.GSingle, "G-single: T0 -rw(x)-> T1 -wr(y)-> T0"},
		"lost update, unread": {`
			x: x+1
			x: x+2`, isolation.LostUpdate, "lost-update: T1 reads 0 values of x and appends another one, as T0 does"},
		"own value from the future": {`
			x:1 x+1`, isolation.Internal, "internal: T0 reads 1 of x before it writes that itself"},
		"register, own value from the future": {`
			x?1 x=1`, isolation.Internal, ""},
		"register, non-repeatable read": {`
			x=1
			x?0 x?1`, isolation.GSingle, "G-single: T1 reads x as 0 and as 1"},
		"unknown, but read": {`
			x+1 y+1 unknown
			x: y:1
			x:1`, isolation.GSingle, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := history(t, c.text)
			breaks := c.want.Breaks()
			r, err := isolation.Check(h, breaks)
			require.NoError(t, err)
			require.Contains(t, names(r.Violations()), string(c.want), "%v", r.Anomalies)
			require.ErrorContains(t, r.Err(), string(c.want))
			require.ErrorContains(t, r.Err(), "not "+breaks.String())
			if c.cycle != "" {
				require.ErrorContains(t, r.Err(), c.cycle)
			}
			if breaks > isolation.ReadCommitted {
				r, err = isolation.Check(h, breaks-1)
				require.NoError(t, err)
				require.NoError(t, r.Err(), "a weaker level allows it")
			}
		})
	}
}

// What looks odd and is allowed.
func TestNoAnomalies(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                 ``,
		"sees itself":             "x+1 x:1 x+2 x:1,2\nx:1,2",
		"aborted and unread":      "x+1 abort\nx:",
		"unknown and unread":      "x+1 unknown\nx: y+1\ny:1",
		"unread":                  "x+1\nx+2\nx:\nx:1",
		"reads of one's own":      "x=1 x?1 x=2 x?2\nx?2",
		"one behind the other":    "[0,1] x+1\n[2,3] x:1 x+2\n[4,5] x:1,2",
		"reads twice":             "x+1\nx: x: x+2\nx:2,1 x:2,1 x+3",
		"appends unread":          "x: x+1\nx+2",
		"register, reads twice":   "x=1\nx?1 x?1 x=2 x?2",
		"at the same time":        "[0,9] x+1\n[1,5] x:\n[2,6] x:1",
		"late and unknown":        "[0,1] x+1 unknown\n[2,3] x:\n[4,5] x:1",
		"the last one unread too": "x+1 x+2\nx:1,2\nx:1,2 x+3",
	} {
		t.Run(name, func(t *testing.T) {
			h := &isolation.History{}
			if text != "" {
				h = history(t, text)
			}
			r, err := isolation.Check(h, isolation.StrictSerializable)
			require.NoError(t, err)
			require.Empty(t, r.Anomalies)
			require.NoError(t, r.Err())
		})
	}
}

// The order of a register's values that the store kept tells what nobody read.
func TestOrderOfARegister(t *testing.T) {
	text := "x=1 y=1\nx=2 y=2"
	h := history(t, text)
	h.Order("x", []uint64{1, 2})
	h.Order("y", []uint64{2, 1})
	h.Order("z", []uint64{9}) // which is nobody's
	r, err := isolation.Check(h, isolation.ReadCommitted)
	require.NoError(t, err)
	require.ErrorContains(t, r.Err(), "G0: T0 -ww(x)-> T1 -ww(y)-> T0")
	h = history(t, text)
	h.Order("x", []uint64{1, 2, 1})
	_, err = isolation.Check(h, isolation.ReadCommitted)
	require.ErrorIs(t, err, isolation.ErrMalformed)
}

func TestMalformedHistories(t *testing.T) {
	for _, text := range []string{"x+1\nx+1", "x+0", "x=1\nx:1", "[5,1] x+1"} {
		_, err := isolation.Check(history(t, text), isolation.Snapshot)
		require.ErrorIs(t, err, isolation.ErrMalformed, text)
	}
}

// Transactions of many operations take no longer than as many of few.
func TestLongTransactions(t *testing.T) {
	const ops = 200_000
	writer, reader := isolation.Txn{Outcome: isolation.Committed, End: 1}, isolation.Txn{Outcome: isolation.Committed, End: 1}
	for i := range uint64(ops) {
		key := fmt.Sprint(i % 50)
		writer.Ops = append(writer.Ops, isolation.Op{Kind: isolation.Write, Key: key, Value: i + 1})
		reader.Ops = append(reader.Ops, isolation.Op{Kind: isolation.Read, Key: key, Value: ops - 49 + i%50})
	}
	h := &isolation.History{}
	h.Add(writer)
	h.Add(reader)
	began := time.Now()
	r, err := isolation.Check(h, isolation.StrictSerializable)
	require.NoError(t, err)
	require.NoError(t, r.Err())
	require.Less(t, time.Since(began), 30*time.Second)
}

// Of what is long a report shows both ends, and it says how much it does not show.
func TestReportsAreBrief(t *testing.T) {
	const length, readers = 50_000, 1000
	var all []uint64
	writer := isolation.Txn{Outcome: isolation.Committed, End: 1}
	for v := uint64(1); v <= length; v++ {
		all = append(all, v)
		writer.Ops = append(writer.Ops, isolation.Op{Kind: isolation.Append, Key: "x", Value: v})
	}
	h := &isolation.History{}
	h.Add(writer)
	read := func(list []uint64) {
		h.Add(isolation.Txn{Outcome: isolation.Committed, End: 1, Ops: []isolation.Op{{Kind: isolation.ReadList, Key: "x", List: list}}})
	}
	read(all)
	for i := range readers {
		other := slices.Clone(all[:length-1-i])
		other[1000], other[1001] = other[1001], other[1000]
		read(other)
	}
	r, err := isolation.Check(h, isolation.Serializable)
	require.NoError(t, err)
	text := r.Err().Error()
	require.Less(t, len(text), 10_000)
	require.Contains(t, text, fmt.Sprintf("not serializable: %d anomalies", readers))
	require.Contains(t, text, "T2 reads x as [1 2 3 4 5 6 7 8 9 10 11 12 ... 49975 more ... 49988 49989 49990 49991 49992 49993 49994 49995 49996 49997 49998 49999]")
	require.Contains(t, text, "at 1000 there is 1002, and 1001")
	require.Contains(t, text, fmt.Sprintf("incompatible-order: %d more", readers-8))

	for i, want := range []string{"append(x, 12) ... 49976 more ... append(x, 49989)", "12 ... 49976 more ... 49989"} {
		tx := h.Txn(i)
		require.Less(t, len(tx.String()), 1000)
		require.Contains(t, tx.String(), want)
	}
	long := isolation.Anomaly{Name: isolation.G0}
	for i := range 1000 {
		long.Cycle = append(long.Cycle, isolation.Step{Txn: i, Kind: "ww", Key: "x"})
	}
	require.Contains(t, long.String(), "T11 -ww(x)-> ... 976 more ... T988 -ww(x)->")
	require.True(t, strings.HasSuffix(long.String(), "T999 -ww(x)-> T0"))
}

// A store of lists that runs one transaction after another, and lets a test do worse.
type store struct {
	r     *rand.Rand
	lists map[string][]uint64
	next  uint64
	now   time.Duration
}

// run does a transaction on some keys and returns it. old, if set, is what it reads
// instead of what there is.
func (s *store) run(client int, old map[string][]uint64) isolation.Txn {
	tx := isolation.Txn{Client: client, Outcome: isolation.Committed, Begin: s.now, End: s.now + 1}
	s.now += 2
	from := s.lists
	if old != nil {
		from = old
	}
	own := map[string][]uint64{}
	for range 1 + s.r.IntN(4) {
		key := fmt.Sprint("k", s.r.IntN(8))
		if s.r.IntN(2) == 0 {
			list := append(append([]uint64(nil), from[key]...), own[key]...)
			tx.Ops = append(tx.Ops, isolation.Op{Kind: isolation.ReadList, Key: key, List: list})
			continue
		}
		s.next++
		own[key] = append(own[key], s.next)
		tx.Ops = append(tx.Ops, isolation.Op{Kind: isolation.Append, Key: key, Value: s.next})
	}
	for key, values := range own {
		s.lists[key] = append(s.lists[key][:len(s.lists[key]):len(s.lists[key])], values...)
	}
	return tx
}

// Histories that were serial are found to be so, and those in which some transactions
// read what was before, and wrote all the same, are not.
func TestRandomHistories(t *testing.T) {
	seed := harness.Seed()
	t.Logf("seed %d (PHANTOM_SEED)", seed)
	caught := 0
	for round := range uint64(200) {
		s := &store{r: rand.New(rand.NewPCG(seed, round)), lists: map[string][]uint64{}}
		h := &isolation.History{}
		bad := round%2 == 1
		var old map[string][]uint64
		for i := range 200 {
			if i%20 == 0 {
				old = map[string][]uint64{}
				for k, v := range s.lists {
					old[k] = v
				}
			}
			if bad && i%20 == 19 {
				h.Add(s.run(i, old))
			} else {
				h.Add(s.run(i, nil))
			}
		}
		r, err := isolation.Check(h, isolation.StrictSerializable)
		require.NoError(t, err)
		if !bad {
			require.NoError(t, r.Err(), "round %d", round)
		} else if r.Err() != nil {
			caught++
		}
	}
	require.Greater(t, caught, 95, "of 100 that were not serial")
}

// The check takes seconds for a hundred thousand transactions, where nearly all of them
// depend on each other too.
func TestLongHistory(t *testing.T) {
	for _, bad := range []bool{false, true} {
		h := long(100_000, bad)
		began := time.Now()
		r, err := isolation.Check(h, isolation.StrictSerializable)
		require.NoError(t, err)
		require.Equal(t, bad, r.Err() != nil)
		t.Logf("%d transactions, %d operations, %d edges in %v: %d anomalies", r.Txns, r.Ops, r.Edges, time.Since(began), len(r.Anomalies))
	}
}

// long is a history of lists that are kept short, on ever new keys.
func long(txns int, bad bool) *isolation.History {
	r := rand.New(rand.NewPCG(1, 2))
	h := &isolation.History{}
	lists := map[string][]uint64{}
	next := uint64(0)
	for i := range txns {
		tx := isolation.Txn{Outcome: isolation.Committed, Begin: time.Duration(2 * i), End: time.Duration(2*i + 20)}
		for range 4 {
			key := fmt.Sprint(i/1000, ".", r.IntN(50))
			if r.IntN(2) == 0 {
				list := lists[key]
				if bad && len(list) > 0 && i%50 == 0 {
					list = list[:len(list)-1]
				}
				if len(tx.Ops) > 0 && tx.Ops[len(tx.Ops)-1].Key == key {
					continue
				}
				own := false
				for _, o := range tx.Ops {
					own = own || o.Key == key
				}
				if !own {
					tx.Ops = append(tx.Ops, isolation.Op{Kind: isolation.ReadList, Key: key, List: list[:len(list):len(list)]})
				}
				continue
			}
			next++
			lists[key] = append(lists[key], next)
			tx.Ops = append(tx.Ops, isolation.Op{Kind: isolation.Append, Key: key, Value: next})
		}
		h.Add(tx)
	}
	return h
}
