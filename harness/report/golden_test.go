package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write the files of testdata that tests compare with; read the difference then")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func written(t testing.TB, write func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, write(&b))
	return b.String()
}

// assets are the parts of a page that are the same in every one.
var assets = regexp.MustCompile(`(?s)(<style>|<script>).*?(</style>|</script>)`)

func TestForms(t *testing.T) {
	m := build(t, fixture(t))
	golden(t, "report.html", assets.ReplaceAllString(written(t, m.WriteHTML), "$1$2"))
	golden(t, "report.md", written(t, m.WriteMarkdown))
	golden(t, "report.json", written(t, m.WriteJSON))
}

// The three forms state the same verdicts and the same numbers.
func TestFormsAgree(t *testing.T) {
	m := build(t, fixture(t))
	page := html.UnescapeString(regexp.MustCompile(`\s*<[^>]*>\s*`).ReplaceAllString(written(t, m.WriteHTML), " "))
	page = regexp.MustCompile(`[\s\x{202f}]+`).ReplaceAllString(page, " ")
	summary := strings.ReplaceAll(written(t, m.WriteMarkdown), "\u202f", " ")
	var data Model
	require.NoError(t, json.Unmarshal([]byte(written(t, m.WriteJSON)), &data))
	require.Equal(t, written(t, m.WriteJSON), written(t, data.WriteJSON), "programs can read it back")

	require.Contains(t, page, m.Verdict.Sentence)
	require.Contains(t, summary, m.Verdict.Sentence)
	for _, n := range m.Notices {
		require.Contains(t, page, n.Text)
		require.Contains(t, summary, n.Text)
	}
	numbers := 0
	for _, f := range m.Floors {
		for i := range f.Benchmarks {
			for _, g := range grids(&f.Benchmarks[i]) {
				for _, r := range g.Rows {
					cells, line := r.Case.Label, "| "+r.Case.Label
					if r.Case.Invalid != "" {
						cells, line = cells+" "+r.Case.Invalid, line+" ("+r.Case.Invalid+")"
					}
					if g.Axis != "" && g.RangeAt == 0 {
						continue // the glyph stands between
					}
					for k, c := range r.Cells {
						if g.Axis != "" && k == g.RangeAt {
							break
						}
						text := strings.TrimSpace(c.Digits + " " + c.Unit + " " + c.Few)
						if text == "" {
							text = "–"
						}
						cells, line = cells+" "+text, line+" | "+text
						numbers++
					}
					require.Contains(t, page, cells)
					require.Contains(t, summary, line)
				}
			}
		}
	}
	require.Greater(t, numbers, 10)
	for _, e := range m.Baselines {
		require.Contains(t, page, verdictSign(string(e.Verdict))+" "+string(e.Verdict)+" "+e.Baseline)
		require.Contains(t, summary, "| "+verdictSign(string(e.Verdict))+" "+string(e.Verdict)+" | "+e.Baseline)
	}
}

// A report is kept for years and read away from its folder.
func TestPageLoadsNothing(t *testing.T) {
	page := written(t, build(t, fixture(t)).WriteHTML)
	require.Contains(t, page, `default-src 'none'`)
	for _, m := range regexp.MustCompile(`(?i)<(?:link|img|script|iframe|object|embed)\b[^>]*?(?:src|href)\s*=[^>]*>|@import|url\(\s*["']?[a-z]+:`).FindAllString(page, -1) {
		require.Fail(t, "the page loads something", m)
	}
	require.Contains(t, page, "Permission is hereby granted", "the licence of uPlot goes with it")
}

func TestSameModelSameBytes(t *testing.T) {
	in := fixture(t)
	m := build(t, in)
	for _, write := range []func(io.Writer) error{m.WriteHTML, m.WriteMarkdown, m.WriteJSON} {
		require.Equal(t, written(t, write), written(t, write))
	}
}
