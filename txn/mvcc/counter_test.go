package mvcc

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// Additions that stood beside one another and end below a later one each add to the one
// before, whichever of them are of one batch: replicas do not agree on that. Whoever
// reads at a time between them sees just those.
func TestAdditionsEndBelowALaterOne(t *testing.T) {
	ends := [][]byte{command(Header{}, resolve(2, "n", 10)), command(Header{}, resolve(4, "n", 20)), command(Header{}, resolve(3, "n", 12))}
	for cut := range ends {
		r := newRig(t)
		r.must(r.header(1, 5), write(Unbounded("n", 1)))
		r.must(r.header(2, 10), lay(Unbounded("n", 10)))
		r.must(r.header(3, 12), lay(Unbounded("n", 100)))
		r.must(r.header(4, 20), lay(Unbounded("n", 1000)))
		if cut > 0 {
			r.apply(ends[:cut]...)
		}
		r.apply(ends[cut:]...)
		for _, c := range []struct {
			at   hlc.Timestamp
			want int64
		}{{5, 1}, {10, 11}, {11, 11}, {12, 111}, {19, 111}, {20, 1111}} {
			require.Equal(t, c.want, r.count("n", c.at), "at %d, the first %d by themselves", c.at, cut)
		}
	}
}

// What is put at a counter, or deletes it, is not added to from below: an intent there
// is refused, and one that stands above it is not. Additions may stand below additions.
func TestAdditionsBelowWhatIsPut(t *testing.T) {
	for name, w := range map[string]Write{
		"put":    {Key: "n", Kind: Put, Value: AppendCounter(nil, 100)},
		"delete": {Key: "n", Kind: Delete},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.must(r.header(1, 10), write(Unbounded("n", 1)))
			r.must(r.header(2, 20), write(w))
			put := r.count("n", 20)
			r.must(r.header(3, 40), write(Unbounded("n", 1)))
			for _, ts := range []hlc.Timestamp{5, 10, 20} {
				require.Equal(t, Answer{TooLow, 20}, r.do(r.header(4, ts), lay(Unbounded("n", 10))))
			}
			h := r.header(4, 20)
			h.Float = true
			require.Equal(t, Answer{TS: 21}, r.do(h, lay(Unbounded("n", 10))))
			require.Equal(t, hlc.Timestamp(21), r.s.Intents("n")[0].TS)
			r.must(Header{}, resolve(4, "n", 30))
			for at, want := range map[hlc.Timestamp]int64{10: 1, 20: put, 29: put, 30: put + 10, 40: put + 11} {
				require.Equal(t, want, r.count("n", at), "at %d", at)
			}
			list := r.apply(command(r.header(5, 50), write(w)), command(r.header(6, 45), lay(Unbounded("n", 1))))
			require.Equal(t, []Answer{{}, {TooLow, 50}}, list, "what the same batch puts counts")
		})
	}
}

// An addition is refused if a commit of those that are under way could lead it out of
// its bounds, on either side, and admitted again when they have ended otherwise.
func TestEscrow(t *testing.T) {
	r := newRig(t)
	ts := hlc.Timestamp(10)
	try := func(who uint64, delta, low, high int64) Verdict {
		t.Helper()
		ts++
		return r.do(r.header(who, ts), lay(add("n", delta, low, high))).Verdict
	}
	r.must(r.header(1, 5), write(Unbounded("n", 50)))
	require.Equal(t, Done, try(2, -30, 0, 100))
	require.Equal(t, Done, try(3, 40, 0, 100))
	require.Equal(t, OutOfRange, try(4, -21, 0, 100), "if the first commits and the second does not")
	require.Equal(t, Done, try(4, -20, 0, 100))
	require.Equal(t, OutOfRange, try(5, 11, 0, 100), "if the second commits and the others do not")
	require.Equal(t, Done, try(5, 10, 0, 100))
	require.Equal(t, OutOfRange, try(6, -1, 0, 100))
	require.Equal(t, OutOfRange, try(6, 1, 0, 100))
	require.Equal(t, Done, try(6, 0, 0, 100))
	require.Equal(t, OutOfRange, r.do(r.header(7, 60), write(add("n", -1, 0, 100))).Verdict, "at once is no better")
	require.Equal(t, Done, try(3, 40, 0, 100), "its own intent does not stand against it")
	require.Len(t, r.s.Intents("n"), 5)

	r.must(Header{}, resolve(2, "n", 0)) // no -30
	require.Equal(t, OutOfRange, try(7, -31, 0, 100))
	require.Equal(t, Done, try(7, -30, 0, 100))
	r.must(Header{}, resolve(3, "n", 70)) // 90
	require.Equal(t, int64(90), r.count("n", hlc.Max))
	require.Equal(t, OutOfRange, try(8, 1, 0, 100))
	require.Equal(t, OutOfRange, try(8, -41, 0, 100))
	require.Equal(t, Done, try(8, -40, 0, 100))
	r.must(Header{}, resolve(5, "n", 0), resolve(8, "n", 80), resolve(4, "n", 75), resolve(7, "n", 0))
	require.Equal(t, int64(30), r.count("n", hlc.Max))
	require.Equal(t, int64(70), r.count("n", 79))
	require.Equal(t, Done, try(9, 70, 0, 100))
	require.Equal(t, OutOfRange, try(10, 1, 0, 100))
	require.Equal(t, Done, try(10, 1, 0, 101), "bounds are those of each one that adds")
}

// Out of bounds already, a counter may come back, and go no further.
func TestBoundsOfACounterBeyondThem(t *testing.T) {
	r := newRig(t)
	r.must(r.header(1, 5), write(Unbounded("n", 500)))
	require.Equal(t, OutOfRange, r.do(r.header(2, 10), write(add("n", 1, 0, 100))).Verdict)
	r.must(r.header(2, 10), write(add("n", -600, -100, 100)))
	require.Equal(t, OutOfRange, r.do(r.header(3, 20), write(add("n", -1, 0, 100))).Verdict)
	r.must(r.header(3, 20), write(add("n", 10, 0, 100)))
	require.Equal(t, int64(-90), r.count("n", hlc.Max))
}

// Counters stay numbers at both ends of what there is, whatever commits.
func TestCountersDoNotOverflow(t *testing.T) {
	for sign, end := range map[int64]int64{1: math.MaxInt64, -1: math.MinInt64} {
		r := newRig(t)
		r.must(r.header(1, 5), write(Unbounded("n", end-sign*10)))
		r.must(r.header(2, 10), lay(Unbounded("n", sign*5)))
		require.Equal(t, OutOfRange, r.do(r.header(3, 11), lay(Unbounded("n", sign*5))).Verdict)
		r.must(r.header(3, 11), lay(Unbounded("n", sign*4)))
		require.Equal(t, OutOfRange, r.do(r.header(4, 12), write(Unbounded("n", sign*math.MaxInt64))).Verdict)
		r.must(Header{}, resolve(2, "n", 13), resolve(3, "n", 14))
		require.Equal(t, end-sign, r.count("n", hlc.Max))
	}
	require.Equal(t, int64(math.MaxInt64), plus(math.MaxInt64, 1))
	require.Equal(t, int64(math.MinInt64), plus(-2, math.MinInt64+1))
	require.Equal(t, int64(math.MinInt64), plus(-1, math.MinInt64+1))
	require.Equal(t, int64(math.MaxInt64), plus(1, math.MaxInt64-1))
}

// Additions at the very same time share a version, which names all who added.
func TestAdditionsAtOneTime(t *testing.T) {
	r := newRig(t)
	for who := uint64(1); who <= 3; who++ {
		r.must(r.header(who, 10), lay(Unbounded("n", int64(who))))
	}
	r.must(Header{}, resolve(1, "n", 20))
	r.apply(command(Header{}, resolve(2, "n", 20)), command(Header{}, resolve(3, "n", 20)))
	rd, err := r.s.Reader()
	require.NoError(t, err)
	defer func() { require.NoError(t, rd.Close()) }()
	v, _, err := rd.Get("n", 20, 0)
	require.NoError(t, err)
	require.Equal(t, AppendCounter(nil, 6), v.Value)
	for who := uint64(1); who <= 4; who++ {
		_, wrote, err := rd.Latest("n", txn(who))
		require.NoError(t, err)
		require.Equal(t, who < 4, wrote == 20, "transaction %d", who)
		changed, err := rd.Changed("n", "", 0, hlc.Max, txn(who))
		require.NoError(t, err)
		require.Equal(t, hlc.Timestamp(20), changed, "others wrote it too")
	}
}
