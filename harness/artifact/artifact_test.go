package artifact

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/measure"
)

var began = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// sample returns one that the reader accepts.
func sample(name string, order int, values map[string]float64) Sample {
	return Sample{
		Schema: Schema, Package: "example.org/x", Name: name, Procs: 4, Process: "p1", Order: order,
		Iterations: 100, Values: values, Mode: "quick", Parameters: map[string]string{"nodes": "20"},
		Seed: math.MaxUint64, Start: began.Add(time.Duration(order) * time.Second), Elapsed: 1e9,
	}
}

// folder writes a sample into a new directory below root.
func folder(t *testing.T, root string, s Sample) string {
	t.Helper()
	dir := filepath.Join(root, "_artifacts", "x", fmt.Sprint(s.Order))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, WriteSample(dir, s))
	return dir
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	root := t.TempDir()
	want := sample("BenchmarkPut/clients=4", 0, map[string]float64{"ns/op": 1234.5678, "ops/s": 1e6 / 3})
	want.Kinds = []Kind{{Tag: "read", Name: "BenchmarkPut/clients=4/kind=read", Iterations: 60, Values: map[string]float64{"ns/op": 7}}}
	want.Findings = []Finding{{Reason: "leak", Text: "goroutines grow by 3 an hour"}}
	want.Invalid = "generator lag"
	dir := folder(t, root, want)
	series := Series{Schema: Schema, Interval: 1e8, Ends: Floats{0.1, 0.2}, Columns: []Column{
		{Name: "ops", Unit: "1", Kind: Counter, Values: Floats{10, 20}},
		{Name: "p99", Unit: "ns", Kind: Gauge, Values: Floats{math.NaN(), 0.1 + 0.2}},
	}}
	require.NoError(t, WriteSeries(dir, series))
	two := 2.0
	meters := Meters{Schema: Schema, Meters: []Meter{{Name: "cpu-user", Unit: "ns", Kind: Counter, Source: "getrusage",
		Delta: &two, Quantiles: map[string]float64{"0.5": 3}}}}
	require.NoError(t, WriteMeters(dir, meters))
	var h measure.Histogram
	h.Record(1234567)
	require.NoError(t, WriteLatency(dir, measure.Log{Start: began, Intervals: []measure.Interval{{To: time.Second, Latency: &h}}}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cpu.pprof"), []byte("x"), 0o600))
	missing := Missing{Schema: Schema, Package: "example.org/x", Name: "BenchmarkGone", Procs: 1, Process: "p1", Why: "no disk", Time: began}
	require.NoError(t, WriteMissing(root, missing))
	env := Environment{Schema: Schema, ID: "p1", Start: began, Cores: 2, Procs: 2, OS: "linux", Arch: "amd64", Go: "go1.26",
		Disk: &DiskProbe{Block: 4096, Fdatasync: &Probe{P50: 110_000, Count: 15}}, Load: []float64{1, 2, 3}}
	require.NoError(t, WriteEnvironment(filepath.Join(root, "_artifacts"), env))

	tree, err := Load(root)
	require.NoError(t, err)
	require.Len(t, tree.Folders, 1)
	f := tree.Folders[0]
	require.Equal(t, want, f.Sample)
	require.Equal(t, "BenchmarkPut/clients=4-4", f.Sample.Line())
	require.Equal(t, dir, f.Dir)
	require.Equal(t, []string{SeriesFile, MetersFile, LatencyFile, "cpu.pprof"}, f.Files)
	require.Equal(t, []Missing{missing}, tree.Missing)
	require.Equal(t, "BenchmarkGone", tree.Missing[0].Line())
	require.Equal(t, map[string]Environment{"p1": env}, tree.Environments)

	gotSeries, ok, err := f.Series()
	require.NoError(t, err)
	require.True(t, ok)
	p99, ok := gotSeries.Column("p99")
	require.True(t, ok)
	require.True(t, math.IsNaN(p99.Values[0]), "unknown stays unknown")
	require.InDelta(t, 0.1+0.2, p99.Values[1], 0)
	_, ok = gotSeries.Column("p98")
	require.False(t, ok)
	gotMeters, ok, err := f.Meters()
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, meters, gotMeters)
	log, ok, err := f.Latency()
	require.NoError(t, err)
	require.True(t, ok)
	require.True(t, began.Equal(log.Start))
	require.EqualValues(t, 1234567, log.Intervals[0].Latency.Max())

	left, err := filepath.Glob(filepath.Join(dir, "*.tmp"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestFilesThatAreNotThere(t *testing.T) {
	root := t.TempDir()
	folder(t, root, sample("BenchmarkX", 0, nil))
	tree, err := Load(root)
	require.NoError(t, err)
	f := tree.Folders[0]
	_, ok, err := f.Series()
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = f.Meters()
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = f.Latency()
	require.NoError(t, err)
	require.False(t, ok)
	_, err = Load(filepath.Join(root, "gone"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A later writer may add fields; nothing else may differ.
func TestUnknownFieldsAndSchemas(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`{"schema":1,"package":"p","name":"BenchmarkX","procs":1,"colour":"red"}`, ""},
		{`{"schema":2,"package":"p","name":"BenchmarkX","procs":1}`, "schema 2: want 1"},
		{`{"package":"p","name":"BenchmarkX","procs":1}`, "schema 0: want 1"},
		{`{"schema":1,"package":"p","name":"X","procs":1}`, `name "X": want the name of a benchmark`},
		{`{"schema":1,"package":"p","name":"BenchmarkX y","procs":1}`, "without spaces"},
		{`{"schema":1,"package":"p q","name":"BenchmarkX","procs":1}`, "want an import path"},
		{`{"schema":1,"name":"BenchmarkX"}`, "procs 0: want GOMAXPROCS"},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"iterations":-1}`, "want none below 0"},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"values":{"a b":1}}`, `unit "a b": want a word`},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"values":{"a":1e999}}`, "want one JSON object of schema 1"},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"kinds":[{"name":"y"}]}`, `kind "y": want the name`},
		{`{"schema":1,"name":"Benchmark` + strings.Repeat("x", maxText) + `","procs":1}`, "want the name of a benchmark"},
		{`{"schema":1,"name":"BenchmarkX","package":"` + strings.Repeat("x", maxText+1) + `","procs":1}`, "want an import path"},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"values":{"":1}}`, `unit "": want a word`},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"values":{"` + strings.Repeat("x", 101) + `":1}}`, "want a word"},
		{`{"schema":1,"name":"BenchmarkX","procs":1,"findings":[{}` + strings.Repeat(",{}", maxEntries) + `]}`, "a list of 1025 entries: want at most 1024"},
		{`{"schema":1,"name":"BenchmarkX","procs":1} trailing`, "more follows it"},
		{`{"schema":1,"name":"Benchm`, "want one JSON object of schema 1: unexpected EOF"},
		{`[1]`, "cannot unmarshal array"},
		{``, "EOF"},
		{"\x7fELF", "invalid character"},
	} {
		root := t.TempDir()
		path := filepath.Join(root, SampleFile)
		require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
		tree, err := Load(root)
		if c.want == "" {
			require.NoError(t, err, c.text)
			continue
		}
		require.ErrorContains(t, err, c.want, c.text)
		require.ErrorContains(t, err, path)
		require.Nil(t, tree)
	}
}

// What the reader refuses, the writer does too.
func TestWriterChecks(t *testing.T) {
	dir := t.TempDir()
	require.ErrorContains(t, WriteSample(dir, Sample{Name: "BenchmarkX", Procs: 1, Values: map[string]float64{"ns/op": math.NaN()}}),
		"artifact: sample.json: ns/op of NaN: want a finite number")
	require.ErrorContains(t, WriteMissing(dir, Missing{Name: "BenchmarkX", Procs: 1}), "a reason of 0 bytes")
	require.ErrorContains(t, WriteEnvironment(dir, Environment{}), "an id of 0 bytes")
	require.ErrorContains(t, WriteMeters(dir, Meters{Meters: []Meter{{Name: "x", Kind: "sum"}}}), "want gauge or counter")
	for _, c := range []struct {
		s    Series
		want string
	}{
		{Series{Ends: Floats{2, 1}}, "interval 1 ends at 1 s: want times in order"},
		{Series{Ends: Floats{math.NaN()}}, "want times in order"},
		{Series{Ends: Floats{1}, Columns: []Column{{Name: "a", Kind: Gauge}}}, "column a has 0 values: want 1"},
		{Series{Columns: []Column{{Name: "a", Kind: Gauge}, {Name: "a", Kind: Gauge}}}, "twice"},
		{Series{Ends: make(Floats, maxInterval+1)}, "16385 intervals of 0 columns: want at most"},
		{Series{Columns: make([]Column, maxColumns+1)}, "0 intervals of 257 columns: want at most"},
		{Series{Columns: []Column{{Name: strings.Repeat("x", 101), Kind: Gauge}}}, "want a name and a unit of at most 100 bytes"},
	} {
		require.ErrorContains(t, WriteSeries(dir, c.s), c.want)
	}
	require.ErrorContains(t, WriteMeters(dir, Meters{Meters: make([]Meter, maxEntries+1)}), "1025 meters: want at most 1024")
	require.ErrorContains(t, WriteEnvironment(dir, Environment{ID: "x", Cores: -1}), "want none below 0")
	require.ErrorContains(t, WriteEnvironment(dir, Environment{ID: "x", Load: make([]float64, 4)}), "4 load averages")
	// These two fail while the file is being written.
	require.ErrorContains(t, WriteEnvironment(dir, Environment{ID: "x", Load: []float64{math.NaN()}}), "unsupported value")
	require.ErrorContains(t, WriteLatency(dir, measure.Log{Intervals: []measure.Interval{{Tag: "a b"}}}), `tag "a b"`)
	require.ErrorIs(t, WriteSample(filepath.Join(dir, "gone"), sample("BenchmarkX", 0, nil)), os.ErrNotExist)
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, files, "nothing half written is left")
}

func TestHostileFiles(t *testing.T) {
	root := t.TempDir()
	dir := folder(t, root, sample("BenchmarkX", 0, nil))
	// Sparse, so that it costs nothing to make.
	require.NoError(t, os.WriteFile(filepath.Join(dir, SeriesFile), nil, 0o600))
	require.NoError(t, os.Truncate(filepath.Join(dir, SeriesFile), maxSeriesBytes+1))
	long := `{"schema":1,"ends_s":[` + strings.Repeat("0,", maxInterval) + `0]}`
	require.NoError(t, os.WriteFile(filepath.Join(dir, MetersFile), []byte(`{"schema":1,"meters":[{"name":""}]}`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, LatencyFile), []byte("0,1,2,HISTFAAA\n"), 0o600))
	tree, err := Load(root)
	require.NoError(t, err)
	_, _, err = tree.Folders[0].Series()
	require.ErrorContains(t, err, "33554433 bytes: want at most 33554432")
	require.NoError(t, os.WriteFile(filepath.Join(dir, SeriesFile), []byte(long), 0o600))
	_, _, err = tree.Folders[0].Series()
	require.ErrorContains(t, err, "column of 16385 values: want at most 16384")
	_, _, err = tree.Folders[0].Meters()
	require.ErrorContains(t, err, "want a name")
	_, _, err = tree.Folders[0].Latency()
	require.ErrorContains(t, err, LatencyFile+": measure: log: line 1: histogram")

	_, err = load(root, 1)
	require.NoError(t, err)
	require.NoError(t, WriteMissing(root, Missing{Name: "BenchmarkX", Procs: 1, Why: "x"}))
	_, err = load(root, 1)
	require.ErrorContains(t, err, "more than 1 records: want a directory of artifacts")

	// A link could lead anywhere.
	if runtime.GOOS != "windows" {
		require.NoError(t, os.Symlink(filepath.Join(dir, SampleFile), filepath.Join(dir, "cpu.pprof")))
		tree, err := Load(root)
		require.NoError(t, err)
		require.False(t, tree.Folders[0].Has("cpu.pprof"))
		require.NoError(t, os.Symlink(filepath.Join(dir, SampleFile), filepath.Join(root, SampleFile)))
		_, err = Load(root)
		require.ErrorContains(t, err, "want a plain file")
	}
}

func TestManyBadFilesAreNamed(t *testing.T) {
	root := t.TempDir()
	for i := range 2 * maxComplaints {
		dir := filepath.Join(root, fmt.Sprint(i))
		require.NoError(t, os.Mkdir(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, SampleFile), []byte("{}"), 0o600))
	}
	_, err := Load(root)
	require.Equal(t, maxComplaints, strings.Count(err.Error(), "want 1"))
}

func TestBind(t *testing.T) {
	root := t.TempDir()
	for order, ns := range []float64{100.04, 200, 100.04} {
		s := sample("BenchmarkPut", order, map[string]float64{"ns/op": ns, "B/op": 17.9, "ops/s": 1234567.4})
		s.Index = order
		s.Kinds = []Kind{{Tag: "read", Name: "BenchmarkPut/kind=read", Values: map[string]float64{"ns/op": ns / 2}}}
		folder(t, root, s)
	}
	tree, err := Load(root)
	require.NoError(t, err)
	bind := func(pkg, name string, values map[string]float64) int {
		f, kind, ok := tree.Bind(pkg, name, values)
		if !ok {
			return -1
		}
		require.Equal(t, strings.Contains(name, "kind="), kind != nil)
		return f.Sample.Order
	}
	printed := map[string]float64{"ns/op": 100.0, "B/op": 17, "ops/s": 1234567, "allocs/op": 3}
	require.Equal(t, -1, bind("example.org/y", "BenchmarkPut-4", printed), "another package")
	require.Equal(t, -1, bind("example.org/x", "BenchmarkPut", printed), "another GOMAXPROCS")
	require.Equal(t, -1, bind("", "BenchmarkPut-4", map[string]float64{"ns/op": 100.2}), "another value")
	require.Equal(t, -1, bind("", "BenchmarkPut-4", map[string]float64{"B/s": 1}), "nothing in common")
	require.Equal(t, 0, bind("example.org/x", "BenchmarkPut-4", printed))
	require.Equal(t, 2, bind("example.org/x", "BenchmarkPut-4", printed), "each sample once")
	require.Equal(t, -1, bind("example.org/x", "BenchmarkPut-4", printed))
	require.Equal(t, 1, bind("", "BenchmarkPut-4", map[string]float64{"ns/op": 200}))
	require.Equal(t, 1, bind("", "BenchmarkPut/kind=read-4", map[string]float64{"ns/op": 100}))
}

// Directories sort by name, samples by time.
func TestFoldersStandInOrder(t *testing.T) {
	root := t.TempDir()
	for order := range 12 {
		folder(t, root, sample("BenchmarkX", order, nil))
	}
	tree, err := Load(root)
	require.NoError(t, err)
	for i, f := range tree.Folders {
		require.Equal(t, i, f.Sample.Order)
	}
}

func TestFloatsKnowWhatIsUnknown(t *testing.T) {
	text, err := json.Marshal(Floats{1, math.NaN(), math.Inf(1), -2.5})
	require.NoError(t, err)
	require.JSONEq(t, `[1,null,null,-2.5]`, string(text))
	var f Floats
	require.Error(t, json.Unmarshal([]byte(`["x"]`), &f))
	require.NoError(t, json.Unmarshal([]byte(`null`), &f))
	require.Nil(t, f)
}
