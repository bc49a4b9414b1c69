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
	"github.com/phantomdb/phantomdb/harness/report"
)

const put = "BenchmarkPut/disk=sync-2 5000 1e6 avg-ns 2000 ops/s 8 msgs/op\n"

func TestReportWritesEveryForm(t *testing.T) {
	f := files(t, head+put, ours)
	dir := t.TempDir()
	page, summary := filepath.Join(dir, "night.html"), filepath.Join(dir, "night.md")
	out, errs, status := phantom(t, noGo, "report", f[0], "--baselines", f[1], "-o", page, "--markdown", summary, "--json", "-")
	require.Zero(t, status, errs)
	require.Equal(t, "wrote "+page+"\nwrote "+summary+"\n", errs)
	var m report.Model
	require.NoError(t, json.Unmarshal([]byte(out), &m))
	require.Equal(t, "Nothing is missed, but 1 of 4 expectations is open.", m.Verdict.Sentence)
	for _, path := range []string{page, summary} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(text), m.Verdict.Sentence)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 2, "nothing else is left behind")
}

// A miss is news and no failure of the report.
func TestReportOfAMissIsWritten(t *testing.T) {
	f := files(t, head+strings.Replace(put, "2000 ops/s", "20 ops/s", 1), ours)
	out, errs, status := phantom(t, noGo, "report", f[0], "--baselines", f[1], "--markdown", "-")
	require.Zero(t, status, errs)
	require.True(t, strings.HasPrefix(out, "## ✕ 1 of 4 expectations is missed."), out)
}

// Outside of a module there are no baselines, and the page has a usual name.
func TestReportByItself(t *testing.T) {
	f := files(t, head+put)
	t.Chdir(t.TempDir())
	_, errs, status := phantom(t, noGo, "report", f[0])
	require.Zero(t, status, errs)
	text, err := os.ReadFile("report.html")
	require.NoError(t, err)
	require.Contains(t, string(text), "No verdict: no baselines were given.")
}

// Results of two machines are shown apart; check refuses them.
func TestReportTakesSeveralMachines(t *testing.T) {
	f := files(t, head+put, strings.Replace(head, "cpu: c", "cpu: d", 1)+put)
	out, errs, status := phantom(t, noGo, "report", f[0], f[1], "--markdown", "-")
	require.Zero(t, status, errs)
	require.Contains(t, out, "- **mixed** The results come from 2 machines")
}

func TestReportRefusesBadInput(t *testing.T) {
	sound := head + put
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, artifact.SampleFile), []byte("{"), 0o600))
	torn := t.TempDir()
	require.NoError(t, artifact.WriteSample(torn, artifact.Sample{
		Package: "a.b/c", Name: "BenchmarkPut/disk=sync", Procs: 2, Process: "p", Start: time.Unix(1, 0), Values: map[string]float64{"ops/s": 2000},
	}))
	require.NoError(t, os.WriteFile(filepath.Join(torn, artifact.LatencyFile), []byte("0.0,1.0,2.0,torn\n"), 0o600))
	for _, c := range []struct {
		name, text string
		args       []string
		want       string
	}{
		{"truncated", sound[:len(sound)-1], nil, "FILE:7: the text ends in the middle of a line: expected a line end"},
		{"torn", strings.Replace(sound, " 5000 ", " x ", 1), nil, "FILE:7: parsing iteration count"},
		{"foreign", "pkg: a.b/c\n" + put, nil, "FILE:2: a result without a phantom-mode line above it"},
		{"no samples", head, nil, "FILE: no benchmark results: expected the output of go test"},
		{"unknown unit", sound + "BenchmarkX 1 1 cats\n", nil, `FILE:8: unit "cats" of X: expected one that the harness knows`},
		{"artifacts gone", sound, []string{"--artifacts", filepath.Join(broken, "gone")}, "--artifacts: artifact: " + filepath.Join(broken, "gone")},
		{"no artifacts", sound, []string{"--artifacts", t.TempDir()}, "no samples in it: expected the folder that run --artifacts or go test -artifacts wrote"},
		{"artifacts unreadable", sound, []string{"--artifacts", broken}, filepath.Join(broken, artifact.SampleFile) + ": want one JSON object of schema 1"},
		{"latencies unreadable", sound, []string{"--artifacts", torn}, filepath.Join(torn, artifact.LatencyFile)},
		{"baselines gone", sound, []string{"--baselines", "gone"}, "gone"},
		{"no room", sound, []string{"--json", filepath.Join("gone", "x.json")}, "--json: "},
		{"two on one output", sound, []string{"--json", "-", "--markdown", "-"}, "--markdown - and --json -: expected one form on standard output"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := files(t, c.text)
			t.Chdir(t.TempDir())
			require.NoError(t, os.WriteFile("report.html", []byte("of yesterday"), 0o600))
			out, errs, status := phantom(t, noGo, append([]string{"report", f[0], "-o", "report.html"}, c.args...)...)
			require.Equal(t, 2, status)
			require.Empty(t, out)
			require.Contains(t, errs, strings.Replace(c.want, "FILE", f[0], 1))
			require.True(t, strings.HasPrefix(errs, "phantom report: "), errs)
			text, err := os.ReadFile("report.html")
			require.NoError(t, err)
			require.Equal(t, "of yesterday", string(text), "what stood there stays")
			left, err := os.ReadDir(".")
			require.NoError(t, err)
			require.Len(t, left, 1, "no part of a report is left")
		})
	}
	f := files(t, "")
	_, errs, status := phantom(t, noGo, "report", f[0]+".gone", "-o", "-")
	require.Equal(t, 2, status)
	require.Contains(t, errs, "phantom report: "+f[0]+".gone")
	_, errs, status = phantom(t, noGo, "report")
	require.Equal(t, 2, status)
	require.Contains(t, errs, "phantom report: no files: expected benchmark text")
}
