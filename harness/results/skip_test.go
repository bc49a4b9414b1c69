package results_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/results"
)

// Two packages have a benchmark of the same name; the text holds one remark of
// the two on it in the first.
func TestRecordsBesideRemarks(t *testing.T) {
	s := read("pkg: p.a\n# skipped BenchmarkX: late\nBenchmarkY 1 1 ns/op\n")
	s.AddMissing([]artifact.Missing{
		{Package: "p.a", Name: "BenchmarkX", Why: "late"}, {Package: "p.a", Name: "BenchmarkX", Why: "late again"},
		{Package: "p.b", Name: "BenchmarkX", Why: "no disk"},
	}, "folder")
	require.Equal(t, []results.Skip{
		{Package: "p.a", Name: "X", Why: "late", File: "bench.txt", Line: 2},
		{Package: "p.a", Name: "X", Why: "late again", File: "folder"},
		{Package: "p.b", Name: "X", Why: "no disk", File: "folder"},
	}, s.Skips)
	require.Equal(t, "skipped (folder): no disk", s.Skips[2].String())
	require.False(t, s.Skips[2].Of("p.a", "X"))
	require.True(t, results.Skip{Name: "X"}.Of("p.a", "X"), "a remark above any package")
}
