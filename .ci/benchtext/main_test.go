package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const sound = `goos: linux
pkg: example/a
BenchmarkX/k=1-2 	       1	      1234 ns/op	         0 errors/op	   12 p99-ns
BenchmarkX/k=2-2 	       1	      1234 ns/op	         0 errors/op	   13 p99-ns
PASS
ok  	example/a	0.1s
pkg: example/b
BenchmarkY-2 	       1	      1234 ns/op
BenchmarkY-2 	       1	      1235 ns/op
PASS
`

func TestCheck(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"sound", "", "", ""},
		{"no results", sound, "PASS\n", "no benchmark results"},
		{"syntax", "1	      1234 ns/op	         0", "one	      1234 ns/op	         0", "parsing iteration count"},
		{"log before a result", "BenchmarkY-2 ", "a log lineBenchmarkY-2 ", "not read as a result"},
		{"log within a result", "BenchmarkY-2 	", "BenchmarkY-2\na log line", "not read as a result"},
		{"second table", "PASS\n", "phantom-fs: ext4\nBenchmarkX/k=3-2 1 1234 ns/op\n", "more than one table of sec/op in example/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "bench.txt")
			require.NoError(t, os.WriteFile(name, []byte(strings.Replace(sound, c.old, c.new, 1)), 0o600))
			var tables strings.Builder
			problems, err := run(name, &tables)
			require.NoError(t, err)
			if c.want == "" {
				require.Empty(t, problems)
				require.Contains(t, tables.String(), "X/k=2-2")
				return
			}
			require.Contains(t, strings.Join(problems, "\n"), c.want)
		})
	}
}

func TestLostRowsAreNamed(t *testing.T) {
	want, problems := read("bench.txt", []byte(sound))
	require.Empty(t, problems)
	got, problems, err := readTables([]byte("pkg: example/a\n,f,\n,sec/op,CI\nX/k=1-2,1,∞\ngeomean,1,\n"))
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, []string{
		"benchstat lost errors/op of X/k=1-2 in example/a",
		"benchstat lost errors/op of X/k=2-2 in example/a",
		"benchstat lost p99-sec of X/k=1-2 in example/a",
		"benchstat lost p99-sec of X/k=2-2 in example/a",
		"benchstat lost sec/op of X/k=2-2 in example/a",
		"benchstat lost sec/op of Y-2 in example/b",
	}, compare(want, got))
}

func TestNotes(t *testing.T) {
	require.Empty(t, checkNotes([]byte("B7: need >= 6 samples for confidence interval at level 0.95\nAB8: all samples are equal\n")))
	require.Equal(t, []string{"benchstat: B9: something new"}, checkNotes([]byte("B9: something new\n")))
}
