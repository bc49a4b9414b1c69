package phantomdb_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The quick mode is what a newcomer runs, so it has a budget: so many cases,
// and so much of their time, booting apart.
const (
	quickCases  = 110
	quickLength = 2 * time.Minute
)

// listed are the cases of a mode over all packages, by their length in the
// words of -benchtime.
func listed(t *testing.T, mode string) map[string]int {
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
	lengths := map[string]int{}
	for line := range strings.Lines(string(text)) {
		switch _, rest, ok := strings.Cut(line, "# case "); {
		case ok:
			lengths[strings.Fields(rest)[1]]++
		case strings.HasPrefix(line, "Benchmark") && strings.Contains(line, "ns/op"):
			lengths["plain"]++ // a loop of its own, without the harness
		}
	}
	return lengths
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
	quick := listed(t, "quick")
	cases := 0
	for _, n := range quick {
		cases += n
	}
	t.Logf("quick: %d cases: %v", cases, quick)
	require.Equal(t, cases, quick["250ms"]+quick["plain"], "250 ms each, or a plain loop, which -benchtime bounds too")
	require.Positive(t, quick["250ms"])
	require.LessOrEqual(t, cases, quickCases)
	// Package testing aims a fifth beyond the length, the warm-up takes a
	// twentieth, and a plain loop runs twice.
	length := time.Duration(float64(quick["250ms"])*1.25*0.25*float64(time.Second)) + time.Duration(quick["plain"])*500*time.Millisecond
	require.LessOrEqual(t, length, quickLength)

	standard := listed(t, "standard")
	t.Logf("standard: %v", standard)
	all := 0
	for _, n := range standard {
		all += n
	}
	require.GreaterOrEqual(t, all, cases, "the standard mode leaves nothing out")
	for length := range standard {
		require.Contains(t, []string{"2s", "5000x", "1m0s", "plain"}, length)
	}
}
