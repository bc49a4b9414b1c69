package baseline_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

// What is written down has no number that JSON lacks, and no unit that its value
// has not.
func TestStatement(t *testing.T) {
	level := baseline.Finding{
		Entry:   &baseline.Entry{Kind: baseline.Level, Name: "fast", Package: "p", Unit: "avg-ns", Limit: baseline.Limit{Text: "< 5ms"}, Reason: "r", File: "f", Line: 3},
		Verdict: baseline.Pass, Row: "Put", Procs: 2, Mode: "standard", Margin: 0.2, Summary: results.Summarize([]float64{4e6}),
	}
	require.JSONEq(t, `{"baseline": "fast", "kind": "level", "verdict": "pass", "package": "p", "benchmark": "Put", "processors": 2, "mode": "standard",
		"unit": "avg-ns", "expected": "< 5ms", "samples": 1, "value": 4e6, "margin": 0.2, "reason": "r", "defined": "f:3"}`, written(t, level))
	missing := baseline.Finding{Entry: level.Entry, Verdict: baseline.Missing, Row: "Put", Note: "why"}
	require.JSONEq(t, `{"baseline": "fast", "kind": "level", "verdict": "missing", "package": "p", "benchmark": "Put",
		"unit": "avg-ns", "expected": "< 5ms", "samples": 0, "note": "why", "reason": "r", "defined": "f:3"}`, written(t, missing))

	entry := *level.Entry
	entry.Kind = baseline.Scaling
	law := baseline.Finding{Entry: &entry, Verdict: baseline.Miss, Row: "Put", Margin: math.Inf(-1), Summary: results.Summarize([]float64{1, 2, 3, 4, 5, 6})}
	require.JSONEq(t, `{"baseline": "fast", "kind": "scaling", "verdict": "miss", "package": "p", "benchmark": "Put",
		"expected": "< 5ms", "samples": 6, "value": 3.5, "low": 1, "high": 6, "reason": "r", "defined": "f:3"}`, written(t, law), "a ratio has no unit")
}

func written(t *testing.T, f baseline.Finding) string {
	t.Helper()
	text, err := json.Marshal(f.Statement())
	require.NoError(t, err)
	return string(text)
}
