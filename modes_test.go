package phantomdb_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/baseline"
)

// The quick mode is what a newcomer runs, so it has a budget: so many cases,
// and so much of their time, booting apart.
const (
	quickCases  = 110
	quickLength = 2 * time.Minute
)

// listed are the cases of a mode over all packages, by name, with their length in
// the words of -benchtime.
func listed(t *testing.T, mode string) map[string]string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-run=^$", "-bench=.", "./...")
	for _, kv := range os.Environ() {
		// The parameters of this run are not those of the modes.
		if !strings.HasPrefix(kv, "PHANTOM_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, "PHANTOM_LIST=1", "PHANTOM_MODE="+mode)
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	cases, open := map[string]string{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch _, rest, ok := strings.Cut(line, "# case "); {
		case ok:
			name, length, _ := strings.Cut(strings.TrimSpace(rest), " ")
			open[name] = length
		case strings.HasPrefix(line, "Benchmark") && strings.Contains(line, "ns/op"):
			open[f[0]] = "plain" // a loop of its own, without the harness
		case len(f) > 1 && f[0] == "ok":
			for name, length := range open {
				cases[f[1]+" "+strings.TrimPrefix(name, "Benchmark")] = length
			}
			clear(open)
		}
	}
	return cases
}

// count counts cases by their length.
func count(cases map[string]string) map[string]int {
	n := map[string]int{}
	for _, length := range cases {
		n[length]++
	}
	return n
}

// TestModesKeepTheirBudgets counts the cases of the modes and adds up their
// time. What booting adds is measured by .ci/run, which runs every case once.
func TestModesKeepTheirBudgets(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil || testing.Short() {
		t.Skip("this test links the test binaries of all packages with the go command")
	}
	// The children are invisible to the test cache. Reading every source here
	// makes it forget this test when one of them changes.
	parseTree(t)
	cases := listed(t, "quick")
	quick := count(cases)
	t.Logf("quick: %d cases: %v", len(cases), quick)
	require.Len(t, cases, quick["250ms"]+quick["plain"], "250 ms each, or a plain loop, which -benchtime bounds too")
	require.Positive(t, quick["250ms"])
	require.LessOrEqual(t, len(cases), quickCases)
	// Package testing aims a fifth beyond the length, the warm-up takes a
	// twentieth, and a plain loop runs twice.
	length := time.Duration(float64(quick["250ms"])*1.25*0.25*float64(time.Second)) + time.Duration(quick["plain"])*500*time.Millisecond
	require.LessOrEqual(t, length, quickLength)

	// A band whose benchmark is not there would be missing for ever. Levels may
	// wait for their floors.
	entries, err := baseline.Load(filepath.Join("testdata", "baselines"))
	require.NoError(t, err)
	for _, e := range entries {
		if e.Kind == baseline.Band {
			require.Contains(t, cases, e.Package+" "+e.Bench, "%s:%d", e.File, e.Line)
		}
	}

	standard := listed(t, "standard")
	t.Logf("standard: %d cases: %v", len(standard), count(standard))
	require.GreaterOrEqual(t, len(standard), len(cases), "the standard mode leaves nothing out")
	for length := range count(standard) {
		require.Contains(t, []string{"2s", "5000x", "1m0s", "plain"}, length)
	}
}
