package main

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// A buffer may be written by the telling of progress at the same time.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// phantom runs the command with a go command of the test.
func phantom(t *testing.T, run goTest, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs buffer
	c := &console{out: &out, err: &errs, getenv: func(string) string { return "" }, width: 100, goTest: run}
	status = dispatch(t.Context(), c, args)
	return out.String(), errs.String(), status
}

// noGo is the go command of a test that must not run it.
func noGo(context.Context, []string, []string, io.Writer) (int, error) {
	panic("the go command ran")
}

func TestHelpTeaches(t *testing.T) {
	for _, args := range [][]string{{"-h"}, {"--help"}, {"help"}} {
		out, errs, status := phantom(t, noGo, args...)
		require.Zero(t, status)
		require.Empty(t, errs)
		for _, cmd := range commands() {
			require.Contains(t, out, "  "+cmd.name+" ")
		}
	}
	for _, cmd := range commands() {
		for _, args := range [][]string{{cmd.name, "-h"}, {cmd.name, "--help"}, {"help", cmd.name}, {cmd.name, "x", "-h"}} {
			out, errs, status := phantom(t, noGo, args...)
			require.Zero(t, status, args)
			require.Empty(t, errs)
			require.Contains(t, out, "Usage: go tool phantom "+cmd.name)
			require.Contains(t, out, "Example")
			require.Contains(t, out, "Exit status:")
		}
	}
	out, _, _ := phantom(t, noGo, "check", "-h")
	require.Contains(t, out, "--baselines file or folder")
}

func TestBadArguments(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "Usage: go tool phantom COMMAND"},
		{[]string{"chek"}, `phantom: command "chek": expected one of run, check, report, bands`},
		{[]string{"check"}, "phantom check: no files: expected benchmark text"},
		{[]string{"bands"}, "phantom bands: no files: expected benchmark text"},
		{[]string{"check", "--colour"}, "phantom check: flag provided but not defined: -colour; phantom check -h lists what it takes"},
		{[]string{"check", "x.txt", "--match", "("}, `phantom check: --match "(": error parsing regexp: missing closing ): ` + "`(`: expected a regular expression"},
		{[]string{"run", "--mode", "fast"}, `phantom run: mode "fast": expected one of [quick standard stress long-running]`},
		{[]string{"run", "--count", "0"}, "phantom run: --count 0: expected 1 or more"},
		{[]string{"run", "--count", "few"}, `phantom run: invalid value "few" for flag -count`},
		{[]string{"run", "--out", "main_test.go"}, "phantom run: --out main_test.go: the file exists: expected the name of a new one"},
	} {
		out, errs, status := phantom(t, noGo, c.args...)
		require.Equal(t, 2, status, c.args)
		require.Empty(t, out)
		require.Contains(t, errs, c.want)
	}
}

func TestFlagsStandBeforeAndBehindArguments(t *testing.T) {
	out, errs, status := phantom(t, noGo, "check", "--json", "gone.txt", "--match", "^consensus-", "gone2.txt")
	require.Equal(t, 2, status)
	require.Empty(t, out)
	require.Contains(t, errs, "phantom check: gone.txt: ")
	require.Contains(t, errs, "phantom check: gone2.txt: ")
}

func TestColoursAreForTerminals(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/out")
	require.NoError(t, err)
	defer f.Close()
	c := newConsole(f, f, func(string) string { return "" })
	require.False(t, c.colour)
	require.False(t, c.live)
	require.Equal(t, "x", c.paint(red, "x"))

	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	if !terminal(null) {
		t.Skip("no device of characters to ask")
	}
	env := map[string]string{}
	getenv := func(name string) string { return env[name] }
	c = newConsole(null, null, getenv)
	require.True(t, c.colour)
	require.Equal(t, "\x1b[31mx\x1b[0m", c.paint(red, "x"))
	require.Equal(t, "x", c.paint(plain, "x"))
	env["NO_COLOR"] = "1"
	require.False(t, newConsole(null, null, getenv).colour)
	require.True(t, newConsole(null, null, getenv).live, "NO_COLOR is about colours")
	env = map[string]string{"TERM": "dumb"}
	require.False(t, newConsole(null, null, getenv).colour)
	require.False(t, newConsole(null, null, getenv).live)
}

func TestHumanNumbers(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{0, "msgs/op", "0"}, {1234.4, "msgs/op", "1234"}, {12345, "ops/s", "12.35 k"}, {2.5e6, "ops/s", "2.5 M"},
		{0.12345, "fsyncs/op", "0.1235"}, {82.7, "ns/op", "82.7 ns"}, {1500, "avg-ns", "1.5 us"}, {2e6, "cpu-ns/op", "2 ms"}, {3e9, "p99-ns", "3 s"},
	} {
		require.Equal(t, c.want, human(c.v, c.unit), "%g %s", c.v, c.unit)
	}
}
