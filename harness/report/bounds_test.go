package report

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/artifact"
	"github.com/phantomdb/phantomdb/harness/measure"
	"github.com/phantomdb/phantomdb/harness/results"
)

// Ten thousand samples make a page of less than ten megabytes and a summary
// that a job can take, with as many charts as there is room for.
func TestSizesAreBounded(t *testing.T) {
	const cases = 5000
	var text strings.Builder
	text.WriteString(head)
	root, run := t.TempDir(), t.TempDir()
	writeRun(t, run, 2000, 4)
	for i := range cases {
		for k := range 2 {
			fmt.Fprintf(&text, "BenchmarkB%d/a=%d-2 100 %d avg-ns %d ops/s 1e6 p50-ns 2e6 p99-ns 3e6 max-ns 5 fsyncs/op 800 disk-B/op\n", i/10, i, 1000+i+k, 900+i)
		}
		if i%20 == 0 {
			dir := filepath.Join(root, fmt.Sprint(i))
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.CopyFS(dir, os.DirFS(run)))
			require.NoError(t, artifact.WriteSample(dir, artifact.Sample{
				Package: "github.com/phantomdb/phantomdb/consensus", Name: fmt.Sprintf("BenchmarkB%d/a=%d", i/10, i), Procs: 2, Process: "p", Start: began,
				Values: map[string]float64{"avg-ns": float64(1000 + i)},
			}))
		}
	}
	in := fromText(t, text.String())
	require.Len(t, in.Set.Samples, 10000)
	var err error
	in.Artifacts, err = artifact.Load(root)
	require.NoError(t, err)
	m := build(t, in)
	page, summary := written(t, m.WriteHTML), written(t, m.WriteMarkdown)
	require.Less(t, len(page), 10<<20)
	require.Less(t, len(summary), 1<<20)
	require.Contains(t, page, fmt.Sprintf("This page shows %d cases; %d more are in the JSON form alone.", MaxCases, cases-MaxCases))
	require.Equal(t, MaxCharts, strings.Count(page, "data-kind=\"heat\""))
	require.Contains(t, page, fmt.Sprintf("At most %d cases get charts", MaxCharts))
	require.Contains(t, written(t, m.WriteJSON), fmt.Sprintf("B%d/a=%d", (cases-1)/10, cases-1), "the JSON form holds all")
}

// The summary of a job is dropped whole when it is longer than a mebibyte.
func TestMarkdownIsBounded(t *testing.T) {
	var text, list strings.Builder
	text.WriteString(head)
	long := strings.Repeat("x", 1000)
	for i := range 1500 {
		fmt.Fprintf(&text, "BenchmarkB%d/%s-2 100 1000 avg-ns\n# skipped BenchmarkC%d: late\n", i, long, i)
		fmt.Fprintf(&list, "level fast%s%d\nbench: consensus Put\nunit: avg-ns\nlimit: < 5ms\nmodes: standard\nreason: r\n\n", long, i)
	}
	in := fromText(t, text.String()+"PASS\n")
	in.Entries = entries(t, list.String())
	summary := written(t, build(t, in).WriteMarkdown)
	require.Less(t, len(summary), 1<<20)
	require.Contains(t, summary, fmt.Sprintf("- and %d more\n", 1500-maxNotices))
	require.Regexp(t, `\n\d+ more\.\n`, summary, "baselines")
	require.Regexp(t, `\d+ tables left out here`, summary)
	require.Contains(t, summary, "### Machine", "what comes last is not cut off")
}

// The charts of a long run take no more of the page than those of a short one.
func TestChartsAreBounded(t *testing.T) {
	h := new(measure.Histogram)
	for d := time.Microsecond; d < time.Minute; d *= 2 {
		h.Record(d)
	}
	var long []measure.Interval
	series := artifact.Series{}
	var columns []artifact.Column
	for _, chart := range charts {
		for _, l := range chart.lines {
			columns = append(columns, artifact.Column{Name: l.column, Kind: artifact.Gauge})
		}
	}
	for i := range 250 {
		long = append(long, measure.Interval{To: time.Duration(i+1) * time.Second, Latency: h})
		series.Ends = append(series.Ends, float64(i+1))
		for k := range columns {
			columns[k].Values = append(columns[k].Values, float64(i)*math.Pi)
		}
	}
	series.Columns = columns
	e := Evidence{Heat: heat(long), Series: panels(shorten(series), ""), Curve: curve(h)}
	require.LessOrEqual(t, len(e.Heat.Counts), maxColumns)
	require.Equal(t, 250.0, e.Heat.Ends[len(e.Heat.Ends)-1], "to the end")
	require.Len(t, e.Series, len(charts))
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.Less(t, MaxCharts*len(text), 8<<20)
}

// Cases with a baseline get their charts first.
func TestJudgedCasesGetChartsFirst(t *testing.T) {
	b := &builder{bound: map[*results.Sample]boundFolder{}, judged: map[string]bool{"last": true}}
	var rows []row
	for i := range MaxCharts + 1 {
		id := fmt.Sprint(i)
		if i == MaxCharts {
			id = "last"
		}
		s := &results.Sample{}
		b.bound[s] = boundFolder{}
		rows = append(rows, row{Row: &results.Row{Samples: []*results.Sample{s}}, id: id})
	}
	chosen := b.choose(rows)
	require.Len(t, chosen, MaxCharts)
	require.True(t, chosen["last"])
	require.False(t, chosen[fmt.Sprint(MaxCharts-1)])
}

const nasty = `B/<script>alert(1)</script>/'"$(touch` + "`x`" + `)|@everyone`

// Names come from files of strangers: none may become markup, Markdown, a
// mention, or a second command.
func TestNamesOfStrangersStayText(t *testing.T) {
	m := build(t, fromText(t, head+"Benchmark"+nasty+"-2 100 5 avg-ns 3 ops/s\n"))
	page, summary := written(t, m.WriteHTML), written(t, m.WriteMarkdown)
	require.Contains(t, page, "&lt;script&gt;alert(1)")
	require.NotContains(t, page, "<script>alert")
	require.NotContains(t, summary, "<script>")
	require.NotContains(t, summary, "@everyone")
	for line := range strings.SplitSeq(summary, "\n") {
		if strings.Contains(line, "alert") && strings.HasPrefix(line, "|") {
			require.Equal(t, 6, strings.Count(line, "|")-strings.Count(line, `\|`), line)
		}
	}
}

// A shell reads the words of a command as they were meant.
func TestCommandsSurviveAShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell to read them")
	}
	m := build(t, fromText(t, head+"Benchmark"+nasty+"-2 100 5 avg-ns\n"))
	command := m.Floors[0].Benchmarks[0].Cases[0].Command
	require.True(t, strings.HasPrefix(command, "PHANTOM_MODE=standard go test "), command)
	words := strings.TrimPrefix(command, "PHANTOM_MODE=standard go test ")
	out, err := exec.Command(sh, "-c", `printf '%s\n' `+words).Output()
	require.NoError(t, err)
	require.Equal(t, []string{"-run=^$", "-bench=" + pattern(nasty), "-cpu=2", "./consensus", ""}, strings.Split(string(out), "\n"))
}

func TestCommand(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"BenchmarkX-2 100 5 ns/op\n", "PHANTOM_MODE=standard go test -run='^$' -bench='^BenchmarkX$' -cpu=2 ./consensus"},
		{"phantom-mode: quick\nBenchmarkX 100 5 ns/op\nBenchmarkX 100 5 ns/op\n", "go test -run='^$' -bench='^BenchmarkX$' -count=2 -cpu=1 ./consensus"},
		{"pkg: " + module + "\nBenchmarkX/a.b=1/kind=read-4 100 5 ns/op\n", `PHANTOM_MODE=standard go test -run='^$' -bench='^BenchmarkX$/^a\.b=1$' -cpu=4 .`},
		{"# phantom: mode!=standard matrix!=full nodes=20 clients!=5 disk-unsafe!=true seed!=7 dir!=/data $(x)!=1\nBenchmarkX/clients=5 100 5 ns/op\n",
			"PHANTOM_MODE=standard PHANTOM_MATRIX=full PHANTOM_CLIENTS=5 PHANTOM_DISK_UNSAFE=true PHANTOM_SEED=7 go test -run='^$' -bench='^BenchmarkX$/^clients=5$' -cpu=1 ./consensus"},
		{"pkg: -exec=sh\nBenchmarkX 100 5 ns/op\n", "PHANTOM_MODE=standard go test -run='^$' -bench='^BenchmarkX$' -cpu=1 ./-exec=sh"},
	} {
		require.Equal(t, c.want, caseOf(t, build(t, fromText(t, head+c.text)), strings.Split(strings.Fields(c.text[strings.Index(c.text, "BenchmarkX")+len("Benchmark"):])[0], "-")[0]).Command)
	}
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		v    float64
		unit string
		want string
	}{
		{0, "ns/op", "0 ns"}, {125.3, "ns/op", "125 ns"}, {999.6, "avg-ns", "1.00 µs"}, {1.25e6, "p99-ns", "1.25 ms"}, {62e9, "max-ns", "62.0 s"},
		{2478.5, "ops/s", "2.48 k/s"}, {999.4, "ops/s", "999 /s"}, {56.1e3, "entries/s", "56.1 k/s"}, {12.345, "MB/s", "12.3 MB/s"},
		{768, "disk-B/op", "768 B"}, {2048, "B/op", "2.05 kB"}, {1e10, "peak-heap-B", "10.0 GB"},
		{576.5, "exact-wire-B/op", "576.5 B"}, {8, "exact-msgs/op", "8"}, {205, "allocs/op", "205"}, {0.16, "fsyncs/op", "0.16"}, {0.1046, "load-cv", "10.5 %"}, {6e-7, "load-cv", "< 0.1 %"}, {0, "dip", "0.0 %"}, {12345, "allocs/op", "12.3 k"},
	} {
		require.Equal(t, c.want, strings.ReplaceAll(number(c.v, c.unit).String(), "\u202f", " "), "%v %s", c.v, c.unit)
	}
}
