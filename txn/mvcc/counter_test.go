package mvcc

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/txn/hlc"
)

// Additions that stood beside one another and end in one batch, below a later one, each
// add to the one before: whoever reads at a time between them sees just those.
func TestAdditionsEndBelowALaterOne(t *testing.T) {
	r := newRig(t)
	r.must(r.header(1, 5), write(Unbounded("n", 1)))
	r.must(r.header(2, 10), lay(Unbounded("n", 10)))
	r.must(r.header(3, 12), lay(Unbounded("n", 100)))
	r.must(r.header(4, 20), write(Unbounded("n", 1000)))
	r.apply(command(Header{}, resolve(2, "n", 10)), command(Header{}, resolve(3, "n", 12)))
	for _, c := range []struct {
		at   hlc.Timestamp
		want int64
	}{{5, 1}, {10, 11}, {11, 11}, {12, 111}, {19, 111}, {20, 1111}} {
		require.Equal(t, c.want, r.count("n", c.at), "at %d", c.at)
	}
}
