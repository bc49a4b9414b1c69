package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
)

const ours = `level fast
bench: a.b/c Put/disk=sync
unit: avg-ns
limit: < 5ms
modes: standard
reason: r

level rate
bench: a.b/c Put/disk=sync
unit: ops/s
limit: > 1000
modes: standard
reason: r

band messages
bench: a.b/c Put/disk=sync
unit: msgs/op
value: 8
allow: 0.5
runs: 20
reason: r

level absent
bench: a.b/c Get
unit: avg-ns
limit: < 5ms
modes: standard
reason: r
`

const head = "phantom-mode: standard\nphantom-fs: ext4\ngoos: linux\ngoarch: amd64\ncpu: c\npkg: a.b/c\n"

// files writes texts into a folder of the test and returns their paths.
func files(t *testing.T, texts ...string) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i, text := range texts {
		path := filepath.Join(dir, string(rune('a'+i))+".txt")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		paths = append(paths, path)
	}
	return paths
}

func TestCheckPrintsEveryVerdict(t *testing.T) {
	var rows strings.Builder
	rows.WriteString(head)
	for _, v := range []string{"4e6 avg-ns 900", "4e6 avg-ns 950", "4e6 avg-ns 980", "6e6 avg-ns 990", "4e6 avg-ns 990", "4e6 avg-ns 999"} {
		rows.WriteString("BenchmarkPut/disk=sync-2 5000 " + v + " ops/s 8.25 msgs/op\n")
	}
	rows.WriteString("PASS\n")
	f := files(t, rows.String(), ours)
	out, errs, status := phantom(t, noGo, "check", f[0], "--baselines", f[1])
	require.Equal(t, 1, status)
	require.Empty(t, errs)
	require.Equal(t, `verdict       baseline           measured  expected  margin  n  benchmark
within noise  fast      4 ms [4 ms, 6 ms]     < 5ms   +20 %  6  Put/disk=sync
miss          rate         985 [900, 999]    > 1000    -2 %  6  Put/disk=sync
pass          messages               8.25  8 +- 0.5   +50 %  6  Put/disk=sync
missing       absent                    -     < 5ms       -  -  Get
`, strings.Split(out, "\n\n")[0]+"\n")
	require.Contains(t, out, "absent: no such benchmark in the results\n")
	require.NotContains(t, out, "verdicts on fewer than")
	three := files(t, head+strings.Repeat("BenchmarkPut/disk=sync-2 5000 4e6 avg-ns 900 ops/s\n", 3)+"PASS\n")
	short, _, _ := phantom(t, noGo, "check", three[0], "--baselines", f[1])
	require.Contains(t, short, "2 verdicts on fewer than 6 samples: without an interval, so by the median alone\n")
	// A file that is read twice would make six samples of three, and an interval.
	_, errs, status = phantom(t, noGo, "check", three[0], three[0], "--baselines", f[1])
	require.Equal(t, statusBadInput, status)
	require.Equal(t, "phantom check: "+three[0]+" for the second time: expected each file once, or its samples count double\n", errs)
	require.Contains(t, out, "1 within noise, 1 miss, 1 pass, 1 missing\n")
}

func TestCheckStatus(t *testing.T) {
	sound := head + "BenchmarkPut/disk=sync-2 5000 1e6 avg-ns 2000 ops/s 8 msgs/op\nPASS\n"
	for _, c := range []struct {
		name, text, match string
		status            int
		want              string // on standard error
	}{
		{"kept", sound, "fast|rate|messages", 0, ""},
		{"missing", sound, "", 3, ""},
		{"missed and missing", strings.Replace(sound, "2000 ops/s", "20 ops/s", 1), "", 1, ""},
		{"within noise", head + strings.Repeat("BenchmarkPut/disk=sync-2 5000 4e6 avg-ns\n", 5) + "BenchmarkPut/disk=sync-2 5000 6e6 avg-ns\nPASS\n", "fast", 3, ""},
		{"nothing applies", strings.Replace(sound, "standard", "quick", 1), "fast|absent", 3, ""},
		{"quick", strings.Replace(sound, "standard", "quick", 1), "fast|messages", 0, ""},
		{"truncated", sound[:len(sound)-1], "fast", 2, ":8: the text ends in the middle of a line: expected a line end"},
		{"torn", strings.Replace(sound, " 5000 ", " x ", 1), "fast", 2, ":7: parsing iteration count"},
		{"foreign", "pkg: a.b/c\nBenchmarkPut/disk=sync-2 5000 1e6 avg-ns\n", "fast", 2, ":2: a result without a phantom-mode line above it"},
		{"mixed machines", sound + "cpu: d\nBenchmarkX 1 1 ns/op\n", "fast", 2, ":10: measured on linux/amd64, d, data on ext4, and "},
		{"unknown unit", sound + "BenchmarkX 1 1 cats\n", "fast", 2, `:9: unit "cats" of X: expected one that the harness knows`},
		{"no samples", head, "fast", 2, ": no benchmark results: expected the output of go test"},
		{"a failure beside it", sound + "--- FAIL: BenchmarkX\n", "fast", 3, ":9: BenchmarkX failed: expected it to pass"},
		{"interrupted", sound + "# phantom: incomplete: after 1 of 2 samples\n", "fast", 3, ":9: the run is incomplete: after 1 of 2 samples"},
		{"cut at a line end", strings.TrimSuffix(sound, "PASS\n"), "fast", 3, ":7: the results of a.b/c end here: expected PASS or FAIL behind them"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := files(t, c.text, ours)
			out, errs, status := phantom(t, noGo, "check", "--baselines", f[1], "--match", c.match, f[0])
			require.Equal(t, c.status, status, out+errs)
			if c.want == "" {
				require.Empty(t, errs)
			} else {
				require.Contains(t, errs, "phantom check: "+f[0]+c.want)
			}
			require.NotContains(t, out, "no results of mode", "the table says enough")
			if status == 2 {
				require.Empty(t, out, "no verdict on what cannot be relied on")
			}
		})
	}
}

// A benchmark that was renamed must not be missing for ever.
func TestCheckOfWhatMayBeMissing(t *testing.T) {
	f := files(t, head+"BenchmarkPut/disk=sync-2 5000 1e6 avg-ns 2000 ops/s 8 msgs/op\nPASS\n", ours)
	_, errs, status := phantom(t, noGo, "check", f[0], "--baselines", f[1], "--pending", "^absent$")
	require.Equal(t, statusMissing, status)
	require.Empty(t, errs)
	disturbed := files(t, head+"BenchmarkPut/disk=sync-2 5000 1e6 avg-ns 2000 ops/s 8 msgs/op\nBenchmarkPut/disk=sync-2 1 1 invalid\nPASS\n")
	_, errs, status = phantom(t, noGo, "check", disturbed[0], "--baselines", f[1], "--pending", "^absent$")
	require.Equal(t, statusMissing, status, "some of it was measured: another night may measure it all")
	require.Empty(t, errs)
	_, errs, status = phantom(t, noGo, "check", f[0], "--baselines", f[1], "--pending", "^other-")
	require.Equal(t, statusMiss, status)
	require.Equal(t, "phantom check: absent is missing: expected results of Get\n", errs)
	_, errs, status = phantom(t, noGo, "check", f[0], "--baselines", f[1], "--pending", "(")
	require.Equal(t, statusBadInput, status)
	require.Contains(t, errs, `phantom check: --pending "(": `)
}

func TestCheckRefusesBaselines(t *testing.T) {
	f := files(t, head+"BenchmarkX 1 1 ns/op\n", strings.Replace(ours, "limit: < 5ms", "limit: 5ms", 1))
	_, errs, status := phantom(t, noGo, "check", f[0], "--baselines", f[1])
	require.Equal(t, 2, status)
	require.Contains(t, errs, "phantom check: "+f[1]+`:4: level fast: field limit: "5ms": expected <, <=, > or >= and a number`)
	_, errs, status = phantom(t, noGo, "check", f[0], "--baselines", f[1]+".gone")
	require.Equal(t, 2, status)
	require.Contains(t, errs, "expected a file or a folder of *.baseline")
	f = files(t, head+"BenchmarkX 1 1 ns/op\n", ours)
	_, errs, status = phantom(t, noGo, "check", f[0], "--baselines", f[1], "--match", "nothing")
	require.Equal(t, 2, status)
	require.Contains(t, errs, `--match "nothing": none of the 4 baselines in `+f[1]+": expected one at least")
}

func TestCheckFindsTheBaselinesOfTheModule(t *testing.T) {
	dir, err := findBaselines()
	require.NoError(t, err)
	require.FileExists(t, filepath.Join(dir, "levels.baseline"))
	t.Chdir(t.TempDir())
	_, err = findBaselines()
	require.ErrorContains(t, err, "--baselines: not inside a module")
}

func TestCheckJSON(t *testing.T) {
	f := files(t, head+"BenchmarkPut/disk=sync-2 5000 1e6 avg-ns 2000 ops/s 8 msgs/op\n# phantom: incomplete: x\n", ours)
	out, _, status := phantom(t, noGo, "check", "--json", f[0], "--baselines", f[1])
	require.Equal(t, 3, status)
	var doc struct {
		Status   int
		Problems []string
		Findings []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(out), &doc))
	require.Equal(t, 3, doc.Status)
	require.Equal(t, []string{f[0] + ":8: the run is incomplete: x"}, doc.Problems)
	require.Len(t, doc.Findings, 4)
	require.Equal(t, map[string]any{
		"baseline": "fast", "kind": "level", "verdict": "pass", "package": "a.b/c", "benchmark": "Put/disk=sync", "processors": 2.0,
		"mode": "standard", "unit": "avg-ns", "expected": "< 5ms", "samples": 1.0, "value": 1e6, "margin": 0.8, "reason": "r",
		"defined": f[1] + ":1",
	}, doc.Findings[0], "one sample has no interval")
	require.Equal(t, "missing", doc.Findings[3]["verdict"])
	require.NotContains(t, doc.Findings[3], "value")
}

func TestBands(t *testing.T) {
	row := "BenchmarkPut/disk=sync-2 5000 1e6 avg-ns 8 msgs/op\n"
	f := files(t, head+strings.Repeat(row, 20)+"PASS\n", head+strings.Repeat(row, 19)+"PASS\n", head+row[:20], head+strings.Repeat(row, 20))
	out, errs, status := phantom(t, noGo, "bands", f[0])
	require.Zero(t, status)
	require.Empty(t, errs)
	require.Contains(t, out, "band put-disk-sync-msgs-op\n")
	out, _, status = phantom(t, noGo, "bands", f[1])
	require.Equal(t, 3, status)
	require.Contains(t, out, "# Put/disk=sync: 19 samples: expected at least 20")
	_, errs, status = phantom(t, noGo, "bands", f[2])
	require.Equal(t, 2, status)
	require.Contains(t, errs, "phantom bands: "+f[2]+":7: ")
	// A run that was cut has samples enough of what came before.
	cut, errs, status := phantom(t, noGo, "bands", f[3])
	require.Equal(t, statusMissing, status)
	require.Equal(t, "phantom bands: "+f[3]+":26: the results of a.b/c end here: expected PASS or FAIL behind them\n", errs)
	require.Contains(t, cut, "band put-disk-sync-msgs-op\n")
}

func TestCheckReadsWhyCasesAreMissing(t *testing.T) {
	text := head + "# skipped BenchmarkGet: told by the text\nBenchmarkX 1 1 ns/op\n"
	f := files(t, text, ours)
	dir := t.TempDir()
	for i, name := range []string{"BenchmarkGet", "BenchmarkPut/disk=sync"} {
		folder := filepath.Join(dir, string(rune('a'+i)))
		require.NoError(t, os.Mkdir(folder, 0o700))
		require.NoError(t, artifact.WriteMissing(folder, artifact.Missing{
			Package: "a.b/c", Name: name, Procs: 2, Process: "p", Why: "invalid twice", Time: time.Unix(1, 0),
		}))
	}
	out, errs, status := phantom(t, noGo, "check", f[0], "--baselines", f[1], "--artifacts", dir)
	require.Equal(t, 3, status, errs)
	require.Contains(t, out, "fast: skipped ("+dir+"): invalid twice\n")
	require.Contains(t, out, "absent: skipped ("+f[0]+":7): told by the text\n")

	require.NoError(t, os.WriteFile(filepath.Join(dir, "a", artifact.MissingFile), []byte("{"), 0o600))
	out, errs, status = phantom(t, noGo, "check", f[0], "--baselines", f[1], "--artifacts", dir)
	require.Equal(t, 2, status)
	require.Empty(t, out)
	require.Contains(t, errs, "phantom check: --artifacts: artifact: "+dir)
}
