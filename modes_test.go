package phantomdb_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
	"github.com/phantomdb/phantomdb/harness/baseline"
)

// The quick mode is what a newcomer runs, so it has a budget: so many cases,
// and so much of their time, booting apart. The standard mode is what a night
// runs several times, and the stress mode what one runs before a release.
const (
	quickCases     = 180
	quickLength    = 2 * time.Minute
	standardLength = 10 * time.Minute
	stressLength   = 40 * time.Minute
)

// modesVar makes this test binary a program for go test -exec: it runs the test
// binary that it is given once for each mode. So all modes are listed for the
// price of linking each package once.
const modesVar = "ROOT_TEST_LISTS_MODES"

// fullMatrix stands beside the modes for the quick one with the full matrix.
const fullMatrix = "full"

// listModes runs a test binary in every mode and returns the status of the first
// that failed.
func listModes(args []string) int {
	for _, mode := range append(harness.Modes(), fullMatrix) {
		fmt.Printf("# mode %s\n", mode)
		// The binary of this package must not take itself for the program.
		env := []string{modesVar + "=", "PHANTOM_LIST=1", "PHANTOM_MODE=" + string(mode)}
		if mode == fullMatrix {
			env = []string{modesVar + "=", "PHANTOM_LIST=1", "PHANTOM_MATRIX=full"}
		}
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env = append(os.Environ(), env...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
		if err := cmd.Run(); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	return 0
}

// listed are the cases of each mode over all packages, by name, with their
// length in the words of -benchtime.
func listed(t *testing.T) map[harness.Mode]map[string]string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "go", "test", `-exec="`+self+`"`, "-run=^$", "-bench=.", "./...")
	for _, kv := range os.Environ() {
		// The parameters of this run are not those of the modes.
		if !strings.HasPrefix(kv, "PHANTOM_") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, modesVar+"=1")
	text, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", text)
	all, open := map[harness.Mode]map[string]string{}, map[harness.Mode]map[string]string{}
	var mode harness.Mode
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		switch _, rest, ok := strings.Cut(line, "# case "); {
		case ok:
			name, length, _ := strings.Cut(strings.TrimSpace(rest), " ")
			open[mode][name] = length
		case strings.HasPrefix(line, "# mode "):
			mode = harness.Mode(f[2])
			open[mode] = map[string]string{}
		case strings.HasPrefix(line, "Benchmark") && strings.Contains(line, "ns/op"):
			open[mode][f[0]] = "plain" // a loop of its own, without the harness
		case len(f) > 1 && f[0] == "ok":
			for mode, cases := range open {
				if all[mode] == nil {
					all[mode] = map[string]string{}
				}
				for name, length := range cases {
					all[mode][f[1]+" "+strings.TrimPrefix(name, "Benchmark")] = length
				}
			}
			clear(open)
		}
	}
	return all
}

// count counts cases by their length.
func count(cases map[string]string) map[string]int {
	n := map[string]int{}
	for _, length := range cases {
		n[length]++
	}
	return n
}

// expected adds up how long cases take. Package testing aims a fifth beyond the
// length, the warm-up takes a twentieth, and a plain loop lasts half a
// second. A number of operations is taken at the lowest rate that a service level
// allows, 1000 a second.
func expected(t *testing.T, cases map[string]string) (sum time.Duration) {
	t.Helper()
	for name, length := range cases {
		switch n, counted := strings.CutSuffix(length, "x"); {
		case length == "plain":
			sum += 500 * time.Millisecond
		case counted:
			ops, err := strconv.Atoi(n)
			require.NoError(t, err, name)
			sum += time.Duration(ops) * time.Millisecond
		default:
			d, err := time.ParseDuration(length)
			require.NoError(t, err, name)
			sum += d + d/4
		}
	}
	return sum
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
	modes := listed(t)
	cases := modes[harness.ModeQuick]
	for _, mode := range append(harness.Modes(), fullMatrix) {
		t.Logf("%s: %d cases in %v: %v", mode, len(modes[mode]), expected(t, modes[mode]), count(modes[mode]))
		require.GreaterOrEqual(t, len(modes[mode]), len(cases), "%s leaves nothing out", mode)
	}
	require.Positive(t, count(cases)["250ms"])
	require.LessOrEqual(t, len(cases), quickCases)
	lengths(t, cases, "250ms", "plain")
	require.LessOrEqual(t, expected(t, cases), quickLength)
	lengths(t, modes[fullMatrix], "250ms", "plain")
	require.Greater(t, len(modes[fullMatrix]), len(cases), "the full matrix is more than a centre and its neighbours")
	lengths(t, modes[harness.ModeStandard], "2s", "5000x", "1m0s", "plain")
	require.LessOrEqual(t, expected(t, modes[harness.ModeStandard]), standardLength)
	lengths(t, modes[harness.ModeStress], "10s", "50000x", "1m0s", "plain")
	require.LessOrEqual(t, expected(t, modes[harness.ModeStress]), stressLength)
	// Nobody runs all cases for an hour each, so their sum has no bound.
	lengths(t, modes[harness.ModeLongRunning], "1h0m0s", "plain")

	// What the stress mode is for: a search for the rate that saturates, more
	// clients than the standard mode has, and more data.
	stress := strings.Join(slices.Sorted(maps.Keys(modes[harness.ModeStress])), "\n")
	require.Contains(t, stress, "consensus Capacity/")
	require.Regexp(t, "consensus Propose/nodes=20/.*/clients=256/", stress)
	require.Regexp(t, "consensus CatchUp/.*/size=64000000\n", stress)

	// A band whose benchmark is not there would be missing for ever. Levels may
	// wait for their floors.
	entries, err := baseline.Load(filepath.Join("testdata", "baselines"))
	require.NoError(t, err)
	for _, e := range entries {
		if e.Kind == baseline.Band {
			require.Contains(t, cases, e.Package+" "+e.Bench, "%s:%d", e.File, e.Line)
		}
	}
}

// lengths requires that every case has one of the lengths.
func lengths(t *testing.T, cases map[string]string, want ...string) {
	t.Helper()
	for name, length := range cases {
		require.Contains(t, want, length, name)
	}
}
