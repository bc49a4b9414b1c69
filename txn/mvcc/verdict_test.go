package mvcc

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
	"github.com/phantomdb/phantomdb/txn/id"
)

// judged is a store with something of everything, which commands are judged against.
func judged(t *testing.T) *rig {
	r := newRig(t)
	r.must(Header{}, lead(5))
	r.lease = 5
	r.must(r.header(10, 20), write(putOf("text", "abc")), write(Unbounded("n", 50)), lay(putOf("laid", "x")))
	r.must(r.header(11, 60), write(Unbounded("high", 5)))
	r.must(r.header(12, 25), lay(Unbounded("n", 7)))
	r.must(Header{}, fence(3, 4))
	r.must(Header{Closed: 40})
	r.must(Header{}, protect(1, 15))
	r.must(Header{}, threshold(12))
	r.must(Header{}, record(Record{Txn: id.Txn{Key: txn(12), Anchor: "n"}, Status: Aborted}), bar(13, "k"))
	return r
}

// of is the header of a transaction that began at so much, on a node.
func of(lease, node, epoch, start uint64, ts hlc.Timestamp) Header {
	return Header{Lease: lease, Writer: id.Key{Node: node, Epoch: epoch, Seq: 9, Start: hlc.Timestamp(start)}, TS: ts}
}

// Each verdict is given for its reason and at its border; a command that was refused
// changes nothing, whatever else it would have done, and the ones beside it are done.
func TestVerdicts(t *testing.T) {
	good, x := of(5, 1, 1, 30, 50), write(putOf("text", "y"))
	float := of(5, 1, 1, 30, 50)
	float.Float = true
	staging := func(who uint64) part {
		return record(Record{Txn: id.Txn{Key: txn(who), Anchor: "z"}, Status: Staging, TS: 60, Promised: []string{"z"}})
	}
	for _, c := range []struct {
		name    string
		command []byte
		want    Answer
	}{
		{"good", command(good, x), Answer{}},
		{"no lease is any", command(of(0, 1, 1, 30, 50), x), Answer{}},
		{"an older lease", command(of(4, 1, 1, 30, 50), x), Answer{Verdict: Unleased}},
		{"a later lease", command(of(6, 1, 1, 30, 50), x), Answer{Verdict: Unleased}},
		{"nothing but an older lease", command(Header{Lease: 4, Closed: 90}), Answer{Verdict: Unleased}},
		{"leads again", command(Header{}, lead(5)), Answer{}},
		{"leads no more", command(Header{}, fence(1, 1), lead(4)), Answer{Verdict: Unleased}},
		{"closed", command(of(5, 1, 1, 30, 40), x), Answer{TooLow, 40}},
		{"just above closed", command(of(5, 1, 1, 30, 41), x), Answer{}},
		{"closed for an intent", command(of(5, 1, 1, 30, 40), lay(putOf("text", "y"))), Answer{TooLow, 40}},
		{"closed, and writes nothing", command(of(5, 1, 1, 30, 40), bar(1, "b")), Answer{}},
		{"a fenced epoch", command(of(5, 3, 4, 30, 50), x), Answer{Verdict: Fenced}},
		{"an epoch before it", command(of(5, 3, 1, 30, 50), lay(putOf("text", "y"))), Answer{Verdict: Fenced}},
		{"the next epoch", command(of(5, 3, 5, 30, 50), x), Answer{}},
		{"another node", command(of(5, 2, 4, 30, 50), x), Answer{}},
		{"a record of a fenced one", command(of(5, 3, 4, 30, 50), record(Record{Txn: id.Txn{Key: of(5, 3, 4, 30, 50).Writer, Anchor: "z"}, Status: Staging})), Answer{Verdict: Fenced}},
		{"began at the threshold", command(of(5, 1, 1, 12, 50), x), Answer{Verdict: Expired}},
		{"began behind it", command(of(5, 1, 1, 13, 50), x), Answer{}},
		{"protects what has gone", command(Header{}, fence(1, 1), protect(2, 11)), Answer{Verdict: Expired}},
		{"protects the first that is left", command(Header{}, protect(2, 12)), Answer{}},
		{"protected", command(Header{}, fence(1, 1), threshold(16)), Answer{Verdict: Protected}},
		{"up to what is protected", command(Header{}, threshold(15)), Answer{}},
		{"and no longer protected", command(Header{}, threshold(15), unprotect(1)), Answer{}},
		{"above the counter", command(of(5, 1, 1, 30, 61), write(Unbounded("high", 1))), Answer{}},
		{"at the counter", command(of(5, 1, 1, 30, 60), x, write(Unbounded("high", 1))), Answer{TooLow, 60}},
		{"below the counter, and floats", command(float, write(Unbounded("high", 1))), Answer{TS: 61}},
		{"an intent below the counter", command(good, lay(Unbounded("high", 1))), Answer{}},
		{"out of range", command(good, x, write(add("n", 44, 0, 100))), Answer{Verdict: OutOfRange}},
		{"just in range", command(good, x, write(add("n", 43, 0, 100))), Answer{}},
		{"no counter", command(good, write(Unbounded("n", 1)), lay(Unbounded("text", 1))), Answer{Verdict: NoCounter}},
		{"overflow", command(good, write(add("n", math.MaxInt64, math.MinInt64, math.MaxInt64))), Answer{Verdict: OutOfRange}},
		{"writes for nobody", command(Header{Lease: 5, TS: 50}, x), Answer{Verdict: Malformed}},
		{"lays for nobody", command(Header{Lease: 5, TS: 50}, lay(putOf("text", "y"))), Answer{Verdict: Malformed}},
		{"stages another one", command(r30(), staging(29)), Answer{Verdict: Malformed}},
		{"stages itself", command(r30(), staging(30)), Answer{}},
		{"empty", nil, Answer{Verdict: Malformed}},
		{"another version", append([]byte{2}, command(good, x)[1:]...), Answer{Verdict: Malformed}},
		{"no such part", append(command(good, x), 99), Answer{Verdict: Malformed}},
		{"no such kind", command(good, x, write(Write{Key: "text", Kind: 9})), Answer{Verdict: Malformed}},
		{"a key too long", command(good, write(putOf(strings.Repeat("k", MaxKeyBytes+1), "v"))), Answer{Verdict: Malformed}},
		{"as long a key as can be", command(good, write(putOf(strings.Repeat("k", MaxKeyBytes), "v"))), Answer{}},
		{"a record of no status", command(Header{}, record(Record{Status: Aborted + 1})), Answer{Verdict: Malformed}},
		{"adds twice", command(good, write(add("n", 30, 0, 100)), write(add("n", 30, 0, 100))), Answer{Verdict: Malformed}},
		{"adds to what it puts", command(good, write(putOf("new", "text")), write(Unbounded("new", 1))), Answer{Verdict: Malformed}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := judged(t)
			before := r.contents()
			require.Equal(t, c.want, r.apply(c.command)[0])
			if c.want.Verdict != Done {
				require.Equal(t, before, r.contents(), "it did something")
			} else if c.name != "leads again" {
				require.NotEqual(t, before, r.contents(), "it did nothing")
			}

			both := judged(t)
			h := of(5, 1, 1, 30, 70)
			list := both.apply(command(h, write(putOf("first", "1"))), c.command, command(h, write(putOf("last", "2"))))
			require.Equal(t, []Answer{{}, c.want, {}}, list)
			require.Equal(t, "1", both.get("first", 70))
			require.Equal(t, "2", both.get("last", 70))
		})
	}
}

func r30() Header { return Header{Lease: 5, Writer: txn(30), TS: 50} }

// Commands of a batch are judged one by one, each against what the ones before it did.
func TestCommandsOfABatch(t *testing.T) {
	r := newRig(t)
	h := of(0, 1, 1, 30, 50)
	list := r.apply(
		command(h, write(add("n", 6, 0, 10))),
		command(of(0, 1, 1, 31, 51), write(add("n", 6, 0, 10))),
		command(of(0, 1, 1, 31, 51), lay(add("n", 4, 0, 10))),
		command(of(0, 1, 1, 32, 52), write(add("n", 1, 0, 10))),
		command(Header{Closed: 60}, lead(3)),
		command(of(0, 1, 1, 33, 60), write(putOf("a", "x"))),
		command(of(2, 1, 1, 33, 61), write(putOf("a", "x"))),
		command(of(3, 1, 1, 33, 61), write(putOf("a", "y"))),
		command(Header{}, fence(1, 1)),
		command(of(3, 1, 1, 34, 62), write(putOf("a", "z"))),
		command(Header{}, threshold(51)),
		command(Header{}, threshold(61)), // above what was closed, by the fifth
		command(of(3, 1, 2, 51, 62), write(putOf("a", "z"))),
	)
	want := []Verdict{Done, OutOfRange, Done, OutOfRange, Done, TooLow, Unleased, Done, Done, Fenced, Done, Protected, Expired}
	for i, a := range list {
		require.Equal(t, want[i], a.Verdict, "command %d", i)
	}
	require.Equal(t, int64(6), r.count("n", hlc.Max))
	require.Equal(t, "y", r.get("a", hlc.Max))
}

// Answers are understood on the other side, and others are not.
func TestAnswers(t *testing.T) {
	for v := Done; v <= Protected; v++ {
		for _, ts := range []hlc.Timestamp{0, 1, hlc.Max} {
			got, err := ParseAnswer(Answer{v, ts}.encode())
			require.NoError(t, err)
			require.Equal(t, Answer{v, ts}, got)
		}
		require.NotContains(t, v.String(), "verdict ")
	}
	for _, bad := range [][]byte{nil, {byte(Protected) + 1}, {0xff}, make([]byte, 8), make([]byte, 10), {byte(Protected) + 1, 0, 0, 0, 0, 0, 0, 0, 1}} {
		_, err := ParseAnswer(bad)
		require.Error(t, err, "%x", bad)
	}
	require.Equal(t, "verdict 9", (Protected + 1).String())
}

// A command that ends early or is damaged is refused, and harms nobody.
func TestDamagedCommands(t *testing.T) {
	whole := command(r30(), write(putOf("k", "v")), lay(add("n", 1, -5, 5)), resolve(3, "k", 7), bar(4, "k"),
		record(Record{Txn: id.Txn{Key: txn(30), Anchor: "k"}, Status: Staging, TS: 5, Float: true, Promised: []string{"k", "l"}}),
		forget(3, "k"), lead(9), fence(8, 1), threshold(0), protect(1, 2), unprotect(1))
	r := newRig(t)
	r.must(Header{}, lead(5))
	short := 0
	for n := range len(whole) {
		before := r.contents()
		a := r.apply(whole[:n])[0]
		if a.Verdict == Malformed {
			short++
			require.Equal(t, before, r.contents(), "the first %d bytes", n)
		}
	}
	require.Greater(t, short, len(whole)*3/4, "those that end with a part are whole")
	for i := range whole {
		for _, flip := range []byte{1, 0x80, 0xff} {
			damaged := append([]byte{}, whole...)
			damaged[i] ^= flip
			results := make([]consensus.Result, 1)
			r.index++
			require.NoError(t, r.s.Apply(&consensus.Batch{Index: r.index, Term: 1, Commands: [][]byte{damaged}}, results))
			_, err := ParseAnswer(results[0].Data)
			require.NoError(t, err)
		}
	}
}
