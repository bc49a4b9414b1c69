package baseline_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/phantomdb/phantomdb/harness/baseline"
	"github.com/phantomdb/phantomdb/harness/results"
)

// twenty prints rows whose i-th counters are those that f returns.
func twenty(f func(i int) string) *results.Set {
	var rows []string
	for i := range 20 {
		rows = append(rows, "Put/clients=1 "+f(i))
	}
	return text("quick", append(rows, "Get 1 B/op")...)
}

func TestDerive(t *testing.T) {
	var out strings.Builder
	n, err := baseline.Derive(&out, twenty(func(i int) string {
		return fmt.Sprintf("8 msgs/op 0 fsyncs/op %d wire-B/op %d B/op %d disk-B/op 5 ops/s", 1000+4*(i%2), 100*i, i/19)
	}))
	require.NoError(t, err)
	require.Equal(t, 3, n)
	require.Contains(t, out.String(), "band put-clients-1-msgs-op\nbench: p.q Put/clients=1\nunit: msgs/op\nvalue: 8\nallow: 2%\nruns: 20\nreason:\n")
	require.Contains(t, out.String(), "unit: wire-B/op\nvalue: 1002\nallow: 2%\n")
	require.Contains(t, out.String(), "unit: fsyncs/op\nvalue: 0\nallow: 0\n")
	require.Contains(t, out.String(), "# Put/clients=1: B/op deviates by 100.0 % from its median 950: no band\n")
	require.Contains(t, out.String(), "# Put/clients=1: disk-B/op is mostly 0 and at most 1: no band\n")
	require.Contains(t, out.String(), "# Get: 1 samples: expected at least 20\n")
	require.NotContains(t, out.String(), "ops/s", "time has no band")

	// With a reason it is a file, and its bands hold what they came from.
	list, err := parse(strings.ReplaceAll(out.String(), "reason:", "reason: measured"))
	require.NoError(t, err)
	for _, f := range baseline.Judge(list, text("quick", "Put/clients=1 8 msgs/op 0 fsyncs/op 1004 wire-B/op")) {
		require.Equal(t, baseline.Pass, f.Verdict)
	}
	_, err = parse(out.String())
	require.ErrorContains(t, err, "field reason is empty")
}

func TestDeriveWidensByWhatItSaw(t *testing.T) {
	var out strings.Builder
	_, err := baseline.Derive(&out, twenty(func(i int) string { return fmt.Sprintf("%d wire-B/op", 1000+40*(i/19)) }))
	require.NoError(t, err)
	require.Contains(t, out.String(), "value: 1000\nallow: 6%\n", "4 % of deviation, and half as much again")
}

func TestDeriveKeepsExactCounters(t *testing.T) {
	var out strings.Builder
	n, err := baseline.Derive(&out, twenty(func(i int) string {
		return fmt.Sprintf("576.5 exact-wire-B/op %d exact-msgs/op", 8+i/19)
	}))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Contains(t, out.String(), "unit: exact-wire-B/op\nvalue: 576.5\nallow: 0\nruns: 20\nleast: 1\nreason:\n")
	require.Contains(t, out.String(), "# Put/clients=1: exact-msgs/op deviates by 1 and is not exact: no band\n")
}

// Bands keep the samples that they came from, however many digits those have.
func TestDeriveRoundTrip(t *testing.T) {
	set := twenty(func(int) string { return "12347 exact-wire-B/op 123456789 wire-B/op 1234567.25 disk-B/op" })
	var out strings.Builder
	_, err := baseline.Derive(&out, set)
	require.NoError(t, err)
	require.Contains(t, out.String(), "unit: exact-wire-B/op\nvalue: 12347\nallow: 0\n")
	require.Contains(t, out.String(), "value: 123456789\nallow: 2%\n")
	list, err := parse(strings.ReplaceAll(out.String(), "reason:", "reason: measured"))
	require.NoError(t, err)
	require.Len(t, list, 3)
	for _, f := range baseline.Judge(list, set) {
		require.Equal(t, baseline.Pass, f.Verdict)
		require.Equal(t, f.Summary.Median, f.Entry.Value)
	}
}

// An operation that allocates nothing has timers beside it that do, and its band
// must still see one that allocates in nine of ten calls.
func TestDeriveOfNoAllocation(t *testing.T) {
	samples := func(operations string) *results.Set {
		var rows []string
		for i := range 20 {
			rows = append(rows, fmt.Sprintf("Get@%s %.4f mallocs/op 0 allocs/op", operations, float64(i%7)/10_000))
		}
		return text("quick", rows...)
	}
	var out strings.Builder
	n, err := baseline.Derive(&out, samples("10000"))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, "band get-mallocs-op\nbench: p.q Get\nunit: mallocs/op\nvalue: 0\nallow: 0.01\nruns: 20\nleast: 10000\nreason:\n\n", out.String())
	list, err := parse(strings.ReplaceAll(out.String(), "reason:", "reason: measured"))
	require.NoError(t, err)
	for _, f := range baseline.Judge(list, samples("10000")) {
		require.Equal(t, baseline.Pass, f.Verdict)
	}
	for _, f := range baseline.Judge(list, text("quick", "Get@10000 0.9 mallocs/op 0 allocs/op")) {
		require.Equal(t, baseline.Miss, f.Verdict)
	}

	out.Reset()
	n, err = baseline.Derive(&out, samples("9999"))
	require.NoError(t, err)
	require.Zero(t, n)
	require.Contains(t, out.String(), "# Get: mallocs/op is about 0, in samples of 9999 operations: expected at least 10000: no band\n")
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestDeriveKnowsOfFewOperations(t *testing.T) {
	var rows []string
	for i := range 20 {
		rows = append(rows, fmt.Sprintf("Boot@%d 8 msgs/op", 40+i))
	}
	var out strings.Builder
	_, err := baseline.Derive(&out, text("quick", rows...))
	require.NoError(t, err)
	require.Contains(t, out.String(), "runs: 20\nleast: 40\nreason:\n")
}

func TestDeriveTellsOfFailedWrites(t *testing.T) {
	_, err := baseline.Derive(brokenPipe{}, twenty(func(int) string { return "8 msgs/op" }))
	require.ErrorContains(t, err, "baseline: derive: broken pipe")
	_, err = baseline.Derive(brokenPipe{}, text("quick", "Get 1 B/op"))
	require.ErrorContains(t, err, "baseline: derive: broken pipe")
}
