package baseline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

// text builds benchmark text of a mode from rows of "name value unit ...".
func text(mode string, rows ...string) *results.Set {
	var s strings.Builder
	fmt.Fprintf(&s, "phantom-mode: %s\nphantom-fs: ext4\ngoos: linux\ngoarch: amd64\ncpu: c\npkg: p.q\n", mode)
	for _, row := range rows {
		name, rest, _ := strings.Cut(row, " ")
		name, iterations, _ := strings.Cut(name, "@")
		if iterations == "" {
			iterations = "5000"
		}
		fmt.Fprintf(&s, "Benchmark%s-8 %s %s\n", name, iterations, rest)
	}
	return results.Read("text", strings.NewReader(s.String()))
}

// judge judges rows by one entry in the words of a file.
func judge(t *testing.T, entry string, set *results.Set) []baseline.Finding {
	t.Helper()
	list, err := parse(entry + "reason: r\n")
	require.NoError(t, err)
	return baseline.Judge(list, set)
}

const latency = "level x\nbench: p.q Put/disk=sync\nunit: avg-ns\nlimit: < 5ms\nmodes: standard\n"

func TestLevels(t *testing.T) {
	six := func(values ...float64) (rows []string) {
		for _, v := range values {
			rows = append(rows, fmt.Sprintf("Put/disk=sync %g avg-ns", v*1e6))
		}
		return rows
	}
	for _, c := range []struct {
		name    string
		mode    string
		rows    []string
		verdict baseline.Verdict
		margin  float64
		note    string
	}{
		{"kept", "standard", six(4), baseline.Pass, 0.2, ""},
		{"missed", "standard", six(6), baseline.Miss, -0.2, ""},
		{"exactly the limit", "standard", six(5), baseline.Miss, 0, ""},
		{"kept by all", "standard", six(3, 4, 4, 4, 4, 4.5), baseline.Pass, 0.2, ""},
		{"within noise, on the good side", "standard", six(3, 4, 4, 4, 4, 6), baseline.Noise, 0.2, ""},
		{"within noise, on the bad side", "standard", six(4, 6, 6, 6, 6, 7), baseline.Noise, -0.2, ""},
		{"missed by all", "standard", six(5.5, 6, 6, 6, 6, 7), baseline.Miss, -0.2, ""},
		{"exactly the limit, six times", "standard", six(5, 5, 5, 5, 5, 5), baseline.Miss, 0, ""},
		{"too few for an interval", "standard", six(3, 4, 6), baseline.Pass, 0.2, ""},
		{"quick", "quick", six(4), baseline.NotApplicable, 0, "no results of mode standard"},
		{"another benchmark", "standard", []string{"Put/disk=none 1 avg-ns"}, baseline.Missing, 0, "no such benchmark in the results"},
		{"unsafe disk", "standard", []string{"Put/disk=unsafe 1 avg-ns"}, baseline.Missing, 0, "no such benchmark in the results"},
		{"no such unit", "standard", []string{"Put/disk=sync 1 ops/s"}, baseline.Missing, 0, "the benchmark does not print avg-ns"},
		{"one operation", "standard", []string{"Put/disk=sync@1 1 avg-ns"}, baseline.Missing, 0, "1 operations at most: at least 100 count"},
		{"some too short", "standard", append(six(4), "Put/disk=sync@99 9e9 avg-ns"), baseline.Pass, 0.2, "1 of 2 samples have fewer than 100 operations"},
		{"fails fast", "standard", []string{"Put/disk=sync 1 avg-ns 0.02 errors/op"}, baseline.Miss, 1, "0.02 of the operations failed: at most 0.01 may"},
		{"fails rarely", "standard", []string{"Put/disk=sync 4e6 avg-ns 0.01 errors/op"}, baseline.Pass, 0.2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := judge(t, latency, text(c.mode, c.rows...))
			require.Len(t, list, 1)
			require.Equal(t, c.verdict, list[0].Verdict)
			require.InDelta(t, c.margin, list[0].Margin, 1e-6)
			require.Equal(t, c.note, list[0].Note)
		})
	}
}

func TestThroughputIsBoundedFromBelow(t *testing.T) {
	const level = "level x\nbench: p.q Put\nunit: ops/s\nlimit: > 1000\n"
	f := judge(t, level, text("quick", "Put 1500 ops/s"))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
	require.InDelta(t, 0.5, f.Margin, 1e-9)
	f = judge(t, level, text("quick", "Put 500 ops/s"))[0]
	require.Equal(t, baseline.Miss, f.Verdict)
	require.InDelta(t, -0.5, f.Margin, 1e-9)
	require.Equal(t, baseline.Miss, judge(t, level, text("quick", "Put 1000 ops/s"))[0].Verdict)
	f = judge(t, strings.Replace(level, ">", ">=", 1), text("quick", "Put 1000 ops/s"))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
}

func TestProcessorsAreIgnoredWhenBinding(t *testing.T) {
	set := results.Read("text", strings.NewReader("phantom-mode: standard\npkg: p.q\n"+
		"BenchmarkPut/disk=sync 5000 4e6 avg-ns\nBenchmarkPut/disk=sync-2 5000 6e6 avg-ns\n"))
	list := judge(t, latency, set)
	require.Len(t, list, 2, "each number of processors is judged for itself")
	require.Equal(t, baseline.Pass, list[0].Verdict)
	require.Equal(t, baseline.Miss, list[1].Verdict)
	require.Equal(t, 2, list[1].Procs)
}

func TestPackagesAreTold(t *testing.T) {
	set := results.Read("text", strings.NewReader("phantom-mode: standard\npkg: p.other\nBenchmarkPut/disk=sync 5000 4e6 avg-ns\n"))
	require.Equal(t, baseline.Missing, judge(t, latency, set)[0].Verdict, "a benchmark of the same name elsewhere")
}

func TestSkippedCaseSaysWhy(t *testing.T) {
	set := results.Read("text", strings.NewReader("phantom-mode: standard\npkg: p.q\n# skipped BenchmarkPut/disk=sync: not a disk\nBenchmarkGet 1 1 ns/op\n"))
	f := judge(t, latency, set)[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "skipped (text:3): not a disk", f.Note)

	set = results.Read("text", strings.NewReader("phantom-mode: standard\npkg: p.q\n# skipped BenchmarkPut/disk=sync: invalid twice\n"+
		"# skipped BenchmarkPut/disk=none: x\nBenchmarkPut/disk=sync 5000 4e6 avg-ns\n"))
	f = judge(t, latency, set)[0]
	require.Equal(t, baseline.Missing, f.Verdict, "the sample that is left was chosen by what it measured")
	require.Equal(t, "1 of 2 samples are missing, the first: skipped (text:3): invalid twice", f.Note)
}

func TestBands(t *testing.T) {
	const band = "band x\nbench: p.q Put\nunit: msgs/op\nvalue: 8\nallow: 0.5\nruns: 20\n"
	rows := func(values ...float64) (rows []string) {
		for _, v := range values {
			rows = append(rows, fmt.Sprintf("Put %g msgs/op", v))
		}
		return rows
	}
	for _, c := range []struct {
		values  []float64
		verdict baseline.Verdict
		margin  float64
		note    string
	}{
		{[]float64{8}, baseline.Pass, 1, ""},
		{[]float64{8.25}, baseline.Pass, 0.5, ""},
		{[]float64{8.5}, baseline.Pass, 0, ""},
		{[]float64{9}, baseline.Miss, -1, ""},
		{[]float64{7}, baseline.Miss, -1, "better than the band: if that is meant, write the new value"},
		{[]float64{8, 8, 8, 8, 8, 8}, baseline.Pass, 1, ""},
		{[]float64{8, 8, 8, 8, 8, 9}, baseline.Noise, 1, ""},
		{[]float64{7, 8, 8, 8, 8, 8}, baseline.Noise, 1, ""},
		{[]float64{9, 9, 9, 9, 9, 9}, baseline.Miss, -1, ""},
		{[]float64{8.5, 8.5, 8.5, 8.5, 8.5, 8.5}, baseline.Pass, 0, ""},
	} {
		f := judge(t, band, text("quick", rows(c.values...)...))[0]
		require.Equal(t, c.verdict, f.Verdict, "%v", c.values)
		require.InDelta(t, c.margin, f.Margin, 1e-9, "%v", c.values)
		require.Equal(t, c.note, f.Note, "%v", c.values)
	}
	exact := strings.Replace(band, "allow: 0.5", "allow: 0", 1)
	require.Equal(t, baseline.Pass, judge(t, exact, text("quick", rows(8)...))[0].Verdict)
	f := judge(t, exact, text("quick", rows(8.001)...))[0]
	require.Equal(t, "= 8", f.Entry.Expected())
	require.Equal(t, baseline.Miss, f.Verdict)
	require.Equal(t, -1.0, f.Margin)
	// One sample of any number breaks what is exact, whatever the median is.
	for _, n := range []int{2, 5, 7} {
		f = judge(t, exact, text("quick", append(rows(slices.Repeat([]float64{8}, n)...), "Put 9 msgs/op")...))[0]
		require.Equal(t, baseline.Miss, f.Verdict)
		require.Equal(t, fmt.Sprintf("text:%d: 9: every sample must be 8", 7+n), f.Note)
	}
	f = judge(t, exact, text("quick", rows(8, 7, 8)...))[0]
	require.Equal(t, "text:8: 7: every sample must be 8; better than the band: if that is meant, write the new value", f.Note)
}

func TestAnyValueOfAKey(t *testing.T) {
	const level = "level x\nbench: p.q Scale/nodes=*/clients=1\nunit: load-cv\nlimit: < 20%\n"
	list := judge(t, level, text("quick", "Scale/nodes=3/clients=1 0.1 load-cv", "Scale/nodes=5/clients=1 0.3 load-cv",
		"Scale/nodes=5/clients=10 9 load-cv", "Scale/nodes=/clients=1 9 load-cv", "Scale/nodes=3/x=1/clients=1 9 load-cv", "Scale/nodes=3 9 load-cv"))
	require.Len(t, list, 2)
	require.Equal(t, "Scale/nodes=3/clients=1", list[0].Row)
	require.Equal(t, baseline.Pass, list[0].Verdict)
	require.Equal(t, baseline.Miss, list[1].Verdict)
}

// x(n) = X(n)/n: 300 ops/s on 3 nodes are 100 for each.
func TestScaling(t *testing.T) {
	const efficiency = "scaling x\nbench: p.q Scale/nodes=*\nunit: ops/s\nlaw: efficiency\nfrom: 3\nto: 50\nlimit: >= 0.9\n"
	const loss = "scaling x\nbench: p.q Scale/nodes=*\nunit: ops/s\nlaw: loss\nfrom: 3\nto: 5\nlimit: < 10%\n"
	f := judge(t, efficiency, text("quick", "Scale/nodes=50 4500 ops/s", "Scale/nodes=3 300 ops/s", "Scale/nodes=10 1 ops/s"))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
	require.InDelta(t, 0.9, f.Summary.Median, 1e-9)
	f = judge(t, efficiency, text("quick", "Scale/nodes=50 4450 ops/s", "Scale/nodes=3 300 ops/s"))[0]
	require.Equal(t, baseline.Miss, f.Verdict)
	require.InDelta(t, 0.89, f.Summary.Median, 1e-9)
	f = judge(t, efficiency, text("quick", "Scale/nodes=40 4500 ops/s", "Scale/nodes=3 300 ops/s"))[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "measured at 3, 40: expected 3, 50", f.Note)

	// 100, 95, 80 for each of 3, 4 and 5 nodes: the second step loses 15/95.
	f = judge(t, loss, text("quick", "Scale/nodes=4 380 ops/s", "Scale/nodes=3 300 ops/s", "Scale/nodes=5 400 ops/s"))[0]
	require.Equal(t, baseline.Miss, f.Verdict)
	require.InDelta(t, 15.0/95, f.Summary.Median, 1e-9)
	require.Equal(t, "the largest, from 4 to 5", f.Note)
	// From 100 to 81 over two added nodes is a tenth at each of them.
	f = judge(t, loss, text("quick", "Scale/nodes=3 300 ops/s", "Scale/nodes=5 405 ops/s"))[0]
	require.InDelta(t, 0.1, f.Summary.Median, 1e-9)
	f = judge(t, loss, text("quick", "Scale/nodes=3 300 ops/s", "Scale/nodes=5 900 ops/s", "Scale/nodes=6 1 ops/s"))[0]
	require.Equal(t, baseline.Pass, f.Verdict, "more than linear, and what is beyond the law is not judged")
	f = judge(t, loss, text("quick", "Scale/nodes=2 900 ops/s", "Scale/nodes=3 300 ops/s", "Scale/nodes=5 500 ops/s"))[0]
	require.Equal(t, baseline.Pass, f.Verdict, "nor what is below it")
	require.Equal(t, baseline.Missing, judge(t, loss, text("quick", "Scale/nodes=three 300 ops/s", "Scale/nodes=4 1 ops/s"))[0].Verdict)
	require.Equal(t, baseline.Missing, judge(t, loss, text("quick", "Scale/nodes=3 0 ops/s", "Scale/nodes=4 1 ops/s"))[0].Verdict)
	require.Equal(t, baseline.Missing, judge(t, loss, text("quick", "Scale/nodes=3@1 3 ops/s", "Scale/nodes=4 1 ops/s"))[0].Verdict)
}

func TestScalingWithinNoise(t *testing.T) {
	const efficiency = "scaling x\nbench: p.q Scale/nodes=*\nunit: ops/s\nlaw: efficiency\nfrom: 1\nto: 2\nlimit: >= 0.9\n"
	var rows []string
	for i := range 6 {
		rows = append(rows, fmt.Sprintf("Scale/nodes=1 %d ops/s", 100+i), fmt.Sprintf("Scale/nodes=2 %d ops/s", 180+4*i))
	}
	f := judge(t, efficiency, text("quick", rows...))[0]
	require.Equal(t, baseline.Noise, f.Verdict)
	require.InDelta(t, 90.0/105, f.Summary.Low, 1e-9)
	require.InDelta(t, 100.0/100, f.Summary.High, 1e-9)
}

// A run that ended early has points, and a law of fewer says nothing.
func TestLossOfAPartialRun(t *testing.T) {
	const loss = "scaling x\nbench: p.q Scale/nodes=*\nunit: ops/s\nlaw: loss\nfrom: 3\nto: 50\npoints: 10, 20\nlimit: < 10%\n"
	f := judge(t, loss, text("quick", "Scale/nodes=3 300 ops/s", "Scale/nodes=4 380 ops/s"))[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	require.Equal(t, "measured at 3, 4: expected 3, 10, 20, 50", f.Note)
	f = judge(t, loss, text("quick", "Scale/nodes=3 300 ops/s", "Scale/nodes=10 1000 ops/s", "Scale/nodes=50 5000 ops/s"))[0]
	require.Equal(t, baseline.Missing, f.Verdict)
	f = judge(t, loss, text("quick", "Scale/nodes=3 300 ops/s", "Scale/nodes=10 1000 ops/s", "Scale/nodes=20 2000 ops/s", "Scale/nodes=50 5000 ops/s"))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
}

// From 3 to 4 nodes 8 % are lost in every sample; what is lost from 4 to 5 is
// less in the median, and may be 40 %.
func TestLossOfANoisyPair(t *testing.T) {
	const loss = "scaling x\nbench: p.q Scale/nodes=*\nunit: ops/s\nlaw: loss\nfrom: 3\nto: 5\nlimit: < 10%\n"
	curve := func(five ...float64) *results.Set {
		var rows []string
		for _, v := range five {
			rows = append(rows, "Scale/nodes=3 300 ops/s", "Scale/nodes=4 368 ops/s", fmt.Sprintf("Scale/nodes=5 %g ops/s", 5*v))
		}
		return text("quick", rows...)
	}
	f := judge(t, loss, curve(60, 70, 86, 87, 100, 110))[0]
	require.Equal(t, baseline.Noise, f.Verdict)
	require.Equal(t, "the largest, from 4 to 5", f.Note)
	f = judge(t, loss, curve(92, 92, 92, 92, 92, 92))[0]
	require.Equal(t, baseline.Pass, f.Verdict)
	require.InDelta(t, 0.08, f.Summary.Median, 1e-9)
	// Where a pair misses for certain, another that does not tell is no excuse.
	f = judge(t, loss, curve(70, 70, 70, 70, 70, 70))[0]
	require.Equal(t, baseline.Miss, f.Verdict)
	require.InDelta(t, 22.0/92, f.Summary.Median, 1e-9)
}

func TestStatus(t *testing.T) {
	of := func(list ...baseline.Verdict) int {
		var findings []baseline.Finding
		for _, v := range list {
			findings = append(findings, baseline.Finding{Verdict: v})
		}
		return baseline.Status(findings)
	}
	require.Equal(t, 0, of(baseline.Pass, baseline.NotApplicable))
	require.Equal(t, 3, of(baseline.Pass, baseline.Missing))
	require.Equal(t, 3, of(baseline.Noise))
	require.Equal(t, 3, of(baseline.NotApplicable), "where nothing was judged nothing was kept")
	require.Equal(t, 3, of())
	require.Equal(t, 1, of(baseline.Missing, baseline.Miss, baseline.Noise))
}

func TestPattern(t *testing.T) {
	list, err := parse(file)
	require.NoError(t, err)
	bench, packages := baseline.Pattern(append(list, list...))
	require.Equal(t, "^BenchmarkPropose$/^disk=none$|^BenchmarkPropose$/^disk=sync$/^clients=64$|^BenchmarkScale$/^nodes=/^clients=1$", bench)
	require.Equal(t, []string{"example.com/x/y", "github.com/phantomdb/phantomdb", "github.com/phantomdb/phantomdb/consensus"}, packages)
}
