package mvcc

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/consensus"
	"github.com/phantomdb/phantomdb/txn/hlc"
)

// A witness writes down what it hears.
type witness struct{ heard []string }

func (w *witness) Applied(index uint64, changes []Change) {
	s := fmt.Sprint(index, ":")
	for _, c := range changes {
		s += " " + told(c.Key, &c.Version)
	}
	w.heard = append(w.heard, s)
}

func (w *witness) Reset(index uint64) { w.heard = append(w.heard, fmt.Sprint(index, ": reset")) }

// told is a version in a script.
func told(key string, v *Version) string {
	value := string(v.Value)
	if n, ok := Counter(v); ok {
		value = fmt.Sprint(n)
	}
	if v.Deleted {
		value = "-"
	}
	return fmt.Sprintf("%s@%d=%s by %d", key, uint64(v.TS), value, v.Writer.Seq)
}

// versions are those that a reader sees.
func versions(t *testing.T, rd *Reader) (list []string) {
	t.Helper()
	require.NoError(t, rd.Versions("", "", 0, hlc.Max, func(key string, v *Version) bool {
		list = append(list, told(key, v))
		return true
	}))
	return list
}

// An observer and the reader that is made with it see each version between them once:
// those up to the index the reader, those behind it the observer, in order.
func TestObserver(t *testing.T) {
	r := newRig(t)
	r.apply(r.put(1, 10, "a", "before"), r.put(1, 10, "b", "x"))
	r.must(r.header(2, 15), lay(putOf("c", "kept")), lay(putOf("d", "lost")))
	var w, late witness
	var rd *Reader
	var from uint64
	stop := r.s.Observe(&w, func(index uint64) {
		var err error
		from = index
		rd, err = r.s.Reader()
		require.NoError(t, err)
	})
	require.Equal(t, uint64(2), from)
	r.apply(r.put(3, 20, "a", "after"), r.put(3, 20, "b", ""))
	r.must(Header{}, resolve(2, "c", 17), resolve(2, "d", 0))
	seen := versions(t, rd)
	require.NoError(t, rd.Close())
	require.Equal(t, []string{"a@10=before by 1", "b@10=x by 1"}, seen, "nothing of what came behind the index")
	h := r.header(9, 1)
	h.Lease = 77
	require.Equal(t, Unleased, r.do(h, write(putOf("a", "refused"))).Verdict)
	stopLate := r.s.Observe(&late, func(uint64) {})
	r.apply()
	stop()
	r.apply(r.put(4, 30, "a", "unheard"))
	require.Equal(t, []string{"3: a@20=after by 3 b@20=- by 3", "4: c@17=kept by 2", "5:", "6:"}, w.heard)
	require.Equal(t, []string{"6:", "7: a@30=unheard by 4"}, late.heard)
	stopLate()
}

// A version that is added to below another one is followed by that one.
func TestObserverOfAdditions(t *testing.T) {
	r := newRig(t)
	r.must(r.header(1, 10), lay(Unbounded("n", 1)))
	r.must(r.header(2, 10), lay(Unbounded("n", 10)))
	r.must(r.header(3, 20), write(Unbounded("n", 100)))
	var w witness
	defer r.s.Observe(&w, func(uint64) {})()
	r.must(Header{}, resolve(1, "n", 12))
	r.apply(command(Header{}, resolve(2, "n", 12)), command(r.header(4, 30), write(Unbounded("n", 1000))))
	require.Equal(t, []string{
		"4: n@12=1 by 1 n@20=101 by 3",
		"5: n@12=11 by 1 n@20=111 by 3 n@30=1111 by 4",
	}, w.heard)
}

// An observer hears when the store holds something else.
func TestObserverOfResets(t *testing.T) {
	r, other := newRig(t), newRig(t)
	other.index = 5
	other.apply(other.put(1, 10, "a", "theirs"))
	right := other.shard(8)
	require.NoError(t, right.Apply(&consensus.Batch{Index: 1, Commands: [][]byte{other.put(1, 10, "z", "right")}}, make([]consensus.Result, 1)))
	var w witness
	defer r.s.Observe(&w, func(uint64) {})()
	install(t, r.s, snapshot(t, other.s))
	v, err := right.View()
	require.NoError(t, err)
	require.NoError(t, r.s.Absorb(&consensus.Batch{Index: 7, Term: 1}, v, "z", ""))
	require.NoError(t, v.Close())
	require.Equal(t, []string{"6: reset", "7:", "7: reset"}, w.heard)
	require.Equal(t, "theirs", r.get("a", 10))
	require.Equal(t, "right", r.get("z", 10))
}
