package mvcc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// What is added below other additions counts once, whichever of them are of the same
// batch: replicas do not agree on that.
func TestAddBelow(t *testing.T) {
	for cut := range 4 {
		r := newRig(t)
		lay := func(writer uint64, ts hlc.Timestamp, n int64) []byte {
			h := r.header(writer, ts)
			w := Unbounded("n", n)
			return AppendLay(AppendHeader(nil, &h), "n", &w)
		}
		resolve := func(writer uint64, ts hlc.Timestamp) []byte {
			return AppendResolve(AppendHeader(nil, &Header{}), txn(writer), "n", ts)
		}
		h := r.header(1, 10)
		first := Unbounded("n", 1000)
		r.apply(AppendWrite(AppendHeader(nil, &h), &first))
		r.apply(lay(2, 12, 1), lay(3, 15, 10), lay(4, 20, 100))
		list := [][]byte{resolve(2, 12), resolve(4, 20), resolve(3, 15)}
		for _, part := range [][][]byte{list[:cut], list[cut:]} {
			if len(part) > 0 {
				r.apply(part...)
			}
		}
		for ts, want := range map[hlc.Timestamp]int64{10: 1000, 12: 1001, 15: 1011, 20: 1111, hlc.Max: 1111} {
			require.Equal(t, string(AppendCounter(nil, want)), r.get("n", ts), "at %v", ts)
		}
	}
}
