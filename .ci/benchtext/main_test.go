package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/results"
)

const sound = `Unit p99-ns better=lower
Unit exact-msgs/op better=lower assume=exact
phantom-mode: quick
phantom-fs: ext4
goos: linux
pkg: example/a
BenchmarkX/k=1/clients=1-2 	       1	      1234 ns/op	         0 errors/op	   12 p99-ns	 5 ops/s
BenchmarkX/k=1/clients=8-2 	       1	      1234 ns/op	         0 errors/op	   0 p99-ns	 6 ops/s
PASS
ok  	example/a	0.1s
pkg: example/b
BenchmarkY-2 	       1	      1234 ns/op	 7 ops/s	 3 exact-msgs/op
BenchmarkY-2 	       1	      1235 ns/op	 8 ops/s	 3 exact-msgs/op
PASS
`

// write writes texts into files of the test.
func write(t *testing.T, texts ...string) (files []string) {
	t.Helper()
	dir := t.TempDir()
	for i, text := range texts {
		name := filepath.Join(dir, fmt.Sprintf("%d.txt", i))
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		files = append(files, name)
	}
	return files
}

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"sound", "", "", ""},
		{"no results", sound, "PASS\n", "no benchmark results"},
		{"syntax", "1	      1234 ns/op	         0", "one	      1234 ns/op	         0", "parsing iteration count"},
		{"log before a result", "BenchmarkY-2 ", "a log lineBenchmarkY-2 ", "a result that is cut into pieces"},
		{"log within a result", "BenchmarkY-2 	", "BenchmarkY-2\na log line", "a result that is cut into pieces"},
		{"no end", "PASS\nok  	example/a	0.1s\n", "", "the results of example/a end here"},
		{"second table", "PASS\nok", "phantom-note: ext4\nBenchmarkX/k=3/clients=1-2 1 1234 ns/op\nPASS\nok", "more than one table of sec/op in example/a"},
		{"exact and not equal", "8 ops/s	 3 exact-msgs/op", "8 ops/s	 4 exact-msgs/op", "benchstat: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			files := write(t, strings.Replace(sound, c.old, c.new, 1))
			var tables strings.Builder
			problems, err := run(files, &tables)
			require.NoError(t, err)
			if c.want == "" {
				require.Empty(t, problems)
				require.Contains(t, tables.String(), "X/k=1/clients=8-2")
				return
			}
			require.Contains(t, strings.Join(problems, "\n"), c.want)
		})
	}
}

// Runs of different seeds or commits share their tables, whatever differs
// between them is no configuration.
func TestCheckTwoFiles(t *testing.T) {
	another := strings.ReplaceAll("# phantom: seed!=2\n"+sound, "1234 ns/op", "1300 ns/op")
	problems, err := run(write(t, sound, another), io.Discard)
	require.NoError(t, err)
	require.Empty(t, problems)

	problems, err = run(write(t, sound, "phantom-seed: 2\n"+another), io.Discard)
	require.NoError(t, err)
	require.Contains(t, strings.Join(problems, "\n"), "more than one table of sec/op in example/a")
}

func TestLostCellsAreNamed(t *testing.T) {
	files := write(t, sound)
	tables, err := readTables([]byte("pkg: example/a\n,f,,g\n,sec/op,CI,sec/op,CI,vs base,P\nX/k=1,1,∞,2,∞,~,p=1\nX/k=2,,,3,∞\ngeomean,1,\n"))
	require.NoError(t, err)
	require.Equal(t, []table{{"example/a", "sec/op", []value{{"X/k=1", "f"}, {"X/k=1", "g"}, {"X/k=2", "g"}}}}, tables)
	for _, bad := range []string{"pkg: a\n", "pkg: a\n,f\n", ",f\n,\"x\n", ",f\n\"\"\n"} {
		_, err := readTables([]byte(bad))
		require.Error(t, err, bad)
	}
	// A row that only one file has is no loss, and a file that lacks it says so.
	problems, err := run(append(files, write(t, strings.Replace(sound, "BenchmarkY", "BenchmarkZ", 2))...), io.Discard)
	require.NoError(t, err)
	require.Empty(t, problems)
}

// The tools lose nothing today, so the results that they are held against have
// one too many here.
func TestLossIsNoticed(t *testing.T) {
	files := write(t, sound)
	set := results.ReadFiles(files...)
	more := *set.Samples[0]
	more.Name, more.Keys = "X/k=9/clients=9", []results.Key{{Name: "clients", Value: "9"}}
	set.Samples = append(set.Samples, &more)
	problems, err := checkTables(files, set)
	require.NoError(t, err)
	require.Contains(t, problems, "benchstat lost ops/s of X/k=9/clients=9-2 in example/a of "+files[0])
	problems, err = checkPivot(files, set)
	require.NoError(t, err)
	require.Equal(t, []string{"benchstat -col=/clients prints 3 values in 3 columns: expected 4 in 4"}, problems)
	problems, err = checkFilter(files, set)
	require.NoError(t, err)
	require.Equal(t, []string{"benchfilter passes 4 results of " + files[0] + ": expected 5"}, problems)
}

func TestNotes(t *testing.T) {
	require.Empty(t, checkNotes([]byte("B7: need >= 6 samples for confidence interval at level 0.95\nAB8: all samples are equal\n")))
	require.Equal(t, []string{"benchstat: B9: something new"}, checkNotes([]byte("B9: something new\n")))
}

func TestBudget(t *testing.T) {
	text := func(cases int, boot string) string {
		var s strings.Builder
		s.WriteString("phantom-mode: quick\npkg: " + module + "/consensus\n")
		for i := range cases {
			fmt.Fprintf(&s, "BenchmarkX/k=%d-2 1 5 ns/op\nBenchmarkX/k=%d-2 1 5 ns/op\n", i, i)
		}
		return s.String() + "ok  \t" + module + "/consensus\t" + boot + "\nok  \t" + module + "\t0.5s\n"
	}
	check := func(text string) ([]string, string) {
		var said strings.Builder
		problems, err := checkBudget(write(t, text)[0], &said)
		require.NoError(t, err)
		return problems, said.String()
	}
	problems, said := check(text(80, "30s"))
	require.Empty(t, problems)
	require.Equal(t, "quick mode: 80 cases of 180, 56s of 5m0s, of it 31s to boot\n", said)
	kinds := strings.ReplaceAll(text(80, "30s"), "BenchmarkX/k=0-2 1 5 ns/op\n", "BenchmarkX/k=0-2 1 5 ns/op\nBenchmarkX/k=0/kind=get-2 1 5 avg-ns\nBenchmarkX/k=0/kind=put-2 1 5 avg-ns\n")
	_, said = check(kinds + "pkg: " + module + "/consensus/b\nBenchmarkX/k=0/kind=get-2 1 5 ns/op\n")
	require.Contains(t, said, "quick mode: 81 cases of 180, 56s of", "the kinds of a mix are measured in one run")
	problems, _ = check(text(181, "1s"))
	require.Equal(t, []string{"quick mode: 181 cases: expected at most 180"}, problems)
	problems, _ = check(strings.ReplaceAll(text(70, "1s"), "/consensus", ""))
	require.Equal(t, []string{"quick mode: the cases of the root package take 22s: expected at most 20s"}, problems)
	problems, _ = check(strings.ReplaceAll(text(1, "1s"), "/consensus", "/elsewhere"))
	require.Equal(t, []string{"quick mode: the cases of elsewhere have no share of the time: expected one in shares"}, problems)
	problems, _ = check(text(80, "5m"))
	require.Equal(t, []string{"quick mode: 5m26s: expected at most 5m0s"}, problems)
	_, err := checkBudget(write(t, "ok  \ta\tlong\n")[0], io.Discard)
	require.ErrorContains(t, err, `"ok  \ta\tlong": expected a package and its time`)
}
