package harness

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestClassesGoByName(t *testing.T) {
	for name, want := range map[string]class{
		"BenchmarkTransactions": classTransactions, "BenchmarkTransactionsSaga": classTransactions,
		"BenchmarkQueries": classQueries, "BenchmarkQueriesJoin": classQueries,
		"BenchmarkMemoryOverTime": classSeries,
		"BenchmarkPropose":        classOther, "BenchmarkTransactional": classOther, "BenchmarkQueryPlan": classOther,
	} {
		require.Equal(t, want, classOf(name), name)
	}
}

// parametersOf reads parameters from variables of an environment.
func parametersOf(t *testing.T, vars ...string) *params {
	t.Helper()
	m := map[string]string{}
	for i := 0; i < len(vars); i += 2 {
		m[vars[i]] = vars[i+1]
	}
	p, err := fromEnvironment(environment(m))
	require.NoError(t, err)
	return p
}

func TestModesDivideTheBenchmarks(t *testing.T) {
	all := []string{"BenchmarkA", "BenchmarkQueries", "BenchmarkTransactions", "BenchmarkHeapOverTime", "BenchmarkB"}
	require.Equal(t, []part{{benchtime: "250ms"}}, parametersOf(t).parts(all, false), "quick: one length for all")
	require.Equal(t, []part{{}}, parametersOf(t, "PHANTOM_MODE", "standard").parts(all, true), "the user's -benchtime wins")

	list := parametersOf(t, "PHANTOM_MODE", "standard").parts(all, false)
	require.Equal(t, []part{
		{"2s", []string{"BenchmarkTransactions", "BenchmarkQueries", "BenchmarkHeapOverTime"}},
		{"5000x", []string{"BenchmarkA", "BenchmarkB", "BenchmarkHeapOverTime"}},
		{"1m0s", []string{"BenchmarkA", "BenchmarkB", "BenchmarkTransactions", "BenchmarkQueries"}},
	}, list)

	list = parametersOf(t, "PHANTOM_TRANSACTIONS", "7", "PHANTOM_DURATION", "9s").parts(all, false)
	require.Equal(t, "250ms, 7x, 9s", lengthsOf(list), "what the user set counts in every mode")
	list = parametersOf(t, "PHANTOM_MODE", "standard", "PHANTOM_QUERIES", "3").parts(all, false)
	require.Equal(t, "2s, 5000x, 3x, 1m0s", lengthsOf(list))
	list = parametersOf(t, "PHANTOM_MODE", "long-running").parts(all, false)
	require.Equal(t, "1h0m0s", lengthsOf(list))
	list = parametersOf(t, "PHANTOM_MODE", "stress").parts(all, false)
	require.Equal(t, "10s, 50000x, 1m0s", lengthsOf(list))
}

func TestSkipAlso(t *testing.T) {
	require.Equal(t, "x", skipAlso("x", nil))
	require.Equal(t, "^(BenchmarkA|BenchmarkB)$", skipAlso("", []string{"BenchmarkA", "BenchmarkB"}))
	require.Equal(t, "x/y|^(BenchmarkA)$", skipAlso("x/y", []string{"BenchmarkA"}))
}

func TestBenchmarksOfThisBinary(t *testing.T) {
	names, ok := chosenBenchmarks(this, ".")
	require.True(t, ok)
	require.Contains(t, names, "BenchmarkChild")
	names, ok = chosenBenchmarks(this, "^BenchmarkChildSeriesOverTime$/x=1")
	require.True(t, ok)
	require.Equal(t, []string{"BenchmarkChildSeriesOverTime"}, names)
	names, _ = chosenBenchmarks(this, "NothingOfTheKind")
	require.Empty(t, names)
	names, ok = chosenBenchmarks(new(testing.M), ".")
	require.True(t, ok)
	require.Empty(t, names, "a package without benchmarks declares nothing")
	require.True(t, mayChoose("(A|B)/x", "BenchmarkC"), "what is not understood chooses all")
}

// These three are measured by child processes only: a class each.
func BenchmarkTransactionsChild(b *testing.B)   { classChild(b) }
func BenchmarkQueriesChild(b *testing.B)        { classChild(b) }
func BenchmarkChildSeriesOverTime(b *testing.B) { classChild(b) }

func classChild(b *testing.B) {
	if os.Getenv(childVar) != "classes" {
		b.Skip("for child processes")
	}
	Run(b, Spec{}, func(*Client) error { return nil })
}

// TestTestsRunOnce leaves a line for each time it runs in a child process.
func TestTestsRunOnce(t *testing.T) {
	if os.Getenv(childVar) != "classes" {
		t.Skip("for child processes")
	}
	f, err := os.OpenFile(os.Getenv(fileVar), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString("ran\n")
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// iterations runs a child over the three classes and returns how many
// iterations each line has, by benchmark.
func iterations(t *testing.T, env []string, args ...string) map[string][]int {
	t.Helper()
	args = append([]string{"-test.run=^TestTestsRunOnce$", "-test.bench=^Benchmark(Transactions|Queries)?Child"}, args...)
	stdout, stderr, status := child(t, "classes", env, args...)
	require.Zero(t, status, stderr)
	got := map[string][]int{}
	for _, r := range results(t, stdout) {
		name := string(r.Name.Base())
		got[name] = append(got[name], r.Iters)
	}
	return got
}

func TestEachClassHasItsLength(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ran")
	got := iterations(t, []string{
		"PHANTOM_MODE=standard", "PHANTOM_TRANSACTIONS=11", "PHANTOM_QUERIES=13", "PHANTOM_DURATION=1ms", fileVar + "=" + file,
	}, "-test.count=2", "-test.cpu=1,2")
	require.Equal(t, []int{11, 11, 11, 11}, got["TransactionsChild"], "two samples for each number of processors")
	require.Equal(t, []int{13, 13, 13, 13}, got["QueriesChild"])
	require.Len(t, got["ChildSeriesOverTime"], 4)
	ran, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("ran\n", 4), string(ran), "twice for each number of processors, and in one part only")

	got = iterations(t, []string{"PHANTOM_MODE=standard", fileVar + "=" + file}, "-test.benchtime=3x")
	require.Equal(t, map[string][]int{"TransactionsChild": {3}, "QueriesChild": {3}, "ChildSeriesOverTime": {3}}, got)

	got = iterations(t, []string{"PHANTOM_QUERIES=13", "PHANTOM_DURATION=1ms", fileVar + "=" + file}, "-test.skip=Transactions")
	require.Equal(t, []int{13}, got["QueriesChild"])
	require.NotContains(t, got, "TransactionsChild", "the user's -skip still counts")
	require.Len(t, got["ChildSeriesOverTime"], 1)
}

func TestProfileOfSeveralPartsIsRefused(t *testing.T) {
	args := []string{"-test.run=^$", "-test.bench=^Benchmark(Queries)?Child", "-test.cpuprofile=" + filepath.Join(t.TempDir(), "p")}
	_, stderr, status := child(t, "classes", []string{"PHANTOM_QUERIES=5"}, args...)
	require.Equal(t, 2, status)
	require.Contains(t, stderr, "harness: -cpuprofile would cover the first of 2 parts of this run")
	require.Contains(t, stderr, "(250ms, 5x)")
	_, stderr, status = child(t, "classes", []string{"PHANTOM_QUERIES=5"}, append(args, "-test.benchtime=5x")...)
	require.Zero(t, status, stderr)
}

func TestParametersStandWithTheResult(t *testing.T) {
	stdout, stderr, status := child(t, "lone", []string{"PHANTOM_SEED=7"}, append(benchArgs, "-test.benchtime=1x")...)
	require.Zero(t, status)
	require.Contains(t, stderr, "# phantom: mode=quick matrix=quick nodes=20 ")
	require.Contains(t, stderr, " seed!=7 ")
	require.NotContains(t, stdout, "seed", "two seeds are compared in one table")
}

func TestListNamesCasesAndBootsNone(t *testing.T) {
	stdout, stderr, status := child(t, "list", []string{"PHANTOM_LIST=1", "PHANTOM_STRICT=1"}, append(benchArgs, "-test.count=3")...)
	require.Zero(t, status, stderr)
	require.Equal(t, "# case BenchmarkChild/list=1 250ms\n# case BenchmarkChild/list=2 250ms\n", stderr)
	require.Empty(t, results(t, stdout))

	_, stderr, status = child(t, "classes", []string{"PHANTOM_LIST=1", "PHANTOM_MODE=standard", "PHANTOM_QUERIES=7"},
		"-test.run=^$", "-test.bench=^Benchmark(Queries)?Child", "-test.skip=^BenchmarkChild$")
	require.Zero(t, status, stderr)
	require.Equal(t, "# case BenchmarkQueriesChild 7x\n# case BenchmarkChildSeriesOverTime 1m0s\n", stderr, "in the order of the run")
	_, stderr, _ = child(t, "classes", []string{"PHANTOM_LIST=1", "PHANTOM_MODE=standard"},
		"-test.run=^$", "-test.bench=^BenchmarkQueriesChild", "-test.benchtime=3s")
	require.Equal(t, "# case BenchmarkQueriesChild 3s\n", stderr)
}

// The help of the flags and the list of parameters are one.
func TestFlagsNameTheirVariables(t *testing.T) {
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	register(fs, defaults())
	for _, k := range knobs() {
		f := fs.Lookup("phantom." + k.name)
		require.NotNil(t, f, k.name)
		require.Contains(t, f.Usage, fmt.Sprintf("(%s)", k.variable()))
	}
}
