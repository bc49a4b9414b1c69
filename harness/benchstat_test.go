package harness

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchunit"

	"github.com/phantomdb/phantomdb/harness/measure"
)

// Our lines are read by benchstat as by any user: two runs of different seeds,
// both streams in one as go test prints them, and a pivot over the clients.
func TestBenchstatReadsOurLines(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to run benchstat with")
	}
	files := make([]string, 2)
	rows := make([][]*benchfmt.Result, 2)
	for i := range files {
		seed := fmt.Sprintf("PHANTOM_SEED=%d", i+1)
		stdout, stderr, status := child(t, "lines", []string{seed}, append(benchArgs, "-test.count=6", "-test.benchtime=30x")...)
		require.Zero(t, status, stderr)
		rows[i] = results(t, stdout+stderr)
		require.Len(t, rows[i], 4*6)
		files[i] = filepath.Join(t.TempDir(), fmt.Sprintf("%d.txt", i))
		require.NoError(t, os.WriteFile(files[i], []byte(stdout+stderr), 0o600))
	}
	for _, r := range rows[0] {
		for _, v := range r.Values {
			unit := v.OrigUnit
			if unit == "" {
				unit = v.Unit
			}
			require.True(t, measure.Known(unit), "unit %s of %s", unit, r.Name)
		}
	}
	want := cells(rows[0])
	require.Equal(t, want, cells(rows[1]), "both runs carry the same rows and units")

	table := benchstat(t, "-format=csv", files[0], files[1])
	require.Equal(t, want, csvCells(t, table), "rows or tables lost or added")

	pivot := benchstat(t, "-format=csv", "-col=/clients", "-filter=/disk:none .unit:(ops/s OR p50-sec)", files[0])
	require.Contains(t, pivot, "\n,1,,4,", "the clients became columns")
	require.Equal(t, 2, strings.Count(pivot, "\nChild/disk=none"), "one row in each of two tables")
}

// A run without a break in its configuration is one table for each unit. The
// key of a cell is "row unit".
func cells(rows []*benchfmt.Result) map[string]bool {
	m := map[string]bool{}
	for _, r := range rows {
		for _, v := range r.Values {
			_, unit := benchunit.Tidy(1, v.Unit)
			m[strings.TrimPrefix(r.Name.String(), "Benchmark")+" "+unit] = true
		}
	}
	return m
}

// csvCells reads the tables that benchstat prints. A table begins with the
// names of its columns, then their units; its rows begin with a name. Tables of
// one unit would collide, and that is a failure.
func csvCells(t *testing.T, text string) map[string]bool {
	t.Helper()
	m, unit := map[string]bool{}, ""
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	lines, err := r.ReadAll()
	require.NoError(t, err)
	for _, f := range lines {
		switch {
		case len(f) < 4 || f[0] == "geomean" || strings.Contains(f[0], ": "): // ": " is configuration
		case f[0] == "" && f[1] != "" && !strings.HasSuffix(f[1], ".txt"):
			unit = f[1]
		case f[0] != "":
			key := f[0] + " " + unit
			require.False(t, m[key], "two tables hold %s", key)
			require.NotEmpty(t, f[1], "no value in the first file for %s", key)
			require.NotEmpty(t, f[3], "no value in the second file for %s", key)
			m[key] = true
		}
	}
	return m
}

// benchstat runs the tool of this module. It may print footnotes on too few
// samples or equal ones; anything else on standard error is a complaint.
func benchstat(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "benchstat"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), errs.String())
	for line := range strings.Lines(errs.String()) {
		// "B12: all samples are equal" and the like point at a cell.
		fine := strings.Contains(line, "samples") || strings.Contains(line, "geomean")
		require.True(t, fine || strings.TrimSpace(line) == "", "benchstat: %s", line)
	}
	return out.String()
}
