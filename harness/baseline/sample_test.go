package baseline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

// Five samples of six are invalid, and the sixth is good: the row is a choice
// among samples and keeps nothing, whether the remarks stand in the text or not.
func TestInvalidSamplesAreMissing(t *testing.T) {
	rows := append(slices.Repeat([]string{"Put/disk=sync 1 invalid"}, 5), "Put/disk=sync 4e6 avg-ns")
	f := judge(t, latency, text("standard", rows...))[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "5 of 6 samples are missing: invalid", f.Note)
	require.Equal(t, 1, f.Summary.N)

	set := text("standard", rows...)
	for line := range 5 {
		set.Skips = append(set.Skips, results.Skip{Package: "p.q", Name: "Put/disk=sync", Why: "saturated", File: "text", Line: 20 + line})
	}
	f = judge(t, latency, set)[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "5 of 6 samples are missing, the first: skipped (text:20): saturated", f.Note)

	f = judge(t, latency, text("standard", "Put/disk=sync@1 1 invalid", "Put/disk=sync 4e6 avg-ns"))[0]
	require.Equal(t, "1 of 2 samples are missing: invalid", f.Note, "how short it was is of no interest")
	f = judge(t, latency, text("standard", "Put/disk=sync 1 invalid"))[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "1 of 1 samples are missing: invalid", f.Note)
	require.Zero(t, f.Summary.N)

	f = judge(t, latency, text("standard", "Put/disk=sync 0 invalid 4e6 avg-ns"))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
}

// What is reported beside the mark of an invalid sample is in no figure.
func TestInvalidSamplesHaveNoValues(t *testing.T) {
	const band = "band x\nbench: p.q Put\nunit: B/op\nvalue: 100\nallow: 2%\nruns: 20\n"
	f := judge(t, band, text("quick", "Put 1 invalid 636 B/op", "Put 100 B/op"))[0]
	require.Equal(t, results.Summary{N: 1, Median: 100, Low: f.Summary.Low, High: f.Summary.High}, f.Summary)
}

func TestSamplesThatAreLeftCanMiss(t *testing.T) {
	f := judge(t, latency, text("standard", "Put/disk=sync 1 invalid", "Put/disk=sync 6e6 avg-ns"))[0]
	require.Equal(t, baseline.Miss, f.Verdict)
	require.Equal(t, "1 of 2 samples are missing: invalid", f.Note)
}

// A remark belongs to the package it stands in.
func TestSkipsOfAnotherPackage(t *testing.T) {
	set := results.Read("text", strings.NewReader("phantom-mode: standard\npkg: p.other\n# skipped BenchmarkPut/disk=sync: no disk\nPASS\n"+
		"pkg: p.q\nBenchmarkPut/disk=sync 5000 4e6 avg-ns\nPASS\n"))
	f := judge(t, latency, set)[0]
	require.Equal(t, baseline.Pass, f.Verdict)
	require.Empty(t, f.Note)

	set = results.Read("text", strings.NewReader("phantom-mode: standard\npkg: p.other\n# skipped BenchmarkPut/disk=sync: no disk\nPASS\n"+
		"pkg: p.q\nBenchmarkX 5000 4e6 avg-ns\nPASS\n"))
	require.Equal(t, "no such benchmark in the results", judge(t, latency, set)[0].Note)
}

// Elections that a benchmark is not about are another load beside it.
func TestElectionsMarkARow(t *testing.T) {
	f := judge(t, latency, text("standard", "Put/disk=sync 4e6 avg-ns 7 elections", "Put/disk=sync 4e6 avg-ns 0 elections"))[0]
	require.Equal(t, baseline.Noise, f.Verdict)
	require.Equal(t, "1 of 2 samples had elections, which they are not about", f.Note)
	f = judge(t, latency, text("standard", "Put/disk=sync 6e6 avg-ns 7 elections"))[0]
	require.Equal(t, baseline.Miss, f.Verdict)
	f = judge(t, latency, text("standard", "Put/disk=sync 4e6 avg-ns 0 elections"))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
	const about = "band x\nbench: p.q Put\nunit: elections\nvalue: 7\nallow: 0\nruns: 20\n"
	require.Equal(t, baseline.Pass, judge(t, about, text("quick", "Put 7 elections"))[0].Verdict)
}

func TestScalingOfSamplesThatAreMissing(t *testing.T) {
	const efficiency = "scaling x\nbench: p.q Scale/nodes=*\nunit: ops/s\nlaw: efficiency\nfrom: 1\nto: 2\nlimit: >= 0.9\n"
	f := judge(t, efficiency, text("quick", "Scale/nodes=1 100 ops/s", "Scale/nodes=2 200 ops/s", "Scale/nodes=2 1 invalid"))[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "Scale/nodes=2: 1 of 2 samples are missing: invalid", f.Note)
}
