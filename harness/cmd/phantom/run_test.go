package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fakeGo is a go command with two packages of two cases each. A case takes a
// little more than a second of the bubble's time, so that nothing else happens
// at the same moment.
type fakeGo struct {
	calls  [][]string
	envs   [][]string
	status int              // of the run that measures
	before func(sample int) // called before each sample
}

func (f *fakeGo) run(ctx context.Context, args, env []string, out io.Writer) (int, error) {
	f.calls, f.envs = append(f.calls, args), append(f.envs, env)
	if slices.Contains(env, "PHANTOM_LIST=1") {
		fmt.Fprint(out, "# case BenchmarkA/k=1 2s\n# case BenchmarkA/k=2 2s\nPASS\nok  \texample.com/a\t0.1s\n")
		fmt.Fprint(out, "BenchmarkPlain-2 \t 1\t 12 ns/op\n# case BenchmarkA/k=1 5000x\nPASS\nok  \texample.com/b\t0.1s\n")
		return 0, nil
	}
	count := 1
	for _, a := range args {
		if _, err := fmt.Sscanf(a, "-count=%d", &count); err == nil {
			break
		}
	}
	sample := 0
	fmt.Fprint(out, "phantom-mode: quick\nphantom-fs: ext4\n")
	for _, pkg := range []string{"example.com/a", "example.com/b"} {
		fmt.Fprintf(out, "pkg: %s\n", pkg)
		names := []string{"A/k=1", "A/k=2"}
		if pkg == "example.com/b" {
			names = []string{"Plain", "A/k=1"}
		}
		for _, name := range names {
			for range count {
				sample++
				if f.before != nil {
					f.before(sample)
				}
				time.Sleep(1010 * time.Millisecond)
				if ctx.Err() != nil {
					fmt.Fprintf(out, "Benchmark%s-2 \tsignal: interrupt\nFAIL\t%s\t1s\n", name, pkg)
					return statusInterrupted, nil
				}
				// In two pieces, as package testing writes it.
				fmt.Fprintf(out, "Benchmark%s-2 \t", name)
				fmt.Fprintf(out, " 100\t %d ns/op\t 5 ops/s\t 0.5 errors/op\n", sample)
			}
		}
		fmt.Fprintf(out, "PASS\nok  \t%s\t2s\n", pkg)
	}
	return f.status, nil
}

// bubble runs the command in a bubble, where time is virtual.
func bubble(t *testing.T, live bool, cancel func(f *fakeGo, cancel func()), f *fakeGo, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		if cancel != nil {
			cancel(f, stop)
		}
		var out, errs buffer
		c := &console{out: &out, err: &errs, getenv: func(string) string { return "" }, width: 70, live: live, goTest: f.run}
		status = dispatch(ctx, c, append([]string{"run"}, args...))
		stdout, stderr = out.String(), errs.String()
	})
	return stdout, stderr, status
}

func TestRunKeepsTheTextAndPrintsATable(t *testing.T) {
	f := &fakeGo{}
	name := filepath.Join(t.TempDir(), "new", "results.txt")
	out, errs, status := bubble(t, false, nil, f, "--mode", "standard", "--count", "2", "--out", name, "./a", "./b", "--", "-cpu=2")
	require.Zero(t, status, errs)
	require.Equal(t, [][]string{
		{"test", "-p=1", "-run=^$", "-bench=.", "-count=2", "-cpu=2", "./a", "./b"},
		{"test", "-p=1", "-run=^$", "-bench=.", "-count=2", "-cpu=2", "./a", "./b"},
	}, f.calls)
	require.Equal(t, [][]string{{"PHANTOM_MODE=standard", "PHANTOM_LIST=1"}, {"PHANTOM_MODE=standard"}}, f.envs)

	text, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, 8, bytes.Count(text, []byte("ns/op")))
	require.NoFileExists(t, name+partial)
	require.Equal(t, `benchmark      ops/s    mean  p99  max  CPU/op  allocs/op  errors
example.com/a
  A/k=1            5  1.5 ns    -    -       -          -    50 %
  A/k=2            5  3.5 ns    -    -       -          -    50 %
example.com/b
  Plain            5  5.5 ns    -    -       -          -    50 %
  A/k=1            5  7.5 ns    -    -       -          -    50 %
`, out)
	require.Contains(t, errs, "8 samples in "+name+"\njudge them: go tool phantom check "+name+"\n")
}

func TestRunTellsHowFarItIs(t *testing.T) {
	dir := t.TempDir()
	_, errs, _ := bubble(t, true, nil, &fakeGo{}, "--count", "2", "--out", filepath.Join(dir, "a.txt"))
	require.NotContains(t, errs, "[1/8]", "nothing is said in the first two seconds")
	require.Contains(t, errs, "\r\x1b[K[4/8] 3s, about ")
	require.Contains(t, errs, " to go  example.com/a A/k=2")
	require.Contains(t, errs, "to go  example.com/b Plain")
	require.Contains(t, errs, "\r\x1b[K8 samples in ", "the live line is cleared in the end")
	for line := range strings.SplitSeq(errs, "\r\x1b[K") {
		require.Less(t, len(strings.TrimSuffix(strings.Split(line, "\n")[0], "\n")), 70+len(dir))
	}

	_, errs, _ = bubble(t, false, nil, &fakeGo{}, "--count", "10", "--out", filepath.Join(dir, "b.txt"))
	require.NotContains(t, errs, "\x1b", "no escape sequences in a file")
	require.Equal(t, 3, strings.Count(errs, " to go  "), "after 2, 17 and 32 of 40 seconds: %s", errs)
	require.Contains(t, errs, "[17/40] 17s, about ")
}

// The estimate learns from what the cases took: these say 2 s and take 1 s.
func TestEstimateLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cases []benchCase
		for i := range 10 {
			cases = append(cases, benchCase{"p", fmt.Sprintf("BenchmarkA/k=%d", i), "2s"})
		}
		p := &progress{c: &console{}, start: time.Now()}
		p.begin(cases, 1)
		require.Contains(t, p.line(), "[1/10] 0s, about 27s to go")
		for i := range 5 {
			time.Sleep(time.Second)
			p.row("p", fmt.Sprintf("BenchmarkA/k=%d-2", i))
		}
		require.Equal(t, "[6/10] 5s, about 5s to go  p A/k=5", p.line())
		p.row("p", "BenchmarkUnknown-2")
		require.Equal(t, "[7/10] 5s, about 5s to go  p A/k=5", p.line())
		p.row("p", "BenchmarkA/k=9-2")
		require.Contains(t, p.line(), "[8/10] 5s, about 0s to go")
	})
}

// The lines of a mix's kinds are of the sample that is counted already; a case
// with such a name of its own is one.
func TestKindsAreNoSamples(t *testing.T) {
	p := &progress{c: &console{}, start: time.Now()}
	p.begin([]benchCase{{"p", "BenchmarkMix/clients=2", "2s"}, {"p", "BenchmarkOne/kind=get", "2s"}}, 2)
	for range 2 {
		for _, name := range []string{"BenchmarkMix/clients=2", "BenchmarkMix/clients=2/kind=get", "BenchmarkMix/clients=2/kind=put-8x-2"} {
			p.row("p", name)
		}
	}
	for range 2 {
		p.row("p", "BenchmarkOne/kind=get-2")
	}
	rows, all := p.counts()
	require.Equal(t, []int{4, 4}, []int{rows, all})
	p.row("p", "BenchmarkUnknown/kind=get")
	p.row("q", "BenchmarkMix/clients=2/kind=get")
	rows, _ = p.counts()
	require.Equal(t, 6, rows, "of no case that is known")
}

func TestInterruptLeavesMarkedText(t *testing.T) {
	name := filepath.Join(t.TempDir(), "results.txt")
	out, errs, status := bubble(t, false, func(f *fakeGo, cancel func()) {
		f.before = func(sample int) {
			if sample == 3 {
				cancel()
			}
		}
	}, &fakeGo{}, "--out", name)
	require.Equal(t, 130, status)
	require.Contains(t, errs, "interrupted after 2 of 4 samples; what there is: "+name+partial)
	require.Contains(t, out, "A/k=2", "the table shows what there is")
	require.NoFileExists(t, name)
	text, err := os.ReadFile(name + partial)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(text), "pkg: example.com/b\n# phantom: incomplete: interrupted after 2 of 4 samples\n"), string(text))

	_, errs, status = phantom(t, noGo, "check", name+partial)
	require.Equal(t, 3, status)
	require.Contains(t, errs, "the run is incomplete: interrupted after 2 of 4 samples")
}

func TestRunPassesTheStatusOn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "results.txt")
	_, _, status := bubble(t, false, nil, &fakeGo{status: 1}, "--out", name)
	require.Equal(t, 1, status)
	require.FileExists(t, name, "a failed run is complete")

	list := func(status int, text string, err error) goTest {
		return func(_ context.Context, _, _ []string, out io.Writer) (int, error) {
			fmt.Fprint(out, text)
			return status, err
		}
	}
	_, errs, status := phantom(t, list(1, "does not compile\n", nil), "run")
	require.Equal(t, 1, status)
	require.Equal(t, "does not compile\n", errs)
	_, errs, _ = phantom(t, list(1, strings.Repeat(strings.Repeat("x", 1023)+"\n", 2000), nil), "run")
	require.Len(t, errs, maxSaid, "the rest of a flood is dropped")
	_, errs, status = phantom(t, list(0, "ok  \tp\t0.1s\n", nil), "run", "--bench", "Nothing")
	require.Equal(t, 2, status)
	require.Contains(t, errs, `phantom run: --bench "Nothing": no benchmark of ./... matches: expected one at least`)
	_, errs, status = phantom(t, list(0, "", errors.New("no go command")), "run")
	require.Equal(t, 2, status)
	require.Equal(t, "phantom run: no go command\n", errs)
}

func TestRunList(t *testing.T) {
	f := &fakeGo{}
	out, errs, status := bubble(t, false, nil, f, "--list", "--count", "3")
	require.Zero(t, status)
	require.Len(t, f.calls, 1, "nothing is measured")
	require.Equal(t, "example.com/a\tBenchmarkA/k=1\t2s\nexample.com/a\tBenchmarkA/k=2\t2s\n"+
		"example.com/b\tBenchmarkPlain-2\t1x\nexample.com/b\tBenchmarkA/k=1\t5000x\n", out)
	// Three times 2 of 2.7 s, one of 0.2 s, one of 2.2 s.
	require.Equal(t, "4 cases in mode quick, 3 of each: about 23s\n", errs)

	out, _, _ = bubble(t, false, nil, f, "--list", "--json")
	var rows []map[string]string
	require.NoError(t, json.Unmarshal([]byte(out), &rows))
	require.Equal(t, map[string]string{"package": "example.com/a", "name": "BenchmarkA/k=1", "length": "2s"}, rows[0])
}

func TestRunNamed(t *testing.T) {
	f := &fakeGo{}
	_, errs, status := bubble(t, false, nil, f, "--named", "--list")
	require.Zero(t, status, errs)
	require.Contains(t, f.calls[0][3], "^BenchmarkPropose$/^disk=sync$/^net=tcp$/^groups=1$/^clients=64$/^size=128$|")
	require.Contains(t, f.calls[0], module+"/consensus")
	require.NotContains(t, f.calls[0], "./...")
	// A folder with rooms and nothing of its own is no package.
	root := t.TempDir()
	levels, err := os.ReadFile("../../../testdata/baselines/levels.baseline")
	require.NoError(t, err)
	for name, text := range map[string]string{
		"go.mod": "module x", "cluster/placement/doc.go": "package placement", "consensus/doc.go": "package consensus",
		"testdata/baselines/x.baseline": string(levels),
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	t.Chdir(root)
	f = &fakeGo{}
	_, errs, status = bubble(t, false, nil, f, "--named", "--list")
	require.Zero(t, status, errs)
	require.Contains(t, f.calls[0], module+"/consensus")
	require.NotContains(t, f.calls[0], module+"/cluster")
	_, errs, status = phantom(t, noGo, "run", "--named", "./a")
	require.Equal(t, 2, status)
	require.Contains(t, errs, "--named chooses packages and benchmarks: expected no others")
	_, _, status = phantom(t, noGo, "run", "--named", "--bench", "X")
	require.Equal(t, 2, status)
}

func TestRunJSON(t *testing.T) {
	name := filepath.Join(t.TempDir(), "results.txt")
	out, _, status := bubble(t, false, nil, &fakeGo{}, "--json", "--out", name)
	require.Zero(t, status)
	var doc struct {
		Status int
		File   string
		Rows   []summaryRow
	}
	require.NoError(t, json.Unmarshal([]byte(out), &doc))
	require.Equal(t, name, doc.File)
	require.Equal(t, summaryRow{"example.com/a", "A/k=1", 2, 1, map[string]float64{"ns/op": 1, "ops/s": 5, "errors/op": 0.5}}, doc.Rows[0])
}

func TestRunAsksForArtifacts(t *testing.T) {
	f, dir := &fakeGo{}, filepath.Join(t.TempDir(), "artifacts")
	_, errs, status := bubble(t, false, nil, f, "--artifacts", dir, "--out", filepath.Join(t.TempDir(), "r.txt"))
	require.Zero(t, status, errs)
	require.NotContains(t, f.calls[0], "-artifacts")
	require.Equal(t, []string{"test", "-artifacts", "-outputdir=" + dir}, f.calls[1][:3])
	require.DirExists(t, dir)
}

func TestRunNeedsARoomForItsText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	f := &fakeGo{}
	_, errs, status := bubble(t, false, nil, f, "--out", filepath.Join(file, "r.txt"))
	require.Equal(t, 2, status)
	require.Contains(t, errs, "phantom run: --out: ")
	require.Len(t, f.calls, 1, "found out before anything is measured")
}

func TestLineWriter(t *testing.T) {
	var lines []string
	w := &lineWriter{line: func(s string) { lines = append(lines, s) }}
	for _, piece := range []string{"a", "b\n\nc", "\nrest"} {
		n, err := io.WriteString(w, piece)
		require.NoError(t, err)
		require.Equal(t, len(piece), n)
	}
	require.Equal(t, []string{"ab", "", "c"}, lines)
	_, err := w.Write(bytes.Repeat([]byte("x"), maxLine))
	require.ErrorContains(t, err, "a line of more than 1048576 bytes")
}

// What dies in the middle of a line leaves sound text, which says that it is cut.
func TestTextThatEndsInALine(t *testing.T) {
	cut := func(_ context.Context, _, env []string, out io.Writer) (int, error) {
		if slices.Contains(env, "PHANTOM_LIST=1") {
			fmt.Fprint(out, "# case BenchmarkA 2s\nPASS\nok  \texample.com/a\t0.1s\n")
		} else {
			fmt.Fprint(out, "phantom-mode: quick\npkg: example.com/a\nBenchmarkA-2 \t 100\t 12 ns/op\nBenchmarkB-2 \t 100\t 12 ns")
		}
		return 0, nil
	}
	name := filepath.Join(t.TempDir(), "results.txt")
	_, errs, status := phantom(t, cut, "run", "--out", name)
	require.Equal(t, 1, status, errs)
	require.NoFileExists(t, name)
	text, err := os.ReadFile(name + partial)
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(string(text),
		"\n# phantom: incomplete: the output ends in the middle of a line, \"BenchmarkB-2 \\t 100\\t 12 ns\", after 1 of 1 samples\n"), string(text))

	list := func(_ context.Context, _, _ []string, out io.Writer) (int, error) {
		fmt.Fprint(out, "one\ntwo")
		return 1, nil
	}
	_, errs, _ = phantom(t, list, "run")
	require.Equal(t, "one\ntwo", errs)
}

// One real run, of a benchmark that takes no time.
func TestRunDrivesGoTest(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil || testing.Short() {
		t.Skip("this test builds and runs a test binary with the go command")
	}
	name := filepath.Join(t.TempDir(), "results.txt")
	out, errs, status := phantom(t, execGo, "run", "--bench", "^BenchmarkRecord$", "--benchtime", "10x", "--count", "2", "--out", name, "../../measure")
	require.Zero(t, status, errs)
	require.Contains(t, out, "\n  Record")
	require.Contains(t, errs, " samples in "+name)
	out, errs, status = phantom(t, noGo, "check", name, "--match", "consensus-latency")
	require.Equal(t, statusMissing, status, "nothing was judged: %s", errs)
	require.Contains(t, out, "not applicable")

	_, errs, status = phantom(t, execGo, "run", "./nowhere")
	require.Equal(t, 1, status)
	require.Contains(t, errs, "FAIL\t./nowhere [setup failed]")
}

func TestGoIsInterrupted(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command to interrupt")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	status, err := execGo(ctx, []string{"version"}, nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 130, status)
	_, err = execGo(t.Context(), []string{"version"}, nil, io.Discard)
	require.NoError(t, err)
	status, err = execGo(t.Context(), []string{"nonsense"}, nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 2, status)
}
