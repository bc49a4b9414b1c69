package measure_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/measure"
)

func TestBucketsHoldEveryValueOnce(t *testing.T) {
	var h measure.Histogram
	for range h.Buckets() {
		t.Fatal("a bucket of an empty histogram")
	}
	values := []time.Duration{1, 1, 700, 123456, 123457, time.Second, 2 * measure.MaxLatency}
	for _, v := range values {
		h.Record(v)
	}
	var total int64
	last := time.Duration(-1)
	for b := range h.Buckets() {
		require.Greater(t, b.Low, last, "buckets grow and do not overlap")
		require.GreaterOrEqual(t, b.High, b.Low)
		require.LessOrEqual(t, float64(b.High-b.Low), 0.001*float64(b.High)+1)
		last = b.High
		var inside int64
		for _, v := range values {
			if v = min(v, measure.MaxLatency); b.Low <= v && v <= b.High {
				inside++
			}
		}
		require.Equal(t, inside, b.Count, "from %v to %v", b.Low, b.High)
		total += b.Count
	}
	require.EqualValues(t, len(values), total)
	for b := range h.Buckets() {
		require.EqualValues(t, 2, b.Count)
		break // the iterator ends when its loop does
	}
}
