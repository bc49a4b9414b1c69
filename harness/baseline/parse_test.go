package baseline_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

const file = `# What this file is.

level latency
bench: consensus BenchmarkPropose/disk=sync/clients=64
limit: < 5ms
unit: avg-ns
modes: standard, stress
reason: what a floor above
  may count on
# a comment inside

band messages
bench: example.com/x/y Propose/disk=none
unit: msgs/op
allow: 2%
value: 8
runs: 24
least: 1000
reason: two appends and their answers

scaling linear
bench: . Scale/nodes=*/clients=1
unit: ops/s
law: efficiency
from: 3
to: 50
limit: >= 90%
reason: asked
`

func parse(text string) ([]*baseline.Entry, error) {
	return baseline.Parse("x.baseline", strings.NewReader(text))
}

func TestParse(t *testing.T) {
	list, err := parse(file)
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, &baseline.Entry{
		Kind: baseline.Level, Name: "latency", Package: "github.com/phantomdb/phantomdb/consensus",
		Bench: "Propose/disk=sync/clients=64", Unit: "avg-ns", Limit: baseline.Limit{Op: "<", Value: 5e6, Text: "< 5ms"},
		Modes: []string{"standard", "stress"}, Least: 100, Reason: "what a floor above may count on", File: "x.baseline", Line: 3,
	}, list[0])
	require.Equal(t, "example.com/x/y", list[1].Package)
	require.InDelta(t, 0.16, list[1].Allow, 1e-12, "a share of the value, though it stands above it")
	require.Equal(t, 1000, list[1].Least)
	require.Equal(t, 24, list[1].Runs)
	require.Equal(t, "8 +- 2 %", list[1].Expected())
	require.Equal(t, "github.com/phantomdb/phantomdb", list[2].Package)
	require.Equal(t, 0.9, list[2].Limit.Value)
	require.Equal(t, ">= 90%", list[2].Expected())
}

// Each case replaces a piece of the file; the sentence must name the line of
// what is wrong.
func TestSyntaxErrors(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{file, "", "1: no entry: expected level, band or scaling and a name"},
		{file, "goos: linux\ngoarch: amd64\n", `1: "goos: linux": expected level, band or scaling and a name of one word`},
		{"level latency", "limit latency", `3: "limit latency": expected level, band or scaling and a name of one word`},
		{"level latency", "level of latency", `3: "level of latency": expected level`},
		{"limit: < 5ms", "limit < 5ms", `5: "limit < 5ms": expected a field and a colon, or an empty line before the next entry`},
		{"limit: < 5ms", "limit: ~ 5ms", `5: level latency: field limit: "~ 5ms": expected <, <=, > or >= and a number`},
		{"limit: < 5ms", "limit: < fast", `5: level latency: field limit: "fast": expected a time such as 5ms`},
		{"limit: < 5ms", "limit: < NaN", `5: level latency: field limit: "NaN": expected a time such as 5ms`},
		{"limit: < 5ms", "limit: > 5ms", "3: level latency: limit > 5ms of avg-ns: expected a bound on the side where it gets worse"},
		{"limit: < 5ms\n", "", `3: level latency: no limit: expected one such as "< 5ms"`},
		{"limit: < 5ms", "value: 5", "5: level latency: field value: expected one of bench, unit, modes, least, reason, limit"},
		{"limit: < 5ms", "limit: < 5ms\nlimit: < 6ms", "6: field limit for the second time: expected it once"},
		{"limit: < 5ms", "limit:", "5: level latency: field limit is empty: expected a value"},
		{"unit: avg-ns", "unit: avg", `6: level latency: unit "avg": expected one that the harness knows`},
		{"unit: avg-ns\n", "", `level latency: field limit: "5ms": expected a number or a percentage`},
		{"reason: what a floor above\n  may count on\n", "", "3: level latency: no reason: expected a sentence that says why"},
		{"bench: consensus BenchmarkPropose/disk=sync/clients=64", "bench: Propose", `4: level latency: field bench: "Propose": expected a package and a benchmark`},
		{"disk=sync/clients=64", "disk=*/clients=*", "3: level latency: bench Propose/disk=*/clients=*: expected at most one key with the value *"},
		{"level latency\n", "level latency\n  indented\n", `4: an indented line "indented": expected it below a field`},
		{"modes: standard, stress", "modes: standrad", `7: level latency: field modes: mode "standrad": expected one of [quick standard stress long-running]`},
		{"modes: standard, stress", "modes: ,", `7: level latency: field modes: ",": expected some of [quick standard`},
		{"limit: < 5ms", "limit: < 10%", "3: level latency: limit < 10% of avg-ns: expected a time or a rate, of which there is no percentage"},
		{"allow: 2%", "allow: 300%", "12: band messages: value 8, allow 24: expected a band that does not reach down to 0"},
		{"unit: msgs/op", "unit: exact-msgs/op", "12: band messages: allow 0.16 of exact-msgs/op: expected 0, since it is exact"},
		{"from: 3", "points: ,", `field points: ",": expected integers`},
		{"from: 3", "points: 3, x", `field points: "x": expected an integer of at least 1`},
		{"runs: 24", "runs: 19", "12: band messages: runs 19: expected at least 20 samples behind a band"},
		{"runs: 24", "runs: many", `17: band messages: field runs: "many": expected an integer of at least 1`},
		{"allow: 2%\n", "", "12: band messages: no value or no allow: expected both"},
		{"value: 8", "value: -8", "12: band messages: value -8, allow -0.16: expected no negative numbers"},
		{"unit: msgs/op", "unit: cpu-ns/op", "12: band messages: unit cpu-ns/op: expected a counter, since time differs from machine to machine"},
		{"unit: msgs/op", "unit: ops/s", "12: band messages: unit ops/s: expected a counter"},
		{"nodes=*", "nodes=3", "21: scaling linear: bench Scale/nodes=3/clients=1: expected a key with the value *, such as nodes=*"},
		{"law: efficiency", "law: linear", `21: scaling linear: law "linear": expected efficiency or loss`},
		{"law: efficiency", "law: loss", "21: scaling linear: limit >= 90%: expected >= of an efficiency and < of a loss"},
		{"to: 50", "to: 3", "21: scaling linear: from 3 to 3: expected two growing numbers of at least 1"},
		{"unit: ops/s", "unit: load-cv", "21: scaling linear: unit load-cv: expected a rate"},
		{"reason: asked", "reason: asked\n\nlevel x\nbench: a B\nunit: ns/op\nreason: r", `30: level x: no limit`},
		{"reason: asked", "reason: " + strings.Repeat("x", 1<<17), "28: bufio.Scanner: token too long: expected lines of text"},
		{"reason: asked", "reason: asked" + strings.Repeat("\n# comment", 1<<19), "more than 4 MiB: expected a file that people read"},
	} {
		require.Contains(t, file, c.old)
		_, err := parse(strings.Replace(file, c.old, c.new, 1))
		require.ErrorContains(t, err, c.want)
		require.ErrorContains(t, err, "x.baseline:")
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	text := strings.NewReplacer("runs: 24", "runs: 1", "law: efficiency", "law: x", "< 5ms", "5").Replace(file)
	list, err := parse(text)
	require.Empty(t, list)
	require.Len(t, strings.Split(err.Error(), "\n"), 3)
	var syntax *baseline.SyntaxError
	require.ErrorAs(t, err, &syntax)
	require.Equal(t, 5, syntax.Line)
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	_, err := baseline.Load(dir)
	require.ErrorContains(t, err, dir+": no file *.baseline: expected one at least")
	_, err = baseline.Load(filepath.Join(dir, "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "expected a file or a folder of *.baseline")

	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	a := write("a.baseline", file)
	write("notes.txt", "not read")
	list, err := baseline.Load(dir)
	require.NoError(t, err)
	require.Len(t, list, 3)
	write("b.baseline", strings.Split(file, "\nband")[0])
	_, err = baseline.Load(dir)
	require.ErrorContains(t, err, fmt.Sprintf("b.baseline:3: level latency: the name is taken at %s:3: expected another", a))
	list, err = baseline.Load(a)
	require.NoError(t, err)
	require.Len(t, list, 3, "any file will do, not only those of a folder")
}

// The files of this repository can be read.
func TestOurBaselines(t *testing.T) {
	list, err := baseline.Load(filepath.Join("..", "..", "testdata", "baselines"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, e := range list {
		names[e.Name] = true
	}
	for _, want := range []string{
		"cluster-latency", "cluster-throughput", "consensus-latency", "consensus-throughput",
		"transactions-latency", "transactions-throughput", "queries-latency", "queries-throughput",
		"scaling-linear", "scaling-loss", "scaling-variance",
	} {
		require.True(t, names[want], want)
	}
}

// The references are sound text of the standard mode, each from one machine.
func TestOurReferences(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("..", "..", "testdata", "baselines", "reference", "*.txt"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		set := results.ReadFiles(file)
		require.Empty(t, set.Problems)
		for _, row := range set.Rows() {
			require.Equal(t, "standard", row.Mode)
			require.GreaterOrEqual(t, len(row.Samples), results.MinSamples, "%s: %s", file, row.Name)
			require.NotEmpty(t, row.Samples[0].Machine.CPU)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(file)
	f.Add("level x\nlimit:<\nunit: ns/op\n")
	f.Add("band \nallow: 1e400%\n scaling\n\t\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parse(text)
		if len(list) == 0 && err == nil {
			t.Fatal("neither an entry nor an error")
		}
	})
}
