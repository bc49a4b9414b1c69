package results_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/results"
)

const sound = `# phantom: mode=standard nodes=20
Unit ops/s better=higher
Unit cats better=lower
phantom-mode: standard
phantom-fs: ext4
goos: linux
goarch: amd64
pkg: example.com/a
cpu: Some Processor
BenchmarkPropose/disk=sync/clients=64/quick-8 	     100	     1234 ns/op	   0.5 avg-ns	   12 ops/s	  3 cats
BenchmarkPropose/disk=sync/clients=64/quick-8 	     100	     1236 ns/op	   0 avg-ns	   13 ops/s
BenchmarkAlone 	       1	        10 ns/op
PASS
ok  	example.com/a	0.1s
pkg: example.com/b
# skipped BenchmarkDurable/disk=sync: harness: not durable: /tmp is tmpfs: ask for a disk
BenchmarkPropose/disk=sync/clients=64/quick-8 	     7	     1.5 ns/op
PASS
`

func read(text string) *results.Set { return results.Read("bench.txt", strings.NewReader(text)) }

func TestSoundText(t *testing.T) {
	s := read(sound)
	require.Empty(t, s.Problems)
	require.Len(t, s.Samples, 4)
	first := s.Samples[0]
	require.Equal(t, &results.Sample{
		Package: "example.com/a", Name: "Propose/disk=sync/clients=64/quick", Base: "Propose",
		Keys: []results.Key{{Name: "disk", Value: "sync"}, {Name: "clients", Value: "64"}}, Procs: 8, Iterations: 100,
		Values:  []results.Value{{Unit: "ns/op", Value: 1234}, {Unit: "avg-ns", Value: 0.5}, {Unit: "ops/s", Value: 12}, {Unit: "cats", Value: 3}},
		Machine: results.Machine{OS: "linux", Arch: "amd64", CPU: "Some Processor", FileSystem: "ext4"},
		Mode:    "standard", File: "bench.txt", Line: 10,
	}, first)
	v, ok := first.Key("clients")
	require.True(t, ok)
	require.Equal(t, "64", v)
	_, ok = first.Key("quick")
	require.False(t, ok, "a part without a value is no key")
	_, ok = first.Get("p99-ns")
	require.False(t, ok)
	require.Equal(t, 1, s.Samples[2].Procs, "no suffix is one processor")
	require.Equal(t, []results.Skip{{
		Package: "example.com/b", Name: "Durable/disk=sync", Why: "harness: not durable: /tmp is tmpfs: ask for a disk", File: "bench.txt", Line: 16,
	}}, s.Skips)

	rows := s.Rows()
	require.Len(t, rows, 3, "packages are kept apart")
	require.Equal(t, []float64{0.5, 0}, rows[0].Values("avg-ns"), "zero keeps its unit")
	require.Equal(t, []float64{3}, rows[0].Values("cats"))
	require.Equal(t, "example.com/b", rows[2].Package)
}

func TestProcessorsStandApart(t *testing.T) {
	s := read(strings.ReplaceAll(sound, "1236 ns/op", "1236 ns/op") + "BenchmarkAlone-12345 1 1 ns/op\nBenchmarkAlone-x 1 1 ns/op\nBenchmarkAlone-0 1 1 ns/op\n")
	var names []string
	for _, sample := range s.Samples[4:] {
		names = append(names, sample.Name)
		require.Equal(t, 1, sample.Procs)
	}
	require.Equal(t, []string{"Alone-12345", "Alone-x", "Alone-0"}, names)
}

func TestProblems(t *testing.T) {
	const row = "BenchmarkAlone 	       1	        10 ns/op\n"
	for _, c := range []struct {
		name, old, new string
		kind           results.Kind
		want           string // the whole sentence, or its beginning if it ends in "..."
	}{
		{"no results", sound, "PASS\n", results.Empty, "bench.txt: no benchmark results: expected the output of go test -run='^$' -bench=."},
		{"nothing", sound, "", results.Empty, "bench.txt: no benchmark results: ..."},
		{"log in a name", row, "BenchmarkAlone 	a log line\n", results.Syntax, "bench.txt:12: parsing iteration count: invalid syntax: expected a name, ..."},
		{"torn row", row, "BenchmarkAlone 	 1\n", results.Syntax, "bench.txt:12: missing measurements: expected a name, ..."},
		{"no unit", row, "BenchmarkAlone 	 1 10\n", results.Syntax, "bench.txt:12: missing units: expected a name, ..."},
		{"name alone", row, "BenchmarkAlone\n", results.Syntax, `bench.txt:12: a result that is cut into pieces, "BenchmarkAlone": expected a whole line`},
		{"rest alone", row, "election won\n   12  10 ns/op\n", results.Syntax, `bench.txt:13: a result that is cut into pieces, "   12  10 ns/op": expected a whole line`},
		{"not a number", "10 ns/op", "NaN ns/op", results.Syntax, "bench.txt:12: NaN ns/op of Alone: expected a finite number"},
		{"infinite", "10 ns/op", "+Inf ns/op", results.Syntax, "bench.txt:12: +Inf ns/op of Alone: expected a finite number"},
		{"truncated", "PASS\nok  	example.com/a	0.1s\n", "PASS\n", -1, ""},
		{"no mode", "phantom-mode: standard\n", "", results.Foreign, "bench.txt:9: a result without a phantom-mode line above it: ..."},
		{"unknown unit", "Unit cats better=lower\n", "", results.UnknownUnit, `bench.txt:9: unit "cats" of Propose/disk=sync/clients=64/quick: expected one that the harness knows, or a line such as "Unit cats better=lower" above`},
		{"two machines", "pkg: example.com/b\n", "pkg: example.com/b\ncpu: Another\n", results.Mixed, "bench.txt:18: measured on linux/amd64, Another, data on ext4, and bench.txt:10 on linux/amd64, Some Processor, data on ext4: expected one machine"},
		{"two systems", "pkg: example.com/b\n", "pkg: example.com/b\ngoos: plan9\n", results.Mixed, "bench.txt:18: measured on plan9/amd64, ..."},
		{"failed benchmark", row, "--- FAIL: BenchmarkAlone\n", results.Failed, "bench.txt:12: BenchmarkAlone failed: expected it to pass"},
		{"failed package", "ok  	example.com/a	0.1s\n", "FAIL	example.com/a	0.1s\n", results.Failed, "bench.txt:14: package example.com/a failed: expected it to pass"},
		{"interrupted", "ok  	example.com/a	0.1s\n", "# phantom: incomplete: stopped after 3 of 9 cases\n", results.Interrupted, "bench.txt:14: the run is incomplete: stopped after 3 of 9 cases"},
		{"second sample failed", row, row + "BenchmarkAlone-2  \t--- FAIL: BenchmarkAlone\n    a_test.go:9: why\n", results.Failed, "bench.txt:13: BenchmarkAlone failed: expected it to pass"},
		{"no end", "PASS\nok  	example.com/a	0.1s\n", "", results.Interrupted, "bench.txt:12: the results of example.com/a end here: expected PASS or FAIL behind them"},
		{"no end at the end", "1.5 ns/op\nPASS\n", "1.5 ns/op\n", results.Interrupted, "bench.txt:17: the results of example.com/b end here: expected PASS or FAIL behind them"},
		{"ok alone", "PASS\nok  	", "a log linePASS\nok  	", -1, ""},
		{"name without an end", row, row + "BenchmarkAlone\n", results.Syntax, "bench.txt:13: a result that is cut into pieces, ..."},
		{"binary", row, row + "a\x00b\n", results.Unreadable, "bench.txt:13: a zero byte: expected text"},
		{"verbose", row, "=== RUN   BenchmarkAlone\nBenchmarkAlone\n" + row, -1, ""},
		{"windows line ends", row, "BenchmarkAlone 	       1	        10 ns/op\r\n", -1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Contains(t, sound, c.old)
			s := read(strings.Replace(sound, c.old, c.new, 1))
			if c.want == "" {
				require.Empty(t, s.Problems)
				return
			}
			require.Len(t, s.Problems, 1)
			require.Equal(t, c.kind, s.Problems[0].Kind)
			if begin, cut := strings.CutSuffix(c.want, "..."); cut {
				require.True(t, strings.HasPrefix(s.Problems[0].String(), begin), s.Problems[0].String())
			} else {
				require.Equal(t, c.want, s.Problems[0].String())
			}
		})
	}
}

// A process that dies in a sample leaves a name without its result, whatever it
// wrote behind it. The others are results.
func TestProcessThatDied(t *testing.T) {
	for _, said := range []string{"", "# phantom: no progress for 2m0s", "panic: oops", "fatal error: all goroutines are asleep"} {
		s := read(strings.Replace(sound, "PASS\nok  	example.com/a	0.1s\n",
			"BenchmarkX-2  \t"+said+"\n\ngoroutine 1 [running]:\nexit status 2\nFAIL\texample.com/a\t0.1s\n", 1))
		require.Len(t, s.Samples, 4)
		require.Len(t, s.Problems, 2, said)
		for _, p := range s.Problems {
			require.Equal(t, results.Failed, p.Kind)
		}
		require.Contains(t, []string{s.Problems[0].String(), s.Problems[1].String()},
			"bench.txt:13: BenchmarkX-2 ended without a result, and its process with it: expected it to pass")
	}
}

// A name without its result is torn text where its process went on.
func TestNameBeforeAProcessThatWentOn(t *testing.T) {
	for _, next := range []string{"BenchmarkY 1 1 ns/op", "PASS", "ok  \texample.com/a\t0.1s", "pkg: example.com/c"} {
		for _, name := range []string{"BenchmarkX", "BenchmarkX \ta log line"} {
			s := read(sound + name + "\n" + next + "\nFAIL\texample.com/a\t0.1s\n")
			require.True(t, slices.ContainsFunc(s.Problems, func(p results.Problem) bool { return p.Kind == results.Syntax }), "%s: %v", next, s.Problems)
		}
	}
	s := read(sound + "BenchmarkX\nFAIL\texample.com/b\t0.1s\n")
	require.Equal(t, results.Failed, s.Problems[0].Kind, "as -v prints a name")
}

func TestTruncatedText(t *testing.T) {
	for _, cut := range []int{len(sound) - 1, strings.Index(sound, "1236") + 2, strings.Index(sound, " avg-ns	   12")} {
		s := read(sound[:cut])
		var kinds []results.Kind
		for _, p := range s.Problems {
			kinds = append(kinds, p.Kind)
		}
		require.Contains(t, kinds, results.Truncated, "cut at %d", cut)
	}
}

func TestUnreadableFiles(t *testing.T) {
	dir := t.TempDir()
	gone := filepath.Join(dir, "gone.txt")
	s := results.ReadFiles(gone, dir)
	require.Len(t, s.Problems, 2)
	require.Regexp(t, `^`+regexp.QuoteMeta(gone)+`: .+: expected a file of benchmark text$`, s.Problems[0].String())
	require.Equal(t, results.Unreadable, s.Problems[1].Kind)

	s = results.Read("text", iotest.ErrReader(errors.New("the wire broke")))
	require.Equal(t, "text: the wire broke: expected a file of benchmark text", s.Problems[0].String())
	require.True(t, s.Problems[0].Kind.Bad())
	require.False(t, results.Failed.Bad())
	require.False(t, results.Interrupted.Bad())
}

// zeros is an endless text of empty lines.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	return len(p), nil
}

func TestEndlessFileIsRefused(t *testing.T) {
	s := results.Read("endless", zeros{})
	require.Len(t, s.Problems, 1)
	require.Contains(t, s.Problems[0].String(), "endless: larger than 64 MiB: expected benchmark text")
}

func TestLongLineIsNamed(t *testing.T) {
	s := read("BenchmarkA " + strings.Repeat("x", 1<<20) + "\n")
	require.NotEmpty(t, s.Problems)
	require.Equal(t, results.Syntax, s.Problems[0].Kind)
	for _, p := range s.Problems {
		require.Less(t, len(p.String()), 400, "what is quoted is short")
	}
}

func TestSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	var paths []string
	for i, text := range []string{sound, sound, strings.ReplaceAll(sound, "Some Processor", "Another")} {
		path := filepath.Join(dir, string(rune('a'+i))+".txt")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		paths = append(paths, path)
	}
	s := results.ReadFiles(paths[:2]...)
	require.Empty(t, s.Problems)
	require.Len(t, s.Rows()[0].Samples, 4)
	s = results.ReadFiles(paths...)
	require.Len(t, s.Problems, 1)
	require.Equal(t, results.Mixed, s.Problems[0].Kind)
	require.Equal(t, paths[2], s.Problems[0].File)
}

// The known answers: of six values the interval is their whole range, with
// 1 - 2/2^6 = 97 % of confidence; of fewer there is none.
func TestSummary(t *testing.T) {
	s := results.Summarize([]float64{3, 1, 2, 6, 5, 4})
	require.Equal(t, results.Summary{N: 6, Median: 3.5, Low: 1, High: 6}, s)
	require.True(t, s.Bounded())
	require.True(t, s.Covers(1))
	require.True(t, s.Covers(6))
	require.False(t, s.Covers(6.5))
	require.Equal(t, "3.5 [1, 6] (n=6)", s.String())

	s = results.Summarize([]float64{1, 2, 3, 4, 5})
	require.Equal(t, 3.0, s.Median)
	require.False(t, s.Bounded())
	require.False(t, s.Covers(3), "without an interval nothing is inside it")
	require.True(t, math.IsInf(s.Low, -1))
	require.Equal(t, "3 (n=5)", s.String())
	require.Equal(t, 7.0, results.Summarize([]float64{7}).Median)
	require.Panics(t, func() { results.Summarize(nil) })
}

func FuzzRead(f *testing.F) {
	f.Add(sound)
	f.Add("Unit x y\nBenchmarkX/a=/=b/- 1 1e309 ns/op 2 MB/s")
	f.Add("BenchmarkX-8\t1\t1 ns/op\n--- FAIL: \nFAIL\t\n# skipped Benchmark\n")
	f.Fuzz(func(t *testing.T, text string) {
		s := read(text)
		for _, sample := range s.Samples {
			if sample.Line < 1 || sample.Line > strings.Count(text, "\n")+1 {
				t.Fatalf("line %d of a text of %d", sample.Line, strings.Count(text, "\n"))
			}
		}
		if len(s.Samples) == 0 && len(s.Problems) == 0 {
			t.Fatal("a text without samples has no problem")
		}
	})
}

// What somebody set for a process goes with its results and no others.
func TestParametersThatWereSet(t *testing.T) {
	set := results.Read("text", strings.NewReader("phantom-mode: quick\n"+
		"# phantom: mode=quick nodes=20 clients!=5 disk!=none dir=/tmp\nBenchmarkA 1 1 ns/op\nPASS\n"+
		"BenchmarkB 1 1 ns/op\nPASS\n# phantom: mode=quick nodes=20\nBenchmarkC 1 1 ns/op\nPASS\n"))
	require.Empty(t, set.Problems)
	require.Equal(t, []results.Key{{Name: "clients", Value: "5"}, {Name: "disk", Value: "none"}}, set.Samples[0].Given)
	require.Empty(t, set.Samples[1].Given, "its process told nothing")
	require.Empty(t, set.Samples[2].Given)
}
